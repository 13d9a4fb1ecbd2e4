/* The kind `command`: each phase is a run of the user's command, with PGPORTAGE_PHASE. */
#include "endpoint/command.h"
#include "endpoint/kind.h"
#include "util/clock.h"

struct hooked {
    const struct config *config;
    struct stop *stop;
    int64_t paused_since_us;
};

static void *hooked_open(const struct config *config, struct stop *stop)
{
    struct hooked *hooked = check_calloc(1, sizeof *hooked);
    *hooked = (struct hooked){.config = config, .stop = stop};
    return hooked;
}

static bool run_phase(struct hooked *hooked, const char *phase, enum which_side side,
                      struct stop *stop, struct error *err)
{
    char what[64];
    snprintf(what, sizeof what, "command %s", phase);
    const struct command_run run = {
        .what = what,
        .command = hooked->config->endpoint.command.text,
        .phase = phase,
        .side = side,
        .limit_s = hooked->config->endpoint_limit_s,
        .stop = stop,
    };
    return command_run(hooked->config, &run, err);
}

static bool hooked_check(void *state, enum which_side live, int switch_limit_ms,
                         const struct endpoint_servers *to, struct findings *findings,
                         struct error *err)
{
    struct hooked *hooked = state;
    struct error error = ERROR_INIT;
    (void)to;
    (void)switch_limit_ms;
    if (run_phase(hooked, "check", live, hooked->stop, &error))
        return true;
    if (error.class == ERROR_CANCELLED)
        return stop_error(err);
    findings_add(findings, SEVERITY_REFUSE, "endpoint-command", &hooked->config->endpoint.command,
                 hooked->config->endpoint.command.text, NULL, "%s: %s", error.message,
                 error.detail);
    return true;
}

static bool hooked_restore(void *state, enum which_side live, struct error *err)
{
    return run_phase(state, "restore", live, NULL, err);
}

/* Who was half-way into a pause is asked to take it back. */
static bool hooked_pause(void *state, enum which_side to, struct error *err)
{
    struct hooked *hooked = state;
    struct error ignored = ERROR_INIT;
    hooked->paused_since_us = clock_monotonic_us();
    if (run_phase(hooked, "pause", to, hooked->stop, err))
        return true;
    if (!hooked_restore(state, side_other(to), &ignored))
        error_hint(err, "Its phase \"restore\" failed as well: %.900s", ignored.message);
    return false;
}

static bool hooked_lead(void *state, enum which_side side, struct error *err)
{
    return run_phase(state, "lead", side, NULL, err);
}

static bool hooked_resume(void *state, enum which_side side, struct error *err)
{
    return run_phase(state, "resume", side, NULL, err);
}

static int64_t hooked_paused_since_us(const void *state)
{
    const struct hooked *hooked = state;
    return hooked->paused_since_us;
}

const struct endpoint_ops endpoint_command = {
    .open = hooked_open,
    .close = free,
    .check = hooked_check,
    .pause = hooked_pause,
    .lead = hooked_lead,
    .resume = hooked_resume,
    .restore = hooked_restore,
    .paused_since_us = hooked_paused_since_us,
};
