/*
 * Valid input of the parsers of bytes from outside, built by hand from PostgreSQL's documentation:
 * what unit tests cut at every byte, and what fuzz targets start from.
 */
#ifndef TESTS_SAMPLES_H
#define TESTS_SAMPLES_H

#include "util/buffer.h"

struct sample {
    const char *name;
    void (*build)(struct buffer *bytes); /* appends */
};

enum { SAMPLES_PGOUTPUT = 16, SAMPLES_COPY_BINARY = 5, SAMPLES_COPY_TEXT = 5, SAMPLE_COLUMNS = 3 };

/* One message each. */
extern const struct sample samples_pgoutput[SAMPLES_PGOUTPUT];
/* One row of SAMPLE_COLUMNS fields each, without the header. */
extern const struct sample samples_copy_binary[SAMPLES_COPY_BINARY];
extern const struct sample samples_copy_text[SAMPLES_COPY_TEXT];

/* The parts they are made of: big-endian numbers, texts with their NUL, fields. */
void put_uint(struct buffer *bytes, uint64_t value, size_t width);
void put_string(struct buffer *bytes, const char *text);
void put_text_value(struct buffer *bytes, const char *text); /* pgoutput: 't', length, bytes */
void put_copy_field(struct buffer *bytes, const char *value, size_t length); /* NULL is NULL */

/*
 * The first `length` bytes in memory of just that size, so that a read beyond them is found by
 * AddressSanitizer. The caller frees it.
 */
char *exact_copy(const char *bytes, size_t length);

#endif
