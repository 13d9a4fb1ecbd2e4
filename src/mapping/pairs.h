/*
 * `key=value` pairs, as PgBouncer reads them in an entry of its section [databases]: separated by white
 * space; a value that holds some, or is empty, stands in single quotes; '' is one quote within.
 */
#ifndef MAPPING_PAIRS_H
#define MAPPING_PAIRS_H

#include "util/arena.h"

enum { PAIRS_MAX = 32 };

struct pair {
    const char *key;
    const char *value;
};

struct pairs {
    unsigned count;
    struct pair items[PAIRS_MAX];
};

/* `arena` owns the texts. False when it is none, or more than PAIRS_MAX: *bad is the offset where. */
bool pairs_parse(const char *text, size_t length, struct arena *arena, struct pairs *pairs,
                 size_t *bad) MUST_CHECK;

/* NULL when there is none. The last of several counts, as it does for PgBouncer. */
const char *pairs_get(const struct pairs *pairs, const char *key);

/* Behind what is there, with a space between. */
void pairs_append(struct buffer *out, const struct pair *pair);

#endif
