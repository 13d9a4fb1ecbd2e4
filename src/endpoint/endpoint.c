#include "endpoint/endpoint.h"

#include "endpoint/command.h"
#include "endpoint/kind.h"
#include "util/clock.h"
#include "util/log.h"

struct endpoint {
    const struct config *config;
    struct stop *stop;
    const struct endpoint_ops *ops;
    void *state;
};

struct endpoint *endpoint_open(const struct config *config, struct stop *stop)
{
    static const struct endpoint_ops *const kinds[] = {
        [ENDPOINT_NONE] = &endpoint_none,
        [ENDPOINT_PGBOUNCER] = &endpoint_pgbouncer,
        [ENDPOINT_DNS] = &endpoint_dns,
        [ENDPOINT_COMMAND] = &endpoint_command,
    };
    struct endpoint *endpoint = check_calloc(1, sizeof *endpoint);
    *endpoint =
        (struct endpoint){.config = config, .stop = stop, .ops = kinds[config->endpoint.kind]};
    endpoint->state = endpoint->ops->open(config, stop);
    return endpoint;
}

void endpoint_close(struct endpoint *endpoint)
{
    if (endpoint == NULL)
        return;
    endpoint->ops->close(endpoint->state);
    free(endpoint);
}

const char *endpoint_name(const struct config *config)
{
    static const char *const names[] = {
        [ENDPOINT_NONE] = "none",
        [ENDPOINT_PGBOUNCER] = "pgbouncer",
        [ENDPOINT_DNS] = "dns",
        [ENDPOINT_COMMAND] = "command",
    };
    return names[config->endpoint.kind];
}

bool endpoint_is_ours(const struct endpoint *endpoint)
{
    return endpoint->ops != &endpoint_none;
}

static bool told(const char *what, enum which_side side, int64_t since_us, bool ok)
{
    if (ok)
        log_info("endpoint: %s %s in %.1f ms", what, side_name(side),
                 (double)(clock_monotonic_us() - since_us) / 1000);
    return ok;
}

bool endpoint_check(struct endpoint *endpoint, enum which_side live, int switch_limit_ms,
                    const struct endpoint_servers *to, struct findings *findings,
                    struct error *err)
{
    return endpoint->ops->check(endpoint->state, live, switch_limit_ms, to, findings, err) ||
           error_context(err, "checking the endpoint");
}

bool endpoint_pause(struct endpoint *endpoint, enum which_side to, struct error *err)
{
    int64_t since_us = clock_monotonic_us();
    return told("paused, on the way to the", to, since_us,
                endpoint->ops->pause(endpoint->state, to, err)) ||
           error_context(err, "pausing the endpoint");
}

int64_t endpoint_paused_since_us(const struct endpoint *endpoint)
{
    return endpoint->ops->paused_since_us != NULL ? endpoint->ops->paused_since_us(endpoint->state)
                                                  : 0;
}

bool endpoint_lead(struct endpoint *endpoint, enum which_side side, struct error *err)
{
    int64_t since_us = clock_monotonic_us();
    return told("led to the", side, since_us, endpoint->ops->lead(endpoint->state, side, err)) ||
           error_context(err, "leading the endpoint to the %s", side_name(side));
}

bool endpoint_resume(struct endpoint *endpoint, enum which_side side, struct error *err)
{
    int64_t since_us = clock_monotonic_us();
    return told("resumed, to the", side, since_us,
                endpoint->ops->resume(endpoint->state, side, err)) ||
           error_context(err, "resuming the endpoint");
}

bool endpoint_restore(struct endpoint *endpoint, enum which_side live, struct error *err)
{
    int64_t since_us = clock_monotonic_us();
    return told("restored, to the", live, since_us,
                endpoint->ops->restore(endpoint->state, live, err)) ||
           error_context(err, "restoring the endpoint");
}

bool endpoint_hook(struct endpoint *endpoint, enum hook_phase phase, enum which_side to,
                   struct error *err)
{
    const char *command = endpoint->config->endpoint.hooks[phase].text;
    char what[64];
    if (command == NULL)
        return true;
    snprintf(what, sizeof what, "hook %s", hook_phase_name(phase));
    const struct command_run run = {
        .what = what,
        .command = command,
        .phase = hook_phase_name(phase),
        .side = to,
        .limit_s = endpoint->config->hooks_limit_s,
        .stop = phase < HOOK_SWITCHED ? endpoint->stop : NULL,
    };
    return command_run(endpoint->config, &run, err);
}
