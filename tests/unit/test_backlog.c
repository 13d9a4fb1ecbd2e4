#include "unit.h"

#include <pthread.h>

#include "stream/backlog.h"

enum { BATCHES = 3000, WAIT_US = 100 * 1000, KIB = 1024 };

static const struct mapping_set no_mappings;

static struct batch *batch_of(uint64_t number)
{
    struct batch *batch = batch_new();
    batch->since = number;
    batch_add(batch)->op = CHANGE_BARRIER;
    return batch;
}

static bool push(struct backlog *backlog, uint64_t number, int64_t wait_us)
{
    struct batch *batch = batch_of(number);
    bool pushed = backlog_push(backlog, batch, wait_us) == BACKLOG_OK;
    if (!pushed)
        batch_free(batch);
    return pushed;
}

static void assert_next(struct backlog *backlog, uint64_t number)
{
    struct error err = ERROR_INIT;
    struct batch *batch;
    assert_int_equal(backlog_pop(backlog, &batch, 0, &err), BACKLOG_OK);
    assert_true(batch->since == number);
    assert_int_equal(batch->count, 1);
    batch_free(batch);
}

static void assert_nothing(struct backlog *backlog)
{
    struct error err = ERROR_INIT;
    struct batch *batch;
    assert_int_equal(backlog_pop(backlog, &batch, 0, &err), BACKLOG_TIMEOUT);
    assert_null(batch);
    assert_true(backlog_is_empty(backlog));
}

static void test_memory_alone(void **state)
{
    (void)state;
    struct backlog *backlog = backlog_new(KIB, NULL, &no_mappings);
    assert_true(push(backlog, 1, 0));
    assert_false(push(backlog, 2, 0));
    assert_int_equal(backlog_spilled(backlog), 0);
    assert_next(backlog, 1);
    assert_nothing(backlog);
    assert_true(push(backlog, 3, 0));
    backlog_free(backlog); /* with what waits */
}

/* What is spilled comes behind what is in memory, and before what comes when there is room again. */
static void test_order(void **state)
{
    (void)state;
    struct spill_space space = {.folder = "/tmp", .bytes_max = 1024 * KIB};
    struct backlog *backlog = backlog_new(KIB, &space, &no_mappings);
    for (uint64_t n = 1; n <= 3; n++)
        assert_true(push(backlog, n, 0));
    assert_true(backlog_spilled(backlog) > 0);
    assert_next(backlog, 1);
    assert_true(push(backlog, 4, 0)); /* memory has room now */
    for (uint64_t n = 2; n <= 4; n++)
        assert_next(backlog, n);
    assert_nothing(backlog);
    assert_true(push(backlog, 5, 0));
    assert_int_equal(backlog_spilled(backlog), 0);
    assert_true(push(backlog, 6, 0));
    backlog_free(backlog);
    assert_int_equal(space.bytes, 0);
}

static void test_full(void **state)
{
    (void)state;
    struct spill_space space = {.folder = "/tmp", .bytes_max = 10};
    struct backlog *backlog = backlog_new(KIB, &space, &no_mappings);
    assert_true(push(backlog, 1, 0));
    assert_false(push(backlog, 2, 1000));
    assert_true(space.told_us > 0);
    assert_next(backlog, 1);
    assert_true(push(backlog, 2, 1000));
    assert_next(backlog, 2);
    backlog_free(backlog);
}

static void test_lost(void **state)
{
    struct error err = ERROR_INIT;
    struct batch *batch;
    (void)state;
    struct spill_space space = {.folder = "/nowhere", .bytes_max = 1024 * KIB};
    struct backlog *backlog = backlog_new(KIB, &space, &no_mappings);
    assert_true(push(backlog, 1, 0));
    assert_false(push(backlog, 2, 0)); /* no room on the disk is no error: it waits */
    assert_int_equal(backlog_pop(backlog, &batch, 0, &err), BACKLOG_OK);
    batch_free(batch);
    backlog_free(backlog);
}

/* ---- with threads ---- */

static void *push_all(void *argument)
{
    uint64_t next = 0;
    while (next < BATCHES)
        next += push(argument, next, WAIT_US);
    return NULL;
}

/* Memory for one or two, a spill for some; whoever is faster waits. */
static void test_threads(void **state)
{
    struct error err = ERROR_INIT;
    (void)state;
    struct spill_space space = {.folder = "/tmp", .bytes_max = 2 * KIB};
    struct backlog *backlog = backlog_new(KIB, &space, &no_mappings);
    pthread_t pusher;
    uint64_t expected = 0;
    assert_int_equal(pthread_create(&pusher, NULL, push_all, backlog), 0);
    while (expected < BATCHES) {
        struct batch *batch;
        enum backlog_result got = backlog_pop(backlog, &batch, WAIT_US, &err);
        assert_int_not_equal(got, BACKLOG_FAILED);
        if (got != BACKLOG_OK)
            continue;
        assert_true(batch->since == expected++);
        batch_free(batch);
    }
    pthread_join(pusher, NULL);
    assert_nothing(backlog);
    assert_int_equal(space.bytes, 0);
    backlog_free(backlog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_alone),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_lost),
        cmocka_unit_test(test_threads),
    };
    return run_unit_tests("backlog", tests);
}
