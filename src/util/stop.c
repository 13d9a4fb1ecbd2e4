#include "util/stop.h"

#include <errno.h>

#include "util/clock.h"

void stop_init(struct stop *stop)
{
    atomic_init(&stop->requested, false);
    pthread_mutex_init(&stop->lock, NULL);
    pthread_cond_init(&stop->changed, NULL);
    error_clear(&stop->err);
}

void stop_release(struct stop *stop)
{
    pthread_cond_destroy(&stop->changed);
    pthread_mutex_destroy(&stop->lock);
}

void stop_fail(struct stop *stop, const struct error *err)
{
    pthread_mutex_lock(&stop->lock);
    if (stop->err.class == ERROR_NONE && err->class != ERROR_CANCELLED)
        stop->err = *err;
    atomic_store(&stop->requested, true);
    pthread_cond_broadcast(&stop->changed);
    pthread_mutex_unlock(&stop->lock);
}

void stop_request(struct stop *stop)
{
    struct error cancelled = {.class = ERROR_CANCELLED};
    stop_fail(stop, &cancelled);
}

bool stop_wait(struct stop *stop, int64_t timeout_us)
{
    struct timespec deadline = clock_deadline(timeout_us);
    int waited = 0;
    pthread_mutex_lock(&stop->lock);
    while (!stop_requested(stop) && waited != ETIMEDOUT)
        waited = pthread_cond_clockwait(&stop->changed, &stop->lock, CLOCK_MONOTONIC, &deadline);
    pthread_mutex_unlock(&stop->lock);
    return stop_requested(stop);
}

bool stop_error(struct error *err)
{
    return error_set(err, ERROR_CANCELLED, "stopped");
}
