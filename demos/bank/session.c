#include "session.h"

#include <poll.h>

#include "db.h"
#include "util/clock.h"

enum { POLL_MS = 100, GRACE_US = 5000000 };

void session_close(struct session *session)
{
    PQfinish(session->conn);
    session->conn = NULL;
}

/* Until a result can be taken without blocking. False when the connection is gone, or a stop was
 * requested and the server does not answer. */
static bool wait_for_result(struct session *session)
{
    struct pollfd socket = {.fd = PQsocket(session->conn), .events = POLLIN};
    int64_t give_up_us = 0;
    while (PQisBusy(session->conn)) {
        if (stop_requested(session->stop) && give_up_us == 0)
            give_up_us = clock_monotonic_us() + GRACE_US;
        if (give_up_us > 0 && clock_monotonic_us() > give_up_us)
            return false;
        if (poll(&socket, 1, POLL_MS) > 0 && !PQconsumeInput(session->conn))
            return false;
    }
    return true;
}

/* Keeps the first error of several results, and the last number. */
static void take_result(struct session *session, const PGresult *result, int64_t *changes,
                        struct error *err)
{
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_TUPLES_OK && PQntuples(result) == 1)
        *changes = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    else if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && err->class == ERROR_NONE)
        db_error(session->conn, result, err);
}

static enum outcome read_outcome(struct session *session, int64_t *changes, struct error *err)
{
    for (;;) {
        if (!wait_for_result(session))
            break;
        PGresult *result = PQgetResult(session->conn);
        if (!result)
            break;
        take_result(session, result, changes, err);
        PQclear(result);
    }
    if (PQstatus(session->conn) == CONNECTION_OK && !PQisBusy(session->conn))
        return err->class == ERROR_NONE ? OUTCOME_ACKNOWLEDGED : OUTCOME_ROLLED_BACK;
    if (err->class == ERROR_NONE)
        db_error(session->conn, NULL, err);
    return OUTCOME_UNKNOWN;
}

/* A refused statement of several leaves its transaction open. */
static void end_transaction(struct session *session)
{
    struct error ignored = ERROR_INIT;
    if (PQtransactionStatus(session->conn) != PQTRANS_IDLE &&
        !db_exec(session->conn, "ROLLBACK", &ignored))
        session_close(session);
}

enum outcome session_request(struct session *session, const char *sql, int64_t *changes,
                             struct error *err)
{
    error_clear(err);
    *changes = 0;
    if (!session->conn)
        session->conn = db_open(session->dsn, err);
    if (!session->conn)
        return OUTCOME_NOT_SENT;

    enum outcome outcome;
    if (PQsendQuery(session->conn, sql)) {
        outcome = read_outcome(session, changes, err);
    } else {
        db_error(session->conn, NULL, err);
        outcome = OUTCOME_UNKNOWN;
    }
    if (outcome == OUTCOME_UNKNOWN)
        session_close(session);
    else
        end_transaction(session);
    return outcome;
}

bool session_may_pass(const struct error *err)
{
    static const char *const classes[] = {"08", "25", "40", "53", "55", "57", "58"};
    for (unsigned i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
        if (strncmp(err->sqlstate, classes[i], 2) == 0)
            return true;
    return false;
}
