/*
 * Any row is read or refused, its fields lie within it, and what a field says survives being
 * escaped and read again. The first byte chooses format, columns and whether a header is still to come.
 */
#include "fuzz.h"
#include "pg/copycodec.h"
#include "samples.h"

enum { COLUMNS_MAX = 8, TEXT_BIT = 1, HEADER_BIT = 2, COLUMNS_SHIFT = 2 };

static void put_choice(struct buffer *bytes, unsigned bits)
{
    buffer_putc(bytes, (char)(bits | SAMPLE_COLUMNS << COLUMNS_SHIFT));
}

/* The samples one after the other: text, binary, binary behind a header. */
bool fuzz_seed(unsigned number, struct buffer *bytes)
{
    if (number < SAMPLES_COPY_TEXT) {
        put_choice(bytes, TEXT_BIT);
        samples_copy_text[number].build(bytes);
        return true;
    }
    number -= SAMPLES_COPY_TEXT;
    bool header = number >= SAMPLES_COPY_BINARY;
    number -= header ? SAMPLES_COPY_BINARY : 0;
    if (number >= SAMPLES_COPY_BINARY)
        return false;
    put_choice(bytes, header ? HEADER_BIT : 0);
    if (header)
        buffer_append(bytes, copy_binary_header, sizeof copy_binary_header);
    samples_copy_binary[number].build(bytes);
    return true;
}

static void unescape(const char *bytes, size_t length, struct buffer *value)
{
    const struct copy_field field = {bytes, (int32_t)length};
    buffer_clear(value);
    copy_text_unescape(&field, value);
}

static void check_round_trip(const struct copy_field *field)
{
    size_t length = (size_t)field->length;
    struct buffer value, escaped, again;
    buffer_init(&value, length);
    buffer_init(&escaped, length * 2);
    buffer_init(&again, length);
    unescape(field->bytes, length, &value);
    copy_text_escape(&escaped, buffer_text(&value), value.length);
    unescape(buffer_text(&escaped), escaped.length, &again);
    CHECK(!buffer_failed(&value) && !buffer_failed(&escaped) && !buffer_failed(&again));
    CHECK(memchr(buffer_text(&escaped), '\n', escaped.length) == NULL);
    CHECK(memchr(buffer_text(&escaped), '\t', escaped.length) == NULL);
    CHECK(again.length == value.length);
    CHECK(memcmp(buffer_text(&again), buffer_text(&value), value.length) == 0);
    buffer_release(&again);
    buffer_release(&escaped);
    buffer_release(&value);
}

static void check_field(const struct copy_reader *reader, const struct copy_field *field,
                        const char *row, size_t row_length)
{
    CHECK(field->length >= -1);
    if (field->length < 0)
        return;
    CHECK(field->bytes >= row && field->bytes + field->length <= row + row_length);
    fuzz_touch(field->bytes, (size_t)field->length);
    if (reader->format == COPY_TEXT)
        check_round_trip(field);
}

static void read_message(struct copy_reader *reader, const char *message, size_t length)
{
    struct copy_field fields[COLUMNS_MAX];
    struct error err = ERROR_INIT;
    const char *row;
    size_t row_length;
    bool ok = copy_reader_row(reader, message, length, &row, &row_length, fields, &err);
    CHECK(err.class == (ok ? ERROR_NONE : ERROR_FATAL));
    CHECK(reader->rows == (ok && row_length > 0 ? 1 : 0));
    if (!ok || row_length == 0)
        return;
    CHECK(row >= message && row + row_length == message + length);
    for (unsigned f = 0; f < reader->columns; f++)
        check_field(reader, &fields[f], row, row_length);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct copy_reader reader;
    if (length == 0)
        return 0;
    enum copy_format format = (bytes[0] & TEXT_BIT) != 0 ? COPY_TEXT : COPY_BINARY;
    copy_reader_init(&reader, format, (bytes[0] >> COLUMNS_SHIFT) % (COLUMNS_MAX + 1));
    if ((bytes[0] & HEADER_BIT) == 0)
        reader.header_seen = true;
    read_message(&reader, (const char *)bytes + 1, length - 1);
    return 0;
}
