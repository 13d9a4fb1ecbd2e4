#include "util/queue.h"

#include <errno.h>
#include <pthread.h>

#include "util/clock.h"

struct queue_node {
    struct queue_node *next;
    void *item;
    size_t weight;
};

struct queue {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    struct queue_node *head;
    struct queue_node *tail;
    size_t weight;
    size_t weight_max;
    bool closed;
};

struct queue *queue_new(size_t weight_max)
{
    struct queue *queue = check_calloc(1, sizeof *queue);
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->changed, NULL);
    queue->weight_max = weight_max;
    return queue;
}

void queue_free(struct queue *queue)
{
    if (queue == NULL)
        return;
    CHECK(queue->head == NULL);
    pthread_cond_destroy(&queue->changed);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}

/* Waits on the queue's condition; false when the deadline has passed. NULL waits for ever. */
static bool queue_wait(struct queue *queue, const struct timespec *deadline)
{
    if (deadline == NULL)
        return pthread_cond_wait(&queue->changed, &queue->lock) == 0;
    return pthread_cond_clockwait(&queue->changed, &queue->lock, CLOCK_MONOTONIC, deadline) !=
           ETIMEDOUT;
}

enum queue_result queue_push(struct queue *queue, void *item, size_t weight, int64_t timeout_us)
{
    struct timespec deadline = clock_deadline(timeout_us);
    enum queue_result result = QUEUE_OK;
    pthread_mutex_lock(&queue->lock);
    while (!queue->closed && queue->weight >= queue->weight_max && result == QUEUE_OK) {
        if (!queue_wait(queue, timeout_us < 0 ? NULL : &deadline))
            result = QUEUE_TIMEOUT;
    }
    if (queue->closed)
        result = QUEUE_CLOSED;
    else if (queue->weight < queue->weight_max)
        result = QUEUE_OK;
    if (result == QUEUE_OK) {
        struct queue_node *node = check_malloc(sizeof *node);
        *node = (struct queue_node){.item = item, .weight = weight};
        if (queue->tail != NULL)
            queue->tail->next = node;
        else
            queue->head = node;
        queue->tail = node;
        queue->weight += weight;
        pthread_cond_broadcast(&queue->changed);
    }
    pthread_mutex_unlock(&queue->lock);
    return result;
}

enum queue_result queue_pop(struct queue *queue, void **item, int64_t timeout_us)
{
    struct timespec deadline = clock_deadline(timeout_us);
    enum queue_result result = QUEUE_OK;
    *item = NULL;
    pthread_mutex_lock(&queue->lock);
    while (queue->head == NULL && !queue->closed && result == QUEUE_OK) {
        if (!queue_wait(queue, timeout_us < 0 ? NULL : &deadline))
            result = QUEUE_TIMEOUT;
    }
    struct queue_node *node = queue->head;
    if (node != NULL) {
        queue->head = node->next;
        if (queue->head == NULL)
            queue->tail = NULL;
        queue->weight -= node->weight;
        *item = node->item;
        free(node);
        result = QUEUE_OK;
        pthread_cond_broadcast(&queue->changed);
    } else if (queue->closed) {
        result = QUEUE_CLOSED;
    }
    pthread_mutex_unlock(&queue->lock);
    return result;
}

void queue_close(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}

size_t queue_weight(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    size_t weight = queue->weight;
    pthread_mutex_unlock(&queue->lock);
    return weight;
}
