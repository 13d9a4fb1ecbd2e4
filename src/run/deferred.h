/*
 * Secondary indexes, unique and exclusion constraints of the target: taken away before the copy, in the
 * transaction that lays down the schema, and built again after it, beside the apply. Their definitions
 * stand in portage.deferred of each shard, in the words of pg_get_indexdef() and kin. Foreign keys and
 * triggers, which stand there too and are taken away with them, are switchover/acting.h's.
 *
 * What stays: primary keys, and unique constraints of partitioned tables (they cannot be attached
 * later). Indexes are built concurrently, those of partitioned tables leaf by leaf. A build that failed
 * leaves an invalid index: it is dropped before the next try, because it still enforces.
 */
#ifndef RUN_DEFERRED_H
#define RUN_DEFERRED_H

#include <jansson.h>
#include <libpq-fe.h>

#include "util/stop.h"

/* In the shard's open transaction. */
bool deferred_take(PGconn *shard, struct error *err) MUST_CHECK;

/* Appends what deferred_take() would take, or has `taken`: objects of `kind`, `schema` and `table`,
 * `name`, `definition`. */
bool deferred_list(PGconn *shard, bool taken, json_t *list, struct error *err) MUST_CHECK;

/* In a transaction: takes what was built of one table's unique indexes and constraints away again, and
 * foreign keys that need them. While rows are copied, values that are unique travel between rows which
 * copy and stream bring at different times. */
bool deferred_take_unique(PGconn *shard, const char *schema, const char *table,
                          struct error *err) MUST_CHECK;

/* Builds the indexes and constraints that wait, and returns when nothing is left; each is recorded when it is
 * done. Several sessions may do so at once: they share the tables, one builder each. */
bool deferred_build(PGconn *shard, struct stop *stop, struct error *err) MUST_CHECK;

/* Appends what is being built at this moment: {shard, kind, table, name, phase, done, total, seconds}.
 * `phase`, `done` and `total` are pg_stat_progress_create_index's; "" and 0 for what is no index. */
bool deferred_under_way(PGconn *shard, unsigned number, json_t *list, struct error *err) MUST_CHECK;

#endif
