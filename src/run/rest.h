/*
 * The direction at rest: what has to be there before a switch may begin, and is kept from growing old.
 * A thread beside the stream, with connections of its own, because creating a slot waits for every
 * transaction of its server. What it cannot do is said in the log and in the journal, and tried again;
 * it never ends a run, because the stream does not need it.
 *
 * Forward it makes the way back: on each shard publication and slot, at the source the lanes. In both
 * directions it advances the slots that nobody reads, so that they keep no WAL. That is right only
 * because their servers are fenced and everything that is written there is ours.
 */
#ifndef RUN_REST_H
#define RUN_REST_H

#include "run/direction.h"
#include "util/stop.h"

struct rest;

/* Its thread ends with `stop`. */
struct rest *rest_start(const struct config *config, enum which_side live, int64_t epoch,
                        struct stop *stop);
void rest_end(struct rest *rest); /* NULL is fine */

#endif
