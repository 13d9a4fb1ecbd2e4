#include "unit.h"

#include "state/wal.h"

enum { MINUTE = 60 * 1000 };

static struct wal_slot at(int64_t at_ms, int64_t retained)
{
    return (struct wal_slot){.exists = true, .at_ms = at_ms, .retained = retained, .limit = -1};
}

static void test_the_less_of_both(void **state)
{
    static const struct {
        int64_t budget, limit, most;
        const char *what;
    } rows[] = {
        {0, -1, -1, "wal_budget"},  {100, -1, 100, "wal_budget"},
        {100, 50, 50, "max_slot_wal_keep_size"}, {100, 200, 100, "wal_budget"},
        {0, 50, 50, "max_slot_wal_keep_size"},   {0, 0, 0, "max_slot_wal_keep_size"},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        const char *what;
        const struct wal_slot slot = {.retained = 0, .limit = rows[r].limit};
        assert_int_equal(wal_most(&slot, rows[r].budget, &what), rows[r].most);
        assert_string_equal(what, rows[r].what);
    }
}

static void test_growth_is_of_some_minutes(void **state)
{
    json_t *seen = json_object();
    struct wal_slot first = at(0, 1000), soon = at(1000, 9000), later = at(MINUTE, 61000);
    double rate = -1;
    (void)state;
    assert_false(wal_growth(seen, "s", &first, &rate));
    wal_seen_add(seen, "s", &first);
    assert_false(wal_growth(seen, "s", &soon, &rate));
    wal_seen_add(seen, "s", &soon); /* too soon to be kept */
    assert_true(wal_growth(seen, "s", &later, &rate));
    assert_int_equal((int)rate, 1000);
    for (int minute = 5; minute <= 10; minute += 5) {
        struct wal_slot look = at(minute * MINUTE, 1000);
        wal_seen_add(seen, "s", &look);
    }
    struct wal_slot less = at(11 * MINUTE, 500), more = at(11 * MINUTE, 1000 + 6 * 60 * 10);
    assert_true(wal_growth(seen, "s", &less, &rate) && rate == 0);
    assert_true(wal_growth(seen, "s", &more, &rate)); /* since the fifth minute */
    assert_int_equal((int)rate, 10);
    struct wal_slot lost = at(12 * MINUTE, -1);
    assert_false(wal_growth(seen, "s", &lost, &rate));
    json_decref(seen);
}

static void test_seconds_left(void **state)
{
    static const struct {
        int64_t retained, most;
        double rate;
        int64_t seconds;
    } rows[] = {
        {0, 100, 10, 10}, {100, 100, 10, 0}, {101, 100, 0, 0}, {0, 100, 0, -1},
        {0, -1, 10, -1},  {-1, 100, 10, -1}, {0, INT64_MAX, 0.0001, -1},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct wal_slot slot = at(0, rows[r].retained);
        assert_int_equal(wal_seconds_left(&slot, rows[r].most, rows[r].rate), rows[r].seconds);
    }
}

/* Once each, and again only when it was well below. */
static void test_warnings(void **state)
{
    static const struct {
        int64_t retained;
        int warned;
    } steps[] = {{79, 0},  {80, 80}, {95, 0},  {100, 100}, {150, 0}, {85, 0},
                 {100, 0}, {75, 0},  {80, 0},  {69, 0},    {80, 80}, {100, 100},
                 {10, 0},  {100, 100}};
    json_t *seen = json_object();
    (void)state;
    for (size_t s = 0; s < COUNT_OF(steps); s++) {
        struct wal_slot slot = at((int64_t)s * MINUTE, steps[s].retained);
        wal_seen_add(seen, "s", &slot);
        if (wal_seen_warn(seen, "s", &slot, 100) != steps[s].warned)
            fail_msg("step %zu", s);
        assert_int_equal(wal_seen_warn(seen, "s", &slot, -1), 0);
    }
    json_decref(seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_less_of_both),
        cmocka_unit_test(test_growth_is_of_some_minutes),
        cmocka_unit_test(test_seconds_left),
        cmocka_unit_test(test_warnings),
    };
    return run_unit_tests("wal", tests);
}
