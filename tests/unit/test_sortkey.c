#include "unit.h"

#include "pg/sortkey.h"

static struct buffer encode(enum sortkey_type type, const char *text)
{
    struct buffer key;
    struct error err = ERROR_INIT;
    buffer_init(&key, 4096);
    assert_true(sortkey_append_text(&key, type, text, strlen(text), &err));
    return key;
}

/* Each value must sort below the next one. */
static void assert_ascending(enum sortkey_type type, const char *const *values)
{
    for (; values[1] != NULL; values++) {
        struct buffer low = encode(type, values[0]), high = encode(type, values[1]);
        assert_true(sortkey_compare(low.bytes, low.length, high.bytes, high.length) < 0);
        assert_true(sortkey_compare(high.bytes, high.length, low.bytes, low.length) > 0);
        assert_int_equal(sortkey_compare(low.bytes, low.length, low.bytes, low.length), 0);
        buffer_release(&low);
        buffer_release(&high);
    }
}

#define ASCENDING(type, ...) assert_ascending(type, (const char *const[]){__VA_ARGS__, NULL})

static void test_order_of_values(void **state)
{
    (void)state;
    ASCENDING(SORTKEY_BOOL, "f", "t");
    ASCENDING(SORTKEY_INT2, "-32768", "-1", "0", "1", "32767");
    ASCENDING(SORTKEY_INT4, "-2147483648", "-2", "0", "9", "10", "2147483647");
    ASCENDING(SORTKEY_INT8, "-9223372036854775808", "-1", "0", "9223372036854775807");
    ASCENDING(SORTKEY_OID, "0", "1", "4294967295");
    ASCENDING(SORTKEY_DATE, "-infinity", "0044-03-15 BC", "1999-12-31", "2000-01-01", "infinity");
    ASCENDING(SORTKEY_TIMESTAMP, "-infinity", "0001-01-01 00:00:00 BC", "1999-12-31 23:59:59.999999",
              "2000-01-01 00:00:00", "294276-12-31 23:59:59.999999", "infinity");
    ASCENDING(SORTKEY_UUID, "00000000-0000-0000-0000-000000000000",
              "7fffffff-0000-0000-0000-000000000000", "80000000-0000-0000-0000-000000000000");
    ASCENDING(SORTKEY_TEXT, "", "A", "B", "Ba", "a", "é");
    ASCENDING(SORTKEY_BYTES, "\\x", "\\x00", "\\x0000", "\\x0001", "\\x01", "\\xff", "\\xff00");
}

static void test_composite_keys_compare_column_by_column(void **state)
{
    struct error err = ERROR_INIT;
    struct buffer shorter, longer;
    (void)state;
    buffer_init(&shorter, 4096);
    buffer_init(&longer, 4096);
    /* ("a", 9) is below ("ab", 1), though 9 is above b's byte in some encodings */
    assert_true(sortkey_append_text(&shorter, SORTKEY_TEXT, "a", 1, &err) &&
                sortkey_append_text(&shorter, SORTKEY_INT4, "2147483647", 10, &err));
    assert_true(sortkey_append_text(&longer, SORTKEY_TEXT, "ab", 2, &err) &&
                sortkey_append_text(&longer, SORTKEY_INT4, "-1", 2, &err));
    assert_true(sortkey_compare(shorter.bytes, shorter.length, longer.bytes, longer.length) < 0);
    buffer_release(&shorter);
    buffer_release(&longer);
}

static void test_what_is_not_of_the_type_is_refused(void **state)
{
    struct buffer key;
    (void)state;
    buffer_init(&key, 4096);
    struct error err = ERROR_INIT;
    assert_false(sortkey_append_text(&key, SORTKEY_INT4, "2147483648", 10, &err));
    assert_int_equal(err.class, ERROR_DATA);
    assert_false(sortkey_append_text(&key, SORTKEY_UUID, "x", 1, &err));
    assert_false(sortkey_append_text(&key, SORTKEY_DATE, "tomorrow", 8, &err));
    buffer_release(&key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_values),
        cmocka_unit_test(test_composite_keys_compare_column_by_column),
        cmocka_unit_test(test_what_is_not_of_the_type_is_refused),
    };
    return run_unit_tests("sortkey", tests);
}
