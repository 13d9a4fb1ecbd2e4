/*
 * The entries of a section [databases], in the text of an ini file as PgBouncer reads it: found, and led
 * to another server with every other byte left as it is.
 *
 * A file without a section of its own (it is taken in by %include within [databases]) is one section.
 * %include is not followed: the file that holds the entry is the one to be named.
 */
#ifndef ENDPOINT_ENTRIES_H
#define ENDPOINT_ENTRIES_H

#include "mapping/pairs.h"

/* The entry's pairs; of several with this name the last, which is the one in force for PgBouncer.
 * *found false: there is none. False: it cannot be read as pairs. */
bool entries_find(const struct buffer *text, const char *name, struct arena *arena,
                  struct pairs *pairs, bool *found) MUST_CHECK;

/* `side`, and whatever else the entry has: pool_size and kin stay, keys of either side do not. False
 * when these are more than PAIRS_MAX. */
bool entries_merge(const struct pairs *entry, const struct pairs *side, const struct pairs *other,
                   struct pairs *merged) MUST_CHECK;

/* A line for a new entry behind that of `name`, which must be there, in the same section. */
void entries_add(const struct buffer *text, const char *name, const char *added,
                 const struct pairs *pairs, struct buffer *out);

/* Without the lines of entries whose names begin so. */
void entries_without(const struct buffer *text, const char *prefix, struct buffer *out);

/* The text with these pairs in all entries of this name, behind what `out` holds. */
void entries_rewrite(const struct buffer *text, const char *name, const struct pairs *pairs,
                     struct buffer *out);

#endif
