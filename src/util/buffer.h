/*
 * A growing byte buffer that is born with a maximum. Always NUL-terminated behind its last byte, so
 * that text can be read in place.
 *
 * Overflow is sticky: appends beyond the maximum are dropped and buffer_failed() tells, so that
 * code which builds a statement from many parts asks once, at its end.
 */
#ifndef UTIL_BUFFER_H
#define UTIL_BUFFER_H

#include <stdbool.h>
#include <stdint.h>

#include "util/check.h"

struct buffer {
    char *bytes;
    size_t length;
    size_t capacity;
    size_t max;
    bool failed;
};

void buffer_init(struct buffer *buffer, size_t max);
void buffer_release(struct buffer *buffer);
void buffer_clear(struct buffer *buffer); /* keeps the memory */

void buffer_append(struct buffer *buffer, const void *bytes, size_t length);
void buffer_puts(struct buffer *buffer, const char *text);
void buffer_putc(struct buffer *buffer, char c);
void buffer_printf(struct buffer *buffer, const char *format, ...) PRINTF_LIKE(2, 3);

static inline bool buffer_failed(const struct buffer *buffer)
{
    return buffer->failed;
}

/* In network byte order. */
void buffer_put_int16(struct buffer *buffer, int16_t value);
void buffer_put_int32(struct buffer *buffer, int32_t value);
void buffer_put_int64(struct buffer *buffer, int64_t value);

/* Takes back what was appended behind `length`, which must not be greater than buffer->length. */
void buffer_truncate(struct buffer *buffer, size_t length);

/* The text so far; valid until the next append. Never NULL. */
const char *buffer_text(const struct buffer *buffer);

/* Hands the text over: the caller frees it; the buffer is empty afterwards. */
char *buffer_detach(struct buffer *buffer);

#endif
