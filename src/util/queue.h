/*
 * A bounded queue of pointers between threads: any number of producers, any of consumers.
 *
 * Bounded by weight (bytes, mostly): a push waits while the queue holds `weight_max` or more, so the
 * queue holds at most weight_max plus one item. A successful push hands the item over; a failed one
 * leaves it with the caller. After queue_close() pushes fail, and pops deliver what is left and
 * then NULL. Times are microseconds; a negative time-out waits for ever.
 */
#ifndef UTIL_QUEUE_H
#define UTIL_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "util/check.h"

struct queue;

enum queue_result { QUEUE_OK, QUEUE_TIMEOUT, QUEUE_CLOSED };

struct queue *queue_new(size_t weight_max);
void queue_free(struct queue *queue); /* must be empty */

enum queue_result queue_push(struct queue *queue, void *item, size_t weight, int64_t timeout_us)
    MUST_CHECK;
enum queue_result queue_pop(struct queue *queue, void **item, int64_t timeout_us) MUST_CHECK;

void queue_close(struct queue *queue);

size_t queue_weight(struct queue *queue); /* for metrics: stale as soon as read */

#endif
