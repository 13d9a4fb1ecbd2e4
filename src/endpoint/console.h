/*
 * The admin console of a pooler. It speaks the simple query protocol only, and knows none of the
 * settings that sessions of ours are pinned with: hence a connection of its own kind (not pg/conn.h).
 *
 * PAUSE answers when it is done, so that questions are sent to many consoles first and their answers
 * waited for together. One thread.
 */
#ifndef ENDPOINT_CONSOLE_H
#define ENDPOINT_CONSOLE_H

#include <libpq-fe.h>

#include "util/error.h"
#include "util/stop.h"

struct console {
    const char *conninfo; /* holds secrets */
    char *name;           /* what may be shown of it */
    PGconn *conn;         /* NULL until it is opened */
    bool waiting;         /* asked, and not answered yet */
    PGresult *result;     /* the last answer; NULL when there was none */
};

void console_init(struct console *console, const char *conninfo);
void console_release(struct console *console);

/* Whether there is a connection, or one could be made. One that the pooler has closed is made anew. */
bool console_open(struct console *console, struct error *err) MUST_CHECK;
void console_close(struct console *console);

/* Opens it if it must. */
bool console_send(struct console *console, const char *question, struct error *err) MUST_CHECK;

/* Until all have answered, or the deadline; who has not is still `waiting`. A null console is none. With
 * `stop` NULL nothing but the deadline ends it. */
void consoles_wait(struct console *const *consoles, unsigned count, int64_t deadline_us,
                   struct stop *stop);

/* Whether the answer is there and is no error. */
bool console_answered(struct console *console, struct error *err) MUST_CHECK;

/* Asks and waits. */
bool console_ask(struct console *console, const char *question, struct error *err) MUST_CHECK;

/* A cell of the last answer, by the column's name; NULL when it is NULL, or there is no such column. */
const char *console_cell(const struct console *console, int row, const char *column);

#endif
