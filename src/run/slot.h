/*
 * What is ours where changes come from: schema and marker table, publication, replication slot; made in
 * this order, each committed before the next (S1, S2), each named in the journal before it is made. That
 * is the source; on the way back (backward.h) it is a shard.
 */
#ifndef RUN_SLOT_H
#define RUN_SLOT_H

#include "run/migration.h"
#include "pg/lsn.h"
#include "util/stop.h"

/* All that is missing. `start` is where the stream begins when the slot is new, and what was recorded
 * then otherwise. */
bool slot_prepare(struct migration *migration, int64_t epoch, struct stop *stop, lsn_t *start,
                  struct error *err) MUST_CHECK;

/* On the way back, while the source is live: publishes what has come to the shard since. All of its rows
 * are ours yet. */
bool slot_publish_new(struct migration *way, struct error *err) MUST_CHECK;

/* Whether it is still the slot of this migration: same cluster, not lost, not ahead of what is
 * durable on the shards (S7). */
bool slot_check(struct migration *migration, lsn_t progress, struct error *err) MUST_CHECK;

/* Whether slot_prepare() has to make the slot anew, because it is gone or has lost its WAL: what is on record
 * of it is forgotten. Only for a direction at rest, whose publisher is fenced: all that the slot held was
 * ours. */
bool slot_forget_lost(struct migration *migration, bool *lost, struct error *err) MUST_CHECK;

/* Moves a slot that nobody reads; not back. One that somebody reads is left to him. */
bool slot_advance(PGconn *server, const char *slot, lsn_t position, struct error *err) MUST_CHECK;

/* Drops the publication, and the slot when it is `ours`: control has the intent to make it on record. */
bool slot_is_ours(PGconn *control, const struct config *config, const char *suffix, bool *ours,
                  struct error *err) MUST_CHECK;
bool slot_remove(PGconn *source, const struct config *config, bool ours, struct error *err)
    MUST_CHECK;

#endif
