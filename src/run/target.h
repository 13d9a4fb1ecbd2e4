/*
 * Laying down the target: the user's DDL, the mappings bound to what it made, the partitions that the
 * data needs, and indexes and keys put aside. On each shard in one transaction, so that it is there
 * whole or not at all; a shard that has it already is left as it is.
 */
#ifndef RUN_TARGET_H
#define RUN_TARGET_H

#include "run/migration.h"

/*
 * Applies target.schema on every shard that has not got it, in a transaction that stays open, binds
 * the mappings and has the servers check them. What is refused is in migration->findings. Used by
 * `plan`, which rolls back, and by target_prepare().
 */
bool target_try(struct migration *migration, struct error *err) MUST_CHECK;

/* Whether a shard has got it already, and its indexes and keys are put aside. */
bool target_is_applied(PGconn *shard, bool *applied, struct error *err) MUST_CHECK;

/* Undoes target_try(). */
bool target_rollback(struct migration *migration, struct error *err) MUST_CHECK;

/* All of it, on connections of its own, committed. CONFIG when the mapping is refused. */
bool target_prepare(const struct config *config, struct error *err) MUST_CHECK;

#endif
