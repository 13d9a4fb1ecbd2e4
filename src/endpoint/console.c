#include "endpoint/console.h"

#include <poll.h>

#include "pg/conn.h"
#include "util/clock.h"

enum {
    ANSWER_MS = 3000, /* all but PAUSE answers at once; a pooler that does not is as good as dead */
    LOOK_MS = 50,     /* how often a stop is looked for */
    CONSOLES_MAX = 64 * 64,
};

void console_init(struct console *console, const char *conninfo)
{
    *console = (struct console){.conninfo = conninfo, .name = conn_redact(conninfo)};
}

void console_close(struct console *console)
{
    PQclear(console->result);
    if (console->conn != NULL)
        PQfinish(console->conn);
    console->conn = NULL;
    console->result = NULL;
    console->waiting = false;
}

void console_release(struct console *console)
{
    console_close(console);
    free(console->name);
}

/* libpq's text, without the password, should it hold one. */
static bool connection_error(struct console *console, const char *what, struct error *err)
{
    char text[1024];
    const char *password = PQpass(console->conn);
    snprintf(text, sizeof text, "%s", PQerrorMessage(console->conn));
    size_t length = strlen(text), secret = password != NULL ? strlen(password) : 0;
    while (length > 0 && text[length - 1] == '\n')
        text[--length] = '\0';
    for (char *at = text; secret > 0 && (at = strstr(at, password)) != NULL; at += secret)
        memset(at, '*', secret);
    error_set(err, ERROR_RETRY, "%s the pooler at %s", what, console->name);
    return error_detail(err, "%s", text);
}

/* A connection at rest has nothing to say, except that it has ended. */
static bool is_alive(struct console *console)
{
    return console->conn != NULL && !console->waiting && PQconsumeInput(console->conn) == 1 &&
           PQstatus(console->conn) == CONNECTION_OK;
}

bool console_open(struct console *console, struct error *err)
{
    static const char *const keywords[] = {"dbname", "application_name", "connect_timeout", NULL};
    const char *const values[] = {console->conninfo, "pgportage endpoint", "3", NULL};
    if (is_alive(console))
        return true;
    console_close(console);
    console->conn = PQconnectdbParams(keywords, values, 1);
    if (PQstatus(console->conn) == CONNECTION_OK)
        return true;
    connection_error(console, "could not connect to", err);
    console_close(console);
    return false;
}

bool console_send(struct console *console, const char *question, struct error *err)
{
    if (!console_open(console, err))
        return false;
    PQclear(console->result);
    console->result = NULL;
    console->waiting = PQsendQuery(console->conn, question) == 1;
    return console->waiting || connection_error(console, "lost connection to", err);
}

/* Takes what has come: the last result that is not NULL, for an error is followed by nothing else. */
static void take_answer(struct console *console)
{
    bool alive = PQconsumeInput(console->conn) == 1;
    while (console->waiting && (!alive || PQisBusy(console->conn) == 0)) {
        PGresult *result = PQgetResult(console->conn);
        if (result == NULL) {
            console->waiting = false;
            return;
        }
        PQclear(console->result);
        console->result = result;
    }
}

static unsigned watch(struct console *const *consoles, unsigned count, struct pollfd *sockets)
{
    unsigned waiting = 0;
    for (unsigned c = 0; c < count; c++) {
        bool open = consoles[c] != NULL && consoles[c]->waiting;
        sockets[c] =
            (struct pollfd){.fd = open ? PQsocket(consoles[c]->conn) : -1, .events = POLLIN};
        waiting += open;
    }
    return waiting;
}

void consoles_wait(struct console *const *consoles, unsigned count, int64_t deadline_us,
                   struct stop *stop)
{
    CHECK(count <= CONSOLES_MAX);
    struct pollfd *sockets = check_calloc(count + 1, sizeof *sockets);
    while (watch(consoles, count, sockets) > 0 && (stop == NULL || !stop_requested(stop))) {
        int64_t left_us = deadline_us - clock_monotonic_us();
        if (left_us <= 0)
            break;
        int64_t wait_ms = left_us / 1000 + 1;
        poll(sockets, count, wait_ms < LOOK_MS ? (int)wait_ms : LOOK_MS);
        for (unsigned c = 0; c < count; c++) {
            if (sockets[c].revents != 0)
                take_answer(consoles[c]);
        }
    }
    free(sockets);
}

bool console_answered(struct console *console, struct error *err)
{
    ExecStatusType status = PQresultStatus(console->result);
    if (console->waiting) {
        console_close(console);
        return error_set(err, ERROR_RETRY, "the pooler at %s does not answer", console->name);
    }
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
        return true;
    if (console->conn == NULL || PQstatus(console->conn) != CONNECTION_OK) {
        connection_error(console, "lost connection to", err);
        console_close(console);
        return false;
    }
    const char *message = PQresultErrorField(console->result, PG_DIAG_MESSAGE_PRIMARY);
    error_set(err, ERROR_CONFIG, "the pooler at %s refused", console->name);
    return error_detail(err, "%s", message != NULL ? message : "");
}

bool console_ask(struct console *console, const char *question, struct error *err)
{
    if (!console_send(console, question, err))
        return false;
    consoles_wait(&console, 1, clock_monotonic_us() + ANSWER_MS * 1000, NULL);
    return console_answered(console, err) || error_context(err, "asking %s", question);
}

const char *console_cell(const struct console *console, int row, const char *column)
{
    int number = PQfnumber(console->result, column);
    if (number < 0 || PQgetisnull(console->result, row, number))
        return NULL;
    return PQgetvalue(console->result, row, number);
}
