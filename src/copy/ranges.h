/*
 * Ranges: how a table is divided among copy workers. A range is an interval of the key, with its own
 * cursor (state/range.h). They are the same on every shard: control gets those of all mappings in one
 * transaction, the other shards get what control has.
 */
#ifndef COPY_RANGES_H
#define COPY_RANGES_H

#include "state/range.h"

/* Idempotent: what is there already stays as it is. shards[0] is control. */
bool ranges_create(PGconn *source, PGconn *const *shards, unsigned shards_count,
                   const struct mapping_set *set, int64_t epoch, struct error *err) MUST_CHECK;

#endif
