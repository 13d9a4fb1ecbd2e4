/*
 * The schema portage: where all durable state lives, in the databases themselves, written in the
 * same transactions as the rows it speaks of. The process keeps nothing that it cannot lose.
 *
 * The same on every server, because each of them is written to by us, and each may be where changes
 * come from (rollback).
 *
 *   portage.instance  one row: the epoch
 *   portage.lane      progress of each lane that applies to this server
 *   portage.ghost     rows that a lane could not make, until the stream removes them
 *   portage.dirty     keys that the streams of several shards have touched, on the way back
 *   portage.marker    rows that we write to see them come out of this server's stream
 *   portage.gate      one row: whether the application's writes are taken here (switchover/gate.h)
 *   portage.gate_rejected  a sequence: how many statements the gate has rejected here
 *   portage.deferred  indexes that wait until after the copy (run/deferred.h); foreign keys and triggers
 *                     that must not act on what is applied here (switchover/acting.h)
 *   portage.sequence  increments and bounds of sequences, as they were before each shard got its own
 *   portage.created   what our own DDL has made here
 * Filled on the shards only:
 *   portage.range     cursor of each range of each mapping
 *   portage.chunk     snapshots of chunks that the stream may still need
 *   portage.status    a view: how far each mapping is
 *   portage.dead_letter (its place is kept for the dead-letter queue)
 * Filled on the first shard, "control", only:
 *   portage.setting   what must not change between runs, the phase, and which side is live; at a source
 *                     that was left closed one row (switchover/closed.h)
 *   portage.journal   phases, decisions and the steps of switches: when, how long, and who
 *   portage.leaf      the source's tables that hold the rows which are carried
 *   portage.file      the files and columns of what is watched for DDL (run/ddl.h)
 *   portage.difference  what the last pass of verify found
 *   portage.verification, verified, suspect  how far a pass of verify is (verify/kept.h)
 *
 * Every row that a lane or a copy writes carries the epoch of the instance that may write it. Raising
 * the epoch updates all these rows, so it waits for whatever a dead instance still has in flight, and
 * whatever comes later from that instance touches no row (invariant 1).
 */
#ifndef STATE_SCHEMA_H
#define STATE_SCHEMA_H

#include <libpq-fe.h>

#include "util/error.h"

/* Published wherever changes come from: markers; and what every transaction of ours that writes rows of
 * the application updates first, so that it is known as ours. */
#define SCHEMA_PUBLISHED "'marker', 'lane', 'range', 'instance'"

/* What the schema looks like, down to the gate's functions: one more with every change of that
 * (CONTRIBUTING.md). It stands in the comment of the schema, also of what is left of it
 * (switchover/closed.h). A schema is never changed into one of another version. */
#define SCHEMA_VERSION "1"
#define SCHEMA_MARK "Version " SCHEMA_VERSION "."
#define SCHEMA_MARK_PATTERN "Version ([0-9]+)[.]"

/* Idempotent. A schema of another version is an error of class CONFIG, here and below. */
bool schema_install(PGconn *conn, struct error *err) MUST_CHECK;

/* Whether the schema is there at all. */
bool schema_exists(PGconn *conn, bool *exists, struct error *err) MUST_CHECK;

/* It is there in this version, or not at all. */
bool schema_check(PGconn *conn, struct error *err) MUST_CHECK;

/* Drops it with all that is in it. */
bool schema_remove(PGconn *conn, struct error *err) MUST_CHECK;

#endif
