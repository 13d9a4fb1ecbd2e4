#include "switchover/gate.h"

#include "pg/conn.h"
#include "pg/quote.h"
#include "switchover/gate_sql.h"
#include "util/clock.h"

enum { REMOVE_ATTEMPTS = 200, REMOVE_LOCK_MS = 200 };

/* ---- the function ---- */

/* Nothing is written where it is there. */
static const char create_open_sql[] = "DO $portage$ BEGIN"
                                      " IF pg_catalog.to_regprocedure('{name}()') IS NULL THEN"
                                      "  EXECUTE " GATE_MAKE_OPEN ";"
                                      " END IF; END $portage$";

/* From the first day: a seal of epoch 0, which no switch has. */
static const char create_closed_sql[] =
    "DO $portage$ BEGIN"
    " IF pg_catalog.to_regprocedure('{name}()') IS NULL THEN"
    "  EXECUTE " GATE_MAKE_CLOSED(
        "'infinity'::timestamptz") ";"
                                   "  UPDATE portage.gate SET fence = 0, deadline = NULL, sealed_by = 0;"
                                   " END IF; END $portage$";

static bool exec_filled(PGconn *conn, const char *text, const struct gate_blank *blanks,
                        struct error *err)
{
    struct buffer sql;
    buffer_init(&sql, 64 << 20);
    gate_fill(&sql, text, blanks);
    bool ok = conn_exec(conn, buffer_text(&sql), err);
    buffer_release(&sql);
    return ok;
}

bool gate_create(PGconn *conn, const struct gate_words *closed, struct error *err)
{
    const struct gate_blank blanks[] = {{"{name}", "portage.gate"},
                                        {"{detail}", closed != NULL ? closed->detail : ""},
                                        {"{hint}", closed != NULL ? closed->hint : ""},
                                        {0}};
    return exec_filled(conn, closed != NULL ? create_closed_sql : create_open_sql, blanks, err) ||
           error_context(err, "making the gate");
}

/* ---- the triggers ---- */

static const char lay_all_sql[] =
    "DO $portage$ DECLARE r record; BEGIN"
    " FOR r IN WITH RECURSIVE " GATE_RELATIONS(
        "{tables}") "  SELECT name, has_trigger FROM relation WHERE NOT gated ORDER BY oid LOOP"
                    "  IF NOT r.has_trigger THEN"
                    "   EXECUTE pg_catalog.replace('" GATE_CREATE_TRIGGER "', '@table@', r.name);"
                    "  END IF;"
                    "  EXECUTE pg_catalog.replace('" GATE_ENABLE_TRIGGER "', '@table@', r.name);"
                    " END LOOP; END $portage$";

bool gate_lay_all(PGconn *conn, const char *tables, struct error *err)
{
    struct buffer literal;
    buffer_init(&literal, 16 << 20);
    quote_literal(&literal, tables);
    const struct gate_blank blanks[] = {{"{name}", "portage.gate"},
                                        {"{table}", "@table@"},
                                        {"{tables}", buffer_text(&literal)},
                                        {0}};
    bool ok = exec_filled(conn, lay_all_sql, blanks, err);
    buffer_release(&literal);
    return ok || error_context(err, "laying the gate before the tables");
}

static const char missing_sql[] = "WITH RECURSIVE " GATE_RELATIONS(
    "$1") " SELECT name, has_trigger FROM relation WHERE NOT gated ORDER BY oid";

/* Runs `sql` in a transaction that waits only so long for its locks; *done is false when that was not
 * enough. */
static bool try_locked(PGconn *conn, const char *sql, int lock_timeout_ms, bool *done,
                       struct error *err)
{
    struct buffer text;
    struct error failed = ERROR_INIT;
    buffer_init(&text, 16384);
    buffer_printf(&text, "BEGIN; SET LOCAL lock_timeout = %d; %s COMMIT", lock_timeout_ms, sql);
    *done = conn_exec(conn, buffer_text(&text), &failed);
    buffer_release(&text);
    if (*done)
        return true;
    if (PQstatus(conn) == CONNECTION_OK && !conn_exec(conn, "ROLLBACK", err))
        return false;
    bool again = strcmp(failed.sqlstate, "55P03") == 0     /* lock_timeout */
                 || strcmp(failed.sqlstate, "40P01") == 0  /* deadlock */
                 || strcmp(failed.sqlstate, "42P01") == 0  /* it has gone */
                 || strcmp(failed.sqlstate, "42710") == 0; /* another of us has laid it */
    if (!again)
        *err = failed;
    return again;
}

static bool lay_one(PGconn *conn, const char *name, bool has_trigger, int lock_timeout_ms,
                    bool *done, struct error *err)
{
    struct buffer sql;
    const struct gate_blank blanks[] = {{"{name}", "portage.gate"}, {"{table}", name}, {0}};
    buffer_init(&sql, 8192);
    gate_fill(&sql, has_trigger ? "" : GATE_CREATE_TRIGGER, blanks);
    gate_fill(&sql, GATE_ENABLE_TRIGGER, blanks);
    bool ok = try_locked(conn, buffer_text(&sql), lock_timeout_ms, done, err);
    buffer_release(&sql);
    return ok || error_context(err, "laying the gate before %s", name);
}

bool gate_lay_some(PGconn *conn, const char *tables, const struct gate_pace *pace, unsigned *left,
                   char busy[256], struct error *err)
{
    PGresult *missing = conn_query(conn, missing_sql, 1, &tables, err);
    bool ok = missing != NULL;
    *left = ok ? (unsigned)PQntuples(missing) : 0;
    busy[0] = '\0';
    for (int row = 0; ok && row < PQntuples(missing); row++) {
        bool done = false;
        const char *name = result_text(missing, row, 0);
        if (clock_monotonic_us() > pace->until_us)
            break;
        ok = lay_one(conn, name, result_bool(missing, row, 1), pace->lock_timeout_ms, &done, err);
        *left -= done;
        if (!done)
            snprintf(busy, 256, "%s", name);
    }
    PQclear(missing);
    return ok;
}

/* ---- taking it away ---- */

static bool remove_one(PGconn *conn, const char *name, struct error *err)
{
    char sql[512];
    bool done = false;
    snprintf(sql, sizeof sql, "DROP TRIGGER IF EXISTS portage_gate ON %s;", name);
    for (int attempt = 0; !done && attempt < REMOVE_ATTEMPTS; attempt++) {
        if (!try_locked(conn, sql, REMOVE_LOCK_MS, &done, err))
            return false;
    }
    if (done)
        return true;
    error_set(err, ERROR_RETRY, "could not lock table %s to take its gate away", name);
    return error_hint(err, "A long transaction holds it: end it, and try again.");
}

bool gate_remove(PGconn *conn, struct error *err)
{
    PGresult *gated =
        conn_query(conn,
                   "SELECT tgrelid::regclass::text FROM pg_catalog.pg_trigger"
                   " WHERE tgname = 'portage_gate' AND NOT tgisinternal ORDER BY tgrelid",
                   0, NULL, err);
    bool ok = gated != NULL;
    for (int row = 0; ok && row < PQntuples(gated); row++)
        ok = remove_one(conn, result_text(gated, row, 0), err);
    PQclear(gated);
    return ok && conn_exec(conn, "DROP FUNCTION IF EXISTS portage.gate()", err);
}

/* ---- the census ---- */

const char gate_census_sql[] = "WITH RECURSIVE " GATE_RELATIONS(
    "$1") " SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE NOT gated),"
          "  pg_catalog.md5(COALESCE(pg_catalog.string_agg(pg_catalog.concat_ws(' ', oid, relnatts,"
          "    relreplident), ',' ORDER BY oid), '')),"
          "  COALESCE(pg_catalog.sum(relfilenode::bigint), 0)"
          "   FROM relation";

/* Each change of a column leaves a row of the catalog with a later xmin, also one that is taken back. */
static const char columns_sql[] = "WITH RECURSIVE " GATE_RELATIONS(
    "$1") " SELECT COALESCE(pg_catalog.sum(a.xmin::text::bigint), 0)"
          "   FROM relation r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0";

static bool read_columns(PGconn *conn, const char *tables, char columns[32], struct error *err)
{
    PGresult *result = conn_query_row(conn, columns_sql, 1, &tables, err);
    if (result == NULL)
        return error_context(err, "looking at the columns behind the gate");
    snprintf(columns, 32, "%s", result_text(result, 0, 0));
    PQclear(result);
    return true;
}

bool gate_census(PGconn *conn, const char *tables, struct gate_census *census, struct error *err)
{
    PGresult *result = conn_query_row(conn, gate_census_sql, 1, &tables, err);
    if (result == NULL)
        return error_context(err, "looking what is behind the gate");
    gate_census_read(result, census);
    PQclear(result);
    return read_columns(conn, tables, census->columns, err);
}

void gate_census_read(const PGresult *result, struct gate_census *census)
{
    census->relations = (unsigned)result_int(result, 0, 0);
    census->without = (unsigned)result_int(result, 0, 1);
    snprintf(census->digest, sizeof census->digest, "%s", result_text(result, 0, 2));
    snprintf(census->files, sizeof census->files, "%s", result_text(result, 0, 3));
}

bool gate_census_same(PGconn *conn, const char *tables, const struct gate_census *before,
                      const struct gate_census *now, bool *same, struct error *err)
{
    char columns[32];
    *same = strcmp(before->digest, now->digest) == 0;
    if (!*same || strcmp(before->files, now->files) == 0)
        return true;
    if (!read_columns(conn, tables, columns, err))
        return false;
    *same = strcmp(before->columns, columns) == 0;
    return true;
}
