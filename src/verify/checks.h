/*
 * What a shard must hold beside equal rows: constraints and indexes that are valid, foreign keys whose
 * parents are there (what was applied with session_replication_role = replica was never asked), and
 * sequences that are not behind their column.
 *
 * A sequence that is behind is told and makes nothing different: the cutover sets them. Nor does a
 * foreign key that a switch has brought back and `run` has still to validate.
 */
#ifndef VERIFY_CHECKS_H
#define VERIFY_CHECKS_H

#include <jansson.h>

#include "verify/session.h"

/* Appends {shard, check, object, count} to `found` for what is not as it must be; *wrong counts those
 * that make the sides different, *undecided those that lanes which stand may yet mend. Lanes carry parent and child in any order, so an orphan counts only
 * when it stays one while the lanes go on. */
bool checks_run(struct session *session, const struct mapping *const *tables, unsigned tables_count,
                json_t *found, uint64_t *wrong, uint64_t *undecided, struct error *err) MUST_CHECK;

#endif
