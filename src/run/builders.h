/*
 * The threads that build what waits until after the copy (deferred.h): `index_workers` for each shard,
 * each with a connection of its own. They end when nothing is left that may be built, or at a stop.
 */
#ifndef RUN_BUILDERS_H
#define RUN_BUILDERS_H

#include "mapping/config.h"
#include "util/stop.h"

struct builders;

/* An error of one of them goes to `stop`. Both must outlive it. */
struct builders *builders_start(const struct config *config, struct stop *stop);

bool builders_done(const struct builders *builders);

/* Waits for them; when a stop is requested, what their servers work on is cancelled. NULL is fine. */
void builders_end(struct builders *builders);

#endif
