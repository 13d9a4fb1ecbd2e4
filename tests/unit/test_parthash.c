/*
 * The values are PostgreSQL's own: hash…extended(value, 8816678312871386365) of each type, added to
 * hash_combine64()'s constant, and checked against satisfies_hash_partition().
 */
#include "unit.h"

#include "pg/parthash.h"

struct known {
    enum parthash_type type;
    const char *text;
    uint64_t hash;
};

static const struct known known[] = {
    {PARTHASH_BOOL, "t", 0x9c7715e2970a8fb8},
    {PARTHASH_BOOL, "f", 0x0c8440b74fd699b0},
    {PARTHASH_INT2, "0", 0x0c8440b74fd699b0},
    {PARTHASH_INT2, "1", 0x9c7715e2970a8fb8},
    {PARTHASH_INT2, "-1", 0x0400bc251f3bafa5},
    {PARTHASH_INT2, "32767", 0xf04d37bf04315ece},
    {PARTHASH_INT2, "-32768", 0x9b4d89bf3c86847d},
    {PARTHASH_INT4, "42", 0xafd30d9a116a5a62},
    {PARTHASH_INT4, "-1", 0x0400bc251f3bafa5},
    {PARTHASH_INT4, "-2147483648", 0x8e2a2eec347a3a76},
    {PARTHASH_INT4, "2147483647", 0xf5aa185b5e7fa17f},
    {PARTHASH_INT8, "42", 0xafd30d9a116a5a62},
    {PARTHASH_INT8, "-1", 0x0400bc251f3bafa5},
    {PARTHASH_INT8, "4294967296", 0x9c7715e2970a8fb8},
    {PARTHASH_INT8, "9223372036854775807", 0x8e2a2eec347a3a76},
    {PARTHASH_INT8, "-9223372036854775808", 0xf5aa185b5e7fa17f},
    {PARTHASH_TEXT, "", 0xfa8431e86a2568a6},
    {PARTHASH_TEXT, "a", 0xec9335d598214f5e},
    {PARTHASH_TEXT, "abc", 0x7bfcf7ae85298aa5},
    {PARTHASH_TEXT, "hello world!", 0x2f7394b872ac10dc},
    {PARTHASH_TEXT, "hello world!!", 0xb12449275a173f83},
    {PARTHASH_TEXT, "Zürich €", 0x3eb791ddddb99d33},
    {PARTHASH_TEXT, "twelve bytes and then some more of it", 0x28fa256cfd401ae9},
    {PARTHASH_BPCHAR, "abc     ", 0x7bfcf7ae85298aa5},
    {PARTHASH_BPCHAR, "abc", 0x7bfcf7ae85298aa5},
    {PARTHASH_UUID, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", 0x4f85215c955b65d0},
    {PARTHASH_UUID, "00000000-0000-0000-0000-000000000000", 0x0056c8a1c0433ba5},
    {PARTHASH_NUMERIC, "0", 0xc3fc17138f7c85df},
    {PARTHASH_NUMERIC, "0.00", 0xc3fc17138f7c85df},
    {PARTHASH_NUMERIC, "1.5", 0x5ac12c25ca693af6},
    {PARTHASH_NUMERIC, "1.50", 0x5ac12c25ca693af6},
    {PARTHASH_NUMERIC, "-1.5", 0x5ac12c25ca693af6}, /* the sign is not hashed */
    {PARTHASH_NUMERIC, "12345678901234567890.00012", 0xa56558669c79b313},
    {PARTHASH_NUMERIC, "0.0001", 0x7679bf196be47684},
    {PARTHASH_NUMERIC, "10000", 0x1cc82aa0bfe6db42},
    {PARTHASH_NUMERIC, "NaN", 0xc3fc17138f7c85e0},
    {PARTHASH_NUMERIC, "Infinity", 0xc3fc17138f7c85e0},
    {PARTHASH_NUMERIC, "-Infinity", 0xc3fc17138f7c85e0},
    {PARTHASH_DATE, "2000-01-01", 0x0c8440b74fd699b0},
    {PARTHASH_DATE, "2024-02-29", 0xe295b9137cc4bce7},
    {PARTHASH_DATE, "1999-12-31", 0x0400bc251f3bafa5},
    {PARTHASH_TIMESTAMP, "2000-01-01 00:00:00", 0x0c8440b74fd699b0},
    {PARTHASH_TIMESTAMP, "2024-02-29 12:34:56.789", 0x7a31d3afb4dd63da},
    {PARTHASH_TIMESTAMP, "2024-02-29 12:34:56.789+00", 0x7a31d3afb4dd63da},
    {PARTHASH_TIMESTAMP, "0044-03-15 12:00:00 BC", 0x26f9390499f12777},
    {PARTHASH_TIMESTAMP, "0044-03-15 12:00:00+00 BC", 0x26f9390499f12777},
    {PARTHASH_TIMESTAMP, "infinity", 0x8e2a2eec347a3a76},
    {PARTHASH_TIMESTAMP, "-infinity", 0xf5aa185b5e7fa17f},
    {PARTHASH_BYTEA, "\\x", 0xfa8431e86a2568a6},
    {PARTHASH_BYTEA, "\\x616263", 0x7bfcf7ae85298aa5},
};

static void test_known_text(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT_OF(known); k++) {
        struct error err = ERROR_INIT;
        uint64_t hash = 0;
        assert_row(parthash_text(known[k].type, known[k].text, strlen(known[k].text), &hash, &err),
                   known[k].text);
        assert_row(hash == known[k].hash, known[k].text);
    }
}

/* Binary forms are what the types' send functions give. */
static void test_known_binary(void **state)
{
    static const struct {
        enum parthash_type type;
        size_t length;
        const char *bytes;
        uint64_t hash;
    } rows[] = {
        {PARTHASH_BOOL, 1, "\1", 0x9c7715e2970a8fb8},
        {PARTHASH_BOOL, 1, "\0", 0x0c8440b74fd699b0},
        {PARTHASH_INT2, 2, "\377\377", 0x0400bc251f3bafa5},
        {PARTHASH_INT2, 2, "\200\0", 0x9b4d89bf3c86847d},
        {PARTHASH_INT4, 4, "\0\0\0\x2A", 0xafd30d9a116a5a62},
        {PARTHASH_INT4, 4, "\200\0\0\0", 0x8e2a2eec347a3a76},
        {PARTHASH_INT8, 8, "\0\0\0\0\0\0\0\x2A", 0xafd30d9a116a5a62},
        {PARTHASH_INT8, 8, "\377\377\377\377\377\377\377\377", 0x0400bc251f3bafa5},
        {PARTHASH_INT8, 8, "\200\0\0\0\0\0\0\0", 0xf5aa185b5e7fa17f},
        {PARTHASH_TEXT, 3, "abc", 0x7bfcf7ae85298aa5},
        {PARTHASH_BPCHAR, 8, "abc     ", 0x7bfcf7ae85298aa5},
        {PARTHASH_UUID, 16,
         "\xA0\xEE\xBC\x99\x9C\x0B\x4E\xF8\xBB\x6D\x6B\xB9\xBD\x38\x0A\x11", 0x4f85215c955b65d0},
        {PARTHASH_NUMERIC, 8, "\0\0\0\0\0\0\0\0", 0xc3fc17138f7c85df},
        {PARTHASH_NUMERIC, 8, "\0\0\0\0\0\0\0\2", 0xc3fc17138f7c85df},
        {PARTHASH_NUMERIC, 12, "\0\2\0\0\0\0\0\1\0\1\x13\x88", 0x5ac12c25ca693af6},
        {PARTHASH_NUMERIC, 12, "\0\2\0\0\x40\0\0\1\0\1\x13\x88", 0x5ac12c25ca693af6},
        {PARTHASH_NUMERIC, 22,
         "\0\7\0\4\0\0\0\5\x04\xD2\x16\x2E\x23\x34\x0D\x80\x1E\xD2\0\1\x07\xD0",
         0xa56558669c79b313},
        {PARTHASH_NUMERIC, 10, "\0\1\377\377\0\0\0\4\0\1", 0x7679bf196be47684},
        {PARTHASH_NUMERIC, 10, "\0\1\0\1\0\0\0\0\0\1", 0x1cc82aa0bfe6db42},
        {PARTHASH_NUMERIC, 8, "\0\0\0\0\xC0\0\0\0", 0xc3fc17138f7c85e0},
        {PARTHASH_NUMERIC, 8, "\0\0\0\0\xD0\0\0\x20", 0xc3fc17138f7c85e0},
        {PARTHASH_DATE, 4, "\0\0\x22\x79", 0xe295b9137cc4bce7},
        {PARTHASH_DATE, 4, "\377\377\377\377", 0x0400bc251f3bafa5},
        {PARTHASH_TIMESTAMP, 8, "\x00\x02\xB5\x83\x41\x72\x86\x08", 0x7a31d3afb4dd63da},
        {PARTHASH_TIMESTAMP, 8, "\xFF\x1A\xF9\xE8\xFB\x46\xD0\x00", 0x26f9390499f12777},
        {PARTHASH_BYTEA, 0, "", 0xfa8431e86a2568a6},
        {PARTHASH_BYTEA, 3, "abc", 0x7bfcf7ae85298aa5},
    };
    char name[16];
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct error err = ERROR_INIT;
        uint64_t hash = 0;
        snprintf(name, sizeof name, "row %zu", r);
        assert_row(parthash_binary(rows[r].type, rows[r].bytes, rows[r].length, &hash, &err), name);
        assert_row(hash == rows[r].hash, name);
    }
}

static void test_integers_and_null(void **state)
{
    (void)state;
    assert_true(parthash_int8(42) == 0xafd30d9a116a5a62);
    assert_true(parthash_int8(-1) == 0x0400bc251f3bafa5);
    assert_true(parthash_null() == 0);
    assert_int_equal(parthash_shard(parthash_null(), 7), 0);
    assert_int_equal(parthash_shard(parthash_int8(42), 1000003), 0xafd30d9a116a5a62 % 1000003);
    assert_int_equal(parthash_shard(parthash_int8(1), 1000003), 875018); /* the server's too */
    assert_int_equal(parthash_shard(parthash_int8(0), 1000003), 771668);
}

static void test_refuses(void **state)
{
    static const struct {
        enum parthash_type type;
        const char *text;
    } rows[] = {
        {PARTHASH_NONE, "1"},        {PARTHASH_BOOL, "true"},      {PARTHASH_BOOL, ""},
        {PARTHASH_INT2, "32768"},    {PARTHASH_INT2, "-32769"},    {PARTHASH_INT4, "2147483648"},
        {PARTHASH_INT4, ""},         {PARTHASH_INT4, "1x"},        {PARTHASH_INT8, "-"},
        {PARTHASH_INT8, "9223372036854775808"},                    {PARTHASH_UUID, "a0eebc99"},
        {PARTHASH_NUMERIC, ""},      {PARTHASH_NUMERIC, "1.2.3"},  {PARTHASH_NUMERIC, "1e5"},
        {PARTHASH_DATE, "29.02.2024"}, {PARTHASH_TIMESTAMP, "2024-02-29"},
        {PARTHASH_BYTEA, "abc"},     {PARTHASH_BYTEA, "\\x1"},     {PARTHASH_BYTEA, "\\xgg"},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct error err = ERROR_INIT;
        uint64_t hash;
        assert_row(!parthash_text(rows[r].type, rows[r].text, strlen(rows[r].text), &hash, &err),
                   rows[r].text);
        assert_int_equal(err.class, ERROR_DATA);
    }
}

static void test_refuses_binary(void **state)
{
    static const struct {
        enum parthash_type type;
        size_t length;
    } rows[] = {
        {PARTHASH_NONE, 4},  {PARTHASH_BOOL, 0},  {PARTHASH_BOOL, 2},       {PARTHASH_INT2, 4},
        {PARTHASH_INT4, 3},  {PARTHASH_INT4, 8},  {PARTHASH_INT8, 4},       {PARTHASH_DATE, 8},
        {PARTHASH_UUID, 15}, {PARTHASH_UUID, 17}, {PARTHASH_TIMESTAMP, 4},  {PARTHASH_NUMERIC, 0},
        {PARTHASH_NUMERIC, 7}, {PARTHASH_NUMERIC, 9}, {PARTHASH_NUMERIC, 10},
    };
    static const char zeros[32];
    char name[32];
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct error err = ERROR_INIT;
        uint64_t hash;
        snprintf(name, sizeof name, "type %u, %zu bytes", (unsigned)rows[r].type, rows[r].length);
        assert_row(!parthash_binary(rows[r].type, zeros, rows[r].length, &hash, &err), name);
        assert_int_equal(err.class, ERROR_DATA);
    }
}

static void test_types(void **state)
{
    static const struct {
        uint32_t oid;
        enum parthash_type type;
    } rows[] = {
        {16, PARTHASH_BOOL},      {17, PARTHASH_BYTEA},       {20, PARTHASH_INT8},
        {21, PARTHASH_INT2},      {23, PARTHASH_INT4},        {25, PARTHASH_TEXT},
        {1042, PARTHASH_BPCHAR},  {1043, PARTHASH_TEXT},      {1082, PARTHASH_DATE},
        {1114, PARTHASH_TIMESTAMP}, {1184, PARTHASH_TIMESTAMP}, {1700, PARTHASH_NUMERIC},
        {2950, PARTHASH_UUID},    {701, PARTHASH_NONE},       {3802, PARTHASH_NONE},
        {16400, PARTHASH_NONE},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++)
        assert_int_equal(parthash_type_of(rows[r].oid), rows[r].type);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_text),    cmocka_unit_test(test_known_binary),
        cmocka_unit_test(test_integers_and_null), cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_refuses_binary), cmocka_unit_test(test_types),
    };
    return run_unit_tests("parthash", tests);
}
