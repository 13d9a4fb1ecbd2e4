#include "pg/catalog.h"

#include "pg/conn.h"
#include "pg/oid.h"
#include "pg/quote.h"

/* Tables of the application: ordinary and partitioned ones that are no partition themselves. */
#define USER_RELATIONS                                                                             \
    "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"               \
    " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'"           \
    " AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'portage')"                        \
    " AND n.nspname !~ '^pg_(toast|temp)' "

static const char relations_sql[] =
    "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relispartition, c.relreplident,"
    "       c.relrowsecurity,"
    "       EXISTS (SELECT FROM pg_catalog.pg_trigger t"
    "                WHERE t.tgrelid = c.oid AND NOT t.tgisinternal"
    "                  AND t.tgname <> 'portage_gate'),"
    "       (SELECT CASE WHEN bool_or(l.reltuples < 0) THEN -1 ELSE sum(l.reltuples) END::bigint"
    "          FROM leaf l WHERE l.root = c.oid),"
    "       (SELECT sum(pg_catalog.pg_table_size(l.oid)) FROM leaf l WHERE l.root = c.oid)::bigint,"
    "       COALESCE((SELECT pg_catalog.abs(s.correlation) FROM pg_catalog.pg_stats s"
    "                  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid"
    "                       AND a.attname = s.attname"
    "                  JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary"
    "                       AND i.indkey[0] = a.attnum"
    "                 WHERE s.schemaname = n.nspname AND s.tablename = c.relname"
    "                   AND NOT s.inherited), 1)"
    "  FROM " USER_RELATIONS " ORDER BY n.nspname, c.relname";

/* pg_partition_tree() of a table that is not partitioned is empty: it is its own leaf. Temporary tables of
 * others are none of ours. */
static const char leaf_cte_sql[] =
    "WITH leaf AS ("
    "  SELECT c.oid AS root, t.oid, t.reltuples FROM pg_catalog.pg_class c"
    "    CROSS JOIN LATERAL pg_catalog.pg_partition_tree(c.oid) p"
    "    JOIN pg_catalog.pg_class t ON t.oid = p.relid"
    "   WHERE c.relkind = 'p' AND NOT c.relispartition AND p.isleaf AND t.relkind = 'r'"
    "     AND t.relpersistence <> 't'"
    "  UNION ALL"
    "  SELECT c.oid, c.oid, c.reltuples FROM pg_catalog.pg_class c"
    "   WHERE c.relkind = 'r' AND c.relpersistence <> 't')";

static const char leaves_sql[] =
    "SELECT l.root, l.oid, pg_catalog.format('%I.%I', n.nspname, c.relname),"
    "       pg_catalog.pg_relation_filenode(l.oid), " LEAF_COLUMNS_SQL
    "  FROM leaf l JOIN pg_catalog.pg_class c ON c.oid = l.oid"
    "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY l.root, l.oid";

static const char columns_sql[] =
    "SELECT a.attrelid, a.attname, a.attnum, a.atttypid, b.oid,"
    "       pg_catalog.format_type(a.atttypid, -1),"
    "       pg_catalog.format_type(a.atttypid, a.atttypmod), pg_catalog.format_type(b.oid, -1),"
    "       b.typtype, b.oid < 16384 AND b.typelem < 16384,"
    "       b.typtype IN ('c', 'r', 'm') OR b.typcategory = 'A',"
    "       a.attnotnull, a.atthasdef AND a.attgenerated = '', a.attgenerated <> '',"
    "       a.attidentity = 'a', a.attidentity <> '', a.attstorage <> 'p',"
    "       a.attcollation = 0 OR a.attcollation IN (950, 951)"
    /* The default collation: of provider libc or builtin, and ordering by code point. The provider
     * has been a column since 15. */
    "         OR (a.attcollation = 100 AND CASE pg_catalog.to_jsonb(d) ->> 'datlocprovider'"
    "               WHEN 'b' THEN true WHEN 'i' THEN false"
    "               ELSE d.datcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8') END),"
    "       COALESCE((SELECT o.collisdeterministic FROM pg_catalog.pg_collation o"
    "                  WHERE o.oid = a.attcollation), true),"
    "       (SELECT pg_catalog.pg_get_expr(f.adbin, f.adrelid) FROM pg_catalog.pg_attrdef f"
    "         WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum),"
    "       pg_catalog.format_type(b.oid, GREATEST(a.atttypmod, b.typmod))"
    "  FROM pg_catalog.pg_attribute a"
    "  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
    /* The base of a domain, of a domain over a domain, … */
    "  CROSS JOIN LATERAL ("
    "    WITH RECURSIVE base(oid, next, typmod) AS ("
    "      SELECT t.oid, t.typbasetype, t.typtypmod UNION ALL"
    "      SELECT u.oid, u.typbasetype, GREATEST(base.typmod, u.typtypmod)"
    "        FROM base JOIN pg_catalog.pg_type u ON u.oid = base.next)"
    "    SELECT y.*, base.typmod FROM base JOIN pg_catalog.pg_type y ON y.oid = base.oid WHERE base.next = 0) b"
    "  CROSS JOIN pg_catalog.pg_database d"
    " WHERE a.attnum > 0 AND NOT a.attisdropped AND d.datname = pg_catalog.current_database()"
    "   AND a.attrelid IN (SELECT c.oid FROM " USER_RELATIONS ")"
    " ORDER BY a.attrelid, a.attnum";

static const char uniques_sql[] =
    "SELECT i.indrelid, x.relname, pg_catalog.array_to_string(i.indkey[0:i.indnkeyatts-1], ' '),"
    "       i.indisprimary, i.indpred IS NOT NULL, i.indimmediate, i.indisexclusion,"
    "       i.indisreplident"
    "  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid"
    " WHERE (i.indisunique OR i.indisexclusion) AND i.indislive"
    "   AND i.indrelid IN (SELECT c.oid FROM " USER_RELATIONS ")"
    " ORDER BY i.indrelid, i.indisprimary DESC, x.relname";

/* "16385 16390" as numbers; returns how many. */
static unsigned parse_numbers(const char *text, struct arena *arena, uint32_t **numbers)
{
    unsigned count = 0;
    for (const char *c = text; *c != '\0'; c++)
        count += c == text || c[-1] == ' ';
    *numbers = arena_alloc(arena, count * sizeof **numbers);
    char *end = (char *)text;
    for (unsigned i = 0; i < count; i++)
        (*numbers)[i] = (uint32_t)strtoul(end, &end, 10);
    return count;
}

static uint32_t result_oid(const PGresult *result, int row, int column)
{
    return (uint32_t)result_int(result, row, column);
}

static const char *result_dup(const PGresult *result, int row, int column, struct arena *arena)
{
    return PQgetisnull(result, row, column) ? NULL
                                            : arena_strdup(arena, result_text(result, row, column));
}

static void relation_fill(struct relation *relation, const PGresult *result, int row,
                          struct arena *arena)
{
    *relation = (struct relation){
        .oid = result_oid(result, row, 0),
        .schema = result_dup(result, row, 1, arena),
        .name = result_dup(result, row, 2, arena),
        .kind = result_text(result, row, 3)[0],
        .is_partition = result_bool(result, row, 4),
        .replica_identity = result_text(result, row, 5)[0],
        .row_security = result_bool(result, row, 6),
        .has_triggers = result_bool(result, row, 7),
        .rows_estimate = result_int(result, row, 8),
        .bytes = result_int(result, row, 9),
        .key_correlation = strtod(result_text(result, row, 10), NULL),
    };
}

static void leaf_fill(struct leaf *leaf, const PGresult *result, int row, struct arena *arena)
{
    *leaf = (struct leaf){.oid = result_oid(result, row, 1),
                          .name = result_dup(result, row, 2, arena),
                          .file = result_oid(result, row, 3),
                          .columns = result_dup(result, row, 4, arena),
                          .published = true};
}

static void column_fill(struct column *column, const PGresult *result, int row,
                        struct arena *arena)
{
    *column = (struct column){
        .name = result_dup(result, row, 1, arena),
        .attnum = (int)result_int(result, row, 2),
        .type_oid = result_oid(result, row, 3),
        .base_oid = result_oid(result, row, 4),
        .type = result_dup(result, row, 5, arena),
        .full_type = result_dup(result, row, 6, arena),
        .base_type = result_dup(result, row, 7, arena),
        .type_kind = result_text(result, row, 8)[0],
        .builtin = result_bool(result, row, 9),
        .is_container = result_bool(result, row, 10),
        .not_null = result_bool(result, row, 11),
        .has_default = result_bool(result, row, 12),
        .generated = result_bool(result, row, 13),
        .identity_always = result_bool(result, row, 14),
        .is_identity = result_bool(result, row, 15),
        .toastable = result_bool(result, row, 16),
        .bytewise = result_bool(result, row, 17),
        .collation_deterministic = result_bool(result, row, 18),
        .default_expr = result_dup(result, row, 19, arena),
        .base_full_type = result_dup(result, row, 20, arena),
    };
}

static void unique_fill(struct unique_index *unique, const PGresult *result, int row,
                        struct arena *arena)
{
    uint32_t *attnums;
    *unique = (struct unique_index){
        .name = result_dup(result, row, 1, arena),
        .primary = result_bool(result, row, 3),
        .partial = result_bool(result, row, 4),
        .immediate = result_bool(result, row, 5),
        .exclusion = result_bool(result, row, 6),
        .replica_identity = result_bool(result, row, 7),
    };
    unique->count = parse_numbers(result_text(result, row, 2), arena, &attnums);
    unique->attnums = (int *)attnums;
}

/* Rows of `result` from `row` on that belong to the relation (its OID is in column 0). */
static int rows_of(const PGresult *result, uint32_t oid, int *first)
{
    int count = 0;
    *first = -1;
    for (int row = 0; row < PQntuples(result); row++) {
        if (result_oid(result, row, 0) != oid)
            continue;
        if (*first < 0)
            *first = row;
        count++;
    }
    return count;
}

/* The answers, each ordered by relation. */
struct catalog_rows {
    PGresult *relations, *leaves, *columns, *uniques;
};

static void members_fill(struct relation *relation, const struct catalog_rows *rows,
                         struct arena *arena)
{
    int first;
    relation->leaves_count = (unsigned)rows_of(rows->leaves, relation->oid, &first);
    relation->leaves = arena_zalloc(arena, relation->leaves_count * sizeof *relation->leaves);
    for (unsigned l = 0; l < relation->leaves_count; l++)
        leaf_fill(&relation->leaves[l], rows->leaves, first + (int)l, arena);
    relation->columns_count = (unsigned)rows_of(rows->columns, relation->oid, &first);
    relation->columns = arena_zalloc(arena, relation->columns_count * sizeof *relation->columns);
    for (unsigned c = 0; c < relation->columns_count; c++)
        column_fill(&relation->columns[c], rows->columns, first + (int)c, arena);
    relation->uniques_count = (unsigned)rows_of(rows->uniques, relation->oid, &first);
    relation->uniques = arena_zalloc(arena, relation->uniques_count * sizeof *relation->uniques);
    for (unsigned u = 0; u < relation->uniques_count; u++)
        unique_fill(&relation->uniques[u], rows->uniques, first + (int)u, arena);
}

static void catalog_fill(struct catalog *catalog, const struct catalog_rows *rows,
                         struct arena *arena)
{
    catalog->relations_count = (unsigned)PQntuples(rows->relations);
    catalog->relations =
        arena_zalloc(arena, catalog->relations_count * sizeof *catalog->relations);
    for (unsigned i = 0; i < catalog->relations_count; i++) {
        relation_fill(&catalog->relations[i], rows->relations, (int)i, arena);
        members_fill(&catalog->relations[i], rows, arena);
    }
}

/* NULL on error. `sql` follows the CTE of leaves. */
static PGresult *query_leaves(PGconn *conn, const char *sql, struct error *err)
{
    struct buffer text;
    buffer_init(&text, 8192);
    buffer_puts(&text, leaf_cte_sql);
    buffer_puts(&text, sql);
    PGresult *result = conn_query(conn, buffer_text(&text), 0, NULL, err);
    buffer_release(&text);
    return result;
}

bool catalog_read(PGconn *conn, struct arena *arena, struct catalog *catalog, struct error *err)
{
    struct catalog_rows rows = {0};
    bool ok = (rows.relations = query_leaves(conn, relations_sql, err)) != NULL &&
              (rows.leaves = query_leaves(conn, leaves_sql, err)) != NULL &&
              (rows.columns = conn_query(conn, columns_sql, 0, NULL, err)) != NULL &&
              (rows.uniques = conn_query(conn, uniques_sql, 0, NULL, err)) != NULL;
    if (ok) {
        *catalog = (struct catalog){.version = PQserverVersion(conn),
                                    .database = arena_strdup(arena, PQdb(conn))};
        catalog_fill(catalog, &rows, arena);
    }
    PQclear(rows.relations);
    PQclear(rows.leaves);
    PQclear(rows.columns);
    PQclear(rows.uniques);
    return ok || error_context(err, "reading the catalog of database \"%s\"", PQdb(conn));
}

const struct relation *catalog_find(const struct catalog *catalog, const char *schema,
                                    const char *name)
{
    for (unsigned i = 0; i < catalog->relations_count; i++) {
        const struct relation *relation = &catalog->relations[i];
        if (strcmp(relation->schema, schema) == 0 && strcmp(relation->name, name) == 0)
            return relation;
    }
    return NULL;
}

const struct leaf *relation_leaf(const struct relation *relation, uint32_t oid)
{
    for (unsigned l = 0; l < relation->leaves_count; l++) {
        if (relation->leaves[l].oid == oid)
            return &relation->leaves[l];
    }
    return NULL;
}

void relation_put_only(struct buffer *sql, const struct relation *relation)
{
    if (relation->kind != 'p')
        buffer_puts(sql, "ONLY ");
    quote_name(sql, relation->schema, relation->name);
}

int relation_column(const struct relation *relation, const char *name)
{
    for (unsigned i = 0; i < relation->columns_count; i++) {
        if (strcmp(relation->columns[i].name, name) == 0)
            return (int)i;
    }
    return -1;
}

int relation_column_by_attnum(const struct relation *relation, int attnum)
{
    for (unsigned i = 0; i < relation->columns_count; i++) {
        if (relation->columns[i].attnum == attnum)
            return (int)i;
    }
    return -1;
}

struct modifiers column_modifiers(const struct column *column)
{
    struct modifiers modifiers = {0};
    const char *at = strchr(column->full_type, '(');
    if (column->type_oid != column->base_oid || !column->builtin)
        return modifiers;
    while (at != NULL && modifiers.count < 2) {
        modifiers.values[modifiers.count++] = (int)strtol(at + 1, NULL, 10);
        at = strchr(at + 1, ',');
    }
    return modifiers;
}

bool column_may_be_left_out(const struct column *column)
{
    return !column->not_null || column->has_default || column->is_identity || column->generated;
}

int column_digits(const struct column *column)
{
    struct modifiers modifiers = column_modifiers(column);
    if (column_integer_bytes(column) > 0)
        return 0;
    return column->base_oid == OID_NUMERIC && modifiers.count == 2 ? modifiers.values[1] : -1;
}

int column_integer_bytes(const struct column *column)
{
    return column->base_oid == OID_INT2   ? 2
           : column->base_oid == OID_INT4 ? 4
           : column->base_oid == OID_INT8 ? 8
                                          : 0;
}
