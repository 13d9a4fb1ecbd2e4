#include "run/partitions.h"

#include "pg/conn.h"
#include "pg/quote.h"
#include "util/log.h"

enum { PARTITIONS_MAX = 2000, STEPS_AHEAD = 12, NAMES_TRIED = 100 };

/* The least and the largest finite value of the partition key in a table of the source. */
static const char *extent_sql(const struct mapping *mapping, const struct leaf *leaf,
                              struct arena *arena)
{
    const struct mapping_item *item = &mapping->items[mapping->partition_item];
    const struct relation *source = mapping->source;
    struct buffer sql;
    buffer_init(&sql, 1 << 20);
    buffer_printf(&sql, "SELECT min(v)::timestamp::text, max(v)::timestamp::text FROM"
                        " (SELECT (%s)::%s AS v FROM ",
                  item->select->expr, item->target->base_type);
    if (leaf != NULL) {
        buffer_printf(&sql, "ONLY %s AS ", leaf->name);
        quote_ident(&sql, source->name);
    } else {
        relation_put_only(&sql, source);
    }
    buffer_puts(&sql, ") AS portage_values WHERE pg_catalog.isfinite(v)");
    return arena_take(arena, &sql);
}

/*
 * $1 least, $2 largest, $3 step, $4 steps ahead, $5 the table: bounds and the suffix of the name,
 * for each partition that is not there yet, whatever its name. Steps begin at a whole year, month, week,
 * day or hour, and go both ways from a partition that is there.
 */
static const char bounds_sql[] =
    "WITH step AS (SELECT $3::interval AS every),"
    " grain AS (SELECT CASE WHEN every >= interval '1 year' THEN 'year'"
    "                       WHEN every >= interval '1 month' THEN 'month'"
    "                       WHEN every = interval '7 days' THEN 'week'"
    "                       WHEN every >= interval '1 day' THEN 'day' ELSE 'hour' END AS grain FROM step),"
    " bound AS (SELECT pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bound"
    "             FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid"
    "            WHERE i.inhparent = $5::regclass),"
    " there AS (SELECT pg_catalog.substring(bound, 'FROM \\(''([^'']*)''\\)')::timestamp AS lower,"
    "                  pg_catalog.substring(bound, 'TO \\(''([^'']*)''\\)')::timestamp AS upper"
    "             FROM bound),"
    " present AS (SELECT pg_catalog.min(lower) AS first FROM there),"
    " wanted AS (SELECT COALESCE($1::timestamp, pg_catalog.now() AT TIME ZONE 'UTC') AS least,"
    "           GREATEST($2::timestamp, pg_catalog.now() AT TIME ZONE 'UTC') + $4::int * every"
    "             AS last FROM step),"
    " begin AS (SELECT COALESCE(first, pg_catalog.date_trunc(grain, least)) AS first"
    "             FROM present, wanted, grain),"
    " steps AS (SELECT s FROM begin, step, wanted,"
    "             pg_catalog.generate_series(first, last, every) AS s"
    "           UNION SELECT s FROM begin, step, wanted,"
    "             pg_catalog.generate_series(first - every, least - every, - every) AS s)"
    " SELECT s::text, (s + every)::text,"
    "        pg_catalog.to_char(s, CASE grain WHEN 'year' THEN 'YYYY' WHEN 'month' THEN 'YYYY_MM'"
    "                                WHEN 'hour' THEN 'YYYY_MM_DD_HH24MI' ELSE 'YYYY_MM_DD' END)"
    "   FROM steps, step, grain, wanted WHERE s + every > least"
    "    AND NOT EXISTS (SELECT FROM there WHERE (lower, upper) = (s, s + every))"
    "  ORDER BY s LIMIT 2001";

/* Of the n-th try: names may be taken, by a table that has long ceased to be a partition, or by one of a
 * table whose name begins with the same 60 letters. */
static const char *nth_name(const struct mapping *mapping, const char *suffix, int n,
                            struct arena *arena)
{
    return name_join(arena, mapping->target->name,
                     n == 1 ? arena_printf(arena, "_%s", suffix)
                            : arena_printf(arena, "_%s_%d", suffix, n));
}

static bool create_named(PGconn *shard, const struct mapping *mapping, const char *name,
                         const char *from, const char *to, struct error *err)
{
    const struct relation *target = mapping->target;
    struct buffer sql;
    buffer_init(&sql, 8192);
    buffer_puts(&sql, "CREATE TABLE ");
    quote_name(&sql, target->schema, name);
    buffer_puts(&sql, " PARTITION OF ");
    quote_name(&sql, target->schema, target->name);
    if (from == NULL) {
        buffer_puts(&sql, " DEFAULT");
    } else {
        buffer_puts(&sql, " FOR VALUES FROM (");
        quote_literal(&sql, from);
        buffer_puts(&sql, ") TO (");
        quote_literal(&sql, to);
        buffer_puts(&sql, ")");
    }
    bool ok = conn_exec(shard, "SAVEPOINT portage_partition", err) &&
              conn_exec(shard, buffer_text(&sql), err);
    buffer_release(&sql);
    return ok && conn_exec(shard, "RELEASE portage_partition", err);
}

static bool failed_by(const struct error *err, const char *sqlstate)
{
    return strcmp(err->sqlstate, sqlstate) == 0;
}

/* The default partition (from, to: NULL) or one with these bounds. What cannot be is told and left: the
 * default partition has rows that belong there, or another partition overlaps; rows go where they went
 * so far. */
static bool create_one(PGconn *shard, const struct mapping *mapping, const char *suffix,
                       const char *from, const char *to, struct arena *arena, struct error *err)
{
    for (int n = 1; n <= NAMES_TRIED; n++) {
        if (create_named(shard, mapping, nth_name(mapping, suffix, n, arena), from, to, err))
            return true;
        bool taken = failed_by(err, "42P07");
        bool left = from != NULL && (failed_by(err, "23514") || failed_by(err, "42P17"));
        if (left)
            log_warning("%s: no partition from %s to %s: %s", mapping->name, from, to, err->message);
        if (!taken && !left)
            return false;
        error_clear(err);
        if (!conn_exec(shard, "ROLLBACK TO portage_partition", err))
            return false;
        if (left)
            return true;
    }
    return error_set(err, ERROR_CONFIG, "all names for a partition like %s are taken",
                     nth_name(mapping, suffix, 1, arena));
}

static bool has_default(PGconn *shard, const char *table, bool *has, struct error *err)
{
    PGresult *result = conn_query_row(shard,
                                      "SELECT partdefid <> 0 FROM pg_catalog.pg_partitioned_table"
                                      " WHERE partrelid = $1::regclass",
                                      1, &table, err);
    *has = result != NULL && result_bool(result, 0, 0);
    PQclear(result);
    return result != NULL;
}

static bool create_all(PGconn *shard, const struct mapping *mapping, const char *table,
                       const PGresult *bounds, struct arena *arena, struct error *err)
{
    int count = PQntuples(bounds);
    bool has;
    if (count > PARTITIONS_MAX) {
        error_set(err, ERROR_CONFIG, "partition_by of %s asks for more than %d partitions",
                  mapping->name, PARTITIONS_MAX);
        return error_hint(err, "Use a larger step than %s.",
                          mapping->config->partition_every.text);
    }
    for (int row = 0; row < count; row++) {
        if (!create_one(shard, mapping, result_text(bounds, row, 2), result_text(bounds, row, 0),
                        result_text(bounds, row, 1), arena, err))
            return false;
    }
    return has_default(shard, table, &has, err) &&
           (has || create_one(shard, mapping, "default", NULL, NULL, arena, err));
}

bool partitions_create(PGconn *source, PGconn *shard, const struct mapping *mapping,
                       const struct leaf *leaf, struct error *err)
{
    struct arena arena;
    char ahead[12];
    arena_init(&arena, 4096);
    snprintf(ahead, sizeof ahead, "%d", STEPS_AHEAD);
    const char *target = quote_name_dup(&arena, mapping->target->schema, mapping->target->name);
    PGresult *extent = conn_query_row(source, extent_sql(mapping, leaf, &arena), 0, NULL, err);
    PGresult *bounds = NULL;
    if (extent != NULL) {
        const char *const values[] = {
            PQgetisnull(extent, 0, 0) ? NULL : result_text(extent, 0, 0),
            PQgetisnull(extent, 0, 1) ? NULL : result_text(extent, 0, 1),
            mapping->config->partition_every.text, ahead, target};
        bounds = conn_query(shard, bounds_sql, 5, values, err);
    }
    bool ok = bounds != NULL && create_all(shard, mapping, target, bounds, &arena, err);
    PQclear(bounds);
    PQclear(extent);
    arena_release(&arena);
    return ok || error_context(err, "creating the partitions of %s", mapping->name);
}
