#include "util/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <time.h>

#include "util/clock.h"

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static enum log_level log_least = LOG_INFO; /* set before threads start */
static char log_status[16 * 1024];          /* guarded by log_lock */

static _Thread_local char log_subject[32] = "main";

void log_set_level(enum log_level least)
{
    log_least = least;
}

void log_set_subject(const char *subject)
{
    snprintf(log_subject, sizeof log_subject, "%s", subject);
}

static const char *log_level_name(enum log_level level)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    return names[level];
}

static void log_time(char *text, size_t size)
{
    int64_t now_us = clock_wall_us();
    time_t seconds = (time_t)(now_us / 1000000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    size_t used = strftime(text, size, "%Y-%m-%d %H:%M:%S", &parts);
    snprintf(text + used, size - used, ".%03dZ", (int)(now_us / 1000 % 1000));
}

/* The cursor rests behind the last line of the status. */
static void status_clear(void)
{
    unsigned breaks = 0;
    for (const char *c = log_status; *c != '\0'; c++)
        breaks += *c == '\n';
    if (breaks > 0)
        fprintf(stderr, "\033[%uA", breaks);
    if (log_status[0] != '\0')
        fputs("\r\033[J", stderr);
}

/* Without wrapping, so that it takes as many lines as it has. */
static void status_draw(void)
{
    if (log_status[0] != '\0')
        fprintf(stderr, "\033[?7l%s\033[?7h", log_status);
}

static void log_line(enum log_level level, const char *text)
{
    char time_text[40];
    if (level < log_least)
        return;
    log_time(time_text, sizeof time_text);
    pthread_mutex_lock(&log_lock);
    status_clear();
    fprintf(stderr, "%s %-7s [%s] %s\n", time_text, log_level_name(level), log_subject, text);
    status_draw();
    fflush(stderr);
    pthread_mutex_unlock(&log_lock);
}

static void log_format(enum log_level level, const char *format, va_list args)
{
    char text[4096];
    vsnprintf(text, sizeof text, format, args);
    log_line(level, text);
}

void log_debug(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_format(LOG_DEBUG, format, args);
    va_end(args);
}

void log_info(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_format(LOG_INFO, format, args);
    va_end(args);
}

void log_warning(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_format(LOG_WARNING, format, args);
    va_end(args);
}

void log_error_as(enum log_level level, const struct error *err)
{
    char text[4096];
    int used = snprintf(text, sizeof text, "%s", err->message);
    const struct {
        const char *name;
        const char *text;
    } parts[] = {{"DETAIL", err->detail},
                 {"HINT", err->hint},
                 {"CONTEXT", err->context},
                 {"SQLSTATE", err->sqlstate}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i].text[0] != '\0')
            used += snprintf(text + used, sizeof text - (size_t)used, "\n  %s: %s", parts[i].name,
                             parts[i].text);
    }
    log_line(level, text);
}

void log_error(const struct error *err)
{
    log_error_as(LOG_ERROR, err);
}

void log_set_status(const char *text)
{
    pthread_mutex_lock(&log_lock);
    status_clear();
    snprintf(log_status, sizeof log_status, "%s", text);
    status_draw();
    fflush(stderr);
    pthread_mutex_unlock(&log_lock);
}
