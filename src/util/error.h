/*
 * The one idiom for errors: `bool thing_verb(…, struct error *err)` returns false and fills err.
 *
 * A struct error is a plain value owned by the caller, at most one page, untouched on success, and
 * complete enough to be printed: message (what could not be done, with the object's name), detail
 * (why), hint (the way out), context (where, one line added by each layer on the way up).
 * The class says what the caller *does* about it. Only the top function of a thread, or the
 * command, logs an error, once.
 */
#ifndef UTIL_ERROR_H
#define UTIL_ERROR_H

#include <stdbool.h>

#include "util/check.h"

enum error_class {
    ERROR_NONE = 0,
    ERROR_RETRY,     /* passes by itself: connection, deadlock, disk full; begin again, backing off */
    ERROR_DATA,      /* one row's data: dead letter or stop, as the mapping says */
    ERROR_CONFIG,    /* the user must change something; the hint says what */
    ERROR_LIMIT,     /* a limit of ours was reached; the hint names the setting */
    ERROR_CANCELLED, /* we were asked to stop */
    ERROR_FATAL,     /* in doubt: stop, keep everything */
};

struct error {
    enum error_class class;
    char sqlstate[6]; /* of the server, or empty */
    char message[1024];
    char detail[1024];
    char hint[1024];
    char context[512];
    bool begin_again; /* the hint is that of error_begin_again() */
};

#define ERROR_INIT                                                                                 \
    {                                                                                              \
        .class = ERROR_NONE                                                                        \
    }

void error_clear(struct error *err);

/* Always returns false, so that a function can end in `return error_set(…)`. */
bool error_set(struct error *err, enum error_class class, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* These return false as well, and add to an error that is set. */
bool error_detail(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3);
bool error_hint(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3);
bool error_context(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3);

/* The hint of a migration that cannot go on, behind `first`: give it up, and begin again. */
bool error_begin_again(struct error *err, const char *first);

#endif
