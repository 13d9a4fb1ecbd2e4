/*
 * The log: one line an event on stderr, `time level [subject] message`, each line naming its
 * subject (a thread of ours: receiver, "lane 3", "copy 1", …). Thread-safe; a line is written whole.
 *
 * Nothing secret may come here: connection strings are redacted where they enter (pg/conn.h).
 */
#ifndef UTIL_LOG_H
#define UTIL_LOG_H

#include "util/error.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

void log_set_level(enum log_level least);

/* The subject of this thread's lines; copied. */
void log_set_subject(const char *subject);

void log_debug(const char *format, ...) PRINTF_LIKE(1, 2);
void log_info(const char *format, ...) PRINTF_LIKE(1, 2);
void log_warning(const char *format, ...) PRINTF_LIKE(1, 2);

/* Message, detail, hint and context, each on a line of its own as psql does. */
void log_error(const struct error *err);
void log_error_as(enum log_level level, const struct error *err);

/* What a terminal shows below the log: one or more lines, drawn anew under each line of it. A line
 * longer than the terminal is wide is cut. Empty: nothing. */
void log_set_status(const char *text);

#endif
