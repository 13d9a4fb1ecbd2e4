#include "switchover/sequence_list.h"

#include "pg/conn.h"
#include "pg/quote.h"

enum { STATES_AT_ONCE = 500 }; /* locks of one statement */

#define USER_SEQUENCES                                                                             \
    " FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid"              \
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"

#define OF_THE_APPLICATION                                                                         \
    " WHERE c.relpersistence <> 't'"                                                               \
    "   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'portage')"                      \
    "   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e"                                        \
    "                    WHERE e.classid = 'pg_catalog.pg_class'::regclass"                        \
    "                      AND e.objid = c.oid AND e.deptype = 'e')"                               \
    " ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\""

#define FIELDS                                                                                     \
    "SELECT c.oid, n.nspname, c.relname, s.seqincrement, s.seqstart, s.seqmin, s.seqmax,"          \
    "       s.seqcycle, pg_catalog.pg_get_userbyid(c.relowner),"                                   \
    "       pg_catalog.has_sequence_privilege(c.oid, 'SELECT'),"                                   \
    "       pg_catalog.has_sequence_privilege(c.oid, 'UPDATE'),"                                   \
    "       pg_catalog.pg_has_role(c.relowner, 'USAGE'),"                                          \
    "       pg_catalog.has_schema_privilege(n.oid, 'USAGE'),"

static const char list_sql[] =
    FIELDS " NULL, NULL, NULL, NULL, NULL" USER_SEQUENCES OF_THE_APPLICATION;

static const char list_with_record_sql[] =
    FIELDS " r.increment, r.start, r.min, r.max, r.origin" USER_SEQUENCES
           " LEFT JOIN portage.sequence r ON r.sequence = c.oid" OF_THE_APPLICATION;

/*
 * Owned by a column (serial, identity) or named in its default. A partition has a default of its own,
 * which asks the sequence of the root.
 */
static const char columns_sql[] =
    "WITH filled AS ("
    "  SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS attnum"
    "    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_sequence s ON s.seqrelid = d.objid"
    "   WHERE d.classid = 'pg_catalog.pg_class'::regclass"
    "     AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjsubid > 0"
    "     AND d.deptype IN ('a', 'i')"
    "  UNION"
    "  SELECT d.refobjid, f.adrelid, f.adnum"
    "    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid"
    "    JOIN pg_catalog.pg_sequence s ON s.seqrelid = d.refobjid"
    "   WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass"
    "     AND d.refclassid = 'pg_catalog.pg_class'::regclass),"
    " rooted AS ("
    "  SELECT DISTINCT u.sequence, a.attname,"
    "         COALESCE(pg_catalog.pg_partition_root(u.relation)::oid, u.relation) AS relation"
    "    FROM filled u JOIN pg_catalog.pg_attribute a ON a.attrelid = u.relation"
    "         AND a.attnum = u.attnum)"
    " SELECT r.sequence, c.oid, n.nspname, c.relname, a.attname, c.relkind,"
    "        CASE b.oid WHEN 21 THEN 2 WHEN 23 THEN 4 WHEN 20 THEN 8 ELSE 0 END,"
    "        EXISTS (SELECT FROM pg_catalog.pg_index i"
    "                  JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid"
    "                  JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname = 'btree'"
    "                 WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indisvalid"
    "                   AND i.indpred IS NULL),"
    "        CASE c.relkind WHEN 'p' THEN (SELECT pg_catalog.count(*)"
    "               FROM pg_catalog.pg_partition_tree(c.oid) t WHERE t.isleaf) ELSE 1 END"
    "   FROM rooted r JOIN pg_catalog.pg_class c ON c.oid = r.relation"
    "   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    "   JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = r.attname"
    "   CROSS JOIN LATERAL ("
    "     WITH RECURSIVE base(oid, next) AS ("
    "       SELECT t.oid, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid"
    "       UNION ALL SELECT u.oid, u.typbasetype"
    "         FROM base JOIN pg_catalog.pg_type u ON u.oid = base.next)"
    "     SELECT base.oid FROM base WHERE base.next = 0) b"
    "  WHERE c.relkind IN ('r', 'p')"
    "  ORDER BY r.sequence, c.oid, a.attnum";

static void sequence_fill(struct sequence *sequence, const PGresult *result, int row,
                          struct arena *arena)
{
    sequence->index = (unsigned)row;
    sequence->oid = (uint32_t)result_int(result, row, 0);
    sequence->schema = arena_strdup(arena, result_text(result, row, 1));
    sequence->name = arena_strdup(arena, result_text(result, row, 2));
    sequence->quoted = quote_name_dup(arena, sequence->schema, sequence->name);
    sequence->shape = (struct sequence_shape){.increment = result_int(result, row, 3),
                                              .start = result_int(result, row, 4),
                                              .min = result_int(result, row, 5),
                                              .max = result_int(result, row, 6),
                                              .cycle = result_bool(result, row, 7)};
    sequence->owner = arena_strdup(arena, result_text(result, row, 8));
    sequence->may_read = result_bool(result, row, 9) && result_bool(result, row, 12);
    sequence->may_set = result_bool(result, row, 10);
    sequence->may_alter = result_bool(result, row, 11);
    sequence->may_use_schema = result_bool(result, row, 12);
    sequence->own = sequence->shape;
    if (PQgetisnull(result, row, 13))
        return;
    sequence->own = (struct sequence_shape){.increment = result_int(result, row, 13),
                                            .start = result_int(result, row, 14),
                                            .min = result_int(result, row, 15),
                                            .max = result_int(result, row, 16),
                                            .cycle = sequence->shape.cycle};
    sequence->has_origin = !PQgetisnull(result, row, 17);
    sequence->origin = result_int(result, row, 17);
}

static int compare_oids(const void *a, const void *b)
{
    const struct sequence *const *left = a, *const *right = b;
    return ((*left)->oid > (*right)->oid) - ((*left)->oid < (*right)->oid);
}

/* The list by OID, to find owners of columns. */
static struct sequence **by_oid(const struct sequence_list *list, struct arena *arena)
{
    struct sequence **sorted = arena_alloc(arena, (list->count + 1) * sizeof *sorted);
    for (unsigned i = 0; i < list->count; i++)
        sorted[i] = &list->items[i];
    qsort(sorted, list->count, sizeof *sorted, compare_oids);
    return sorted;
}

static void column_fill(struct sequence_column *column, const PGresult *result, int row,
                        struct arena *arena)
{
    *column = (struct sequence_column){
        .relation = (uint32_t)result_int(result, row, 1),
        .schema = arena_strdup(arena, result_text(result, row, 2)),
        .table = arena_strdup(arena, result_text(result, row, 3)),
        .name = arena_strdup(arena, result_text(result, row, 4)),
        .kind = result_text(result, row, 5)[0],
        .integer_bytes = (int)result_int(result, row, 6),
        .indexed = result_bool(result, row, 7),
        .leaves = (int)result_int(result, row, 8),
    };
}

/* Rows are ordered by sequence: those of one are neighbours. */
static bool read_columns(PGconn *conn, struct arena *arena, const struct sequence_list *list,
                         struct error *err)
{
    struct sequence **sorted = by_oid(list, arena);
    PGresult *result = conn_query(conn, columns_sql, 0, NULL, err);
    if (result == NULL)
        return false;
    int rows = PQntuples(result);
    struct sequence_column *columns = arena_alloc(arena, ((size_t)rows + 1) * sizeof *columns);
    for (int row = 0; row < rows; row++) {
        struct sequence wanted = {.oid = (uint32_t)result_int(result, row, 0)}, *key = &wanted;
        struct sequence **found = bsearch(&key, sorted, list->count, sizeof *sorted, compare_oids);
        column_fill(&columns[row], result, row, arena);
        if (found != NULL && (*found)->columns_count++ == 0)
            (*found)->columns = &columns[row];
    }
    PQclear(result);
    return true;
}

/* Only the sequence itself tells what one that was not called will give. */
static void put_state(struct buffer *sql, const struct sequence *sequence)
{
    buffer_printf(sql, "%sSELECT %u, last_value, is_called FROM %s",
                  sql->length > 0 ? " UNION ALL " : "", sequence->index, sequence->quoted);
}

static bool read_some_states(PGconn *conn, const struct buffer *sql,
                             const struct sequence_list *list, struct error *err)
{
    if (sql->length == 0)
        return true;
    PGresult *result = conn_query(conn, buffer_text(sql), 0, NULL, err);
    if (result == NULL)
        return false;
    for (int row = 0; row < PQntuples(result); row++) {
        struct sequence *sequence = &list->items[result_int(result, row, 0)];
        sequence->last = result_int(result, row, 1);
        sequence->called = result_bool(result, row, 2);
    }
    PQclear(result);
    return true;
}

static bool read_states(PGconn *conn, const struct sequence_list *list, struct error *err)
{
    struct buffer sql;
    bool ok = true;
    buffer_init(&sql, STATES_AT_ONCE * 512);
    for (unsigned i = 0; ok && i < list->count; i++) {
        if (list->items[i].may_read)
            put_state(&sql, &list->items[i]);
        if ((i + 1) % STATES_AT_ONCE == 0) {
            ok = read_some_states(conn, &sql, list, err);
            buffer_clear(&sql);
        }
    }
    ok = ok && read_some_states(conn, &sql, list, err);
    buffer_release(&sql);
    return ok;
}

/* A server that is not begun yet has no portage.sequence, and an older pgportage made none. */
static bool has_record(PGconn *conn, bool *there, struct error *err)
{
    PGresult *result = conn_query_row(
        conn, "SELECT pg_catalog.to_regclass('portage.sequence') IS NOT NULL", 0, NULL, err);
    if (result == NULL)
        return false;
    *there = result_bool(result, 0, 0);
    PQclear(result);
    return true;
}

static bool list_read(PGconn *conn, struct arena *arena, struct sequence_list *list,
                      struct error *err)
{
    bool there;
    if (!has_record(conn, &there, err))
        return false;
    PGresult *result = conn_query(conn, there ? list_with_record_sql : list_sql, 0, NULL, err);
    if (result == NULL)
        return false;
    list->count = (unsigned)PQntuples(result);
    list->items = arena_zalloc(arena, (list->count + 1) * sizeof *list->items);
    for (unsigned i = 0; i < list->count; i++)
        sequence_fill(&list->items[i], result, (int)i, arena);
    PQclear(result);
    return read_columns(conn, arena, list, err) && read_states(conn, list, err);
}

bool sequence_list_read(PGconn *conn, struct arena *arena, struct sequence_list *list,
                        struct error *err)
{
    return list_read(conn, arena, list, err) ||
           error_context(err, "reading the sequences of database \"%s\"", PQdb(conn));
}

static int compare_name(const struct sequence *sequence, const char *schema, const char *name)
{
    int order = strcmp(sequence->schema, schema);
    return order != 0 ? order : strcmp(sequence->name, name);
}

struct sequence *sequence_list_find(const struct sequence_list *list, const char *schema,
                                    const char *name)
{
    unsigned from = 0, to = list->count;
    while (from < to) {
        unsigned middle = from + (to - from) / 2;
        int order = compare_name(&list->items[middle], schema, name);
        if (order == 0)
            return &list->items[middle];
        if (order < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return NULL;
}

int64_t sequence_end(const struct sequence *sequence)
{
    bool down = sequence->own.increment < 0;
    int64_t end = down ? sequence->own.min : sequence->own.max;
    for (unsigned c = 0; c < sequence->columns_count; c++) {
        int bytes = sequence->columns[c].integer_bytes;
        if (bytes == 0 || bytes == 8)
            continue;
        int64_t most = bytes == 2 ? INT16_MAX : INT32_MAX;
        int64_t bound = down ? -most - 1 : most;
        if (sequence_further(&sequence->own, bound, end) == end)
            end = bound;
    }
    return end;
}
