/*
 * Where a migration stands, read from the databases alone, whether or not an instance is running.
 */
#ifndef RUN_STATUS_H
#define RUN_STATUS_H

#include <jansson.h>

#include "mapping/config.h"
#include "util/error.h"

/*
 * A JSON object; the caller releases it. NULL on error. docs/reference.md describes it:
 *   phase, running, epoch, next
 *   tables: [{name, ranges, ranges_done, rows, bytes}]
 *   lanes: [{shard, lane, progress, behind_bytes, changes, source_time, spilled_bytes}]
 *   behind_bytes, spilled_bytes, wal_retained_bytes, source_position, slot_active, dead_letters,
 *   deferred: [{shard, kind, waiting, done}]
 *   unreachable: [{on, why}]: servers that did not answer; what only they know is left out
 *   building: [{shard, kind, table, name, phase, done, total, seconds}]  (run/deferred.h)
 *   live: source or target; lanes are those of this direction
 *   slots: [{on, slot, exists, active, wal_retained_bytes, wal_budget_bytes, wal_limit_bytes,
 *            wal_growth_bytes_per_second, wal_full_seconds, wal_full_at}], of both directions
 *   finish_due_seconds, wal_full_first
 */
json_t *status_read(const struct config *config, struct error *err);

#endif
