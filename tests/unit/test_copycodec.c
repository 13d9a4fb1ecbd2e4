#include "unit.h"

#include "pg/copycodec.h"

/* One row of two fields: an int4 and a text, in COPY's binary form. */
static const char binary_row[] = "\0\2" "\0\0\0\4" "\0\0\1\2" "\0\0\0\3" "a\0b";
enum { BINARY_ROW = sizeof binary_row - 1 };

static bool read_row(enum copy_format format, const char *message, size_t length,
                     struct copy_field *fields, const char **row, size_t *row_length)
{
    struct copy_reader reader;
    struct error err = ERROR_INIT;
    copy_reader_init(&reader, format, 2);
    if (format == COPY_BINARY &&
        !copy_reader_row(&reader, copy_binary_header, sizeof copy_binary_header, row, row_length,
                         fields, &err))
        return false;
    char *exact = check_malloc(length + 1);
    memcpy(exact, message, length);
    bool ok = copy_reader_row(&reader, exact, length, row, row_length, fields, &err);
    if (ok && fields != NULL && *row_length > 0) { /* they point into the message */
        for (int f = 0; f < 2; f++)
            fields[f].bytes = message + (fields[f].bytes - exact);
    }
    free(exact);
    return ok;
}

static void test_binary_row(void **state)
{
    struct copy_field fields[2];
    const char *row;
    size_t length;
    (void)state;
    assert_true(read_row(COPY_BINARY, binary_row, BINARY_ROW, fields, &row, &length));
    assert_int_equal(length, BINARY_ROW);
    assert_int_equal(fields[0].length, 4);
    assert_int_equal(fields[1].length, 3);
    assert_memory_equal(fields[1].bytes, "a\0b", 3);
}

static void test_D10_a_binary_row_cut_anywhere(void **state)
{
    struct copy_field fields[2];
    const char *row;
    size_t length;
    (void)state;
    for (size_t cut = 1; cut < BINARY_ROW; cut++)
        assert_false(read_row(COPY_BINARY, binary_row, cut, fields, &row, &length));
}

static void test_binary_trailer_holds_no_row(void **state)
{
    const char *row;
    size_t length;
    (void)state;
    assert_true(read_row(COPY_BINARY, copy_binary_trailer, 2, NULL, &row, &length));
    assert_int_equal(length, 0);
}

/* D11: what is escaped comes back. */
static void test_D11_text_round_trip(void **state)
{
    static const char *const values[] = {"", "\\.", "\\N", "a\tb\r\nc\\", "é€𝄞", "\b\f\v", "x\\"};
    struct copy_field fields[2];
    const char *row;
    size_t length;
    (void)state;
    for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
        struct buffer line, back;
        buffer_init(&line, 4096);
        buffer_init(&back, 4096);
        copy_text_escape(&line, values[v], strlen(values[v]));
        buffer_putc(&line, '\t');
        copy_text_escape(&line, NULL, 0);
        buffer_putc(&line, '\n');
        assert_true(read_row(COPY_TEXT, line.bytes, line.length, fields, &row, &length));
        assert_int_equal(fields[1].length, -1);
        copy_text_unescape(&fields[0], &back);
        assert_int_equal(back.length, strlen(values[v]));
        assert_memory_equal(buffer_text(&back), values[v], back.length);
        buffer_release(&line);
        buffer_release(&back);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_binary_row),
        cmocka_unit_test(test_D10_a_binary_row_cut_anywhere),
        cmocka_unit_test(test_binary_trailer_holds_no_row),
        cmocka_unit_test(test_D11_text_round_trip),
    };
    return run_unit_tests("copycodec", tests);
}
