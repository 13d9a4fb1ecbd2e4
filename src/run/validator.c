#include "run/validator.h"

#include <pthread.h>

#include "pg/conn.h"
#include "run/trouble.h"
#include "state/setting.h"
#include "switchover/acting.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    LOOK_EVERY_US = 10 * 1000 * 1000,
    AGAIN_LEAST_US = 60 * 1000 * 1000,
    AGAIN_FACTOR = 10, /* so much longer than the last try took */
};

struct validator {
    const struct config *config;
    enum which_side live;
    int64_t epoch;
    struct stop *stop;
    pthread_t thread;
    bool tried;             /* all of the live side, once */
    int64_t other_again_us; /* when the other side is due */
    struct trouble trouble;
};

static bool finish_server(struct validator *validator, const char *conninfo,
                          enum acting_beside beside, bool again, struct error *err)
{
    PGconn *conn = conn_open(conninfo, CONN_SESSION, "validate", err);
    bool ok = conn != NULL && acting_finish(conn, beside, again, validator->stop, err);
    conn_close(conn);
    return ok;
}

static bool has_switched(const struct validator *validator, bool *has, struct error *err)
{
    char *live = NULL;
    PGconn *control = conn_open(validator->config->shards[0].text, CONN_SESSION, "validate", err);
    bool ok = control != NULL && setting_get(control, "live", &live, err);
    *has = live != NULL;
    free(live);
    conn_close(control);
    return ok;
}

static bool finish_source(struct validator *validator, enum acting_beside beside, bool again,
                          struct error *err)
{
    bool has;
    if (!has_switched(validator, &has, err))
        return false;
    return !has || finish_server(validator, validator->config->source.text, beside, again, err) ||
           error_context(err, "the source");
}

static bool finish_shards(struct validator *validator, enum acting_beside beside, bool again,
                          struct error *err)
{
    const struct config *config = validator->config;
    for (unsigned s = 0; s < config->shards_count; s++) {
        if (!finish_server(validator, config->shards[s].text, beside, again, err))
            return error_context(err, "shard %u", s);
    }
    return true;
}

static bool finish_side(struct validator *validator, enum which_side side, bool again,
                        struct error *err)
{
    enum acting_beside beside =
        side == validator->live ? ACTING_BESIDE_APPLICATION : ACTING_BESIDE_LANES;
    return side == SIDE_SOURCE ? finish_source(validator, beside, again, err)
                               : finish_shards(validator, beside, again, err);
}

static bool finish_other(struct validator *validator, struct error *err)
{
    int64_t began_us = clock_monotonic_us();
    if (began_us < validator->other_again_us)
        return true;
    if (!finish_side(validator, side_other(validator->live), true, err))
        return false;
    int64_t now_us = clock_monotonic_us(), wait_us = (now_us - began_us) * AGAIN_FACTOR;
    validator->other_again_us = now_us + (wait_us > AGAIN_LEAST_US ? wait_us : AGAIN_LEAST_US);
    return true;
}

static bool look(struct validator *validator, struct error *err)
{
    if (!finish_side(validator, validator->live, !validator->tried, err))
        return false;
    validator->tried = true;
    return finish_other(validator, err);
}

static void tell(struct validator *validator, struct error *err)
{
    struct error ignored = ERROR_INIT;
    if (stop_requested(validator->stop) || !trouble_is_new(&validator->trouble, err))
        return;
    PGconn *control =
        conn_open(validator->config->shards[0].text, CONN_SESSION, "validate", &ignored);
    if (control != NULL)
        trouble_journal(control, validator->epoch, "not validated", err);
    conn_close(control);
    error_context(err, "it is tried again");
    log_error_as(LOG_WARNING, err);
}

static void *validator_main(void *argument)
{
    struct validator *validator = argument;
    log_set_subject("validate");
    do {
        struct error err = ERROR_INIT;
        if (look(validator, &err))
            trouble_is_over(&validator->trouble);
        else
            tell(validator, &err);
    } while (!stop_wait(validator->stop, LOOK_EVERY_US));
    return NULL;
}

struct validator *validator_start(const struct config *config, enum which_side live, int64_t epoch,
                                  struct stop *stop)
{
    struct validator *validator = check_calloc(1, sizeof *validator);
    *validator =
        (struct validator){.config = config, .live = live, .epoch = epoch, .stop = stop};
    CHECK(pthread_create(&validator->thread, NULL, validator_main, validator) == 0);
    return validator;
}

void validator_end(struct validator *validator)
{
    if (validator == NULL)
        return;
    pthread_join(validator->thread, NULL);
    free(validator);
}
