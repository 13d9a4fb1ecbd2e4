/*
 * One incarnation: the receiver, the lanes, the copy workers and the index builders, from the state
 * that the databases hold until the first error or a stop. Nothing is repaired inside: whatever goes
 * wrong ends all threads, and the next incarnation begins from what is durable. Backward there are as
 * many flows (flow.h) as shards, and no copy.
 *
 *   receiver ──queues──> lanes ──> shards        copy workers: source ──> shards
 *                          │ judge                     │ hold, cursor
 *                          └────────── holds ──────────┘
 */
#ifndef RUN_ENGINE_H
#define RUN_ENGINE_H

#include "pg/lsn.h"
#include "run/backward.h"
#include "util/stop.h"

/* Forward when `backward` is NULL. `lock` is the session that holds the instance lock: when it is lost,
 * so are we. `suspects`, one a flow, are what one incarnation tells the next (stream/apply.h); 0 at
 * first. Returns when `outer` asks for it (CANCELLED), when the other side has become live (RETRY, and
 * *turned), or on an error. */
bool engine_run(struct migration *migration, struct backward *backward, PGconn *lock, int64_t epoch,
                _Atomic lsn_t *suspects, struct stop *outer, bool *turned, struct error *err);

#endif
