/* All databases of all poolers together, or none; see pgbouncer.c for what PAUSE is. */
#include "endpoint/poolers.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    GAP_FIRST_MS = 200, /* how long the application goes on between two tries */
    GAP_MOST_MS = 5000,
    LOGINS_MS = 5000, /* how long logins at the servers are waited for, each time */
    LOOK_MS = 5,
};

enum pause_end { PAUSE_DONE, PAUSE_TIMED_OUT, PAUSE_FAILED };

static const char *shown(const struct console *console, int row, const char *column)
{
    const char *text = console_cell(console, row, column);
    return text != NULL ? text : "?";
}

/* Whether a row of an answer is about one of our databases. */
static bool is_ours(const struct pooler *pooler, int row)
{
    for (unsigned d = 0; d < pooler->count; d++) {
        if (strcmp(shown(&pooler->control, row, "database"),
                   pooler->databases[d].config->name.text) == 0)
            return true;
    }
    return false;
}

/* A server connection that a transaction on one of our databases has. */
static bool is_holder(const struct pooler *pooler, int row)
{
    return strncmp(shown(&pooler->control, row, "state"), "active", 6) == 0 && is_ours(pooler, row);
}

/* Who is in a transaction still: the first three. Where it is not known, nothing is said. */
static void name_holders(struct pooler *pooler, struct error *err)
{
    const struct console *control = &pooler->control;
    struct error ignored = ERROR_INIT;
    struct buffer text;
    unsigned named = 0;
    if (!console_ask(&pooler->control, "SHOW SERVERS", &ignored))
        return;
    buffer_init(&text, sizeof err->detail);
    for (int row = 0; row < PQntuples(control->result) && named < 3; row++) {
        if (!is_holder(pooler, row))
            continue;
        buffer_printf(&text, "%s\"%s\" is held by server process %s at %s:%s, user %s, since %s",
                      named++ > 0 ? "; " : "", shown(control, row, "database"),
                      shown(control, row, "remote_pid"), shown(control, row, "addr"),
                      shown(control, row, "port"), shown(control, row, "user"),
                      shown(control, row, "request_time"));
    }
    error_detail(err, "%s", buffer_text(&text));
    buffer_release(&text);
}

/* ---- logins under way ---- */

/* After SHOW POOLS. */
static bool logs_in(const struct pooler *pooler)
{
    for (int row = 0; row < PQntuples(pooler->control.result); row++) {
        if (is_ours(pooler, row) && strcmp(shown(&pooler->control, row, "sv_login"), "0") != 0)
            return true;
    }
    return false;
}

/* Of all poolers at one time, so that they can be paused at one time. */
static bool look_for_logins(struct poolers *poolers, const struct pooler **busy, struct error *err)
{
    *busy = NULL;
    for (unsigned p = 0; p < poolers->count; p++) {
        if (!console_send(&poolers->items[p].control, "SHOW POOLS", err))
            return false;
    }
    poolers_wait_for_controls(poolers);
    for (unsigned p = 0; p < poolers->count; p++) {
        if (!console_answered(&poolers->items[p].control, err))
            return false;
        if (logs_in(&poolers->items[p]))
            *busy = &poolers->items[p];
    }
    return true;
}

/* Nobody waits for this but us: clients are served. What begins between the last look and PAUSE is not
 * seen; that is the time of one answer. */
static enum pause_end wait_for_logins(struct poolers *poolers, struct error *err)
{
    int64_t deadline_us = clock_monotonic_us() + LOGINS_MS * 1000;
    const struct pooler *busy;
    for (;;) {
        if (!look_for_logins(poolers, &busy, err))
            return PAUSE_FAILED;
        if (busy == NULL)
            return PAUSE_DONE;
        if (clock_monotonic_us() >= deadline_us)
            break;
        if (stop_wait(poolers->stop, LOOK_MS * 1000)) {
            stop_error(err);
            return PAUSE_FAILED;
        }
    }
    error_set(err, ERROR_LIMIT, "the pooler at %s does not cease to make connections",
              busy->control.name);
    error_hint(
        err, "A pool that is as large as it gets makes none: min_pool_size, server_idle_timeout.");
    return PAUSE_TIMED_OUT;
}

/* ---- pause ---- */

static bool open_all(struct poolers *poolers, struct error *err)
{
    for (unsigned c = 0; c < poolers->consoles_count; c++) {
        if (!console_open(poolers->consoles[c], err))
            return false;
    }
    return true;
}

static bool still_waiting(const struct pooler *pooler)
{
    for (unsigned d = 0; d < pooler->count; d++) {
        if (pooler->databases[d].console.waiting)
            return true;
    }
    return false;
}

static enum pause_end judge_pause(struct poolers *poolers, struct error *err)
{
    for (unsigned c = 0; c < poolers->consoles_count; c++) {
        struct console *console = poolers->consoles[c];
        if (!console->waiting && !console_answered(console, err))
            return PAUSE_FAILED;
    }
    if (stop_requested(poolers->stop)) {
        stop_error(err);
        return PAUSE_FAILED;
    }
    for (unsigned p = 0; p < poolers->count; p++) {
        struct pooler *pooler = &poolers->items[p];
        if (!still_waiting(pooler))
            continue;
        error_set(err, ERROR_LIMIT, "the pooler at %s could not be paused in %d ms",
                  pooler->control.name, poolers->config->pause_ms);
        name_holders(pooler, err);
        return PAUSE_TIMED_OUT;
    }
    return PAUSE_DONE;
}

/* Connected first, so that the time which counts, in which clients wait, is that of PAUSE alone. */
static enum pause_end pause_once(struct poolers *poolers, struct error *err)
{
    if (!open_all(poolers, err))
        return PAUSE_FAILED;
    enum pause_end settled = wait_for_logins(poolers, err);
    if (settled != PAUSE_DONE)
        return settled;
    poolers->paused_since_us = clock_monotonic_us();
    int64_t deadline_us = poolers->paused_since_us + (int64_t)poolers->config->pause_ms * 1000;
    for (unsigned p = 0; p < poolers->count; p++) {
        if (!pooler_send(&poolers->items[p], "PAUSE", err))
            return PAUSE_FAILED;
    }
    consoles_wait(poolers->consoles, poolers->consoles_count, deadline_us, poolers->stop);
    return judge_pause(poolers, err);
}

/* What cannot be reached now is told: it may stay paused. */
static void undo_pause(struct poolers *poolers)
{
    struct error error = ERROR_INIT;
    poolers_begin(poolers);
    poolers_resume_all(poolers);
    if (!poolers_end(poolers, &error))
        log_error_as(LOG_WARNING, &error);
}

static int next_gap(int gap_ms)
{
    return gap_ms * 2 < GAP_MOST_MS ? gap_ms * 2 : GAP_MOST_MS;
}

bool poolers_pause(void *state, enum which_side to, struct error *err)
{
    struct poolers *poolers = state;
    int gap_ms = GAP_FIRST_MS, attempts = poolers->config->pause_attempts;
    (void)to;
    for (int attempt = 1;; attempt++, gap_ms = next_gap(gap_ms)) {
        poolers_begin(poolers);
        enum pause_end end = pause_once(poolers, err);
        if (end == PAUSE_DONE)
            return true;
        undo_pause(poolers);
        if (end == PAUSE_FAILED)
            return false;
        if (attempt == attempts)
            return err->hint[0] != '\0' ? false
                                        : error_hint(err, "End that transaction, or raise"
                                                          " endpoint.pause_ms.");
        log_info("%s (attempt %d of %d); %s", err->message, attempt, attempts, err->detail);
        if (stop_wait(poolers->stop, (int64_t)gap_ms * 1000))
            return stop_error(err);
        error_clear(err);
    }
}
