/*
 * Connections. A PGconn belongs to one thread.
 *
 * Every session of ours is pinned at its start, against whatever ALTER ROLE or ALTER DATABASE … SET
 * says: the settings that leak into values' text (D4, D5), an empty search_path, UTF-8, no time-outs
 * (S3, O1), row_security off so that a policy errors instead of filtering (R9), and
 * session_replication_role = replica where asked for and allowed. A connection through a pooler is
 * found out and refused (O4). portage.pass = on tells a gate (docs/design/cutover.md) who we are;
 * portage.who, for the journal, who has started us.
 *
 * Connection strings hold secrets: they are kept as given, never logged; conn_redact() is what may
 * be shown. Messages of libpq that could quote one are redacted too (O3).
 */
#ifndef PG_CONN_H
#define PG_CONN_H

#include <libpq-fe.h>

#include "pg/lsn.h"
#include "util/buffer.h"
#include "util/error.h"
#include "util/stop.h"

enum conn_kind {
    CONN_SESSION,
    CONN_APPLY,       /* a session on a target that writes rows of the application */
    CONN_REPLICATION, /* replication=database */
};

/* `purpose` becomes application_name "pgportage <purpose>". NULL on error. */
PGconn *conn_open(const char *conninfo, enum conn_kind kind, const char *purpose,
                  struct error *err) MUST_CHECK;
void conn_close(PGconn *conn); /* NULL is fine */

/* Statements of this session are planned once, and find their rows by index one after the other. */
bool conn_pin_plans(PGconn *conn, struct error *err) MUST_CHECK;

/* Whether this session has session_replication_role = replica (CONN_APPLY asks for it). */
bool conn_is_replica_role(PGconn *conn);

/* Whether the string itself holds a password, in whichever form. */
bool conn_holds_password(const char *conninfo);

/* host, port, dbname and user only. Caller frees. */
char *conn_redact(const char *conninfo);

/* A statement, or several, without results. Not for text from outside. */
bool conn_exec(PGconn *conn, const char *sql, struct error *err) MUST_CHECK;

/* The same, of what may take long: a stop cancels it (CANCELLED). */
bool conn_exec_until(PGconn *conn, const char *sql, struct stop *stop, struct error *err) MUST_CHECK;

/* Asks the server to cancel what the connection is at; whether it does shows in the statement's end. */
void conn_cancel(PGconn *conn);

/* One statement with text parameters, of whose rows nothing is wanted. */
bool conn_run(PGconn *conn, const char *sql, int count, const char *const *values,
              struct error *err) MUST_CHECK;

/* One statement with text parameters; NULL on error. The caller clears the result. */
PGresult *conn_query(PGconn *conn, const char *sql, int count, const char *const *values,
                     struct error *err) MUST_CHECK;

/* The same, for statements that must return exactly one row. */
PGresult *conn_query_row(PGconn *conn, const char *sql, int count, const char *const *values,
                         struct error *err) MUST_CHECK;

/* From a failed result, or from the connection when result is NULL: always return false. */
bool conn_result_error(PGconn *conn, const PGresult *result, struct error *err);
bool conn_error(PGconn *conn, struct error *err);

/* Cells of a result; NULL becomes the empty string, 0 or false. */
const char *result_text(const PGresult *result, int row, int column);
int64_t result_int(const PGresult *result, int row, int column);
bool result_bool(const PGresult *result, int row, int column);
bool result_lsn(const PGresult *result, int row, int column, lsn_t *lsn, struct error *err)
    MUST_CHECK;

#endif
