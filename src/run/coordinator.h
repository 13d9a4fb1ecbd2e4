/*
 * A coordinator: a PostgreSQL database without rows of its own, in which the shards are one again. Stock
 * postgres_fdw: for each sharded table a parent, partitioned by hash of the shard key, with one foreign
 * partition a shard. It finds every row, because rows are placed as PARTITION BY HASH places them
 * (pg/parthash.h).
 */
#ifndef RUN_COORDINATOR_H
#define RUN_COORDINATOR_H

#include "run/migration.h"

/* Appends the SQL that makes one, with what it cannot do said in comments. `migration` is open; the
 * target's DDL may not be applied yet, and nothing stays changed. CONFIG when the mappings are refused. */
bool coordinator_ddl(struct migration *migration, struct buffer *sql, struct error *err) MUST_CHECK;

#endif
