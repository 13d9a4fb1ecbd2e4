#include "run/coordinator.h"

#include "pg/conn.h"
#include "pg/quote.h"
#include "run/target.h"

enum { NAME_BYTES_MAX = 63 };

static const char head[] =
    "-- A coordinator: the shards as one database, by stock postgres_fdw. PostgreSQL 14 or later.\n"
    "-- Written by \"pgportage coordinator --ddl\". Run it once, in an empty database of its own.\n"
    "-- Put the application's role and its password where @USER@ and @PASSWORD@ stand.\n"
    "--\n"
    "-- What it does: reads see all shards; what names the shard key goes to one shard only. Inserts\n"
    "-- are routed by the shard key.\n"
    "-- What it cannot do:\n"
    "--   No commit is atomic over shards: a transaction that wrote to two of them may commit on one\n"
    "--   and fail on the other. Keep a transaction to one shard key.\n"
    "--   No unique index over foreign partitions, so no ON CONFLICT with a target, and keys are\n"
    "--   unique on each shard only.\n"
    "--   A changed shard key stays where the row was, where nobody finds it any more. The end of this\n"
    "--   file has a CHECK for the shards that refuses it: change the key by DELETE and INSERT.\n"
    "--   Sequences are the shards'. Columns that they fill have no default here: give the value.\n"
    "--   Foreign keys, checks, triggers and secondary indexes work on the shards, and are not here.\n"
    "--   Reference tables are read from shard 0. They are not writable here: write to every shard.\n"
    "--   Shards refuse writes until the cutover, also through here.\n\n";

static const char placement_head[] =
    "\n-- ---- For the shards ----\n"
    "-- A row that is on the wrong shard is refused by the shard itself. Not run here: take the\n"
    "-- comment signs away and run each part on its shard, as the owner of the tables.\n";

/* Of the tables whose OIDs are $1, and of what their columns are made of. */
#define NEEDED_TYPES                                                                               \
    "WITH RECURSIVE needed(oid, depth) AS ("                                                       \
    "  SELECT a.atttypid, 1 FROM pg_catalog.pg_attribute a"                                        \
    "   WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped"                \
    "  UNION SELECT n.next, depth + 1 FROM needed"                                                 \
    "    JOIN pg_catalog.pg_type t ON t.oid = needed.oid"                                          \
    "   CROSS JOIN LATERAL ("                                                                      \
    "    SELECT t.typelem WHERE t.typcategory = 'A'"                                               \
    "    UNION ALL SELECT t.typbasetype WHERE t.typbasetype <> 0"                                  \
    "    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid"        \
    /* Multiranges came with 14, and their column in pg_range. */                                  \
    "    UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r"                                   \
    "     WHERE pg_catalog.to_jsonb(r) ->> 'rngmultitypid' = t.oid::text"                          \
    "    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a"                               \
    "     WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0"                      \
    "       AND NOT a.attisdropped) AS n(next)),"                                                  \
    " types AS (SELECT t.*, d.depth FROM pg_catalog.pg_type t"                                     \
    "             JOIN (SELECT oid, max(depth) AS depth FROM needed GROUP BY oid) d"               \
    "               ON d.oid = t.oid WHERE t.oid >= 16384),"                                       \
    " extensions AS (SELECT DISTINCT e.extname, d.objid FROM pg_catalog.pg_depend d"               \
    "    JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid"                                     \
    "   WHERE d.deptype = 'e' AND d.classid = 'pg_catalog.pg_type'::regclass"                      \
    "     AND d.refclassid = 'pg_catalog.pg_extension'::regclass)"

/* Functions and operators of users, which the coordinator has not. */
#define CALLS_USERS(class, object)                                                                 \
    "EXISTS (SELECT FROM pg_catalog.pg_depend u"                                                   \
    "         WHERE u.classid = 'pg_catalog." class "'::regclass AND u.objid = " object            \
    "           AND u.refclassid IN ('pg_catalog.pg_proc'::regclass,"                              \
    "                                'pg_catalog.pg_operator'::regclass))"

static const char schemas_sql[] =
    NEEDED_TYPES
    " SELECT pg_catalog.format('CREATE SCHEMA IF NOT EXISTS %I;', nspname) FROM ("
    "  SELECT n.nspname FROM pg_catalog.pg_class c"
    "    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1::oid[])"
    "  UNION SELECT n.nspname FROM types t"
    "    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace) AS s"
    "  WHERE nspname !~ '^pg_' ORDER BY nspname COLLATE \"C\"";

static const char extensions_sql[] =
    NEEDED_TYPES
    " SELECT DISTINCT pg_catalog.format('CREATE EXTENSION IF NOT EXISTS %I SCHEMA %I;', x.extname,"
    "        n.nspname)"
    "   FROM types t JOIN extensions x ON x.objid = t.oid"
    "   JOIN pg_catalog.pg_extension e ON e.extname = x.extname"
    "   JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY 1";

/* Those first that others are made of. */
static const char types_sql[] =
    NEEDED_TYPES
    " SELECT CASE t.typtype"
    "  WHEN 'e' THEN pg_catalog.format('CREATE TYPE %s AS ENUM (%s);', t.oid::regtype,"
    "    (SELECT pg_catalog.string_agg(pg_catalog.quote_literal(l.enumlabel), ', '"
    "              ORDER BY l.enumsortorder)"
    "       FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid))"
    "  WHEN 'c' THEN pg_catalog.format('CREATE TYPE %s AS (%s);', t.oid::regtype,"
    "    (SELECT pg_catalog.string_agg(pg_catalog.format('%I %s', a.attname,"
    "              pg_catalog.format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)"
    "       FROM pg_catalog.pg_attribute a"
    "      WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped))"
    "  WHEN 'r' THEN pg_catalog.format('CREATE TYPE %s AS RANGE (SUBTYPE = %s);', t.oid::regtype,"
    "    (SELECT r.rngsubtype::regtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid))"
    "  WHEN 'd' THEN pg_catalog.format('CREATE DOMAIN %s AS %s%s%s;', t.oid::regtype,"
    "    pg_catalog.format_type(t.typbasetype, t.typtypmod),"
    "    CASE WHEN t.typnotnull THEN ' NOT NULL' ELSE '' END,"
    "    (SELECT pg_catalog.string_agg(pg_catalog.format(' CONSTRAINT %I %s', k.conname,"
    "              pg_catalog.pg_get_constraintdef(k.oid)), '' ORDER BY k.conname)"
    "       FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'"
    "        AND NOT " CALLS_USERS("pg_constraint", "k.oid") "))"
    "  ELSE pg_catalog.format('-- Type %s is no SQL type: create it here first.', t.oid::regtype)"
    "  END"
    "   FROM types t LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid"
    "  WHERE t.typcategory <> 'A' AND t.typtype <> 'm' AND COALESCE(c.relkind, 'c') = 'c'"
    "    AND NOT EXISTS (SELECT FROM extensions x WHERE x.objid = t.oid)"
    "  ORDER BY t.depth DESC, t.oid";

/* A column's definition, and what is to be said of it. */
static const char columns_sql[] =
    "SELECT pg_catalog.format('%I %s', a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod))"
    "       || CASE WHEN a.attcollation <> t.typcollation"
    "               THEN pg_catalog.format(' COLLATE %I.%I', cn.nspname, co.collname) ELSE '' END"
    "       || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END"
    "       || CASE WHEN NOT d.usable OR d.expr IS NULL THEN ''"
    "               WHEN a.attgenerated <> ''"
    "               THEN pg_catalog.format(' GENERATED ALWAYS AS (%s) STORED', d.expr)"
    "               ELSE ' DEFAULT ' || d.expr END,"
    "       CASE WHEN a.attidentity = 'a'"
    "            THEN 'identity on the shards (ALWAYS): no insert through here'"
    "            WHEN a.attidentity <> '' THEN 'identity on the shards: give a value'"
    "            WHEN NOT d.usable AND a.attgenerated <> ''"
    "            THEN 'generated on the shards: no insert through here'"
    "            WHEN NOT d.usable THEN 'on the shards: DEFAULT ' || d.expr END"
    "  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
    "  LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation"
    "  LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace"
    "  LEFT JOIN LATERAL (SELECT pg_catalog.pg_get_expr(f.adbin, f.adrelid) AS expr,"
    "         NOT " CALLS_USERS("pg_attrdef", "f.oid")
    "         AND pg_catalog.pg_get_expr(f.adbin, f.adrelid) !~ '\\mnextval\\(' AS usable"
    "    FROM pg_catalog.pg_attrdef f WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum) d ON true"
    " WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/* ---- servers ---- */

static void put_options(struct buffer *sql, const char *conninfo)
{
    static const char *const kept[] = {"host", "hostaddr", "port", "dbname", "sslmode",
                                       "sslrootcert"};
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    for (const PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++) {
        for (size_t k = 0; k < sizeof kept / sizeof kept[0]; k++) {
            if (o->val == NULL || strcmp(o->keyword, kept[k]) != 0)
                continue;
            buffer_printf(sql, "%s ", o->keyword);
            quote_literal(sql, o->val);
            buffer_puts(sql, ", ");
        }
    }
    PQconninfoFree(options);
    buffer_puts(sql, "fetch_size '1000', async_capable 'true'");
}

static void put_servers(struct buffer *sql, const struct config *config)
{
    buffer_puts(sql, "CREATE EXTENSION IF NOT EXISTS postgres_fdw;\n\n");
    for (unsigned s = 0; s < config->shards_count; s++) {
        buffer_printf(sql, "CREATE SERVER shard_%u FOREIGN DATA WRAPPER postgres_fdw OPTIONS (", s);
        put_options(sql, config->shards[s].text);
        buffer_printf(sql,
                      ");\nCREATE USER MAPPING FOR CURRENT_USER SERVER shard_%u"
                      " OPTIONS (user '@USER@', password '@PASSWORD@');\n"
                      "CREATE SCHEMA shard_%u;\n",
                      s, s);
    }
}

/* ---- types ---- */

static bool put_lines(struct buffer *sql, PGconn *shard, const char *query, const char *oids,
                      struct error *err)
{
    PGresult *result = conn_query(shard, query, 1, &oids, err);
    if (result == NULL)
        return false;
    for (int row = 0; row < PQntuples(result); row++)
        buffer_printf(sql, "%s%s\n", row == 0 ? "\n" : "", result_text(result, row, 0));
    PQclear(result);
    return true;
}

/* ---- tables ---- */

static bool put_columns(struct buffer *sql, PGconn *shard, const struct relation *relation,
                        struct error *err)
{
    char oid[16];
    const char *const values[] = {oid};
    snprintf(oid, sizeof oid, "%u", relation->oid);
    PGresult *result = conn_query(shard, columns_sql, 1, values, err);
    if (result == NULL)
        return false;
    int rows = PQntuples(result);
    for (int row = 0; row < rows; row++) {
        buffer_printf(sql, "    %s%s", result_text(result, row, 0), row + 1 < rows ? "," : "");
        if (!PQgetisnull(result, row, 1))
            buffer_printf(sql, " -- %s", result_text(result, row, 1));
        buffer_putc(sql, '\n');
    }
    PQclear(result);
    return true;
}

static void put_remote(struct buffer *sql, const struct relation *relation, unsigned shard)
{
    buffer_printf(sql, " SERVER shard_%u OPTIONS (schema_name ", shard);
    quote_literal(sql, relation->schema);
    buffer_puts(sql, ", table_name ");
    quote_literal(sql, relation->name);
}

/* shard_1."public.transactions"; a name that would be cut off might meet another one. */
static void put_partition_name(struct buffer *sql, const struct relation *relation, unsigned shard)
{
    char name[2 * NAME_BYTES_MAX + 2];
    snprintf(name, sizeof name, "%s.%s", relation->schema, relation->name);
    if (strlen(name) > NAME_BYTES_MAX)
        snprintf(name, sizeof name, "table %u", relation->oid);
    buffer_printf(sql, "shard_%u.", shard);
    quote_ident(sql, name);
}

static bool put_foreign(struct buffer *sql, PGconn *shard, const struct mapping *mapping,
                        struct error *err)
{
    buffer_puts(sql, "\nCREATE FOREIGN TABLE ");
    quote_name(sql, mapping->target->schema, mapping->target->name);
    buffer_puts(sql, " (\n");
    if (!put_columns(sql, shard, mapping->target, err))
        return false;
    buffer_puts(sql, ")");
    put_remote(sql, mapping->target, 0);
    buffer_puts(sql, mapping->everywhere ? ", updatable 'false');\n" : ");\n");
    return true;
}

static bool put_sharded(struct buffer *sql, PGconn *shard, const struct mapping *mapping,
                        unsigned shards, struct error *err)
{
    const struct relation *target = mapping->target;
    buffer_puts(sql, "\nCREATE TABLE ");
    quote_name(sql, target->schema, target->name);
    buffer_puts(sql, " (\n");
    if (!put_columns(sql, shard, target, err))
        return false;
    buffer_puts(sql, ") PARTITION BY HASH (");
    quote_ident(sql, mapping->items[mapping->shard_item].target->name);
    buffer_puts(sql, ");\n");
    for (unsigned s = 0; s < shards; s++) {
        buffer_puts(sql, "CREATE FOREIGN TABLE ");
        put_partition_name(sql, target, s);
        buffer_puts(sql, " PARTITION OF ");
        quote_name(sql, target->schema, target->name);
        buffer_printf(sql, "\n    FOR VALUES WITH (MODULUS %u, REMAINDER %u)", shards, s);
        put_remote(sql, target, s);
        buffer_puts(sql, ");\n");
    }
    return true;
}

/* A merge has several mappings of one table. */
static bool is_first(const struct mapping_set *set, unsigned m)
{
    for (unsigned before = 0; before < m; before++) {
        if (set->mappings[before].target == set->mappings[m].target)
            return false;
    }
    return true;
}

static bool put_tables(struct buffer *sql, const struct migration *migration, struct error *err)
{
    for (unsigned m = 0; m < migration->set.count; m++) {
        const struct mapping *mapping = &migration->set.mappings[m];
        if (!is_first(&migration->set, m))
            continue;
        bool ok = mapping->shard_item < 0
                      ? put_foreign(sql, migration->shards[0], mapping, err)
                      : put_sharded(sql, migration->shards[0], mapping, migration->shards_count, err);
        if (!ok)
            return error_context(err, "table %s", mapping->name);
    }
    return true;
}

/* ---- what the shards may check ---- */

/*
 * satisfies_hash_partition() wants a table that is partitioned by hash, with a key of that very type: an
 * empty one for each type. It is immutable, as a CHECK must be.
 */
static void put_checks(struct buffer *sql, const struct mapping_set *set, unsigned shard)
{
    buffer_printf(sql, "\n-- On shard %u:\n-- CREATE SCHEMA IF NOT EXISTS placement;\n", shard);
    for (unsigned m = 0; m < set->count; m++) {
        const struct mapping *mapping = &set->mappings[m];
        if (mapping->shard_item < 0 || !is_first(set, m))
            continue;
        const struct column *key = mapping->items[mapping->shard_item].target;
        buffer_puts(sql, "-- CREATE TABLE IF NOT EXISTS placement.");
        quote_ident(sql, key->base_type);
        buffer_printf(sql, " (key %s) PARTITION BY HASH (key);\n-- ALTER TABLE ", key->base_type);
        quote_name(sql, mapping->target->schema, mapping->target->name);
        buffer_puts(sql, " ADD CONSTRAINT placement CHECK (pg_catalog.satisfies_hash_partition(\n"
                         "--     'placement.");
        quote_ident(sql, key->base_type);
        buffer_printf(sql, "'::regclass, %u, %u, ", set->shards_count, shard);
        quote_ident(sql, key->name);
        buffer_printf(sql, "::%s)) NOT VALID;\n-- ALTER TABLE ", key->base_type);
        quote_name(sql, mapping->target->schema, mapping->target->name);
        buffer_puts(sql, " VALIDATE CONSTRAINT placement;\n");
    }
}

static void put_placement(struct buffer *sql, const struct migration *migration)
{
    if (migration->shards_count == 1)
        return;
    buffer_puts(sql, placement_head);
    for (unsigned s = 0; s < migration->shards_count; s++)
        put_checks(sql, &migration->set, s);
}

/* ---- all of it ---- */

/* An array; on the first shard. */
static const char *oids_of(const struct mapping_set *set, struct arena *arena)
{
    struct buffer text;
    buffer_init(&text, (size_t)set->count * 12 + 3);
    for (unsigned m = 0; m < set->count; m++)
        buffer_printf(&text, "%c%u", m == 0 ? '{' : ',', set->mappings[m].target->oid);
    buffer_puts(&text, set->count == 0 ? "{}" : "}");
    return arena_take(arena, &text);
}

static bool put_all(struct migration *migration, struct buffer *sql, struct error *err)
{
    const char *oids = oids_of(&migration->set, &migration->arena);
    PGconn *shard = migration->shards[0];
    if (migration->findings.refused > 0)
        return migration_refused(migration, err);
    buffer_puts(sql, head);
    put_servers(sql, migration->config);
    if (!put_lines(sql, shard, schemas_sql, oids, err) ||
        !put_lines(sql, shard, extensions_sql, oids, err) ||
        !put_lines(sql, shard, types_sql, oids, err) || !put_tables(sql, migration, err))
        return false;
    put_placement(sql, migration);
    return !buffer_failed(sql) ||
           error_set(err, ERROR_LIMIT, "the coordinator's SQL is larger than %zu bytes", sql->max);
}

bool coordinator_ddl(struct migration *migration, struct buffer *sql, struct error *err)
{
    struct error rollback = ERROR_INIT;
    bool ok = target_try(migration, err) && put_all(migration, sql, err);
    if (!target_rollback(migration, &rollback) && ok)
        *err = rollback, ok = false;
    return ok;
}
