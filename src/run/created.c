#include "run/created.h"

#include <stdio.h>

#include "pg/conn.h"

/* Objects that a schema file makes and DROP takes by name. Not those that come and go with another:
 * members of extensions, sequences of columns, row and array types. */
#define OBJECTS                                                                                    \
    "(SELECT o.classid, o.oid FROM ("                                                              \
    " SELECT 'pg_catalog.pg_namespace'::regclass::oid AS classid, n.oid, n.oid AS namespace"       \
    "   FROM pg_catalog.pg_namespace n"                                                            \
    " UNION ALL SELECT 'pg_catalog.pg_extension'::regclass, e.oid, e.extnamespace"                 \
    "   FROM pg_catalog.pg_extension e"                                                            \
    " UNION ALL SELECT 'pg_catalog.pg_class'::regclass, c.oid, c.relnamespace"                     \
    "   FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')"              \
    " UNION ALL SELECT 'pg_catalog.pg_type'::regclass, t.oid, t.typnamespace"                      \
    "   FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid"           \
    "  WHERE t.typtype IN ('e', 'd', 'r') OR c.relkind = 'c'"                                      \
    " UNION ALL SELECT 'pg_catalog.pg_proc'::regclass, p.oid, p.pronamespace"                      \
    "   FROM pg_catalog.pg_proc p) o"                                                              \
    " JOIN pg_catalog.pg_namespace n ON n.oid = o.namespace"                                       \
    " WHERE n.nspname !~ '^pg_(toast|temp)'"                                                       \
    "   AND n.nspname NOT IN ('information_schema', 'portage')"                                    \
    "   AND (n.nspname <> 'pg_catalog' OR o.classid = 'pg_catalog.pg_extension'::regclass)"        \
    "   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = o.classid"            \
    "                      AND d.objid = o.oid AND d.objsubid = 0"                                 \
    "                      AND (d.deptype IN ('e', 'i') OR (d.deptype = 'a' AND d.refobjsubid > 0)))" \
    ") AS object"

static const char before_sql[] =
    "SELECT COALESCE(pg_catalog.array_agg(classid || '/' || oid), '{}') FROM " OBJECTS;

static const char record_sql[] =
    "INSERT INTO portage.created (class, object) SELECT classid, oid FROM " OBJECTS
    " WHERE classid || '/' || oid <> ALL ($1::text[])";

/* Those of them that are still there; older servers err when asked for the name of another. */
#define CREATED                                                                                    \
    "(SELECT c.class, c.object FROM portage.created c"                                             \
    "   JOIN " OBJECTS " ON (object.classid, object.oid) = (c.class, c.object) OFFSET 0) c"        \
    " CROSS JOIN LATERAL pg_catalog.pg_identify_object(c.class, c.object, 0) o"

/* Tables all in one statement, for they may refer to each other; partitions that go with one of them
 * are named too, which does no harm. */
static const char drops_sql[] =
    "SELECT pg_catalog.format('DROP %s %s', pg_catalog.upper(o.type),"
    "                         pg_catalog.string_agg(o.identity, ', ' ORDER BY c.object))"
    "  FROM " CREATED " GROUP BY o.type, CASE WHEN o.type <> 'table' THEN c.object END"
    " ORDER BY o.type <> 'view', o.type <> 'table', pg_catalog.min(c.object) DESC";

/* Mapped tables that somebody else had made. */
static const char kept_sql[] =
    "SELECT DISTINCT m.name FROM portage.range r"
    "  CROSS JOIN LATERAL pg_catalog.split_part(r.mapping, '<-', 1) AS m(name)"
    " WHERE NOT EXISTS (SELECT FROM portage.created c"
    "                    WHERE c.class = 'pg_catalog.pg_class'::regclass"
    "                      AND c.object = (SELECT t.oid FROM pg_catalog.pg_class t"
    "                            JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace"
    "                           WHERE n.nspname || '.' || t.relname = m.name))"
    " ORDER BY 1";

char *created_before(PGconn *shard, struct error *err)
{
    PGresult *result = conn_query_row(shard, before_sql, 0, NULL, err);
    char *before = result != NULL ? check_strdup(result_text(result, 0, 0)) : NULL;
    PQclear(result);
    return before;
}

bool created_record(PGconn *shard, const char *before, struct error *err)
{
    PGresult *result = conn_query(shard, record_sql, 1, &before, err);
    PQclear(result);
    return result != NULL || error_context(err, "recording what was made on the target");
}

bool created_tell(PGconn *shard, unsigned number, struct error *err)
{
    PGresult *drops = conn_query(shard, drops_sql, 0, NULL, err);
    PGresult *kept = drops != NULL ? conn_query(shard, kept_sql, 0, NULL, err) : NULL;
    for (int row = 0; kept != NULL && row < PQntuples(drops); row++)
        printf("shard %u: %s\n", number, result_text(drops, row, 0));
    for (int row = 0; kept != NULL && row < PQntuples(kept); row++)
        printf("shard %u: %s was there before: it stays, with the rows that came\n", number,
               result_text(kept, row, 0));
    bool ok = kept != NULL;
    PQclear(drops);
    PQclear(kept);
    return ok;
}

/* One statement of those that are left. *done when it is of no more use: it went through. */
static bool try_drop(PGconn *shard, const char *sql, bool *done, struct error *err)
{
    if (!conn_exec(shard, "SAVEPOINT portage_drop", err))
        return false;
    *done = conn_exec(shard, sql, err);
    if (*done)
        return conn_exec(shard, "RELEASE portage_drop", err);
    return strcmp(err->sqlstate, "2BP01") == 0; /* something depends on it */
}

/* Drops what can be dropped now; *left is how many have to wait for others to go first, and `why` what
 * the server says of the first: what others hang on is a table, mostly. */
static bool drop_some(PGconn *shard, const PGresult *drops, bool *gone, int *left,
                      struct error *why, struct error *err)
{
    *left = 0;
    for (int row = 0; row < PQntuples(drops); row++) {
        if (gone[row])
            continue;
        if (!try_drop(shard, result_text(drops, row, 0), &gone[row], err))
            return error_context(err, "%.200s", result_text(drops, row, 0));
        if (gone[row])
            continue;
        if ((*left)++ == 0)
            *why = *err;
        error_clear(err);
        if (!conn_exec(shard, "ROLLBACK TO portage_drop; RELEASE portage_drop", err))
            return false;
    }
    return true;
}

static bool in_use(const struct error *why, struct error *err)
{
    *err = *why;
    err->class = ERROR_CONFIG;
    return error_hint(err, "What target.schema has made is in use by something else. Drop that first,"
                           " or keep all of it: \"pgportage abort --keep-target\".");
}

bool created_drop(PGconn *shard, struct error *err)
{
    PGresult *drops = conn_query(shard, drops_sql, 0, NULL, err);
    if (drops == NULL)
        return false;
    int left = PQntuples(drops), before;
    bool *gone = check_calloc((size_t)left + 1, sizeof *gone);
    bool ok = true;
    struct error why = ERROR_INIT;
    do {
        before = left;
        ok = drop_some(shard, drops, gone, &left, &why, err);
    } while (ok && left > 0 && left < before);
    free(gone);
    PQclear(drops);
    return ok && (left == 0 || in_use(&why, err));
}
