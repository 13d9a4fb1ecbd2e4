/* No endpoint of ours: what the user has to do is said when it is time to. */
#include "endpoint/kind.h"
#include "pg/conn.h"
#include "util/log.h"

static void *none_open(const struct config *config, struct stop *stop)
{
    (void)stop;
    return (void *)(uintptr_t)config;
}

static void none_close(void *state)
{
    (void)state;
}

static bool none_check(void *state, enum which_side live, int switch_limit_ms,
                       const struct endpoint_servers *to, struct findings *findings,
                       struct error *err)
{
    const struct config *config = state;
    (void)to;
    (void)switch_limit_ms;
    (void)err;
    findings_add(
        findings, SEVERITY_NOTE, "endpoint-none",
        config->endpoint.at.text != NULL ? &config->endpoint.at : NULL, "endpoint", NULL,
        "the application has to be led to the %s by you: until it is, its writes are refused",
        live == SIDE_SOURCE ? "target" : "source");
    return true;
}

static bool none_pause(void *state, enum which_side to, struct error *err)
{
    (void)state;
    (void)to;
    (void)err;
    return true;
}

static void tell_address(const char *conninfo)
{
    char *text = conn_redact(conninfo);
    log_info("endpoint:     %s", text);
    free(text);
}

static bool none_lead(void *state, enum which_side side, struct error *err)
{
    const struct config *config = state;
    (void)err;
    log_info("endpoint: lead the application to the %s now:", side_name(side));
    if (side == SIDE_SOURCE)
        tell_address(config->source.text);
    for (unsigned s = 0; side == SIDE_TARGET && s < config->shards_count; s++)
        tell_address(config->shards[s].text);
    return true;
}

static bool none_restore(void *state, enum which_side live, struct error *err)
{
    (void)state;
    (void)err;
    log_info("endpoint: the application stays with the %s", side_name(live));
    return true;
}

const struct endpoint_ops endpoint_none = {
    .open = none_open,
    .close = none_close,
    .check = none_check,
    .pause = none_pause,
    .lead = none_lead,
    .resume = none_pause,
    .restore = none_restore,
};
