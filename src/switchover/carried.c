#include "switchover/carried.h"

#include <stdio.h>

#include "pg/conn.h"

static const char known_sql[] =
    "SELECT COALESCE(pg_catalog.array_agg(leaf), '{}') FROM portage.leaf WHERE published";

/* $1 tables, $2 leaves that are carried. */
static const char missing_sql[] =
    "WITH root AS (SELECT c.oid, c.relkind FROM pg_catalog.json_array_elements_text($1::json) AS n"
    "                JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(n)),"
    " leaf AS (SELECT oid FROM root WHERE relkind = 'r'"
    "   UNION SELECT p.relid FROM root CROSS JOIN LATERAL pg_catalog.pg_partition_tree(root.oid) p"
    "          WHERE root.relkind = 'p' AND p.isleaf)"
    " SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)"
    "  FROM leaf JOIN pg_catalog.pg_class c ON c.oid = leaf.oid AND c.relkind = 'r'"
    "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.oid <> ALL ($2::oid[]) ORDER BY c.oid LIMIT 1";

bool carried_find_missing(PGconn *source, PGconn *control, const char *tables, char missing[256],
                          struct error *err)
{
    PGresult *known = conn_query_row(control, known_sql, 0, NULL, err);
    if (known == NULL)
        return false;
    const char *const values[] = {tables, result_text(known, 0, 0)};
    PGresult *result = conn_query(source, missing_sql, 2, values, err);
    PQclear(known);
    if (result == NULL)
        return error_context(err, "looking for partitions that are not carried");
    snprintf(missing, 256, "%s", PQntuples(result) > 0 ? result_text(result, 0, 0) : "");
    PQclear(result);
    return true;
}

/* The phase says no more: it also passes through others when `run` was started anew and all is there. */
const char carried_unfinished_sql[] =
    "SELECT COALESCE("
    " (SELECT pg_catalog.split_part(mapping, '<-', 1) || ' is being copied'"
    "    FROM portage.range WHERE NOT done LIMIT 1),"
    " (SELECT pg_catalog.split_part(mapping, '<-', 1) || ' is still catching up with its copy'"
    "    FROM portage.chunk LIMIT 1),"
    " (SELECT kind || ' ' || name || ' of ' || table_schema || '.' || table_name || ' is being built'"
    "    FROM portage.deferred WHERE state <> 'done' AND kind NOT IN ('foreign key', 'trigger')"
    "   LIMIT 1))";
