/*
 * What acts for the application at the source, and must not while rows are brought back to it: triggers
 * of users would fire again on what a shard has already done, and foreign keys would refuse what one
 * lane brings before another one brings what it points to.
 *
 * Where our sessions may set session_replication_role = replica neither acts on them, and nothing is
 * done. Where not (a source before 15, without a superuser), both are put aside while the source is
 * fenced: triggers disabled, foreign keys dropped; portage.aside has how each comes back, written in the
 * transaction that takes it. The switch brings them back before `switched`, keys NOT VALID, because
 * checking all rows has no place in a pause; `run` validates them afterwards.
 *
 * A switch that has brought them back and is aborted puts them aside again before the shards open.
 */
#ifndef SWITCHOVER_ACTING_H
#define SWITCHOVER_ACTING_H

#include "mapping/mapping.h"
#include "util/stop.h"

/* Of the mapped tables. Waits for locks, a moment at a time. `source` is a session like any other. */
bool acting_put_aside(PGconn *source, const struct config *config, const struct mapping_set *set,
                      struct stop *stop, struct error *err) MUST_CHECK;

/* In one transaction; `guard` is a SELECT that gives a row while the epoch is ours. */
bool acting_bring_back(PGconn *source, const char *guard, struct error *err) MUST_CHECK;

/* Undoes acting_bring_back(); nothing when it was not done. Nothing is applied meanwhile: all that the
 * shards have written is there, and they are fenced. */
bool acting_put_aside_again(PGconn *source, struct error *err) MUST_CHECK;

/* Validates what was brought back, one by one. */
bool acting_finish(PGconn *source, struct stop *stop, struct error *err) MUST_CHECK;

/* The end of a migration that may have left something aside: all of it comes back now, whichever side is
 * live. A key that cannot be validated, because rows of a stream are missing, stays NOT VALID: it is
 * logged with the SQL. Needs no table of ours to be there. */
bool acting_give_back(PGconn *source, struct error *err) MUST_CHECK;

#endif
