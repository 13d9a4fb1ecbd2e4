/*
 * What waits for lanes in files, put down for `status`: the setting `spilled` on control, written once a
 * second while it changes. It is of the instance that runs: when none does, nothing waits. One thread.
 */
#ifndef RUN_SPILLED_H
#define RUN_SPILLED_H

#include <jansson.h>

#include "run/flow.h"

struct spilled {
    PGconn *control;
    const struct flow *flow;
    char *put; /* what stands there; NULL: not known */
    int64_t put_us;
};

void spilled_init(struct spilled *spilled, PGconn *control, const struct flow *flow);
void spilled_release(struct spilled *spilled);

/* Puts it down, when it is time to. */
bool spilled_tell(struct spilled *spilled, struct error *err) MUST_CHECK;

/* The sum over all lanes. */
int64_t spilled_bytes(const struct flow *flow);

/* What was put down last, or NULL; the caller lets it go. And what it says of one lane. */
bool spilled_read(PGconn *control, json_t **spilled, struct error *err) MUST_CHECK;
int64_t spilled_of_lane(const json_t *spilled, unsigned shard, int64_t lane);

#endif
