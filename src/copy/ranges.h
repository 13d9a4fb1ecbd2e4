/*
 * Ranges: how a table is divided among copy workers. A range is an interval of the key, with its own
 * cursor (state/range.h). Written once, the same on every shard, before the copy of a mapping begins.
 */
#ifndef COPY_RANGES_H
#define COPY_RANGES_H

#include "state/range.h"

/* Writes the ranges of a mapping to all shards, in their open transactions if there are any. */
bool ranges_create(PGconn *source, PGconn *const *shards, unsigned shards_count,
                   const struct mapping *mapping, int64_t epoch, struct error *err) MUST_CHECK;

#endif
