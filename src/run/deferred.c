#include "run/deferred.h"

#include "pg/conn.h"
#include "pg/quote.h"
#include "switchover/acting.h"
#include "util/clock.h"
#include "util/log.h"

/* The first key of the advisory locks by which workers take tables; the second is the table's. */
#define CLAIMS "pg_catalog.hashtext('portage.deferred')"
#define OURS_NOT "NOT IN ('pg_catalog', 'information_schema', 'portage')"

/* ---- taking away ---- */

/* Kind, schema and name of the table, name, definition: what the copy can do without. */
static const char *const find_sql[] = {
    /* constraints; those of partitions belong to their parents */
    " SELECT CASE c.contype WHEN 'u' THEN 'unique' ELSE 'exclusion' END,"
    "        n.nspname, t.relname, c.conname, pg_catalog.pg_get_constraintdef(c.oid)"
    "   FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class t ON t.oid = c.conrelid"
    "   JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace"
    "  WHERE n.nspname " OURS_NOT " AND c.conparentid = 0 AND c.coninhcount = 0"
    "    AND (c.contype = 'x' OR (c.contype = 'u' AND t.relkind = 'r' AND NOT t.relispartition))"
    "  ORDER BY c.oid",

    " SELECT 'index', n.nspname, t.relname, x.relname, pg_catalog.pg_get_indexdef(i.indexrelid)"
    "   FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class t ON t.oid = i.indrelid"
    "   JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid"
    "   JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace"
    "  WHERE n.nspname " OURS_NOT " AND n.nspname !~ '^pg_' AND t.relkind IN ('r', 'p')"
    "    AND NOT i.indisprimary AND NOT x.relispartition"
    "    AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conindid = i.indexrelid"
    "                       AND c.contype IN ('p', 'u', 'x'))"
    "  ORDER BY x.oid",
};

enum { FINDS = sizeof find_sql / sizeof find_sql[0] };

static const char drops_sql[] =
    "SELECT CASE kind"
    "         WHEN 'index' THEN pg_catalog.format('DROP INDEX %I.%I', table_schema, name)"
    "         ELSE pg_catalog.format('ALTER TABLE %I.%I DROP CONSTRAINT %I', table_schema,"
    "                                table_name, name) END"
    "  FROM portage.deferred WHERE kind NOT IN ('foreign key', 'trigger') ORDER BY ordinal";

static bool run_all(PGconn *conn, const PGresult *statements, struct error *err)
{
    for (int row = 0; row < PQntuples(statements); row++) {
        if (!conn_exec(conn, result_text(statements, row, 0), err))
            return error_context(err, "%s", result_text(statements, row, 0));
    }
    return true;
}

static bool take_found(PGconn *shard, const char *find, struct error *err)
{
    struct buffer sql;
    buffer_init(&sql, 8192);
    buffer_puts(&sql, "INSERT INTO portage.deferred"
                      " (kind, table_schema, table_name, name, definition)");
    buffer_puts(&sql, find);
    bool ok = conn_exec(shard, buffer_text(&sql), err);
    buffer_release(&sql);
    return ok || error_context(err, "reading the target's indexes and keys");
}

/* Foreign keys first: they hang on the others' indexes. */
bool deferred_take(PGconn *shard, struct error *err)
{
    if (!acting_take_all(shard, err))
        return false;
    for (size_t f = 0; f < FINDS; f++) {
        if (!take_found(shard, find_sql[f], err))
            return false;
    }
    PGresult *drops = conn_query(shard, drops_sql, 0, NULL, err);
    bool ok = drops != NULL && run_all(shard, drops, err);
    PQclear(drops);
    return ok;
}

static bool list_found(PGconn *shard, const char *sql, json_t *list, struct error *err)
{
    PGresult *result = conn_query(shard, sql, 0, NULL, err);
    if (result == NULL)
        return error_context(err, "reading the target's indexes and keys");
    for (int row = 0; row < PQntuples(result); row++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s}", "kind",
                                              result_text(result, row, 0), "schema",
                                              result_text(result, row, 1), "table",
                                              result_text(result, row, 2), "name",
                                              result_text(result, row, 3), "definition",
                                              result_text(result, row, 4)));
    PQclear(result);
    return true;
}

bool deferred_list(PGconn *shard, bool taken, json_t *list, struct error *err)
{
    if (taken)
        return list_found(shard,
                          "SELECT kind, table_schema, table_name, name, definition"
                          "  FROM portage.deferred ORDER BY ordinal",
                          list, err);
    if (!list_found(shard, acting_found_sql, list, err))
        return false;
    for (size_t f = 0; f < FINDS; f++) {
        if (!list_found(shard, find_sql[f], list, err))
            return false;
    }
    return true;
}

/* $1 schema, $2 table. */
static const char take_unique_sql[] =
    "WITH again AS ("
    "  UPDATE portage.deferred d SET state = 'waiting', started_at = NULL, finished_at = NULL"
    "   WHERE d.state <> 'waiting'"
    "     AND (((d.table_schema, d.table_name) = ($1, $2)"
    "           AND (d.kind IN ('unique', 'exclusion')"
    "                OR (d.kind = 'index' AND d.definition LIKE 'CREATE UNIQUE %')))"
    "          OR (d.kind = 'foreign key' AND EXISTS ("
    "               SELECT FROM pg_catalog.pg_constraint c"
    "                 JOIN pg_catalog.pg_index i ON i.indexrelid = c.conindid AND NOT i.indisprimary"
    "                WHERE c.contype = 'f' AND c.conname = d.name"
    "                  AND c.conrelid = pg_catalog.format('%I.%I', d.table_schema,"
    "                                                     d.table_name)::regclass"
    "                  AND c.confrelid = pg_catalog.format('%I.%I', $1, $2)::regclass)))"
    "  RETURNING *)"
    " SELECT CASE kind WHEN 'index' THEN pg_catalog.format('DROP INDEX IF EXISTS %I.%I',"
    "                                                      table_schema, name)"
    "         ELSE pg_catalog.format('ALTER TABLE %I.%I DROP CONSTRAINT IF EXISTS %I', table_schema,"
    "                                table_name, name) END"
    "  FROM again ORDER BY kind <> 'foreign key', ordinal";

bool deferred_take_unique(PGconn *shard, const char *schema, const char *table, struct error *err)
{
    const char *const values[] = {schema, table};
    PGresult *drops = conn_query(shard, take_unique_sql, 2, values, err);
    bool ok = drops != NULL && run_all(shard, drops, err);
    if (ok && PQntuples(drops) > 0)
        log_info("%s.%s: %d unique constraints are built again after the copy", schema, table,
                 PQntuples(drops));
    PQclear(drops);
    return ok;
}

/* ---- building ---- */

struct deferred {
    const char *ordinal, *kind, *schema, *table, *name, *definition;
    bool partitioned;
};

/*
 * A statement that needs a strong lock for a moment must not queue up before the apply for long. And it
 * gives up before the server looks for a deadlock: a foreign key locks two tables, and a lane that has one
 * of them and wants the other would be its victim, again and again while it has much to catch up with.
 */
static const char lock_timeout_sql[] =
    "SELECT pg_catalog.set_config('lock_timeout', (setting::int / 2)::text, false)"
    "  FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'";

static bool exec_patiently(PGconn *shard, const char *sql, struct stop *stop, struct error *err)
{
    enum { LOCK_WAIT_US = 500 * 1000 };
    for (;;) {
        if (stop_requested(stop))
            return stop_error(err);
        if (!conn_exec(shard, lock_timeout_sql, err))
            return false;
        bool ok = conn_exec(shard, sql, err);
        bool waited = !ok && (strcmp(err->sqlstate, "55P03") == 0 || strcmp(err->sqlstate, "40P01") == 0);
        if (ok)
            return conn_exec(shard, "SET lock_timeout = 0", err); /* CONCURRENTLY waits for others */
        if (!waited)
            return error_context(err, "%s", sql);
        error_clear(err);
        stop_wait(stop, LOCK_WAIT_US);
    }
}

static const char *name_of(struct arena *arena, const struct deferred *item)
{
    return quote_name_dup(arena, item->schema, item->table);
}

static bool drop_if_invalid(PGconn *shard, const char *schema, const char *index,
                            struct arena *arena, bool *exists, struct error *err)
{
    const char *const values[] = {schema, index};
    PGresult *result = conn_query(
        shard,
        "SELECT i.indisvalid OR x.relkind = 'I' FROM pg_catalog.pg_index i"
        "  JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid"
        "  JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace"
        " WHERE n.nspname = $1 AND x.relname = $2",
        2, values, err);
    if (result == NULL)
        return false;
    *exists = PQntuples(result) > 0;
    bool valid = *exists && result_bool(result, 0, 0);
    PQclear(result);
    if (!*exists || valid)
        return true;
    *exists = false;
    return conn_exec(shard, arena_printf(arena, "DROP INDEX CONCURRENTLY %s",
                                         quote_name_dup(arena, schema, index)),
                     err);
}

/* What a failed build leaves behind would go on to enforce its uniqueness, and to cost each write. */
static bool build_concurrently(PGconn *shard, const char *schema, const char *index, const char *sql,
                               struct arena *arena, struct error *err)
{
    bool gone;
    struct error second = ERROR_INIT;
    if (conn_exec(shard, sql, err))
        return true;
    error_context(err, "%s", sql);
    if (PQstatus(shard) == CONNECTION_OK && !drop_if_invalid(shard, schema, index, arena, &gone, &second))
        log_warning("the index %s.%s was not built, and is there still: %s", schema, index,
                    second.message);
    return false;
}

/* `CREATE [UNIQUE] INDEX name ON …` as CREATE INDEX CONCURRENTLY, on another table if one is given. */
static const char *concurrent_definition(struct arena *arena, const struct deferred *item,
                                         const char *index, const char *table)
{
    const char *using = sql_find(item->definition, " USING ");
    bool unique = strncmp(item->definition, "CREATE UNIQUE", 13) == 0;
    CHECK(using != NULL); /* pg_get_indexdef() always writes it */
    return arena_printf(arena, "CREATE %sINDEX CONCURRENTLY %s ON %s%s", unique ? "UNIQUE " : "",
                        quote_ident_dup(arena, index), table, using);
}

static bool build_plain_index(PGconn *shard, const struct deferred *item, struct arena *arena,
                              struct error *err)
{
    bool exists;
    if (!drop_if_invalid(shard, item->schema, item->name, arena, &exists, err))
        return false;
    return exists || build_concurrently(shard, item->schema, item->name,
                                        concurrent_definition(arena, item, item->name,
                                                              name_of(arena, item)),
                                        arena, err);
}

static const char leaves_sql[] =
    "SELECT n.nspname, c.relname, c.oid FROM pg_catalog.pg_partition_tree($1::regclass) p"
    "  JOIN pg_catalog.pg_class c ON c.oid = p.relid"
    "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE p.isleaf AND NOT EXISTS ("
    "   SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_inherits h ON h.inhrelid = i.indexrelid"
    "    WHERE i.indrelid = c.oid AND h.inhparent = $2::regclass)"
    " ORDER BY c.oid";

/* ON ONLY the parent (invalid until all leaves are attached), concurrently on each leaf, attached. */
static bool build_partitioned_index(PGconn *shard, const struct deferred *item,
                                    struct arena *arena, struct stop *stop, struct error *err)
{
    bool exists;
    const char *parent = quote_name_dup(arena, item->schema, item->name);
    const char *const values[] = {name_of(arena, item), parent};
    if (!drop_if_invalid(shard, item->schema, item->name, arena, &exists, err) ||
        (!exists && !exec_patiently(shard, item->definition, stop, err)))
        return false;
    PGresult *leaves = conn_query(shard, leaves_sql, 2, values, err);
    bool ok = leaves != NULL;
    for (int row = 0; ok && row < PQntuples(leaves); row++) {
        const char *schema = result_text(leaves, row, 0), *leaf = result_text(leaves, row, 1);
        /* the same one when we begin again, whatever is attached by then */
        const char *index = name_join(
            arena, leaf, arena_printf(arena, "_%s_%s", item->ordinal, result_text(leaves, row, 2)));
        ok = !stop_requested(stop) || stop_error(err);
        ok = ok && drop_if_invalid(shard, schema, index, arena, &exists, err) &&
             (exists || build_concurrently(shard, schema, index,
                                           concurrent_definition(arena, item, index,
                                                                 quote_name_dup(arena, schema, leaf)),
                                           arena, err)) &&
             exec_patiently(shard,
                            arena_printf(arena, "ALTER INDEX %s ATTACH PARTITION %s", parent,
                                         quote_name_dup(arena, schema, index)),
                            stop, err);
    }
    PQclear(leaves);
    return ok;
}

/* A unique constraint: its index concurrently, then the constraint with it. */
static bool build_unique(PGconn *shard, const struct deferred *item, struct arena *arena,
                         struct stop *stop, struct error *err)
{
    bool exists;
    const char *columns = strchr(item->definition, '(');
    CHECK(columns != NULL);
    size_t length = strcspn(columns, ")") + 1;
    /* INCLUDE, NULLS NOT DISTINCT and odd names go the slow way, under a lock */
    bool simple = strncmp(item->definition, "UNIQUE (", 8) == 0 &&
                  strchr(item->definition, '"') == NULL && strstr(item->definition, "INCLUDE") == NULL;
    const char *table = name_of(arena, item), *name = quote_ident_dup(arena, item->name);
    if (!simple)
        return exec_patiently(shard, arena_printf(arena, "ALTER TABLE %s ADD CONSTRAINT %s %s", table,
                                                  name, item->definition),
                              stop, err);
    if (!drop_if_invalid(shard, item->schema, item->name, arena, &exists, err) ||
        (!exists &&
         !build_concurrently(shard, item->schema, item->name,
                             arena_printf(arena, "CREATE UNIQUE INDEX CONCURRENTLY %s ON %s %.*s", name,
                                          table, (int)length, columns),
                             arena, err)))
        return false;
    return exec_patiently(shard,
                          arena_printf(arena, "ALTER TABLE %s ADD CONSTRAINT %s UNIQUE USING INDEX"
                                              " %s%s", table, name, name, columns + length),
                          stop, err);
}

static bool add_constraint(PGconn *shard, const char *table, const struct deferred *item,
                           const char *suffix, struct arena *arena, struct stop *stop,
                           struct error *err)
{
    return exec_patiently(shard,
                          arena_printf(arena, "ALTER TABLE %s ADD CONSTRAINT %s %s%s", table,
                                       quote_ident_dup(arena, item->name), item->definition, suffix),
                          stop, err);
}

static bool has_constraint(PGconn *shard, const char *table, const char *name, bool *has,
                           struct error *err)
{
    const char *const values[] = {table, name};
    PGresult *result = conn_query(shard,
                                  "SELECT FROM pg_catalog.pg_constraint"
                                  " WHERE conrelid = $1::regclass AND conname = $2",
                                  2, values, err);
    *has = PQntuples(result) > 0;
    PQclear(result);
    return result != NULL;
}

static bool build_exclusion(PGconn *shard, const struct deferred *item, struct arena *arena,
                            struct stop *stop, struct error *err)
{
    bool has;
    const char *table = name_of(arena, item);
    return has_constraint(shard, table, item->name, &has, err) &&
           (has || add_constraint(shard, table, item, "", arena, stop, err));
}

static bool build(PGconn *shard, const struct deferred *item, struct arena *arena,
                  struct stop *stop, struct error *err)
{
    bool has;
    if (strcmp(item->kind, "index") == 0)
        return item->partitioned ? build_partitioned_index(shard, item, arena, stop, err)
                                 : build_plain_index(shard, item, arena, err);
    if (strcmp(item->kind, "unique") == 0)
        return has_constraint(shard, name_of(arena, item), item->name, &has, err) &&
               (has || build_unique(shard, item, arena, stop, err));
    return build_exclusion(shard, item, arena, stop, err);
}

/* ---- whose turn it is ---- */

enum { BUSY_WAIT_US = 200 * 1000 };

/* What is not built yet, of tables that are there. */
#define WAITING                                                                                    \
    "  FROM portage.deferred d"                                                                    \
    "  JOIN pg_catalog.pg_namespace n ON n.nspname = d.table_schema"                               \
    "  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = d.table_name"          \
    " WHERE d.state <> 'done' AND d.kind NOT IN ('foreign key', 'trigger')"

/*
 * The next object that nobody builds, of a table that nobody builds on. What was begun and never ended
 * comes first. The locks are the session's: those of a worker that is gone end when the server is done with
 * it. OFFSET 0 and CASE: a lock must be tried for no row but the next.
 */
static const char claim_sql[] =
    "WITH next AS ("
    "  SELECT d.*, c.relkind = 'p' AS partitioned,"
    "         pg_catalog.hashtext(pg_catalog.format('%I.%I', d.table_schema, d.table_name)) AS own"
    WAITING " ORDER BY d.state <> 'building', d.ordinal OFFSET 0)"
    " SELECT ordinal, kind, table_schema, table_name, name, definition, partitioned FROM next"
    "  WHERE CASE WHEN pg_catalog.pg_try_advisory_lock(" CLAIMS ", own) THEN true ELSE false END"
    "  LIMIT 1";

static const char any_waiting_sql[] = "SELECT EXISTS (SELECT" WAITING ")";

/* No row: it was built between our look and our lock. */
static const char begin_sql[] =
    "UPDATE portage.deferred SET state = 'building', started_at = pg_catalog.clock_timestamp()"
    " WHERE ordinal = $1::int AND state <> 'done' RETURNING ordinal";

static const char end_sql[] =
    "UPDATE portage.deferred SET state = 'done', finished_at = pg_catalog.clock_timestamp()"
    " WHERE ordinal = $1::int";

static bool build_and_record(PGconn *shard, const struct deferred *item, struct stop *stop,
                             struct error *err)
{
    struct arena arena;
    int64_t begun_us = clock_monotonic_us();
    PGresult *begun = conn_query(shard, begin_sql, 1, &item->ordinal, err);
    bool ok = begun != NULL, ours = ok && PQntuples(begun) == 1;
    PQclear(begun);
    if (!ours)
        return ok;
    log_debug("building %s %s of %s.%s", item->kind, item->name, item->schema, item->table);
    arena_init(&arena, 16 * 1024);
    PGresult *ended = NULL;
    if (build(shard, item, &arena, stop, err))
        ended = conn_query(shard, end_sql, 1, &item->ordinal, err);
    ok = ended != NULL;
    PQclear(ended);
    arena_release(&arena);
    if (!ok)
        return error_context(err, "%s %s of %s.%s", item->kind, item->name, item->schema,
                             item->table);
    log_info("built %s %s of %s.%s in %.1f s", item->kind, item->name, item->schema, item->table,
             (double)(clock_monotonic_us() - begun_us) / 1e6);
    return true;
}

/* Builds one; *found: there was one that we could have. */
static bool build_next(PGconn *shard, struct stop *stop, bool *found, struct error *err)
{
    PGresult *claimed = conn_query(shard, claim_sql, 0, NULL, err);
    bool ok = claimed != NULL;
    *found = ok && PQntuples(claimed) == 1;
    if (*found) {
        struct deferred item = {
            .ordinal = result_text(claimed, 0, 0), .kind = result_text(claimed, 0, 1),
            .schema = result_text(claimed, 0, 2), .table = result_text(claimed, 0, 3),
            .name = result_text(claimed, 0, 4), .definition = result_text(claimed, 0, 5),
            .partitioned = result_bool(claimed, 0, 6),
        };
        ok = build_and_record(shard, &item, stop, err) &&
             conn_exec(shard, "SELECT pg_catalog.pg_advisory_unlock_all()", err);
    }
    PQclear(claimed);
    return ok;
}

static bool any_waiting(PGconn *shard, bool *any, struct error *err)
{
    PGresult *result = conn_query_row(shard, any_waiting_sql, 0, NULL, err);
    if (result == NULL)
        return false;
    *any = result_bool(result, 0, 0);
    PQclear(result);
    return true;
}

bool deferred_build(PGconn *shard, struct stop *stop, struct error *err)
{
    bool found, any = true;
    if (!conn_exec(shard, "SET maintenance_work_mem = '256MB'", err))
        return false;
    while (any) {
        if (stop_requested(stop))
            return stop_error(err);
        if (!build_next(shard, stop, &found, err))
            return false;
        if (!found && !any_waiting(shard, &any, err))
            return false;
        if (!found && any)
            stop_wait(stop, BUSY_WAIT_US);
    }
    return true;
}

/* ---- how far it is ---- */

/* Who holds the claim on a table is the one that builds: it works on one object at a time. */
static const char under_way_sql[] =
    "SELECT d.kind, d.table_schema || '.' || d.table_name, d.name, COALESCE(p.phase, ''),"
    "       CASE WHEN p.phase LIKE '%tuples%' THEN p.tuples_done ELSE p.blocks_done END,"
    "       CASE WHEN p.phase LIKE '%tuples%' THEN p.tuples_total ELSE p.blocks_total END,"
    "       EXTRACT(epoch FROM pg_catalog.clock_timestamp() - d.started_at)::bigint"
    "  FROM portage.deferred d"
    "  JOIN LATERAL (SELECT DISTINCT pid FROM pg_catalog.pg_locks"
    "         WHERE locktype = 'advisory' AND granted AND objsubid = 2"
    "           AND database = (SELECT oid FROM pg_catalog.pg_database"
    "                            WHERE datname = pg_catalog.current_database())"
    "           AND classid::bigint = " CLAIMS "::bigint & 4294967295"
    "           AND objid::bigint = pg_catalog.hashtext(pg_catalog.format('%I.%I', d.table_schema,"
    "                                 d.table_name))::bigint & 4294967295) AS holder ON true"
    "  LEFT JOIN pg_catalog.pg_stat_progress_create_index p USING (pid)"
    " WHERE d.state = 'building' ORDER BY d.started_at";

bool deferred_under_way(PGconn *shard, unsigned number, json_t *list, struct error *err)
{
    PGresult *result = conn_query(shard, under_way_sql, 0, NULL, err);
    if (result == NULL)
        return error_context(err, "reading which indexes are being built");
    for (int row = 0; row < PQntuples(result); row++)
        json_array_append_new(
            list, json_pack("{s:i, s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "shard", (int)number, "kind",
                            result_text(result, row, 0), "table", result_text(result, row, 1), "name",
                            result_text(result, row, 2), "phase", result_text(result, row, 3), "done",
                            (json_int_t)result_int(result, row, 4), "total",
                            (json_int_t)result_int(result, row, 5), "seconds",
                            (json_int_t)result_int(result, row, 6)));
    PQclear(result);
    return true;
}
