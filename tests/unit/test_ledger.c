#include "unit.h"

#include "verify/ledger.h"

static const char *const key_10[] = {"10"}, *const key_20[] = {"20"};

static void ledger_new(struct ledger *ledger)
{
    const struct compared nothing = {0};
    ledger_init(ledger, NULL, false, &nothing);
}

static void test_intervals_that_end_in_order(void **state)
{
    struct ledger ledger;
    const struct compared five = {.source_rows = 5, .target_rows = 6, .bytes = 7};
    (void)state;
    ledger_new(&ledger);
    ledger_end(&ledger, ledger_give(&ledger, key_10), &five);
    assert_ptr_equal(ledger.cursor, key_10);
    assert_false(ledger.complete);
    ledger_end(&ledger, ledger_give(&ledger, NULL), &five);
    assert_true(ledger.complete);
    assert_int_equal(ledger.settled.source_rows, 10);
    assert_int_equal(ledger.settled.target_rows, 12);
    assert_int_equal(ledger.settled.bytes, 14);
    ledger_release(&ledger);
}

static void test_the_cursor_waits_for_the_first(void **state)
{
    struct ledger ledger;
    const struct compared one = {.source_rows = 1}, two = {.source_rows = 2}, four = {.source_rows = 4};
    (void)state;
    ledger_new(&ledger);
    struct ledger_interval *first = ledger_give(&ledger, key_10);
    struct ledger_interval *second = ledger_give(&ledger, key_20);
    struct ledger_interval *third = ledger_give(&ledger, NULL);
    ledger_end(&ledger, third, &four);
    ledger_end(&ledger, second, &two);
    assert_null(ledger.cursor);
    assert_false(ledger.complete);
    assert_int_equal(ledger.settled.source_rows, 0);
    ledger_end(&ledger, first, &one);
    assert_true(ledger.complete);
    assert_int_equal(ledger.settled.source_rows, 7);
    ledger_release(&ledger);
}

static void test_goes_on_from_what_was_kept(void **state)
{
    struct ledger ledger;
    const struct compared before = {.source_rows = 100}, one = {.source_rows = 1};
    (void)state;
    ledger_init(&ledger, key_10, false, &before);
    struct ledger_interval *first = ledger_give(&ledger, key_20);
    ledger_give(&ledger, NULL); /* never ends: a pass that fails */
    assert_ptr_equal(ledger.cursor, key_10);
    ledger_end(&ledger, first, &one);
    assert_ptr_equal(ledger.cursor, key_20);
    assert_false(ledger.complete);
    assert_int_equal(ledger.settled.source_rows, 101);
    ledger_release(&ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_intervals_that_end_in_order),
        cmocka_unit_test(test_the_cursor_waits_for_the_first),
        cmocka_unit_test(test_goes_on_from_what_was_kept),
    };
    return run_unit_tests("ledger", tests);
}
