#include "db.h"

static void ignore_notice(void *context, const PGresult *result)
{
    (void)context;
    (void)result;
}

PGconn *db_open(const char *dsn, struct error *err)
{
    /* A fallback name only: the user's own dsn has the last word. */
    const char *const names[] = {"fallback_application_name", "dbname", NULL};
    const char *const values[] = {"bank", dsn, NULL};
    PGconn *conn = PQconnectdbParams(names, values, 1);
    if (PQstatus(conn) == CONNECTION_OK) {
        PQsetNoticeReceiver(conn, ignore_notice, NULL);
        return conn;
    }
    db_error(conn, NULL, err);
    PQfinish(conn);
    return NULL;
}

bool db_error(PGconn *conn, const PGresult *result, struct error *err)
{
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *text = result ? PQresultErrorMessage(result) : PQerrorMessage(conn);
    error_set(err, ERROR_RETRY, "%.*s", (int)strcspn(text, "\n"), text);
    snprintf(err->sqlstate, sizeof(err->sqlstate), "%s", state ? state : "08006");
    return false;
}

bool db_exec(PGconn *conn, const char *sql, struct error *err)
{
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    bool good =
        status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || db_error(conn, result, err);
    PQclear(result);
    return good;
}

bool db_int(PGconn *conn, const char *sql, int64_t *value, struct error *err)
{
    PGresult *result = PQexec(conn, sql);
    bool good = PQresultStatus(result) == PGRES_TUPLES_OK || db_error(conn, result, err);
    if (good && PQntuples(result) != 1)
        good = error_set(err, ERROR_FATAL, "no row from: %s", sql);
    if (good)
        *value = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return good;
}
