/*
 * COPY, as bytes: walks the rows of COPY … TO STDOUT (binary or text) as libpq delivers them, one
 * row a message (PQgetCopyData), and finds the fields, without changing a byte.
 *
 * Binary: an 11-byte signature, flags and extension length come before the first row, in the same
 * message as it or alone; the trailer (-1) comes last. Text: fields are escaped; a field's decoded
 * value is produced on request only (routing needs one field).
 * Source of the format: PostgreSQL documentation of COPY, "File Formats".
 *
 * Fields point into the row given. Not thread-safe, one struct a stream. Errors: FATAL (the stream
 * is not what the protocol says), naming row number and offset; LIMIT for rows over row_bytes_max.
 */
#ifndef PG_COPYCODEC_H
#define PG_COPYCODEC_H

#include <stddef.h>

#include "util/arena.h"
#include "util/buffer.h"
#include "util/error.h"

enum copy_format { COPY_BINARY, COPY_TEXT };

struct copy_field {
    const char *bytes; /* binary: the value; text: still escaped */
    int32_t length;    /* -1 is NULL */
};

struct copy_reader {
    enum copy_format format;
    unsigned columns;
    uint64_t rows; /* seen so far */
    bool header_seen;
    bool trailer_seen;
};

/* What the target must receive before the first row and after the last one (binary; empty for text). */
extern const char copy_binary_header[19];
extern const char copy_binary_trailer[2];

void copy_reader_init(struct copy_reader *reader, enum copy_format format, unsigned columns);

/*
 * Takes one CopyData message. *row / *row_length are the row's bytes without header, ready to be sent
 * on as they are; *row_length is 0 when the message holds no row (header or trailer alone).
 * fields[] has room for `columns` entries and is filled when it is not NULL.
 */
bool copy_reader_row(struct copy_reader *reader, const char *message, size_t length,
                     const char **row, size_t *row_length, struct copy_field *fields,
                     struct error *err) MUST_CHECK;

/* Text format: the field's value without escapes, appended to `value`. */
void copy_text_unescape(const struct copy_field *field, struct buffer *value);
/* Text format: appends an escaped field; NULL bytes append \N. */
void copy_text_escape(struct buffer *out, const char *bytes, size_t length);

#endif
