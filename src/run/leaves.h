/*
 * The source's tables that hold the rows which are carried: leaf partitions, and tables that are not
 * partitioned. portage.leaf on control has those that the migration began with. A partition that
 * appears afterwards is *late*: what was written to it before it was published is not in the stream,
 * so it gets a range of its own, which is copied like any other one (docs/design/copy.md).
 */
#ifndef RUN_LEAVES_H
#define RUN_LEAVES_H

#include "run/migration.h"

/* Those that the slot is going to bring, before its start is on record. */
bool leaves_record(struct migration *migration, struct error *err) MUST_CHECK;

/* CONFIG when a table on record is not in the source's catalog any more. Before the mappings are
 * compared, which could only say that they differ. */
bool leaves_exist(struct migration *migration, struct error *err) MUST_CHECK;

/*
 * Marks the leaves of the bound mappings by what is on record, and takes up partitions that are not.
 * One that somebody writes to at this moment is left out of its relation until it can be locked. CONFIG
 * when a table is gone.
 */
bool leaves_restore(struct migration *migration, int64_t epoch, struct error *err) MUST_CHECK;

/* On the targets, before ranges are copied that are open: the partitions that a late leaf needs, and
 * no unique index that ties its rows to those which the stream has still to change. After the ranges
 * are on every shard. */
bool leaves_make_room(struct migration *migration, struct error *err) MUST_CHECK;

/* Whether leaves_restore() could take the partition up now: nobody keeps it from being locked. */
bool leaves_try_lock(PGconn *source, const char *name, bool *free, struct error *err) MUST_CHECK;

/* The error of a table that was dropped or detached. Always false. */
bool leaves_gone(const char *name, struct error *err);

#endif
