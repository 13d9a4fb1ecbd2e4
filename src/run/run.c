#include "run/run.h"

#include "pg/conn.h"
#include "run/engine.h"
#include "run/prepare.h"
#include "state/epoch.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    STANDBY_POLL_US = 500 * 1000,
    BACKOFF_FIRST_US = 500 * 1000,
    BACKOFF_MAX_US = 30 * 1000 * 1000,
    GOOD_RUN_US = 60 * 1000 * 1000, /* after this long the backoff begins anew */
};

/* NULL on error. */
static PGconn *take_lock(const struct config *config, struct stop *stop, struct error *err)
{
    bool taken = false, told = false;
    PGconn *lock = conn_open(config->shards[0].text, CONN_SESSION, "instance", err);
    while (lock != NULL && !taken) {
        if (!epoch_try_lock(lock, &taken, err))
            break;
        if (taken && told)
            log_info("the other instance is gone: taking over");
        if (taken)
            return lock;
        if (!told)
            log_info("another instance is running: waiting as a standby");
        told = true;
        if (stop_wait(stop, STANDBY_POLL_US)) {
            stop_error(err);
            break;
        }
    }
    conn_close(lock);
    return NULL;
}

static bool incarnation(const struct config *config, _Atomic lsn_t *suspect, struct stop *stop,
                        struct error *err)
{
    struct migration migration;
    int64_t epoch;
    PGconn *lock = take_lock(config, stop, err);
    if (lock == NULL)
        return false;
    bool ok = prepare(&migration, config, stop, &epoch, err);
    if (ok) {
        ok = engine_run(&migration, lock, epoch, suspect, stop, err);
        migration_close(&migration);
    }
    conn_close(lock);
    return ok;
}

/* Between half of it and all of it, so that instances do not come back in step. */
static int64_t with_jitter(int64_t wait_us)
{
    return wait_us / 2 + clock_monotonic_us() % (wait_us / 2 + 1);
}

bool run_migration(const struct config *config, struct stop *stop, struct error *err)
{
    int64_t wait_us = BACKOFF_FIRST_US;
    _Atomic lsn_t suspect = 0;
    for (;;) {
        int64_t begun_us = clock_monotonic_us();
        error_clear(err);
        incarnation(config, &suspect, stop, err);
        if (stop_requested(stop))
            return stop_error(err);
        if (err->class != ERROR_RETRY)
            return false;
        if (clock_monotonic_us() - begun_us > GOOD_RUN_US)
            wait_us = BACKOFF_FIRST_US;
        log_error_as(LOG_WARNING, err);
        log_info("beginning again in %.1f s", (double)wait_us / 1e6);
        stop_wait(stop, with_jitter(wait_us));
        wait_us = wait_us * 2 < BACKOFF_MAX_US ? wait_us * 2 : BACKOFF_MAX_US;
    }
}
