#include "run/settler.h"

#include <pthread.h>

#include "endpoint/endpoint.h"
#include "pg/conn.h"
#include "run/migration.h"
#include "run/trouble.h"
#include "state/journal.h"
#include "switchover/restore.h"
#include "switchover/switch.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/stop.h"

enum { LOOK_EVERY_US = 1000 * 1000, WAIT_MAX_US = 60 * 1000 * 1000 };

struct settler {
    const struct config *config;
    struct stop stop;
    pthread_t thread;
    PGconn *control;
    int64_t act_again_us, wait_us;
    char verb[16]; /* of the switch that was left */
    struct trouble trouble;
    bool told_endpoint;
};

static void tell_done(const struct settler *settler, enum switch_outcome outcome)
{
    if (outcome == SWITCH_RESTORED)
        log_info("the %s that was left is aborted, and the endpoint restored", settler->verb);
    else if (outcome == SWITCH_ALREADY)
        log_info("the %s that was left is completed", settler->verb);
}

static bool settle(struct settler *settler, struct migration *own, struct error *err)
{
    struct switch_result result;
    bool forward = strcmp(settler->verb, switch_verb(SIDE_TARGET)) == 0;
    if (!migration_bind(own, err))
        return false;
    if (own->findings.refused > 0)
        return migration_refused(own, err);
    const struct switching switching = {.config = settler->config,
                                        .set = &own->set,
                                        .source = own->source,
                                        .shards = own->shards,
                                        .shards_count = own->shards_count,
                                        .goal = forward ? SIDE_TARGET : SIDE_SOURCE,
                                        .stop = &settler->stop,
                                        .findings = &own->findings};
    bool ok = switch_settle_abandoned(&switching, &result, err);
    if (ok)
        tell_done(settler, result.outcome);
    json_decref(result.steps);
    return ok;
}

static bool may_settle(struct settler *settler, const struct journal_abandoned *abandoned)
{
    const char *ours = endpoint_name(settler->config);
    if (strcmp(abandoned->endpoint, ours) == 0)
        return true;
    if (!settler->told_endpoint)
        log_warning("a %s was left half done; its endpoint was \"%s\" and ours is \"%s\", so only the"
                    " gates are put right: run the command again",
                    abandoned->verb, abandoned->endpoint, ours);
    settler->told_endpoint = true;
    return false;
}

/* *again: the endpoint is another's, and it is left for the command. */
static bool put_right(struct settler *settler, const struct journal_abandoned *abandoned, bool *again,
                      struct error *err)
{
    struct migration own;
    if (!migration_open(&own, settler->config, "settle", err))
        return false;
    bool ok = switch_restore_abandoned(own.source, own.shards, own.shards_count, err);
    *again = ok && !may_settle(settler, abandoned);
    if (ok && !*again) {
        log_warning("a %s was left half done by a process that is gone: settling it by the journal",
                    settler->verb);
        ok = settle(settler, &own, err);
    }
    migration_close(&own);
    return ok;
}

static void tell_trouble(struct settler *settler, struct error *err)
{
    if (stop_requested(&settler->stop) || !trouble_is_new(&settler->trouble, err))
        return;
    error_context(err, "settling the %s that was left", settler->verb);
    if (err->hint[0] == '\0')
        error_hint(err, "It is tried again. \"pgportage %s --abort\" does it from a host that reaches"
                        " the endpoint.", settler->verb);
    log_error_as(LOG_WARNING, err);
}

/* Nothing is left, or somebody is at work: what is left next is looked after at once. */
static void forget(struct settler *settler)
{
    settler->act_again_us = 0;
    settler->wait_us = LOOK_EVERY_US;
    settler->told_endpoint = false;
    trouble_is_over(&settler->trouble);
}

static void act(struct settler *settler, const struct journal_abandoned *abandoned)
{
    struct error err = ERROR_INIT;
    bool again = false;
    if (clock_monotonic_us() < settler->act_again_us)
        return;
    snprintf(settler->verb, sizeof settler->verb, "%s", abandoned->verb);
    bool ok = put_right(settler, abandoned, &again, &err);
    if (!ok)
        tell_trouble(settler, &err);
    settler->act_again_us = clock_monotonic_us() + settler->wait_us;
    if (!ok || again)
        settler->wait_us = settler->wait_us * 2 < WAIT_MAX_US ? settler->wait_us * 2 : WAIT_MAX_US;
}

static bool look(struct settler *settler, struct error *err)
{
    struct journal_abandoned abandoned;
    if (settler->control == NULL)
        settler->control = conn_open(settler->config->shards[0].text, CONN_SESSION, "settle", err);
    if (settler->control == NULL || !journal_abandoned(settler->control, &abandoned, err))
        return false;
    if (abandoned.verb[0] == '\0')
        forget(settler);
    else
        act(settler, &abandoned);
    return true;
}

/* That control does not answer others say, too. */
static void *settler_main(void *argument)
{
    struct settler *settler = argument;
    log_set_subject("settle");
    do {
        struct error err = ERROR_INIT;
        if (!look(settler, &err)) {
            log_debug("settle: %s", err.message);
            conn_close(settler->control);
            settler->control = NULL;
        }
    } while (!stop_wait(&settler->stop, LOOK_EVERY_US));
    conn_close(settler->control);
    return NULL;
}

struct settler *settler_start(const struct config *config)
{
    struct settler *settler = check_calloc(1, sizeof *settler);
    settler->config = config;
    settler->wait_us = LOOK_EVERY_US;
    stop_init(&settler->stop);
    CHECK(pthread_create(&settler->thread, NULL, settler_main, settler) == 0);
    return settler;
}

void settler_end(struct settler *settler)
{
    if (settler == NULL)
        return;
    stop_request(&settler->stop);
    pthread_join(settler->thread, NULL);
    stop_release(&settler->stop);
    free(settler);
}
