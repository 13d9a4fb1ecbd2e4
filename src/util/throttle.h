/* At most so many bytes a second, over all threads that share it. Any thread. */
#ifndef UTIL_THROTTLE_H
#define UTIL_THROTTLE_H

#include "util/stop.h"

struct throttle {
    int64_t bytes_per_s; /* 0: no limit */
    pthread_mutex_t lock;
    int64_t free_at_us; /* monotonic: when the bytes taken so far are paid for */
};

void throttle_init(struct throttle *throttle, int64_t bytes_per_s);
void throttle_release(struct throttle *throttle);

/* Waits until these bytes may have been read; not when a stop is requested. */
void throttle_take(struct throttle *throttle, size_t bytes, struct stop *stop);

#endif
