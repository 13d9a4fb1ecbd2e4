/*
 * The epoch: which instance of us may write (invariant 1). One session-level advisory lock on control
 * makes other instances wait as standbys; the epoch makes whatever still comes from an instance that
 * lost that lock touch nothing.
 */
#ifndef STATE_EPOCH_H
#define STATE_EPOCH_H

#include <libpq-fe.h>

#include "util/error.h"

/* Takes the instance lock, or tells that somebody has it. Held while the session of `control` lives. */
bool epoch_try_lock(PGconn *control, bool *taken, struct error *err) MUST_CHECK;

/*
 * Gives this instance an epoch above all others, on every shard and at the source, before it reads any
 * state. A session of a dead instance that keeps a row locked is terminated (it is of our own role).
 */
bool epoch_raise(PGconn *const *shards, unsigned shards_count, PGconn *source, int64_t *epoch,
                 struct error *err) MUST_CHECK;

#endif
