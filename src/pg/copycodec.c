#include "pg/copycodec.h"

enum { SIGNATURE_LENGTH = 11, HEADER_LENGTH = 19 };

const char copy_binary_header[19] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0";
const char copy_binary_trailer[2] = {'\377', '\377'};

void copy_reader_init(struct copy_reader *reader, enum copy_format format, unsigned columns)
{
    *reader = (struct copy_reader){.format = format, .columns = columns};
    reader->header_seen = format == COPY_TEXT;
}

static uint32_t read_uint32(const char *bytes)
{
    const unsigned char *b = (const unsigned char *)bytes;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static int read_int16(const char *bytes)
{
    const unsigned char *b = (const unsigned char *)bytes;
    return (int16_t)(b[0] << 8 | b[1]);
}

static bool malformed(const struct copy_reader *reader, const char *what, size_t at,
                      struct error *err)
{
    return error_set(err, ERROR_FATAL, "COPY data: %s at offset %zu of row %llu", what, at,
                     (unsigned long long)reader->rows + 1);
}

static bool skip_header(struct copy_reader *reader, const char **message, size_t *length,
                        struct error *err)
{
    if (*length < HEADER_LENGTH || memcmp(*message, copy_binary_header, SIGNATURE_LENGTH) != 0)
        return malformed(reader, "no binary signature", 0, err);
    size_t skip = HEADER_LENGTH + (size_t)read_uint32(*message + 15);
    if (skip > *length)
        return malformed(reader, "header extension is cut", 15, err);
    *message += skip;
    *length -= skip;
    reader->header_seen = true;
    return true;
}

static bool binary_fields(struct copy_reader *reader, const char *row, size_t length,
                          struct copy_field *fields, struct error *err)
{
    size_t at = 2;
    for (unsigned i = 0; i < reader->columns; i++) {
        if (length - at < 4)
            return malformed(reader, "field length is cut", at, err);
        int32_t size = (int32_t)read_uint32(row + at);
        at += 4;
        if (size < -1 || (size > 0 && (size_t)size > length - at))
            return malformed(reader, "field is cut", at, err);
        if (fields != NULL)
            fields[i] = (struct copy_field){.bytes = row + at, .length = size};
        at += size > 0 ? (size_t)size : 0;
    }
    return at == length || malformed(reader, "bytes behind the last field", at, err);
}

static bool binary_row(struct copy_reader *reader, const char *message, size_t length,
                       const char **row, size_t *row_length, struct copy_field *fields,
                       struct error *err)
{
    if (!reader->header_seen && !skip_header(reader, &message, &length, err))
        return false;
    *row = message;
    *row_length = 0;
    if (length == 0)
        return true;
    if (length < 2)
        return malformed(reader, "row is cut", 0, err);
    int count = read_int16(message);
    if (count == -1 && length == 2) {
        reader->trailer_seen = true;
        return true;
    }
    if (count != (int)reader->columns)
        return malformed(reader, "another number of fields", 0, err);
    *row_length = length;
    if (!binary_fields(reader, message, length, fields, err))
        return false;
    reader->rows++;
    return true;
}

/* Tabs within values are escaped, so each one ends a field. */
static bool text_fields(struct copy_reader *reader, const char *row, size_t length,
                        struct copy_field *fields, struct error *err)
{
    const char *at = row, *end = row + length - 1; /* without the newline */
    for (unsigned i = 0; i < reader->columns; i++) {
        const char *tab = memchr(at, '\t', (size_t)(end - at));
        const char *stop = tab != NULL ? tab : end;
        if ((tab == NULL) != (i == reader->columns - 1))
            return malformed(reader, "another number of fields", (size_t)(at - row), err);
        bool null = stop - at == 2 && memcmp(at, "\\N", 2) == 0;
        if (fields != NULL)
            fields[i] = (struct copy_field){.bytes = at, .length = null ? -1 : (int32_t)(stop - at)};
        at = stop + 1;
    }
    return true;
}

bool copy_reader_row(struct copy_reader *reader, const char *message, size_t length,
                     const char **row, size_t *row_length, struct copy_field *fields,
                     struct error *err)
{
    if (reader->format == COPY_BINARY)
        return binary_row(reader, message, length, row, row_length, fields, err);
    if (length == 0 || message[length - 1] != '\n')
        return malformed(reader, "line is cut", length, err);
    *row = message;
    *row_length = length;
    if (reader->columns > 0 && !text_fields(reader, message, length, fields, err))
        return false;
    reader->rows++;
    return true;
}

static char unescaped(char c)
{
    switch (c) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'v':
        return '\v';
    default:
        return c;
    }
}

void copy_text_unescape(const struct copy_field *field, struct buffer *value)
{
    for (int32_t i = 0; i < field->length; i++) {
        char c = field->bytes[i];
        if (c == '\\' && i + 1 < field->length)
            c = unescaped(field->bytes[++i]);
        buffer_putc(value, c);
    }
}

void copy_text_escape(struct buffer *out, const char *bytes, size_t length)
{
    static const char special[] = "\\\n\r\t\b\f\v", letters[] = "\\nrtbfv";
    if (bytes == NULL) {
        buffer_puts(out, "\\N");
        return;
    }
    for (size_t i = 0; i < length; i++) {
        const char *at = memchr(special, bytes[i], sizeof special - 1);
        if (at == NULL) {
            buffer_putc(out, bytes[i]);
            continue;
        }
        buffer_putc(out, '\\');
        buffer_putc(out, letters[at - special]);
    }
}
