/*
 * The end of a migration: everything of ours is taken off every database, and then looked for (S9).
 * `finish` is for one that is done, `abort` for one that is given up: it leaves the target's rows and
 * tables where they are too, because they may be of use, and prints the SQL of what was not built yet.
 */
#ifndef RUN_CLEANUP_H
#define RUN_CLEANUP_H

#include "mapping/config.h"
#include "util/error.h"

/* Refuses (CONFIG) while an instance runs, and, unless `give_up`, before the phase is ready. With
 * dry_run only tells, on stdout, what would be removed. */
bool cleanup(const struct config *config, bool give_up, bool dry_run, struct error *err) MUST_CHECK;

#endif
