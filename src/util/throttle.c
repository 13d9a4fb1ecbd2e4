#include "util/throttle.h"

#include "util/clock.h"

void throttle_init(struct throttle *throttle, int64_t bytes_per_s)
{
    *throttle = (struct throttle){.bytes_per_s = bytes_per_s};
    pthread_mutex_init(&throttle->lock, NULL);
}

void throttle_release(struct throttle *throttle)
{
    pthread_mutex_destroy(&throttle->lock);
}

void throttle_take(struct throttle *throttle, size_t bytes, struct stop *stop)
{
    if (throttle->bytes_per_s == 0)
        return;
    int64_t now_us = clock_monotonic_us();
    pthread_mutex_lock(&throttle->lock);
    if (throttle->free_at_us < now_us)
        throttle->free_at_us = now_us;
    throttle->free_at_us +=
        (int64_t)((double)bytes * 1e6 / (double)throttle->bytes_per_s);
    int64_t wait_us = throttle->free_at_us - now_us;
    pthread_mutex_unlock(&throttle->lock);
    if (wait_us > 1000)
        stop_wait(stop, wait_us);
}
