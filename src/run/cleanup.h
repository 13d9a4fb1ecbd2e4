/*
 * The end of a migration: everything of ours is taken off every database, and then looked for (S9).
 * `finish` is for one that is done and leaves the target as it is. `abort` is for one that is given up:
 * it drops what our own DDL has made on the target (created.h), unless it is told to keep it; then, and
 * for tables that were there before, it prints the SQL of what was not built yet.
 */
#ifndef RUN_CLEANUP_H
#define RUN_CLEANUP_H

#include "mapping/config.h"
#include "util/error.h"

enum cleanup_kind {
    CLEANUP_FINISH,
    CLEANUP_ABORT,
    CLEANUP_ABORT_KEEP_TARGET,
};

/* Refuses (CONFIG) while an instance runs, and, to finish, before the phase is ready. With
 * dry_run only tells, on stdout, what would be removed. */
bool cleanup(const struct config *config, enum cleanup_kind kind, bool dry_run, struct error *err)
    MUST_CHECK;

#endif
