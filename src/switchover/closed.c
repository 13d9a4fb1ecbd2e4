#include "switchover/closed.h"

#include "pg/conn.h"
#include "state/schema.h"
#include "switchover/gate.h"

/* Two questions, because the second one names a table that may not be there. */
static const char has_setting_sql[] =
    "SELECT pg_catalog.to_regclass('portage.setting') IS NOT NULL";
#define GATED                                                                                      \
    "SELECT pg_catalog.count(*) FROM pg_catalog.pg_trigger"                                        \
    " WHERE tgname = 'portage_gate' AND tgenabled = 'A' AND NOT tgisinternal"
static const char read_sql[] =
    "SELECT s.value,"
    "       (" GATED "),"
    "       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class"
    "         WHERE relnamespace = 'portage'::regnamespace AND relkind IN ('r', 'v')"
    "           AND relname NOT IN ('gate', 'setting'))"
    "  FROM portage.setting s WHERE s.name = 'closed'";

bool closed_read(PGconn *conn, struct closed *closed, struct error *err)
{
    *closed = (struct closed){0};
    PGresult *result = conn_query_row(conn, has_setting_sql, 0, NULL, err);
    bool exists = result != NULL && result_bool(result, 0, 0);
    PQclear(result);
    if (result == NULL || !exists)
        return result != NULL;
    result = conn_query(conn, read_sql, 0, NULL, err);
    if (result == NULL)
        return false;
    closed->closed = PQntuples(result) == 1;
    if (closed->closed) {
        snprintf(closed->since, sizeof closed->since, "%s", result_text(result, 0, 0));
        closed->tables = (unsigned)result_int(result, 0, 1);
        closed->others = (unsigned)result_int(result, 0, 2);
    }
    PQclear(result);
    return true;
}

bool closed_count(PGconn *conn, unsigned *tables, struct error *err)
{
    PGresult *result = conn_query_row(conn, GATED, 0, NULL, err);
    if (result != NULL)
        *tables = (unsigned)result_int(result, 0, 0);
    PQclear(result);
    return result != NULL;
}

/* Views first: they read the tables. */
static const char leave_sql[] =
    "BEGIN; DO $portage$ DECLARE r record; BEGIN"
    " FOR r IN SELECT relkind, relname FROM pg_catalog.pg_class"
    "           WHERE relnamespace = 'portage'::regnamespace AND relkind IN ('r', 'v')"
    "             AND relname NOT IN ('gate', 'setting') ORDER BY relkind DESC, oid LOOP"
    "  EXECUTE pg_catalog.format('DROP %s portage.%I',"
    "          CASE r.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, r.relname);"
    " END LOOP;"
    " DELETE FROM portage.setting WHERE name <> 'closed';"
    " INSERT INTO portage.setting (name, value)"
    "  VALUES ('closed', pg_catalog.date_trunc('second', pg_catalog.now())) ON CONFLICT DO NOTHING;"
    " COMMENT ON SCHEMA portage IS 'Left by \"pgportage finish\": keeps this database, which a migration"
    " has left, closed to writes. \"pgportage finish --open-source\" takes it away. "
    SCHEMA_MARK "';"
    " END $portage$; COMMIT";

static bool not_sealed(struct error *err)
{
    error_set(err, ERROR_CONFIG, "the target is live, and the source is not closed");
    return error_hint(err, "Start \"pgportage run\" for a moment: it closes the side that is not"
                           " live.");
}

bool closed_leave(PGconn *source, struct error *err)
{
    struct gate_state gate;
    struct error ignored = ERROR_INIT;
    if (!gate_read(source, &gate, err))
        return false;
    if (!gate.closed || !gate.sealed)
        return not_sealed(err);
    if (conn_exec(source, leave_sql, err))
        return true;
    if (!conn_exec(source, "ROLLBACK", &ignored)) {
        /* the first error tells more */
    }
    return error_context(err, "leaving the source closed");
}

bool closed_refuse(PGconn *conn, const char *name, struct error *err)
{
    struct closed closed;
    if (!closed_read(conn, &closed, err))
        return false;
    if (!closed.closed)
        return true;
    error_set(err, ERROR_CONFIG, "%s (database \"%s\") is closed to writes", name, PQdb(conn));
    error_detail(err, "\"pgportage finish\" left it so at %s: the target of that migration had"
                      " taken over.", closed.since);
    return error_hint(err, CLOSED_WAY_OUT);
}
