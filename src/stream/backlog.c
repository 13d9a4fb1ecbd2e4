#include "stream/backlog.h"

#include <pthread.h>

#include "stream/packing.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/queue.h"

enum {
    PACKED_KEPT_BYTES = 4 * 1024 * 1024,
    TELL_EVERY_US = 60 * 1000 * 1000,
};

struct backlog {
    const struct mapping_set *set;
    struct queue *queue;
    struct buffer packed; /* of whoever pushes */
    struct spill_space *space;
    pthread_mutex_t lock; /* guards the spill */
    pthread_cond_t taken; /* something was taken from it */
    struct spill *spill;  /* NULL: memory alone */
};

struct backlog *backlog_new(size_t weight_max, struct spill_space *space,
                            const struct mapping_set *set)
{
    struct backlog *backlog = check_calloc(1, sizeof *backlog);
    backlog->set = set;
    backlog->queue = queue_new(weight_max);
    buffer_init(&backlog->packed, SIZE_MAX / 2); /* what it holds was in memory before */
    pthread_mutex_init(&backlog->lock, NULL);
    pthread_cond_init(&backlog->taken, NULL);
    backlog->space = space;
    if (space != NULL)
        backlog->spill = spill_new(space);
    return backlog;
}

void backlog_free(struct backlog *backlog)
{
    void *item;
    queue_close(backlog->queue);
    while (queue_pop(backlog->queue, &item, 0) == QUEUE_OK)
        batch_free(item);
    queue_free(backlog->queue);
    spill_free(backlog->spill);
    buffer_release(&backlog->packed);
    pthread_cond_destroy(&backlog->taken);
    pthread_mutex_destroy(&backlog->lock);
    free(backlog);
}

int64_t backlog_spilled(struct backlog *backlog)
{
    if (backlog->spill == NULL)
        return 0;
    pthread_mutex_lock(&backlog->lock);
    int64_t bytes = spill_bytes(backlog->spill);
    pthread_mutex_unlock(&backlog->lock);
    return bytes;
}

bool backlog_is_empty(struct backlog *backlog)
{
    return queue_weight(backlog->queue) == 0 && backlog_spilled(backlog) == 0;
}

/* ---- in ---- */

static bool is_to_be_told(struct spill_space *space)
{
    int64_t now_us = clock_monotonic_us(), told_us = atomic_load(&space->told_us);
    return (told_us == 0 || now_us - told_us >= TELL_EVERY_US) &&
           atomic_compare_exchange_strong(&space->told_us, &told_us, now_us);
}

static void tell_full(const struct spill_space *space, enum spill_result result,
                      const struct error *err)
{
    if (result == SPILL_FAILED)
        log_error_as(LOG_WARNING, err);
    else
        log_warning("changes of tables that are copied whole fill spill_bytes_max (%lld bytes in"
                    " \"%s\")", (long long)space->bytes_max, space->folder);
    log_warning("the stream stands still until there is room again, and the source keeps its WAL:"
                " raise \"spill_bytes_max\", or make room");
}

/* With the lock held. */
static enum backlog_result spill_batch(struct backlog *backlog, struct batch *batch)
{
    struct error err = ERROR_INIT;
    buffer_clear(&backlog->packed);
    batch_pack(batch, &backlog->packed);
    enum spill_result result = spill_append(backlog->spill, buffer_text(&backlog->packed),
                                            backlog->packed.length, &err);
    if (backlog->packed.capacity > PACKED_KEPT_BYTES)
        buffer_release(&backlog->packed);
    if (result == SPILL_OK) {
        batch_free(batch);
        return BACKLOG_OK;
    }
    if (is_to_be_told(backlog->space))
        tell_full(backlog->space, result, &err);
    return BACKLOG_TIMEOUT;
}

static enum backlog_result queue_batch(struct backlog *backlog, struct batch *batch,
                                       int64_t timeout_us)
{
    size_t weight = arena_bytes(&batch->arena);
    return queue_push(backlog->queue, batch, weight, timeout_us) == QUEUE_OK ? BACKLOG_OK
                                                                             : BACKLOG_TIMEOUT;
}

/* With the lock held: invariant 1 is about both. */
static enum backlog_result queue_or_spill(struct backlog *backlog, struct batch *batch)
{
    bool spilled = spill_bytes(backlog->spill) > 0;
    if (!spilled && queue_batch(backlog, batch, 0) == BACKLOG_OK)
        return BACKLOG_OK;
    return spill_batch(backlog, batch);
}

enum backlog_result backlog_push(struct backlog *backlog, struct batch *batch, int64_t timeout_us)
{
    if (backlog->spill == NULL)
        return queue_batch(backlog, batch, timeout_us);
    struct timespec deadline = clock_deadline(timeout_us);
    pthread_mutex_lock(&backlog->lock);
    enum backlog_result result = queue_or_spill(backlog, batch);
    if (result == BACKLOG_TIMEOUT && timeout_us > 0) {
        pthread_cond_clockwait(&backlog->taken, &backlog->lock, CLOCK_MONOTONIC, &deadline);
        result = queue_or_spill(backlog, batch);
    }
    pthread_mutex_unlock(&backlog->lock);
    return result;
}

/* ---- out ---- */

static bool pop_queued(struct backlog *backlog, struct batch **batch, int64_t timeout_us)
{
    void *item;
    bool got = queue_pop(backlog->queue, &item, timeout_us) == QUEUE_OK;
    *batch = item;
    return got;
}

/* The oldest of both kinds; *batch is NULL when nothing waits. */
static bool pop_now(struct backlog *backlog, struct batch **batch, struct error *err)
{
    const char *bytes = NULL;
    size_t length = 0;
    bool ok = true;
    pthread_mutex_lock(&backlog->lock);
    if (!pop_queued(backlog, batch, 0) && spill_bytes(backlog->spill) > 0) {
        *batch = batch_new();
        ok = spill_take(backlog->spill, &(*batch)->arena, &bytes, &length, err);
    }
    pthread_cond_signal(&backlog->taken);
    pthread_mutex_unlock(&backlog->lock);
    if (!ok)
        batch_free(*batch);
    else if (bytes != NULL)
        batch_unpack(*batch, bytes, length, backlog->set);
    return ok;
}

/* Nothing is spilled before the memory is full, so the wait is for the memory. */
enum backlog_result backlog_pop(struct backlog *backlog, struct batch **batch, int64_t timeout_us,
                                struct error *err)
{
    *batch = NULL;
    if (backlog->spill != NULL && !pop_now(backlog, batch, err))
        return BACKLOG_FAILED;
    return *batch != NULL || pop_queued(backlog, batch, timeout_us) ? BACKLOG_OK : BACKLOG_TIMEOUT;
}
