#include "unit.h"

#include "pg/texttypes.h"

static const int64_t day_us = INT64_C(86400000000);

static void test_bool(void **state)
{
    static const char *const wrong[] = {"", "true", "T", "1", "tt"};
    bool value = false;
    (void)state;
    assert_true(text_to_bool("t", 1, &value) && value);
    assert_true(text_to_bool("f", 1, &value) && !value);
    for (size_t w = 0; w < COUNT_OF(wrong); w++)
        assert_row(!text_to_bool(wrong[w], strlen(wrong[w]), &value), wrong[w]);
}

static void test_int(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
    } rows[] = {{"0", 0}, {"-0", 0}, {"7", 7}, {"-42", -42}, {"0012", 12},
                {"9223372036854775807", INT64_MAX}, {"-9223372036854775808", INT64_MIN}};
    static const char *const wrong[] = {"", "-", "--1", "+1", "1 ", " 1", "1.0", "0x1", "1-",
                                        "9223372036854775808", "-9223372036854775809",
                                        "99999999999999999999"};
    int64_t value;
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        assert_row(text_to_int(rows[r].text, strlen(rows[r].text), INT64_MIN, INT64_MAX, &value),
                   rows[r].text);
        assert_row(value == rows[r].value, rows[r].text);
    }
    for (size_t w = 0; w < COUNT_OF(wrong); w++)
        assert_row(!text_to_int(wrong[w], strlen(wrong[w]), INT64_MIN, INT64_MAX, &value),
                   wrong[w]);
    assert_true(text_to_int("5", 1, 5, 5, &value));
    assert_false(text_to_int("4", 1, 5, 9, &value));
    assert_false(text_to_int("10", 2, 5, 9, &value));
    assert_true(text_to_int("123", 2, 0, 99, &value) && value == 12); /* not NUL-terminated */
}

static void test_uuid(void **state)
{
    static const char *const wrong[] = {"", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
                                        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111",
                                        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
                                        "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                                        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"};
    unsigned char value[16];
    (void)state;
    assert_true(text_to_uuid("a0eebc99-9c0b-4ef8-BB6D-6bb9bd380a11", 36, value));
    assert_memory_equal(value, "\xA0\xEE\xBC\x99\x9C\x0B\x4E\xF8\xBB\x6D\x6B\xB9\xBD\x38\x0A\x11",
                        16);
    for (size_t w = 0; w < COUNT_OF(wrong); w++)
        assert_row(!text_to_uuid(wrong[w], strlen(wrong[w]), value), wrong[w]);
}

/* The days are PostgreSQL's: date - date '2000-01-01'. */
static void test_date(void **state)
{
    static const struct {
        const char *text;
        int32_t days;
    } rows[] = {
        {"2000-01-01", 0},
        {"2000-02-29", 59},
        {"2000-03-01", 60},
        {"1999-12-31", -1},
        {"2024-02-29", 8825},
        {"1900-03-01", -36465},
        {"0001-01-01", -730119},
        {"0001-12-31 BC", -730120},
        {"0044-03-15 BC", -746117},
        {"4713-01-01 BC", -2451507},
        {"5874897-12-31", 2145031948},
        {"infinity", INT32_MAX},
        {"-infinity", INT32_MIN},
    };
    static const char *const wrong[] = {"", "2000", "2000-01", "2000-1-1", "2000-01-01 ",
                                        "00-01-01", "2000-01-01 AD", "2000-01-01 00:00:00", "-2000-01-01",
                                        "infinity ", "Infinity", "29.02.2024", "2000/01/01",
                                        "2000-00-01", "2000-13-01", "2000-01-00", "2000-01-32",
                                        "9999999-01-01"};
    int32_t days;
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        assert_row(text_to_date(rows[r].text, strlen(rows[r].text), &days), rows[r].text);
        assert_row(days == rows[r].days, rows[r].text);
    }
    for (size_t w = 0; w < COUNT_OF(wrong); w++)
        assert_row(!text_to_date(wrong[w], strlen(wrong[w]), &days), wrong[w]);
}

static void test_timestamp(void **state)
{
    static const struct {
        const char *text;
        int64_t us;
    } rows[] = {
        {"2000-01-01 00:00:00", 0},
        {"2000-01-01 00:00:00.000001", 1},
        {"2000-01-01 00:00:00.5", 500000},
        {"1999-12-31 23:59:59.999999", -1},
        {"2000-01-01 12:34:56+00", INT64_C(45296000000)},
        {"2000-01-01 02:00:00+02", 0},
        {"1999-12-31 20:30:00-03:30", 0},
        {"2000-01-01 00:19:32+00:19:32", 0},
        {"2024-02-29 12:34:56.789", INT64_C(0x0002b58341728608)},
        {"0044-03-15 12:00:00+00 BC", (int64_t)0xff1af9e8fb46d000},
        {"4713-01-01 00:00:00 BC", (int64_t)0xfd0f7fbdaf17e000},
        {"294276-12-31 23:59:59.999999", INT64_C(0x7fffff5bb3b29fff)},
        {"infinity", INT64_MAX},
        {"-infinity", INT64_MIN},
    };
    static const char *const wrong[] = {"", "2000-01-01", "2000-01-01 00:00", "2000-01-01T00:00:00",
                                        "2000-01-01 00:00:00.", "2000-01-01 00:00:00.1234567",
                                        "2000-01-01 00:00:00+", "2000-01-01 00:00:00+1",
                                        "2000-01-01 00:00:00Z", "2000-01-01 00:00:00+00:",
                                        "2000-01-01 00:00:00 AD", "-2000-01-01 00:00:00",
                                        "9999999-01-01 00:00:00", "9999999-01-01 00:00:00 BC",
                                        "2000-13-01 00:00:00"};
    int64_t us;
    (void)state;
    assert_true(text_to_timestamp("2000-01-02 00:00:00", 19, &us) && us == day_us);
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        assert_row(text_to_timestamp(rows[r].text, strlen(rows[r].text), &us), rows[r].text);
        assert_row(us == rows[r].us, rows[r].text);
    }
    for (size_t w = 0; w < COUNT_OF(wrong); w++)
        assert_row(!text_to_timestamp(wrong[w], strlen(wrong[w]), &us), wrong[w]);
}

/* Every day of five centuries is one more than the day before. */
static void test_calendar(void **state)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int32_t days, expected = -2 * 36524; /* 1800-01-01 */
    char text[32];
    (void)state;
    for (int year = 1800; year < 2300; year++) {
        bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        for (int month = 1; month <= 12; month++) {
            int last = lengths[month - 1] + (month == 2 && leap);
            for (int day = 1; day <= last; day++) {
                snprintf(text, sizeof text, "%04d-%02d-%02d", year, month, day);
                assert_row(text_to_date(text, strlen(text), &days), text);
                assert_row(days == expected, text);
                expected++;
            }
        }
    }
}

static void test_bytea(void **state)
{
    static const char *const wrong[] = {"", "x", "\\", "\\y00", "\\x0", "\\x000", "\\xzz", "abc"};
    struct buffer value;
    (void)state;
    buffer_init(&value, 64);
    assert_true(text_to_bytea("\\x", 2, &value));
    assert_int_equal(value.length, 0);
    assert_true(text_to_bytea("\\x00fFA9", 8, &value));
    assert_int_equal(value.length, 3);
    assert_memory_equal(buffer_text(&value), "\0\xFF\xA9", 3);
    for (size_t w = 0; w < COUNT_OF(wrong); w++) {
        buffer_clear(&value);
        assert_row(!text_to_bytea(wrong[w], strlen(wrong[w]), &value), wrong[w]);
    }
    buffer_release(&value);
}

/* ---- numeric ---- */

static const struct {
    const char *text;
    int weight;
    unsigned count;
    int16_t digits[8];
} numerics[] = {
    {"1", 0, 1, {1}},
    {"-1", 0, 1, {1}},
    {"9999", 0, 1, {9999}},
    {"10000", 1, 1, {1}},
    {"10001", 1, 2, {1, 1}},
    {"1.50", 0, 2, {1, 5000}},
    {"0.0001", -1, 1, {1}},
    {"0.00012", -1, 2, {1, 2000}},
    {"0.00000001", -2, 1, {1}},
    {".5", -1, 1, {5000}},
    {"5.", 0, 1, {5}},
    {"00012.3400", 0, 2, {12, 3400}},
    {"123456789", 2, 3, {1, 2345, 6789}},
    {"12345678901234567890.00012", 4, 7, {1234, 5678, 9012, 3456, 7890, 1, 2000}},
};

static void test_numeric(void **state)
{
    (void)state;
    for (size_t n = 0; n < COUNT_OF(numerics); n++) {
        struct numeric numeric;
        const char *text = numerics[n].text;
        assert_row(text_to_numeric(text, strlen(text), &numeric), text);
        assert_row(!numeric.special && numeric.weight == numerics[n].weight, text);
        assert_row(numeric.count == numerics[n].count, text);
        assert_memory_equal(numeric.digits, numerics[n].digits, numeric.count * sizeof(int16_t));
        numeric_release(&numeric);
    }
}

static void test_numeric_zero_and_special(void **state)
{
    static const char *const zeros[] = {"0", "0.000000", "-0", "00000"};
    static const char *const specials[] = {"NaN", "Infinity", "-Infinity"};
    struct numeric numeric;
    (void)state;
    for (size_t z = 0; z < COUNT_OF(zeros); z++) {
        assert_row(text_to_numeric(zeros[z], strlen(zeros[z]), &numeric), zeros[z]);
        assert_row(!numeric.special && numeric.count == 0, zeros[z]);
        numeric_release(&numeric);
    }
    for (size_t s = 0; s < COUNT_OF(specials); s++) {
        assert_row(text_to_numeric(specials[s], strlen(specials[s]), &numeric), specials[s]);
        assert_row(numeric.special, specials[s]);
        numeric_release(&numeric);
    }
    assert_true(binary_to_numeric("\0\0\0\0\xF0\0\0\x20", 8, &numeric));
    assert_true(numeric.special);
    numeric_release(&numeric);
}

static void test_numeric_refuses(void **state)
{
    static const char *const wrong[] = {"", "-", ".", "-.", "1e5", "1.2.3", "--1", "+1", " 1", "1 ",
                                        "nan", "inf", "1,000"};
    struct numeric numeric;
    (void)state;
    for (size_t w = 0; w < COUNT_OF(wrong); w++) {
        assert_row(!text_to_numeric(wrong[w], strlen(wrong[w]), &numeric), wrong[w]);
        numeric_release(&numeric);
    }
    for (size_t length = 0; length < 12; length++) { /* 1.5, cut */
        assert_false(binary_to_numeric("\0\2\0\0\0\0\0\1\0\1\x13\x88", length, &numeric));
        numeric_release(&numeric);
    }
    assert_false(binary_to_numeric("\377\377\0\0\0\0\0\0", 8, &numeric));
    numeric_release(&numeric);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bool),
        cmocka_unit_test(test_int),
        cmocka_unit_test(test_uuid),
        cmocka_unit_test(test_date),
        cmocka_unit_test(test_timestamp),
        cmocka_unit_test(test_calendar),
        cmocka_unit_test(test_bytea),
        cmocka_unit_test(test_numeric),
        cmocka_unit_test(test_numeric_zero_and_special),
        cmocka_unit_test(test_numeric_refuses),
    };
    return run_unit_tests("texttypes", tests);
}
