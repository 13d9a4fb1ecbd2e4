/*
 * The end of a migration: everything of ours is taken off every database, and then looked for (S9).
 * `finish` is for one that is done and leaves the target as it is. `abort` is for one that is given up:
 * it drops what our own DDL has made on the target (created.h), unless it is told to keep it; then, and
 * for tables that were there before, it prints the SQL of what was not built yet.
 *
 * While the target is live the old source stays closed, and what closes it stays with it
 * (switchover/closed.h), unless it is told to open it: at no moment are both sides open. What it put aside
 * there for the way back is given back in any case. When it cannot be known which side is live, because
 * control has lost its record, a source that is closed counts as one that was left.
 */
#ifndef RUN_CLEANUP_H
#define RUN_CLEANUP_H

#include "mapping/config.h"
#include "util/error.h"

enum cleanup_kind {
    CLEANUP_FINISH,
    CLEANUP_FINISH_OPEN_SOURCE, /* also what such a finish has left; it may be all that there is */
    CLEANUP_ABORT,
    CLEANUP_ABORT_KEEP_TARGET,
};

/* Refuses (CONFIG) while an instance runs; to finish, before the phase is ready and while a switch is at
 * its half; to abort, while the target is live: what it would drop are the application's tables. With
 * dry_run only tells, on stdout, what would be removed. */
bool cleanup(const struct config *config, enum cleanup_kind kind, bool dry_run, struct error *err)
    MUST_CHECK;

#endif
