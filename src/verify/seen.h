/*
 * A row by its key, as both sides have it at a moment: texts of all items, and the version that changes
 * with every write. For the judge, which looks at few rows closely. One thread.
 */
#ifndef VERIFY_SEEN_H
#define VERIFY_SEEN_H

#include "verify/session.h"
#include "verify/suspects.h"

/* The rows of one side that have the key. */
struct seen {
    unsigned count;
    struct seen_row {
        unsigned shard;
        bool touched;        /* source: somebody has changed or locked it since, or is about to */
        bool placed;         /* target */
        const char *version; /* tableoid/ctid/xmin */
        const char **values; /* the mapping's items; NULL is null. None without a key. */
    } * rows;
    struct digest version; /* of all of them; zero for none */
};

/* Of `count` suspects, which are asked for in one go: seen[i] are the rows of suspects[i]. Allocated from the
 * arena. */
bool seen_source(struct session *session, struct suspect *const *suspects, unsigned count,
                 struct arena *arena, struct seen *seen, struct error *err) MUST_CHECK;
bool seen_target(struct session *session, struct suspect *const *suspects, unsigned count,
                 struct arena *arena, struct seen *seen, struct error *err) MUST_CHECK;

/* Executes a statement by key on a shard (repair). */
bool seen_execute(PGconn *shard, const char *sql, const struct suspect *suspect,
                  struct arena *arena, struct error *err) MUST_CHECK;

/* Whether the target's rows are what the source's row makes. */
bool seen_equal(const struct session *session, const struct mapping *mapping,
                const struct seen *source, const struct seen *target);

/* Whether a value of an item is the same on both sides. */
bool value_same(const struct session *session, const struct mapping *mapping, unsigned item,
                const char *a, const char *b);

#endif
