/*
 * Statements to several servers, side by side, in one round trip: what happens in the pause of a switch
 * has no time for more. On each server they run in their order, each in a transaction of its own.
 */
#ifndef SWITCHOVER_ASK_H
#define SWITCHOVER_ASK_H

#include <libpq-fe.h>

#include "util/error.h"

enum { ASK_VALUES_MAX = 4 };

struct ask {
    PGconn *conn;         /* no transaction open; those of one connection follow each other */
    const char *prepared; /* the name of a statement, or … */
    const char *sql;      /* … its text */
    int values_count;
    const char *values[ASK_VALUES_MAX];
    PGresult *result; /* the answer: PQclear() is the caller's */
};

/* False when any of them failed, with the first error; all answers that came are there. */
bool ask_all(struct ask *asks, unsigned count, struct error *err) MUST_CHECK;

#endif
