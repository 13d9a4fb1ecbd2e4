/*
 * One connection of one client to one database name, made anew whenever it breaks. Belongs to one
 * thread.
 *
 * What the client may believe after a request is all that matters here (enum outcome): a request
 * is acknowledged when the server said that its transaction is committed, rolled back when the
 * server refused it and went on serving, and unknown when the connection ended in between.
 */
#ifndef BANK_SESSION_H
#define BANK_SESSION_H

#include <libpq-fe.h>

#include "util/stop.h"

enum outcome {
    OUTCOME_ACKNOWLEDGED,
    OUTCOME_ROLLED_BACK, /* for certain; nothing of it is there */
    OUTCOME_UNKNOWN,     /* may be there, once */
    OUTCOME_NOT_SENT,    /* no connection */
};

struct session {
    const char *dsn;
    struct stop *stop;
    PGconn *conn; /* NULL while there is none */
};

/* Runs the statements of one transaction; *changes is the last number selected. `err` is set unless
 * acknowledged. Gives up, as unknown, some seconds after a stop was requested. */
enum outcome session_request(struct session *session, const char *sql, int64_t *changes,
                             struct error *err) MUST_CHECK;

/* Whether the same request may pass a little later. */
bool session_may_pass(const struct error *err);

void session_close(struct session *session);

#endif
