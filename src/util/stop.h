/*
 * How a group of threads ends together: the first error, or a request to stop, seen by all of them.
 *
 * Every loop of ours asks stop_requested() at least ten times a second. The first error is kept;
 * later ones are consequences. A thread that meets ERROR_CANCELLED because of it reports nothing.
 */
#ifndef UTIL_STOP_H
#define UTIL_STOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "util/error.h"

struct stop {
    atomic_bool requested;
    pthread_mutex_t lock; /* guards err and the condition */
    pthread_cond_t changed;
    struct error err; /* class NONE when nobody failed */
};

void stop_init(struct stop *stop);
void stop_release(struct stop *stop);

static inline bool stop_requested(struct stop *stop)
{
    return atomic_load_explicit(&stop->requested, memory_order_relaxed);
}

void stop_request(struct stop *stop);
void stop_fail(struct stop *stop, const struct error *err); /* keeps the first, requests the stop */

/* Waits until a stop is requested, at most timeout_us; true if it is. */
bool stop_wait(struct stop *stop, int64_t timeout_us);

/* For functions that give up because of it: sets ERROR_CANCELLED, returns false. */
bool stop_error(struct error *err);

#endif
