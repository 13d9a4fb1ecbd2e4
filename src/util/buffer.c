#include "util/buffer.h"

#include <endian.h>
#include <stdarg.h>

void buffer_init(struct buffer *buffer, size_t max)
{
    *buffer = (struct buffer){.max = max};
}

void buffer_release(struct buffer *buffer)
{
    free(buffer->bytes);
    buffer_init(buffer, buffer->max);
}

void buffer_clear(struct buffer *buffer)
{
    buffer->length = 0;
    buffer->failed = false;
    if (buffer->bytes != NULL)
        buffer->bytes[0] = '\0';
}

/* Makes room for `extra` bytes and the NUL; false (and sticky) when that passes the maximum. */
static bool buffer_reserve(struct buffer *buffer, size_t extra)
{
    if (buffer->failed || extra > buffer->max - buffer->length) {
        buffer->failed = true;
        return false;
    }
    size_t need = buffer->length + extra + 1;
    if (need <= buffer->capacity)
        return true;
    size_t grown = buffer->capacity < 64 ? 64 : buffer->capacity * 2;
    if (grown < need)
        grown = need;
    buffer->bytes = check_realloc(buffer->bytes, grown);
    buffer->capacity = grown;
    return true;
}

void buffer_append(struct buffer *buffer, const void *bytes, size_t length)
{
    if (!buffer_reserve(buffer, length))
        return;
    if (length > 0)
        memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
    buffer->bytes[buffer->length] = '\0';
}

void buffer_puts(struct buffer *buffer, const char *text)
{
    buffer_append(buffer, text, strlen(text));
}

void buffer_putc(struct buffer *buffer, char c)
{
    buffer_append(buffer, &c, 1);
}

void buffer_printf(struct buffer *buffer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(length >= 0);
    if (!buffer_reserve(buffer, (size_t)length))
        return;
    va_start(args, format);
    vsnprintf(buffer->bytes + buffer->length, (size_t)length + 1, format, args);
    va_end(args);
    buffer->length += (size_t)length;
}

void buffer_put_int16(struct buffer *buffer, int16_t value)
{
    uint16_t bytes = htobe16((uint16_t)value);
    buffer_append(buffer, &bytes, sizeof bytes);
}

void buffer_put_int32(struct buffer *buffer, int32_t value)
{
    uint32_t bytes = htobe32((uint32_t)value);
    buffer_append(buffer, &bytes, sizeof bytes);
}

void buffer_put_int64(struct buffer *buffer, int64_t value)
{
    uint64_t bytes = htobe64((uint64_t)value);
    buffer_append(buffer, &bytes, sizeof bytes);
}

void buffer_truncate(struct buffer *buffer, size_t length)
{
    CHECK(length <= buffer->length);
    buffer->length = length;
    if (buffer->bytes != NULL)
        buffer->bytes[length] = '\0';
}

const char *buffer_text(const struct buffer *buffer)
{
    return buffer->bytes != NULL ? buffer->bytes : "";
}

char *buffer_detach(struct buffer *buffer)
{
    char *text = buffer->bytes != NULL ? buffer->bytes : check_strdup("");
    buffer_init(buffer, buffer->max);
    return text;
}
