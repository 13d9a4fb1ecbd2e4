#include "unit.h"

#include "pg/copycodec.h"
#include "samples.h"

/* One message given to a reader, in memory of just its size. */
struct taken {
    char *message;
    const char *row;
    size_t row_length;
    struct copy_field fields[SAMPLE_COLUMNS];
    struct error err;
    bool ok;
};

static struct taken take(struct copy_reader *reader, const char *bytes, size_t length)
{
    struct taken taken = {.message = exact_copy(bytes, length), .err = ERROR_INIT};
    taken.ok = copy_reader_row(reader, taken.message, length, &taken.row, &taken.row_length,
                               taken.fields, &taken.err);
    assert_int_equal(taken.err.class, taken.ok ? ERROR_NONE : ERROR_FATAL);
    return taken;
}

static void assert_field(const struct copy_field *field, const char *bytes, int32_t length)
{
    assert_true(field->length == length);
    if (length > 0)
        assert_memory_equal(field->bytes, bytes, (size_t)length);
}

static struct copy_reader binary_reader(bool header_seen)
{
    struct copy_reader reader;
    copy_reader_init(&reader, COPY_BINARY, SAMPLE_COLUMNS);
    reader.header_seen = header_seen;
    return reader;
}

static struct copy_reader text_reader(unsigned columns)
{
    struct copy_reader reader;
    copy_reader_init(&reader, COPY_TEXT, columns);
    return reader;
}

static void build(const struct sample *samples, const char *name, struct buffer *bytes)
{
    while (strcmp(samples->name, name) != 0)
        samples++;
    samples->build(bytes);
}

/* ---- binary ---- */

static void test_binary_header_alone(void **state)
{
    struct copy_reader reader = binary_reader(false);
    struct buffer row;
    (void)state;
    buffer_init(&row, 4096);
    struct taken taken = take(&reader, copy_binary_header, sizeof copy_binary_header);
    assert_true(taken.ok);
    assert_int_equal(taken.row_length, 0);
    assert_true(reader.header_seen);
    assert_int_equal(reader.rows, 0);
    free(taken.message);

    build(samples_copy_binary, "plain", &row);
    taken = take(&reader, buffer_text(&row), row.length);
    assert_true(taken.ok);
    assert_ptr_equal(taken.row, taken.message);
    assert_int_equal(taken.row_length, row.length);
    assert_int_equal(reader.rows, 1);
    assert_field(&taken.fields[0], "\0\0\0\x2A", 4);
    assert_field(&taken.fields[1], "hello", 5);
    assert_field(&taken.fields[2], "\x01", 1);
    free(taken.message);

    taken = take(&reader, copy_binary_trailer, sizeof copy_binary_trailer);
    assert_true(taken.ok);
    assert_int_equal(taken.row_length, 0);
    assert_true(reader.trailer_seen);
    assert_int_equal(reader.rows, 1);
    free(taken.message);
    buffer_release(&row);
}

/* As servers do it: the first row comes behind the header; an extension of it is passed over. */
static void test_binary_header_with_row(void **state)
{
    (void)state;
    for (unsigned extension = 0; extension <= 5; extension++) {
        struct copy_reader reader = binary_reader(false);
        struct buffer message;
        buffer_init(&message, 4096);
        buffer_append(&message, copy_binary_header, 15);
        put_uint(&message, extension, 4);
        buffer_append(&message, "extra", extension);
        size_t header = message.length;
        build(samples_copy_binary, "nulls", &message);
        struct taken taken = take(&reader, buffer_text(&message), message.length);
        assert_true(taken.ok);
        assert_ptr_equal(taken.row, taken.message + header);
        assert_int_equal(taken.row_length, message.length - header);
        assert_int_equal(reader.rows, 1);
        for (int f = 0; f < SAMPLE_COLUMNS; f++)
            assert_field(&taken.fields[f], NULL, -1);
        free(taken.message);
        buffer_release(&message);
    }
}

/* An empty table: header and trailer in one message. */
static void test_binary_header_with_trailer(void **state)
{
    struct copy_reader reader = binary_reader(false);
    (void)state;
    struct taken taken = take(&reader, "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0\377\377", 21);
    assert_true(taken.ok);
    assert_int_equal(taken.row_length, 0);
    assert_true(reader.trailer_seen);
    assert_int_equal(reader.rows, 0);
    free(taken.message);
}

static void test_binary_fields(void **state)
{
    struct copy_reader reader = binary_reader(true);
    struct buffer row;
    (void)state;
    buffer_init(&row, 4096);
    build(samples_copy_binary, "empty", &row);
    struct taken taken = take(&reader, buffer_text(&row), row.length);
    assert_true(taken.ok);
    assert_field(&taken.fields[0], NULL, 0);
    assert_field(&taken.fields[1], "x", 1);
    assert_field(&taken.fields[2], NULL, 0);
    free(taken.message);

    buffer_clear(&row);
    build(samples_copy_binary, "misleading", &row);
    taken = take(&reader, buffer_text(&row), row.length);
    assert_true(taken.ok);
    assert_false(reader.trailer_seen);
    assert_field(&taken.fields[0], "\xFF\xFF", 2);
    assert_field(&taken.fields[1], "PGCOPY\n\377\r\n\0", 11);
    assert_field(&taken.fields[2], "\\.\n", 3);
    free(taken.message);
    buffer_release(&row);
}

/* Fields are not always wanted; the row is checked all the same. */
static void test_without_fields(void **state)
{
    struct copy_reader reader = binary_reader(true);
    struct error err = ERROR_INIT;
    const char *row;
    size_t length;
    (void)state;
    assert_true(copy_reader_row(&reader, "\0\3\0\0\0\0\0\0\0\0\0\0\0\0", 14, &row, &length, NULL,
                                &err));
    assert_int_equal(length, 14);
    assert_false(copy_reader_row(&reader, "\0\3\0\0\0\0\0\0\0\0\0\0\0\1", 14, &row, &length, NULL,
                                 &err));
    struct copy_reader text = text_reader(2);
    assert_true(copy_reader_row(&text, "a\tb\n", 4, &row, &length, NULL, &err));
    assert_false(copy_reader_row(&text, "a\n", 2, &row, &length, NULL, &err));
}

/* D10: a row that is cut anywhere, alone and behind a header. */
static void cut_everywhere(const struct sample *sample, const char *header, size_t header_length)
{
    struct buffer message;
    buffer_init(&message, 4096);
    buffer_append(&message, header, header_length);
    sample->build(&message);
    for (size_t length = 1; length < message.length; length++) {
        struct copy_reader reader = binary_reader(header_length == 0);
        struct taken taken = take(&reader, buffer_text(&message), length);
        if (taken.ok != (length == header_length)) /* a header alone is whole */
            fail_msg("%s behind %zu bytes of header, cut to %zu bytes", sample->name,
                     header_length, length);
        assert_int_equal(reader.rows, 0);
        free(taken.message);
    }
    buffer_release(&message);
}

static void test_D10_binary_every_cut(void **state)
{
    (void)state;
    for (size_t s = 0; s < SAMPLES_COPY_BINARY; s++) {
        cut_everywhere(&samples_copy_binary[s], NULL, 0);
        cut_everywhere(&samples_copy_binary[s], copy_binary_header, sizeof copy_binary_header);
    }
}

static void test_binary_malformed(void **state)
{
    static const struct {
        const char *bytes;
        size_t length;
        bool header_seen;
        const char *message;
    } rows[] = {
        {"PGCOPZ\n\377\r\n\0\0\0\0\0\0\0\0\0", 19, false,
         "COPY data: no binary signature at offset 0 of row 1"},
        {"42\thello\tt\n", 11, false, "COPY data: no binary signature at offset 0 of row 1"},
        {"PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\1", 19, false,
         "COPY data: header extension is cut at offset 15 of row 1"},
        {"PGCOPY\n\377\r\n\0\0\0\0\0\377\377\377\377", 19, false,
         "COPY data: header extension is cut at offset 15 of row 1"},
        {"\0", 1, true, "COPY data: row is cut at offset 0 of row 1"},
        {"\0\2\0\0\0\0\0\0\0\0", 10, true,
         "COPY data: another number of fields at offset 0 of row 1"},
        {"\377\377\0\0", 4, true, "COPY data: another number of fields at offset 0 of row 1"},
        {"\377\376", 2, true, "COPY data: another number of fields at offset 0 of row 1"},
        {"\0\3\0\0", 4, true, "COPY data: field length is cut at offset 2 of row 1"},
        {"\0\3\0\0\0\5abcd", 10, true, "COPY data: field is cut at offset 6 of row 1"},
        {"\0\3\177\377\377\377abcd", 10, true, "COPY data: field is cut at offset 6 of row 1"},
        {"\0\3\377\377\377\376\0\0\0\0\0\0\0\0", 14, true,
         "COPY data: field is cut at offset 6 of row 1"},
        {"\0\3\200\0\0\0\0\0\0\0\0\0\0\0", 14, true,
         "COPY data: field is cut at offset 6 of row 1"},
        {"\0\3\0\0\0\0\0\0\0\0\0\0\0\0x", 15, true,
         "COPY data: bytes behind the last field at offset 14 of row 1"},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct copy_reader reader = binary_reader(rows[r].header_seen);
        struct taken taken = take(&reader, rows[r].bytes, rows[r].length);
        assert_false(taken.ok);
        assert_string_equal(taken.err.message, rows[r].message);
        free(taken.message);
    }
}

static void test_error_names_the_row(void **state)
{
    struct copy_reader reader = text_reader(2);
    (void)state;
    for (int i = 0; i < 6; i++)
        free(take(&reader, "a\tb\n", 4).message);
    assert_int_equal(reader.rows, 6);
    struct taken taken = take(&reader, "a\tb\tc\n", 6);
    assert_string_equal(taken.err.message,
                        "COPY data: another number of fields at offset 2 of row 7");
    free(taken.message);
}

/* ---- text ---- */

static void assert_unescaped(const struct copy_field *field, const char *text)
{
    struct buffer value;
    buffer_init(&value, 4096);
    copy_text_unescape(field, &value);
    assert_string_equal(buffer_text(&value), text);
    buffer_release(&value);
}

static void test_text_fields(void **state)
{
    static const struct {
        const char *name;
        const char *values[SAMPLE_COLUMNS]; /* NULL is NULL */
    } rows[] = {
        {"plain", {"42", "hello", "t"}},
        {"nulls", {NULL, NULL, NULL}},
        {"empty", {"", "", ""}},
        {"multibyte", {"größe", "€𝄞", "日本"}},
        {"escapes", {"\\.", "\\N\r\n\t", "\b\f\v\\"}},
    };
    (void)state;
    assert_int_equal(COUNT_OF(rows), SAMPLES_COPY_TEXT);
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct copy_reader reader = text_reader(SAMPLE_COLUMNS);
        struct buffer row;
        buffer_init(&row, 4096);
        build(samples_copy_text, rows[r].name, &row);
        struct taken taken = take(&reader, buffer_text(&row), row.length);
        assert_row(taken.ok, rows[r].name);
        assert_ptr_equal(taken.row, taken.message);
        assert_int_equal(taken.row_length, row.length);
        for (int f = 0; f < SAMPLE_COLUMNS; f++) {
            if (rows[r].values[f] == NULL)
                assert_true(taken.fields[f].length == -1);
            else
                assert_unescaped(&taken.fields[f], rows[r].values[f]);
        }
        free(taken.message);
        buffer_release(&row);
    }
}

static void test_text_one_column(void **state)
{
    static const struct {
        const char *row;
        int32_t length;
    } rows[] = {{"\n", 0}, {"\\N\n", -1}, {"\\\\N\n", 3}, {"\\\\.\n", 3}, {"N\n", 1}};
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct copy_reader reader = text_reader(1);
        struct taken taken = take(&reader, rows[r].row, strlen(rows[r].row));
        assert_row(taken.ok, rows[r].row);
        assert_true(taken.fields[0].length == rows[r].length);
        free(taken.message);
    }
}

/* A table without columns has rows nevertheless. */
static void test_no_columns(void **state)
{
    struct copy_reader reader = text_reader(0);
    (void)state;
    struct taken taken = take(&reader, "\n", 1);
    assert_true(taken.ok);
    assert_int_equal(reader.rows, 1);
    free(taken.message);
    copy_reader_init(&reader, COPY_BINARY, 0);
    reader.header_seen = true;
    taken = take(&reader, "\0\0", 2);
    assert_true(taken.ok);
    assert_int_equal(taken.row_length, 2);
    assert_int_equal(reader.rows, 1);
    free(taken.message);
}

/* D10: a line ends in a newline, and no value holds one, so no cut goes unseen. */
static void test_D10_text_every_cut(void **state)
{
    (void)state;
    for (size_t s = 0; s < SAMPLES_COPY_TEXT; s++) {
        struct buffer row;
        buffer_init(&row, 4096);
        samples_copy_text[s].build(&row);
        for (size_t length = 0; length < row.length; length++) {
            struct copy_reader reader = text_reader(SAMPLE_COLUMNS);
            struct taken taken = take(&reader, buffer_text(&row), length);
            assert_row(!taken.ok, samples_copy_text[s].name);
            assert_non_null(strstr(taken.err.message, "line is cut"));
            assert_int_equal(reader.rows, 0);
            free(taken.message);
        }
        buffer_release(&row);
    }
}

static void test_text_malformed(void **state)
{
    static const char *const rows[] = {"\n", "a\n", "a\tb\n", "a\tb\tc\td\n", "\t\t\t\n"};
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct copy_reader reader = text_reader(SAMPLE_COLUMNS);
        struct taken taken = take(&reader, rows[r], strlen(rows[r]));
        assert_row(!taken.ok, rows[r]);
        assert_non_null(strstr(taken.err.message, "another number of fields"));
        free(taken.message);
    }
}

/* What is escaped looks as PostgreSQL writes it, and comes back. */
static void test_D11_escape(void **state)
{
    static const char *const rows[][2] = {
        {"", ""},
        {"plain", "plain"},
        {"\\.", "\\\\."},
        {"\\N", "\\\\N"},
        {"\r", "\\r"},
        {"\n", "\\n"},
        {"\r\n", "\\r\\n"},
        {"\t", "\\t"},
        {"\\", "\\\\"},
        {"\\\\", "\\\\\\\\"},
        {"\\n", "\\\\n"},
        {"\b\f\v", "\\b\\f\\v"},
        {"größe €𝄞", "größe €𝄞"},
        {"a\tb\\c\nd", "a\\tb\\\\c\\nd"},
    };
    struct buffer out;
    (void)state;
    buffer_init(&out, 256);
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        buffer_clear(&out);
        copy_text_escape(&out, rows[r][0], strlen(rows[r][0]));
        assert_string_equal(buffer_text(&out), rows[r][1]);
        struct copy_field field = {buffer_text(&out), (int32_t)out.length};
        assert_unescaped(&field, rows[r][0]);
    }
    buffer_clear(&out);
    copy_text_escape(&out, NULL, 0);
    assert_string_equal(buffer_text(&out), "\\N");
    buffer_release(&out);
}

/* Every pair of bytes goes out, through the reader and back: also where one looks like the escape
 * of another, and where bytes are not UTF-8. */
static void test_D11_round_trip_of_all_pairs(void **state)
{
    struct buffer row, value;
    (void)state;
    buffer_init(&row, 64);
    buffer_init(&value, 64);
    for (unsigned pair = 0; pair < 65536; pair++) {
        const char bytes[2] = {(char)(pair >> 8), (char)pair};
        struct copy_reader reader = text_reader(2);
        struct copy_field fields[2];
        struct error err = ERROR_INIT;
        const char *start;
        size_t length;
        buffer_clear(&row);
        buffer_clear(&value);
        copy_text_escape(&row, bytes, 2);
        buffer_putc(&row, '\t');
        copy_text_escape(&row, bytes, 1);
        buffer_putc(&row, '\n');
        assert_true(copy_reader_row(&reader, buffer_text(&row), row.length, &start, &length,
                                    fields, &err));
        copy_text_unescape(&fields[0], &value);
        copy_text_unescape(&fields[1], &value);
        assert_int_equal(value.length, 3);
        assert_memory_equal(buffer_text(&value), bytes, 2);
        assert_int_equal(buffer_text(&value)[2], bytes[0]);
    }
    buffer_release(&value);
    buffer_release(&row);
}

/* What no server sends, but a field may be cut from: a backslash at its end stands for itself. */
static void test_unescape_at_the_end(void **state)
{
    const struct copy_field cut = {"ab\\n", 3}, null = {"\\N", -1}, other = {"\\x\\.", 4};
    (void)state;
    assert_unescaped(&cut, "ab\\");
    assert_unescaped(&null, "");
    assert_unescaped(&other, "x.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_binary_header_alone),
        cmocka_unit_test(test_binary_header_with_row),
        cmocka_unit_test(test_binary_header_with_trailer),
        cmocka_unit_test(test_binary_fields),
        cmocka_unit_test(test_without_fields),
        cmocka_unit_test(test_D10_binary_every_cut),
        cmocka_unit_test(test_binary_malformed),
        cmocka_unit_test(test_error_names_the_row),
        cmocka_unit_test(test_text_fields),
        cmocka_unit_test(test_text_one_column),
        cmocka_unit_test(test_no_columns),
        cmocka_unit_test(test_D10_text_every_cut),
        cmocka_unit_test(test_text_malformed),
        cmocka_unit_test(test_D11_escape),
        cmocka_unit_test(test_D11_round_trip_of_all_pairs),
        cmocka_unit_test(test_unescape_at_the_end),
    };
    return run_unit_tests("copycodec", tests);
}
