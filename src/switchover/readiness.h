/*
 * Whether a switch may begin: everything that would make it fail, or would be regretted afterwards, as
 * findings. Writes nothing but a marker, which measures how far behind the stream is.
 *
 *   not-ready, not-copied, not-built, not-valid, not-carried, not-looked, no-instance, not-streaming,
 *   lag, dead-letter, not-verified, prepared-transaction, subscription, gate, way-back            refuse
 *   put-aside                                                                   note
 *   (and those of mapping/invert.h, endpoint.h, sequences.h)
 */
#ifndef SWITCHOVER_READINESS_H
#define SWITCHOVER_READINESS_H

/* Subscriptions that write into a database: their apply workers fire no trigger for statements. Name, what
 * is wrong, the way out. */
#define SUBSCRIPTIONS_SQL                                                                          \
    "SELECT subname::text, 'a subscription writes here, and no gate stops it',"                    \
    "       pg_catalog.format('ALTER SUBSCRIPTION %I DISABLE;', subname)"                          \
    "  FROM pg_catalog.pg_subscription WHERE subenabled AND subdbid ="                             \
    "       (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"

#include "switchover/switch.h"

struct readiness {
    const struct switching *switching;
    const struct side *from, *to;
    int64_t epoch;
    int64_t drain_us; /* how long the marker took; negative: it did not arrive */
};

bool readiness_check(struct readiness *readiness, struct error *err) MUST_CHECK;

#endif
