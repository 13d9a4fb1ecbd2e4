#include "switchover/ask.h"

#include "pg/conn.h"

/* The last of the connection's asks, starting at `first`. */
static unsigned end_of(const struct ask *asks, unsigned count, unsigned first)
{
    unsigned end = first;
    while (end < count && asks[end].conn == asks[first].conn)
        end++;
    return end;
}

/* A sync point behind each makes it a transaction of its own. */
static bool send_one(const struct ask *ask)
{
    int sent = ask->prepared != NULL
                   ? PQsendQueryPrepared(ask->conn, ask->prepared, ask->values_count, ask->values,
                                         NULL, NULL, 0)
                   : PQsendQueryParams(ask->conn, ask->sql, ask->values_count, NULL, ask->values,
                                       NULL, NULL, 0);
    return sent == 1 && PQpipelineSync(ask->conn) == 1;
}

static bool send_some(const struct ask *asks, unsigned count, struct error *err)
{
    if (PQenterPipelineMode(asks->conn) != 1)
        return conn_error(asks->conn, err);
    for (unsigned a = 0; a < count; a++) {
        if (!send_one(&asks[a]))
            return conn_error(asks->conn, err);
    }
    return true;
}

/* The result, the NULL behind it, and the sync point. */
static bool receive_one(struct ask *ask, struct error *err)
{
    PGresult *next;
    ask->result = PQgetResult(ask->conn);
    bool ok = PQresultStatus(ask->result) == PGRES_TUPLES_OK ||
              PQresultStatus(ask->result) == PGRES_COMMAND_OK;
    if (!ok)
        conn_result_error(ask->conn, ask->result, err);
    while ((next = PQgetResult(ask->conn)) != NULL)
        PQclear(next);
    PQclear(PQgetResult(ask->conn));
    return ok;
}

static bool receive_some(struct ask *asks, unsigned count, struct error *err)
{
    bool ok = true;
    for (unsigned a = 0; a < count && PQstatus(asks->conn) == CONNECTION_OK; a++) {
        struct error failed = ERROR_INIT;
        if (receive_one(&asks[a], &failed))
            continue;
        if (ok)
            *err = failed;
        ok = false;
    }
    return PQexitPipelineMode(asks->conn) == 1 ? ok : ok && conn_error(asks->conn, err);
}

bool ask_all(struct ask *asks, unsigned count, struct error *err)
{
    bool ok = true;
    unsigned sent = 0, end;
    for (unsigned a = 0; ok && a < count; a = end) {
        end = end_of(asks, count, a);
        ok = send_some(&asks[a], end - a, err);
        sent = ok ? end : a;
    }
    for (unsigned a = 0; a < sent; a = end) {
        struct error failed = ERROR_INIT;
        end = end_of(asks, sent, a);
        if (!receive_some(&asks[a], end - a, &failed) && ok) {
            *err = failed;
            ok = false;
        }
    }
    return ok;
}
