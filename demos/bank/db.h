/* The little that load and check ask of libpq. A PGconn belongs to one thread. */
#ifndef BANK_DB_H
#define BANK_DB_H

#include <libpq-fe.h>
#include <stdint.h>

#include "util/error.h"

PGconn *db_open(const char *dsn, struct error *err) MUST_CHECK; /* NULL on error */

/* Statements without parameters; results are dropped. */
bool db_exec(PGconn *conn, const char *sql, struct error *err) MUST_CHECK;
/* The first cell of the result. */
bool db_int(PGconn *conn, const char *sql, int64_t *value, struct error *err) MUST_CHECK;

/* From a result, or from the connection when it is NULL. Always false. */
bool db_error(PGconn *conn, const PGresult *result, struct error *err);

#endif
