/*
 * From nothing, or from wherever an earlier instance was when it ended, to "copy and stream can
 * begin". Each step is recorded in the databases in the transaction that does it, or before it, so
 * the same sequence starts and continues a migration:
 *
 *   schema portage on every shard; target DDL, partitions, indexes put aside (target.h);
 *   the epoch raised, before any state is read; mappings bound, the same as before;
 *   marker, publication, slot (slot.h); partitions that came since (leaves.h); lanes and ranges.
 *
 * While the target is live it is the ways back that are prepared. The caller holds the instance lock.
 */
#ifndef RUN_PREPARE_H
#define RUN_PREPARE_H

#include "run/backward.h"
#include "run/direction.h"
#include "util/stop.h"

/* The schema on every server, and the gates as the journal says. Waits for nobody. */
bool prepare_servers(const struct config *config, struct error *err) MUST_CHECK;

/* Behind prepare_servers(). Leaves `migration` open, for the engine, and `backward` when the target is live. */
bool prepare(struct migration *migration, struct backward *backward, const struct config *config,
             enum which_side *live, struct stop *stop, int64_t *epoch, struct error *err) MUST_CHECK;

/* new, preparing, copying, indexing, ready: what `status` shows. The phase never goes back. */
bool phase_set(PGconn *control, int64_t epoch, const char *phase, struct error *err) MUST_CHECK;

#endif
