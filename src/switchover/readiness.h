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

#include "switchover/switch.h"

struct readiness {
    const struct switching *switching;
    const struct side *from, *to;
    int64_t epoch;
    int64_t drain_us; /* how long the marker took; negative: it did not arrive */
};

bool readiness_check(struct readiness *readiness, struct error *err) MUST_CHECK;

#endif
