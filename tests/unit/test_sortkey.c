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

static int compare(const struct buffer *a, const struct buffer *b)
{
    int order = sortkey_compare(buffer_text(a), a->length, buffer_text(b), b->length);
    return (order > 0) - (order < 0);
}

/* Each value must sort below all that follow. */
static void assert_ascending(enum sortkey_type type, const char *const *values)
{
    for (size_t l = 0; values[l] != NULL; l++) {
        struct buffer low = encode(type, values[l]);
        assert_int_equal(compare(&low, &low), 0);
        for (size_t h = l + 1; values[h] != NULL; h++) {
            struct buffer high = encode(type, values[h]);
            assert_row(compare(&low, &high) == -1, values[h]);
            assert_row(compare(&high, &low) == 1, values[h]);
            buffer_release(&high);
        }
        buffer_release(&low);
    }
}

#define ASCENDING(type, ...) assert_ascending(type, (const char *const[]){__VA_ARGS__, NULL})

static void test_order_of_values(void **state)
{
    (void)state;
    ASCENDING(SORTKEY_BOOL, "f", "t");
    ASCENDING(SORTKEY_INT2, "-32768", "-256", "-255", "-1", "0", "1", "255", "256", "32767");
    ASCENDING(SORTKEY_INT4, "-2147483648", "-65536", "-2", "-1", "0", "9", "10", "65536",
              "2147483647");
    ASCENDING(SORTKEY_INT8, "-9223372036854775808", "-4294967297", "-4294967296", "-1", "0", "1",
              "4294967295", "4294967296", "9223372036854775807");
    ASCENDING(SORTKEY_OID, "0", "1", "2147483647", "2147483648", "4294967295");
    ASCENDING(SORTKEY_DATE, "-infinity", "4713-01-01 BC", "0044-03-15 BC", "0001-12-31 BC",
              "0001-01-01", "1999-12-31", "2000-01-01", "2000-02-29", "5874897-12-31", "infinity");
    ASCENDING(SORTKEY_TIMESTAMP, "-infinity", "4713-01-01 00:00:00 BC", "0044-03-15 12:00:00 BC",
              "0044-03-16 00:00:00 BC", "0001-01-01 00:00:00 BC", "0001-01-01 00:00:00",
              "1999-12-31 23:59:59.999999", "2000-01-01 00:00:00", "2000-01-01 00:00:00.000001",
              "2000-01-01 02:00:00+01", "294276-12-31 23:59:59.999999", "infinity");
    ASCENDING(SORTKEY_UUID, "00000000-0000-0000-0000-000000000000",
              "00000000-0000-0000-0000-000000000001", "7fffffff-0000-0000-0000-000000000000",
              "80000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff");
    ASCENDING(SORTKEY_TEXT, "", "\x01", "\x01\x01", "A", "B", "Ba", "a", "a\x01", "aa", "ab", "b",
              "é", "日本");
    ASCENDING(SORTKEY_BYTES, "\\x", "\\x00", "\\x0000", "\\x0001", "\\x00ff", "\\x01", "\\x61",
              "\\x6100", "\\x610000", "\\x6100ff", "\\x6101", "\\x62", "\\xff", "\\xff00",
              "\\xffff");
}

static void test_encodings(void **state)
{
    static const struct {
        enum sortkey_type type;
        const char *text, *key;
        size_t length;
    } rows[] = {
        {SORTKEY_BOOL, "t", "\1", 1},
        {SORTKEY_INT2, "-1", "\x7F\xFF", 2},
        {SORTKEY_INT4, "0", "\x80\0\0\0", 4},
        {SORTKEY_INT4, "-2147483648", "\0\0\0\0", 4},
        {SORTKEY_INT8, "258", "\x80\0\0\0\0\0\1\2", 8},
        {SORTKEY_OID, "4294967295", "\xFF\xFF\xFF\xFF", 4},
        {SORTKEY_DATE, "infinity", "\xFF\xFF\xFF\xFF", 4},
        {SORTKEY_DATE, "1999-12-31", "\x7F\xFF\xFF\xFF", 4},
        {SORTKEY_TIMESTAMP, "-infinity", "\0\0\0\0\0\0\0\0", 8},
        {SORTKEY_TEXT, "", "\0\0", 2},
        {SORTKEY_TEXT, "ab", "ab\0\0", 4},
        {SORTKEY_BYTES, "\\x00ff00", "\0\xFF\xFF\0\xFF\0\0", 7},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct buffer key = encode(rows[r].type, rows[r].text);
        assert_int_equal(key.length, rows[r].length);
        assert_memory_equal(buffer_text(&key), rows[r].key, rows[r].length);
        buffer_release(&key);
    }
}

/* The stream may come in binary and cursors in text: both forms of a value make the same key. */
static void test_binary_is_as_text(void **state)
{
    static const struct {
        enum sortkey_type type;
        const char *text, *bytes;
        size_t length;
    } rows[] = {
        {SORTKEY_BOOL, "f", "\0", 1},
        {SORTKEY_INT2, "-2", "\xFF\xFE", 2},
        {SORTKEY_INT4, "305419896", "\x12\x34\x56\x78", 4},
        {SORTKEY_INT8, "-9223372036854775808", "\x80\0\0\0\0\0\0\0", 8},
        {SORTKEY_OID, "2147483648", "\x80\0\0\0", 4},
        {SORTKEY_DATE, "2024-02-29", "\0\0\x22\x79", 4},
        {SORTKEY_DATE, "-infinity", "\x80\0\0\0", 4},
        {SORTKEY_TIMESTAMP, "0044-03-15 12:00:00 BC", "\xFF\x1A\xF9\xE8\xFB\x46\xD0\0", 8},
        {SORTKEY_TIMESTAMP, "infinity", "\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 8},
        {SORTKEY_UUID, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
         "\xA0\xEE\xBC\x99\x9C\x0B\x4E\xF8\xBB\x6D\x6B\xB9\xBD\x38\x0A\x11", 16},
        {SORTKEY_BYTES, "\\x6100ff", "a\0\xFF", 3},
        {SORTKEY_TEXT, "größe", "größe", 7},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct error err = ERROR_INIT;
        struct buffer of_text = encode(rows[r].type, rows[r].text), of_binary;
        buffer_init(&of_binary, 4096);
        assert_row(sortkey_append_binary(&of_binary, rows[r].type, rows[r].bytes, rows[r].length,
                                         &err), rows[r].text);
        assert_row(compare(&of_text, &of_binary) == 0, rows[r].text);
        buffer_release(&of_binary);
        buffer_release(&of_text);
    }
}

/* Pairs of (bytea, int4), ascending: what follows a shorter first value must not be seen as a part
 * of it, whatever its bytes are. */
static void test_composite_keys_compare_column_by_column(void **state)
{
    static const char *const rows[][2] = {
        {"\\x", "2147483647"},   {"\\x00", "-2147483648"}, {"\\x00", "0"},
        {"\\x0000", "-1"},       {"\\x00ff", "-1"},        {"\\x61", "-1"},
        {"\\x61", "0"},          {"\\x61", "2147483647"},  {"\\x6100", "-2147483648"},
        {"\\x610000", "-1"},     {"\\x6100ff", "-1"},      {"\\x6101", "-2147483648"},
        {"\\x6162", "-2147483648"}, {"\\xff", "-1"},       {"\\xffff", "-2147483648"},
    };
    struct buffer keys[COUNT_OF(rows)];
    struct error err = ERROR_INIT;
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        keys[r] = encode(SORTKEY_BYTES, rows[r][0]);
        assert_true(sortkey_append_text(&keys[r], SORTKEY_INT4, rows[r][1], strlen(rows[r][1]),
                                        &err));
    }
    for (size_t a = 0; a < COUNT_OF(rows); a++) {
        for (size_t b = 0; b < COUNT_OF(rows); b++)
            assert_row(compare(&keys[a], &keys[b]) == (a > b) - (a < b), rows[b][0]);
    }
    for (size_t r = 0; r < COUNT_OF(rows); r++)
        buffer_release(&keys[r]);
}

/* A key of leading columns only, as a range's end may be, is below all that it begins. */
static void test_prefix_is_below(void **state)
{
    (void)state;
    assert_true(sortkey_compare("ab", 2, "abc", 3) < 0);
    assert_true(sortkey_compare("abc", 3, "ab", 2) > 0);
    assert_int_equal(sortkey_compare("ab", 2, "ab", 2), 0);
    assert_true(sortkey_compare("\x80", 1, "\x7F\xFF", 2) > 0);
}

static void test_types(void **state)
{
    static const struct {
        uint32_t oid;
        enum sortkey_type bytewise, other;
    } rows[] = {
        {16, SORTKEY_BOOL, SORTKEY_BOOL},      {17, SORTKEY_BYTES, SORTKEY_BYTES},
        {20, SORTKEY_INT8, SORTKEY_INT8},      {21, SORTKEY_INT2, SORTKEY_INT2},
        {23, SORTKEY_INT4, SORTKEY_INT4},      {25, SORTKEY_TEXT, SORTKEY_NONE},
        {26, SORTKEY_OID, SORTKEY_OID},        {1042, SORTKEY_NONE, SORTKEY_NONE},
        {1043, SORTKEY_TEXT, SORTKEY_NONE},    {1082, SORTKEY_DATE, SORTKEY_DATE},
        {1114, SORTKEY_TIMESTAMP, SORTKEY_TIMESTAMP},
        {1184, SORTKEY_TIMESTAMP, SORTKEY_TIMESTAMP},
        {1700, SORTKEY_NONE, SORTKEY_NONE},    {2950, SORTKEY_UUID, SORTKEY_UUID},
        {16400, SORTKEY_NONE, SORTKEY_NONE},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        assert_int_equal(sortkey_type_of(rows[r].oid, true), rows[r].bytewise);
        assert_int_equal(sortkey_type_of(rows[r].oid, false), rows[r].other);
    }
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
    assert_false(sortkey_append_text(&key, SORTKEY_NONE, "1", 1, &err));
    assert_false(sortkey_append_text(&key, SORTKEY_INT2, "", 0, &err));
    assert_false(sortkey_append_text(&key, SORTKEY_OID, "-1", 2, &err));
    assert_false(sortkey_append_text(&key, SORTKEY_BYTES, "\\x0", 3, &err));
    assert_false(sortkey_append_binary(&key, SORTKEY_INT4, "\0\0\0", 3, &err));
    assert_false(sortkey_append_binary(&key, SORTKEY_INT8, "\0\0\0\0", 4, &err));
    assert_false(sortkey_append_binary(&key, SORTKEY_BOOL, "", 0, &err));
    assert_false(sortkey_append_binary(&key, SORTKEY_NONE, "", 0, &err));
    assert_int_equal(key.length, 0);
    buffer_release(&key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_values),
        cmocka_unit_test(test_encodings),
        cmocka_unit_test(test_binary_is_as_text),
        cmocka_unit_test(test_composite_keys_compare_column_by_column),
        cmocka_unit_test(test_prefix_is_below),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_what_is_not_of_the_type_is_refused),
    };
    return run_unit_tests("sortkey", tests);
}
