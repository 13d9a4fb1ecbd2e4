#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>

#include "util/queue.h"

enum { NO_WAIT = 0, FOR_EVER = -1 };

static void test_first_in_first_out(void **state)
{
    struct queue *queue = queue_new(100);
    int items[3];
    void *item;
    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(queue_push(queue, &items[i], 1, NO_WAIT), QUEUE_OK);
    assert_int_equal(queue_weight(queue), 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(queue_pop(queue, &item, NO_WAIT), QUEUE_OK);
        assert_ptr_equal(item, &items[i]);
    }
    assert_int_equal(queue_weight(queue), 0);
    assert_int_equal(queue_pop(queue, &item, 1000), QUEUE_TIMEOUT);
    assert_null(item);
    queue_free(queue);
}

/* One item may pass the maximum, so that any item fits into an empty queue; no second one. */
static void test_bound(void **state)
{
    struct queue *queue = queue_new(10);
    int items[3];
    void *item;
    (void)state;
    assert_int_equal(queue_push(queue, &items[0], 9, NO_WAIT), QUEUE_OK);
    assert_int_equal(queue_push(queue, &items[1], 1000, NO_WAIT), QUEUE_OK);
    assert_int_equal(queue_push(queue, &items[2], 1, NO_WAIT), QUEUE_TIMEOUT);
    assert_int_equal(queue_push(queue, &items[2], 1, 1000), QUEUE_TIMEOUT);
    assert_int_equal(queue_weight(queue), 1009);
    assert_int_equal(queue_pop(queue, &item, NO_WAIT), QUEUE_OK);
    assert_int_equal(queue_push(queue, &items[2], 1, NO_WAIT), QUEUE_TIMEOUT);
    assert_int_equal(queue_pop(queue, &item, NO_WAIT), QUEUE_OK);
    assert_int_equal(queue_push(queue, &items[2], 1, NO_WAIT), QUEUE_OK);
    assert_int_equal(queue_pop(queue, &item, NO_WAIT), QUEUE_OK);
    assert_ptr_equal(item, &items[2]);
    queue_free(queue);
}

/* A queue that holds exactly its maximum is full. */
static void test_bound_is_exact(void **state)
{
    struct queue *queue = queue_new(10);
    int token;
    void *item;
    (void)state;
    assert_int_equal(queue_push(queue, &token, 10, NO_WAIT), QUEUE_OK);
    assert_int_equal(queue_push(queue, &token, 0, NO_WAIT), QUEUE_TIMEOUT);
    assert_int_equal(queue_pop(queue, &item, NO_WAIT), QUEUE_OK);
    queue_free(queue);
}

static void test_close(void **state)
{
    struct queue *queue = queue_new(10);
    int items[2];
    void *item;
    (void)state;
    assert_int_equal(queue_push(queue, &items[0], 1, NO_WAIT), QUEUE_OK);
    assert_int_equal(queue_push(queue, &items[1], 1, NO_WAIT), QUEUE_OK);
    queue_close(queue);
    assert_int_equal(queue_push(queue, &items[0], 1, FOR_EVER), QUEUE_CLOSED);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(queue_pop(queue, &item, FOR_EVER), QUEUE_OK);
        assert_ptr_equal(item, &items[i]);
    }
    assert_int_equal(queue_pop(queue, &item, FOR_EVER), QUEUE_CLOSED);
    assert_null(item);
    queue_free(queue);
}

/* ---- with threads ---- */

enum { PRODUCERS = 3, CONSUMERS = 2, ITEMS = 3000, WEIGHT = 7, WEIGHT_MAX = 64 };

struct parcel {
    int producer, number;
};

struct crowd {
    struct queue *queue;
    struct parcel parcels[PRODUCERS][ITEMS];
    atomic_int seen[PRODUCERS][ITEMS];
    atomic_int started, faults;
};

static void *produce(void *argument)
{
    struct crowd *crowd = argument;
    int me = atomic_fetch_add(&crowd->started, 1);
    for (int i = 0; i < ITEMS; i++) {
        crowd->parcels[me][i] = (struct parcel){me, i};
        if (queue_push(crowd->queue, &crowd->parcels[me][i], WEIGHT, FOR_EVER) != QUEUE_OK)
            atomic_fetch_add(&crowd->faults, 1);
    }
    return NULL;
}

/* Each consumer sees the items of one producer in their order, and the bound holds all the time. */
static void *consume(void *argument)
{
    struct crowd *crowd = argument;
    int last[PRODUCERS] = {-1, -1, -1};
    void *item;
    while (queue_pop(crowd->queue, &item, FOR_EVER) == QUEUE_OK) {
        const struct parcel *parcel = item;
        bool in_order = parcel->number > last[parcel->producer];
        if (!in_order || queue_weight(crowd->queue) >= WEIGHT_MAX + WEIGHT)
            atomic_fetch_add(&crowd->faults, 1);
        last[parcel->producer] = parcel->number;
        atomic_fetch_add(&crowd->seen[parcel->producer][parcel->number], 1);
    }
    return NULL;
}

static void test_crowd(void **state)
{
    struct crowd *crowd = check_calloc(1, sizeof *crowd);
    pthread_t producers[PRODUCERS], consumers[CONSUMERS];
    (void)state;
    crowd->queue = queue_new(WEIGHT_MAX);
    for (int c = 0; c < CONSUMERS; c++)
        assert_int_equal(pthread_create(&consumers[c], NULL, consume, crowd), 0);
    for (int p = 0; p < PRODUCERS; p++)
        assert_int_equal(pthread_create(&producers[p], NULL, produce, crowd), 0);
    for (int p = 0; p < PRODUCERS; p++)
        pthread_join(producers[p], NULL);
    queue_close(crowd->queue);
    for (int c = 0; c < CONSUMERS; c++)
        pthread_join(consumers[c], NULL);
    assert_int_equal(crowd->faults, 0);
    for (int p = 0; p < PRODUCERS; p++) {
        for (int i = 0; i < ITEMS; i++)
            assert_int_equal(crowd->seen[p][i], 1);
    }
    queue_free(crowd->queue);
    free(crowd);
}

struct waiter {
    struct queue *queue;
    enum queue_result result;
};

static void *wait_to_pop(void *argument)
{
    struct waiter *waiter = argument;
    void *item;
    waiter->result = queue_pop(waiter->queue, &item, FOR_EVER);
    return NULL;
}

static void *wait_to_push(void *argument)
{
    struct waiter *waiter = argument;
    waiter->result = queue_push(waiter->queue, waiter, 1, FOR_EVER);
    return NULL;
}

/* Who waits for ever is woken by the close, wherever it was just then. */
static void test_close_wakes(void **state)
{
    int token;
    void *item;
    (void)state;
    for (int round = 0; round < 200; round++) {
        struct waiter popper = {queue_new(1), QUEUE_OK}, pusher = {queue_new(1), QUEUE_OK};
        pthread_t threads[2];
        assert_int_equal(queue_push(pusher.queue, &token, 1, NO_WAIT), QUEUE_OK);
        assert_int_equal(pthread_create(&threads[0], NULL, wait_to_pop, &popper), 0);
        assert_int_equal(pthread_create(&threads[1], NULL, wait_to_push, &pusher), 0);
        queue_close(popper.queue);
        queue_close(pusher.queue);
        pthread_join(threads[0], NULL);
        pthread_join(threads[1], NULL);
        assert_int_equal(popper.result, QUEUE_CLOSED);
        assert_int_equal(pusher.result, QUEUE_CLOSED);
        assert_int_equal(queue_pop(pusher.queue, &item, NO_WAIT), QUEUE_OK);
        queue_free(popper.queue);
        queue_free(pusher.queue);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_in_first_out),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_bound_is_exact),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_close_wakes),
    };
    return run_unit_tests("queue", tests);
}
