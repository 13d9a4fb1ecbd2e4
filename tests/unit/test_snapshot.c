#include "unit.h"

#include "state/snapshot.h"

static void test_parse(void **state)
{
    struct error err = ERROR_INIT;
    struct snapshot snapshot;
    (void)state;
    assert_true(snapshot_parse("4294967300:4294967310:4294967300,4294967305", &snapshot, &err));
    assert_true(snapshot.xmin == UINT64_C(4294967300));
    assert_true(snapshot.xmax == UINT64_C(4294967310));
    assert_int_equal(snapshot.count, 2);
    assert_true(snapshot.xip[0] == UINT64_C(4294967300));
    assert_true(snapshot.xip[1] == UINT64_C(4294967305));
    assert_string_equal(snapshot.text, "4294967300:4294967310:4294967300,4294967305");
    snapshot_release(&snapshot);
    assert_true(snapshot_parse("10:10:", &snapshot, &err));
    assert_int_equal(snapshot.count, 0);
    snapshot_release(&snapshot);
    assert_int_equal(err.class, ERROR_NONE);
}

static void test_parse_refuses(void **state)
{
    static const char *const wrong[] = {"", "10", "10:", "10:20", ":20:", "10::", "10:20:x",
                                        "10:20:,", "10:20:11,", "10:20:,11", "10:20:11,,12",
                                        "10:20:11;12", "10:20:11 ", " 10:20:", "-1:20:",
                                        "10:20:-11", "10:99999999999999999999:", "a:b:c"};
    (void)state;
    for (size_t w = 0; w < COUNT_OF(wrong); w++) {
        struct error err = ERROR_INIT;
        struct snapshot snapshot;
        assert_row(!snapshot_parse(wrong[w], &snapshot, &err), wrong[w]);
        assert_int_equal(err.class, ERROR_FATAL);
        assert_null(snapshot.xip);
        assert_null(snapshot.text);
    }
}

static void test_sees(void **state)
{
    static const struct {
        uint64_t xid;
        bool seen;
    } rows[] = {
        {3, true},   {99, true},   {100, false}, {101, true},  {102, true}, {103, false},
        {104, true}, {110, false}, {111, true},  {119, true},  {120, false}, {121, false},
        {UINT64_MAX, false},
    };
    struct error err = ERROR_INIT;
    struct snapshot snapshot;
    char name[24];
    (void)state;
    assert_true(snapshot_parse("100:120:100,103,110", &snapshot, &err));
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        snprintf(name, sizeof name, "%llu", (unsigned long long)rows[r].xid);
        assert_row(snapshot_sees(&snapshot, rows[r].xid) == rows[r].seen, name);
    }
    snapshot_release(&snapshot);
}

/* The stream's ids have 32 bits; near the wrap they belong to the epoch before or behind. */
static void test_widen(void **state)
{
    const uint64_t epoch = UINT64_C(1) << 32;
    const struct {
        uint32_t xid;
        uint64_t near, wide;
    } rows[] = {
        {1000, 1000, 1000},
        {999, 1000, 999},
        {1001, 1000, 1001},
        {5, epoch - 10, epoch + 5},
        {UINT32_MAX, epoch, epoch - 1},
        {UINT32_MAX - 9, epoch + 50, epoch - 10},
        {UINT32_MAX, 7 * epoch + 1, 7 * epoch - 1},
        {3, 7 * epoch - 1, 7 * epoch + 3},
        {100, 7 * epoch + 200, 7 * epoch + 100},
        {0x80000000, 3 * epoch + 0x7FFFFFFF, 3 * epoch + 0x80000000},
        {0x80000001, 3 * epoch + 0x7FFFFFFF, 3 * epoch + 0x80000001},
        {0x7FFFFFFE, 3 * epoch + 0xFFFFFFFF, 4 * epoch + 0x7FFFFFFE},
        {0x80000000, 3 * epoch + 0xFFFFFFFF, 3 * epoch + 0x80000000},
        {0xF0000000, 100, 0xF0000000}, /* there is no epoch before the first */
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++)
        assert_true(snapshot_widen(rows[r].xid, rows[r].near) == rows[r].wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_sees),
        cmocka_unit_test(test_widen),
    };
    return run_unit_tests("snapshot", tests);
}
