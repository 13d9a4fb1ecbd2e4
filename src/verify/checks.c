#include "verify/checks.h"

#include "pg/conn.h"
#include "pg/quote.h"
#include "verify/position.h"
#include "verify/reading.h"

enum {
    ROUNDS = 3
}; /* an orphan must survive so many looks, each behind the lanes' next position */

/*
 * One row a check: what, of which object, and the statement that gives an array of what is wrong, null
 * for nothing. $1 are OIDs of the tables that are carried; the statement's $1 is what an earlier look
 * found, or null.
 */
static const char checks_sql[] =
    "WITH carried AS (SELECT $1::oid[] AS oids),"
    " keys AS (SELECT c.oid, c.conname, c.conrelid, c.confrelid,"
    "            pg_catalog.string_agg(pg_catalog.format('p.%I = c.%I', b.attname, a.attname),"
    "              ' AND ') AS joined,"
    "            pg_catalog.string_agg(pg_catalog.format('c.%I IS NOT NULL', a.attname), ' AND ')"
    "              AS given"
    "       FROM carried CROSS JOIN pg_catalog.pg_constraint c"
    "      CROSS JOIN LATERAL pg_catalog.generate_subscripts(c.conkey, 1) AS i"
    "       JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[i]"
    "       JOIN pg_catalog.pg_attribute b ON b.attrelid = c.confrelid AND b.attnum = c.confkey[i]"
    "      WHERE c.contype = 'f' AND c.conparentid = 0 AND c.conrelid = ANY (oids)"
    "      GROUP BY c.oid, c.conname, c.conrelid, c.confrelid)"
    " SELECT CASE WHEN EXISTS (SELECT FROM portage.deferred d WHERE d.state = 'back'"
    "            AND d.name = conname AND d.kind = 'foreign key') THEN 'constraint is not valid yet'"
    "          ELSE 'constraint is not valid' END,"
    "        pg_catalog.format('%s of %s', conname, conrelid::regclass),"
    "        $f$SELECT ARRAY['x'] WHERE $1::text[] IS NULL OR true$f$"
    "   FROM carried, pg_catalog.pg_constraint WHERE NOT convalidated AND conrelid = ANY (oids)"
    " UNION ALL"
    " SELECT 'index is not valid', indexrelid::regclass::text,"
    "        $f$SELECT ARRAY['x'] WHERE $1::text[] IS NULL OR true$f$"
    "   FROM carried, pg_catalog.pg_index WHERE NOT indisvalid AND indrelid = ANY (oids)"
    " UNION ALL"
    " SELECT 'parent is missing', pg_catalog.format('%s of %s', conname, conrelid::regclass),"
    "        pg_catalog.format($f$SELECT pg_catalog.array_agg(o.row) FROM (SELECT"
    "          c.tableoid::text || '/' || c.ctid::text || '/' || c.xmin::text AS row"
    "          FROM %s AS c WHERE %s AND NOT EXISTS (SELECT FROM %s AS p WHERE %s)"
    "          AND ($1::text[] IS NULL OR"
    "            c.tableoid::text || '/' || c.ctid::text || '/' || c.xmin::text = ANY ($1::text[]))"
    "          LIMIT 10000) AS o$f$,"
    "          conrelid::regclass, given, confrelid::regclass, joined) FROM keys"
    " UNION ALL"
    " SELECT 'sequence is behind', d.objid::regclass::text,"
    "        pg_catalog.format($f$SELECT ARRAY['x'] FROM %s AS s WHERE s.last_value <"
    "          (SELECT max(%I) FROM %s) AND ($1::text[] IS NULL OR true)$f$, d.objid::regclass,"
    "          a.attname, d.refobjid::regclass)"
    "   FROM carried, pg_catalog.pg_depend d"
    "   JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'"
    "   JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid"
    "   AND a.atttypid IN (20, 21, 23)"
    "  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')"
    "    AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = ANY (oids)"
    " ORDER BY 1, 2";

/* What is wrong now, of what was wrong before (NULL: of all), as the text of an array, the caller's;
 * NULL when nothing is. */
static bool look(PGconn *shard, const char *sql, const char *before, char **wrong,
                 struct error *err)
{
    const char *const values[] = {before};
    *wrong = NULL;
    PGresult *result = conn_query(shard, sql, 1, values, err);
    if (result == NULL)
        return false;
    if (PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
        *wrong = check_strdup(result_text(result, 0, 0));
    PQclear(result);
    return true;
}

/* Looks again and again, each time when the lanes have passed where the source was. *passed is false
 * when they stand: then what is wrong may be on its way. */
static bool look_closely(struct session *session, PGconn *shard, const char *sql, char **wrong,
                         bool *passed, struct error *err)
{
    char why[256];
    struct position position;
    *passed = true;
    if (!look(shard, sql, NULL, wrong, err))
        return false;
    for (int round = 1; *wrong != NULL && round < ROUNDS && *passed; round++) {
        char *before = *wrong;
        bool ok = position_now(session, &position, err) &&
                  position_wait(session, &position, passed, why, sizeof why, err) &&
                  look(shard, sql, before, wrong, err);
        free(before);
        if (!ok)
            return false;
    }
    return true;
}

/* Of rows as tableoid/ctid/xmin; what is no row counts as one. */
static uint64_t count_of(const char *array)
{
    uint64_t slashes = 0;
    for (; *array != '\0'; array++)
        slashes += *array == '/';
    return slashes > 0 ? slashes / 2 : 1;
}

/* What is found. */
struct tally_of_checks {
    json_t *found;
    uint64_t wrong, undecided;
};

static bool check(struct session *session, unsigned shard, const char *what, const char *object,
                  const char *sql, struct tally_of_checks *tally, struct error *err)
{
    char *rows;
    bool passed;
    if (!look_closely(session, session->shards[shard], sql, &rows, &passed, err))
        return error_context(err, "checking %s on shard %u", object, shard);
    if (rows == NULL)
        return true;
    bool matters = strcmp(what, "sequence is behind") != 0 &&
                   strcmp(what, "constraint is not valid yet") != 0;
    tally->wrong += matters && passed;
    tally->undecided += matters && !passed;
    json_array_append_new(tally->found,
                          json_pack("{s:i, s:s, s:s, s:I}", "shard", (int)shard, "check", what,
                                    "object", object, "count", (json_int_t)count_of(rows)));
    free(rows);
    return true;
}

static bool check_catalog(struct session *session, unsigned shard, const char *oids,
                          struct tally_of_checks *tally, struct error *err)
{
    PGresult *checks = conn_query(session->shards[shard], checks_sql, 1, &oids, err);
    bool ok = checks != NULL;
    for (int row = 0; ok && row < PQntuples(checks); row++)
        ok = check(session, shard, result_text(checks, row, 0), result_text(checks, row, 1),
                   result_text(checks, row, 2), tally, err);
    PQclear(checks);
    return ok;
}

/* A merge's rows are read part by part; those of no part are nobody's. */
static bool check_strays(struct session *session, unsigned shard,
                         const struct mapping *const *tables, unsigned tables_count,
                         struct tally_of_checks *tally, struct error *err)
{
    struct arena arena;
    bool ok = true;
    arena_init(&arena, 16 * 1024);
    const struct mapping **parts = arena_alloc(&arena, (tables_count + 1) * sizeof *parts);
    for (unsigned t = 0; ok && t < tables_count; t++) {
        unsigned count = 0;
        bool first = tables[t]->merged;
        for (unsigned p = 0; p < tables_count; p++) {
            if (tables[p]->target != tables[t]->target)
                continue;
            first &= p >= t;
            parts[count++] = tables[p];
        }
        ok = !first ||
             check(session, shard, "row of no part",
                   quote_name_dup(&arena, tables[t]->target->schema, tables[t]->target->name),
                   reading_strays(parts, count, &arena), tally, err);
    }
    arena_release(&arena);
    return ok;
}

/* OIDs differ from shard to shard. */
static bool oids_on(PGconn *shard, const char *names, char **oids, struct error *err)
{
    PGresult *result =
        conn_query_row(shard,
                       "SELECT pg_catalog.array_agg(pg_catalog.to_regclass(name)::oid)"
                       "  FROM pg_catalog.jsonb_array_elements_text($1::jsonb) AS name",
                       1, &names, err);
    if (result == NULL)
        return false;
    *oids = check_strdup(result_text(result, 0, 0));
    PQclear(result);
    return true;
}

/* Quoted names as a JSON array, the caller's. */
static char *names_of(const struct mapping *const *tables, unsigned tables_count)
{
    struct arena arena;
    json_t *names = json_array();
    arena_init(&arena, 4096);
    for (unsigned t = 0; t < tables_count; t++)
        json_array_append_new(names, json_string(quote_name_dup(&arena, tables[t]->target->schema,
                                                                tables[t]->target->name)));
    char *text = json_dumps(names, 0);
    CHECK(text != NULL);
    json_decref(names);
    arena_release(&arena);
    return text;
}

bool checks_run(struct session *session, const struct mapping *const *tables, unsigned tables_count,
                json_t *found, uint64_t *wrong, uint64_t *undecided, struct error *err)
{
    struct tally_of_checks tally = {.found = found};
    char *names = names_of(tables, tables_count);
    bool ok = true;
    for (unsigned s = 0; ok && s < session->shards_count; s++) {
        char *oids = NULL;
        ok = oids_on(session->shards[s], names, &oids, err) &&
             check_catalog(session, s, oids, &tally, err) &&
             check_strays(session, s, tables, tables_count, &tally, err);
        free(oids);
    }
    free(names);
    *wrong = tally.wrong;
    *undecided = tally.undecided;
    return ok;
}
