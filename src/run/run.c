#include "run/run.h"

#include "pg/conn.h"
#include "run/engine.h"
#include "run/prepare.h"
#include "run/settler.h"
#include "state/epoch.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    STANDBY_POLL_US = 500 * 1000,
    GOING_POLL_US = 10 * 1000, /* at first: a session of our own may just be going */
    GOING_POLLS = 20,
    BACKOFF_FIRST_US = 500 * 1000,
    BACKOFF_MAX_US = 5 * 1000 * 1000, /* a server that is back is not kept waiting for long */
    COLLISIONS_MAX = 20,
    GOOD_RUN_US = 60 * 1000 * 1000, /* after this long the backoff begins anew */
};

/* NULL on error. */
static PGconn *take_lock(const struct config *config, struct stop *stop, struct error *err)
{
    bool taken = false, told = false;
    int polls = 0;
    PGconn *lock = conn_open(config->shards[0].text, CONN_SESSION, "instance", err);
    while (lock != NULL && !taken) {
        if (!epoch_try_lock(lock, &taken, err))
            break;
        if (taken && told)
            log_info("the other instance is gone: taking over");
        if (taken)
            return lock;
        bool going = polls++ < GOING_POLLS;
        if (!told && !going)
            log_info("another instance is running: waiting as a standby");
        told = !going;
        if (stop_wait(stop, going ? GOING_POLL_US : STANDBY_POLL_US)) {
            stop_error(err);
            break;
        }
    }
    conn_close(lock);
    return NULL;
}

/*
 * What the layers below say of a migration that cannot go on is to give it up and begin again. When the
 * target is live that is no way out: the target is the application's, and what has ended is the way back.
 */
static void hint_way_back_ended(struct error *err)
{
    if (!err->begin_again)
        return;
    error_hint(err, "The target is live and keeps all that is written to it; only the way back cannot"
                    " go on as things are. What cannot be mended: \"pgportage finish\" gives the way"
                    " back up, and leaves the target as it is.");
}

static bool prepare_and_run(const struct config *config, PGconn *lock, _Atomic lsn_t *suspects,
                            struct stop *stop, enum which_side *live, bool *turned,
                            struct error *err)
{
    struct migration migration;
    struct backward backward;
    int64_t epoch;
    if (!prepare(&migration, &backward, config, live, stop, &epoch, err))
        return false;
    bool ok = engine_run(&migration, *live == SIDE_TARGET ? &backward : NULL, lock, epoch, suspects,
                         stop, turned, err);
    backward_release(&backward);
    migration_close(&migration);
    return ok;
}

static bool incarnation(const struct config *config, _Atomic lsn_t *suspects, struct stop *stop,
                        bool *turned, struct error *err)
{
    enum which_side live = SIDE_SOURCE;
    PGconn *lock = take_lock(config, stop, err);
    if (lock == NULL)
        return false;
    bool ok = prepare_servers(config, err);
    if (ok) {
        struct settler *settler = settler_start(config);
        ok = prepare_and_run(config, lock, suspects, stop, &live, turned, err);
        settler_end(settler);
    }
    if (!ok && live == SIDE_TARGET)
        hint_way_back_ended(err);
    conn_close(lock);
    return ok;
}

/* Between half of it and all of it, so that instances do not come back in step. */
static int64_t with_jitter(int64_t wait_us)
{
    return wait_us / 2 + clock_monotonic_us() % (wait_us / 2 + 1);
}

/* A row that another shard's stream has still to make room for, or a key that it has still to bring. */
static bool waits_for_another_stream(const struct error *err)
{
    return err->class == ERROR_RETRY && strncmp(err->sqlstate, "23", 2) == 0;
}

struct attempts {
    int64_t wait_us;
    unsigned collisions; /* in a row */
};

/* After an incarnation that ended on an error of class RETRY. False: it is none any more. */
static bool begin_again(struct attempts *attempts, bool good, struct stop *stop, struct error *err)
{
    attempts->collisions = waits_for_another_stream(err) && !good ? attempts->collisions + 1 : 0;
    if (attempts->collisions > COLLISIONS_MAX) {
        err->class = ERROR_DATA;
        return error_context(err, "still so after %d attempts: no other shard makes room for it",
                             COLLISIONS_MAX);
    }
    if (good)
        attempts->wait_us = BACKOFF_FIRST_US;
    log_error_as(LOG_WARNING, err);
    log_info("beginning again in %.1f s", (double)attempts->wait_us / 1e6);
    stop_wait(stop, with_jitter(attempts->wait_us));
    attempts->wait_us =
        attempts->wait_us * 2 < BACKOFF_MAX_US ? attempts->wait_us * 2 : BACKOFF_MAX_US;
    return true;
}

bool run_migration(const struct config *config, struct stop *stop, struct error *err)
{
    struct attempts attempts = {.wait_us = BACKOFF_FIRST_US};
    _Atomic lsn_t *suspects = check_calloc(config->shards_count, sizeof *suspects);
    bool again = true;
    while (again) {
        int64_t begun_us = clock_monotonic_us();
        bool turned = false;
        error_clear(err);
        incarnation(config, suspects, stop, &turned, err);
        if (stop_requested(stop)) {
            stop_error(err);
            break;
        }
        if (turned) { /* other streams, other positions */
            log_info("%s: turning round", err->message);
            memset(suspects, 0, config->shards_count * sizeof *suspects);
            continue;
        }
        again = err->class == ERROR_RETRY &&
                begin_again(&attempts, clock_monotonic_us() - begun_us > GOOD_RUN_US, stop, err);
    }
    free(suspects);
    return false;
}
