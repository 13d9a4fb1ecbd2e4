#include "run/settler.h"

#include "endpoint/endpoint.h"
#include "state/journal.h"
#include "switchover/switch.h"
#include "util/clock.h"
#include "util/log.h"

enum { LOOK_EVERY_US = 1000 * 1000, WAIT_MAX_US = 60 * 1000 * 1000 };

void settler_init(struct settler *settler, const struct migration *migration, struct stop *stop)
{
    *settler = (struct settler){.migration = migration, .stop = stop, .wait_us = LOOK_EVERY_US};
}

static void tell_done(const struct settler *settler, enum switch_outcome outcome)
{
    if (outcome == SWITCH_RESTORED)
        log_info("the %s that was left is aborted, and the endpoint restored", settler->verb);
    else if (outcome == SWITCH_ALREADY)
        log_info("the %s that was left is completed", settler->verb);
}

static bool settle(struct settler *settler, struct error *err)
{
    const struct config *config = settler->migration->config;
    struct migration own;
    struct switch_result result;
    bool forward = strcmp(settler->verb, switch_verb(SIDE_TARGET)) == 0;
    if (!migration_open(&own, config, "settle", err))
        return false;
    const struct switching switching = {.config = config,
                                        .set = &settler->migration->set,
                                        .source = own.source,
                                        .shards = own.shards,
                                        .shards_count = own.shards_count,
                                        .goal = forward ? SIDE_TARGET : SIDE_SOURCE,
                                        .stop = settler->stop,
                                        .findings = &own.findings};
    bool ok = switch_settle_abandoned(&switching, &result, err);
    if (ok)
        tell_done(settler, result.outcome);
    json_decref(result.steps);
    migration_close(&own);
    return ok;
}

static void tell_trouble(struct settler *settler, struct error *err)
{
    if (stop_requested(settler->stop) ||
        strncmp(settler->told, err->message, sizeof settler->told - 1) == 0)
        return;
    snprintf(settler->told, sizeof settler->told, "%s", err->message);
    error_context(err, "settling the %s that was left; the gates are as the journal says",
                  settler->verb);
    if (err->hint[0] == '\0')
        error_hint(err, "It is tried again. \"pgportage %s --abort\" does it from a host that reaches"
                        " the endpoint.", settler->verb);
    log_error_as(LOG_WARNING, err);
}

static void *settler_main(void *argument)
{
    struct settler *settler = argument;
    struct error err = ERROR_INIT;
    log_set_subject("settle");
    log_warning("a %s was left half done by a process that is gone: settling it by the journal",
                settler->verb);
    settler->failed = !settle(settler, &err);
    if (settler->failed)
        tell_trouble(settler, &err);
    atomic_store(&settler->done, true);
    return NULL;
}

static void join(struct settler *settler)
{
    pthread_join(settler->thread, NULL);
    settler->runs = false;
    settler->wait_us = settler->failed ? settler->wait_us * 2 : LOOK_EVERY_US;
    if (settler->wait_us > WAIT_MAX_US)
        settler->wait_us = WAIT_MAX_US;
    if (!settler->failed)
        settler->told[0] = '\0';
    settler->look_again_us = clock_monotonic_us() + settler->wait_us;
}

static bool may_settle(struct settler *settler, const struct journal_abandoned *abandoned)
{
    const char *ours = endpoint_name(settler->migration->config);
    if (strcmp(abandoned->endpoint, ours) == 0)
        return true;
    if (!settler->told_endpoint)
        log_warning("a %s was left half done; its endpoint was \"%s\" and ours is \"%s\", so only the"
                    " gates are put right: run the command again",
                    abandoned->verb, abandoned->endpoint, ours);
    settler->told_endpoint = true;
    return false;
}

static void start(struct settler *settler, const char *verb)
{
    snprintf(settler->verb, sizeof settler->verb, "%s", verb);
    atomic_store(&settler->done, false);
    settler->runs = true;
    CHECK(pthread_create(&settler->thread, NULL, settler_main, settler) == 0);
}

bool settler_tend(struct settler *settler, PGconn *control, struct error *err)
{
    struct journal_abandoned abandoned;
    if (settler->runs && atomic_load(&settler->done))
        join(settler);
    if (settler->runs || clock_monotonic_us() < settler->look_again_us)
        return true;
    settler->look_again_us = clock_monotonic_us() + LOOK_EVERY_US;
    if (!journal_abandoned(control, &abandoned, err))
        return false;
    if (abandoned.verb[0] == '\0')
        settler->told_endpoint = false;
    else if (may_settle(settler, &abandoned))
        start(settler, abandoned.verb);
    return true;
}

void settler_end(struct settler *settler)
{
    if (settler->runs)
        join(settler);
}
