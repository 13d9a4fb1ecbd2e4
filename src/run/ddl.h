/*
 * DDL on carried tables, by the catalog of the server that they come from: it is noticed also when no
 * change of a row follows, when it is taken back at once, and when it rewrites the rows, which streams
 * nothing (S10). While the target is live that is each shard, watched by its way back.
 *
 * Which catalog rows are new is told by their xmin, against the oldest transaction that ran at the last
 * look; that is on record at control, so that DDL is noticed too which comes while no instance runs. So
 * are the columns by their numbers, because an incarnation is bound to the names that it finds.
 */
#ifndef RUN_DDL_H
#define RUN_DDL_H

#include "run/migration.h"

struct ddl {
    struct migration *migration;
    int64_t seen; /* what committed before this transaction has been looked at; 0: not read yet */
    unsigned files_count;
    struct ddl_file *files; /* of the leaves */
};

void ddl_init(struct ddl *ddl, struct migration *migration);
void ddl_release(struct ddl *ddl);

/* Where the looks begin, on control: forward in the transaction that puts the leaves on record. Backward
 * again and again until the target is live, and not any more from then on. */
bool ddl_record(struct migration *migration, struct error *err) MUST_CHECK;

/* CONFIG when a column that a mapping uses was changed; a new column is told of, and left alone. */
bool ddl_look(struct ddl *ddl, struct error *err) MUST_CHECK;

#endif
