#include "unit.h"

#include "pg/arraycodec.h"
#include "pg/oid.h"

#define ELEMENT(text) {text, sizeof text - 1}

/* Dimensions, flags, type, count and first index: array_send() of PostgreSQL 15. */
#define HEAD(nulls, type, count) "\0\0\0\1\0\0\0" nulls "\0\0" type "\0\0\0" count "\0\0\0\1"

struct sample {
    uint32_t type;
    struct array_element elements[3];
    unsigned count;
    const char *bytes;
    size_t length;
};

#define BYTES(bytes) bytes, sizeof(bytes) - 1

/* What `SELECT array_send(ARRAY[…])` says. */
static const struct sample samples[] = {
    {OID_INT4, {ELEMENT("-1"), ELEMENT("2147483647")}, 2,
     BYTES(HEAD("\0", "\0\x17", "\2") "\0\0\0\4\xff\xff\xff\xff\0\0\0\4\x7f\xff\xff\xff")},
    {OID_INT2, {ELEMENT("-32768")}, 1, BYTES(HEAD("\0", "\0\x15", "\1") "\0\0\0\2\x80\0")},
    {OID_INT8, {ELEMENT("-9223372036854775808"), {NULL, 0}}, 2,
     BYTES(HEAD("\1", "\0\x14", "\2") "\0\0\0\x8\x80\0\0\0\0\0\0\0\xff\xff\xff\xff")},
    {OID_BOOL, {ELEMENT("t"), ELEMENT("f")}, 2,
     BYTES(HEAD("\0", "\0\x10", "\2") "\0\0\0\1\1\0\0\0\1\0")},
    {OID_TEXT, {ELEMENT(""), ELEMENT("a\"\\,{")}, 2,
     BYTES(HEAD("\0", "\0\x19", "\2") "\0\0\0\0\0\0\0\5" "a\"\\,{")},
    {OID_VARCHAR, {ELEMENT("NULL")}, 1, BYTES(HEAD("\0", "\4\x13", "\1") "\0\0\0\4NULL")},
    {OID_JSONB, {ELEMENT("{\"a\": 1}")}, 1,
     BYTES(HEAD("\0", "\x0e\xda", "\1") "\0\0\0\x9\1{\"a\": 1}")},
    {OID_DATE, {ELEMENT("2000-01-02"), ELEMENT("-infinity")}, 2,
     BYTES(HEAD("\0", "\4\x3a", "\2") "\0\0\0\4\0\0\0\1\0\0\0\4\x80\0\0\0")},
    {OID_TIMESTAMPTZ, {ELEMENT("2000-01-01 00:00:01.000001+00"), ELEMENT("infinity")}, 2,
     BYTES(HEAD("\0", "\4\xa0", "\2") "\0\0\0\x8\0\0\0\0\0\xf\x42\x41"
           "\0\0\0\x8\x7f\xff\xff\xff\xff\xff\xff\xff")},
    {OID_UUID, {ELEMENT("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")}, 1,
     BYTES(HEAD("\0", "\xb\x86", "\1") "\0\0\0\x10\xa0\xee\xbc\x99\x9c\xb\x4e\xf8\xbb\x6d"
           "\x6b\xb9\xbd\x38\xa\x11")},
};

static void test_binary(void **state)
{
    struct buffer out;
    (void)state;
    buffer_init(&out, 1024);
    for (size_t s = 0; s < COUNT_OF(samples); s++) {
        const struct sample *sample = &samples[s];
        buffer_clear(&out);
        buffer_putc(&out, 'x'); /* what was there stays */
        assert_true(array_put_binary(&out, sample->type, sample->elements, sample->count));
        assert_int_equal(out.length, sample->length + 1);
        assert_memory_equal(out.bytes + 1, sample->bytes, sample->length);
    }
    buffer_release(&out);
}

/* The server says what is wrong with it, not we. */
static void test_what_has_no_binary_form(void **state)
{
    static const struct array_element good[] = {ELEMENT("1"), ELEMENT("2")};
    static const struct array_element bad[] = {ELEMENT("1"), ELEMENT("1e9")};
    static const struct array_element large[] = {ELEMENT("2147483648")};
    struct buffer out;
    (void)state;
    buffer_init(&out, 1024);
    buffer_putc(&out, 'x');
    assert_false(array_put_binary(&out, OID_NUMERIC, good, 2));
    assert_false(array_put_binary(&out, OID_INT4, bad, 2));
    assert_false(array_put_binary(&out, OID_INT4, large, 1));
    assert_string_equal(buffer_text(&out), "x");
    buffer_release(&out);
}

static void test_text(void **state)
{
    static const struct array_element elements[] = {ELEMENT("a\"b"), {NULL, 0}, ELEMENT("NULL")};
    struct buffer out;
    (void)state;
    buffer_init(&out, 1024);
    array_put_text(&out, elements, 3);
    assert_int_equal(out.length, sizeof "{\"a\\\"b\",NULL,\"NULL\"}");
    assert_string_equal(buffer_text(&out), "{\"a\\\"b\",NULL,\"NULL\"}");
    buffer_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_binary),
        cmocka_unit_test(test_what_has_no_binary_form),
        cmocka_unit_test(test_text),
    };
    return run_unit_tests("arraycodec", tests);
}
