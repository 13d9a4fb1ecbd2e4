#include "pg/arraycodec.h"

#include "pg/oid.h"
#include "pg/quote.h"
#include "pg/texttypes.h"

enum { JSONB_VERSION = 1 };

static void put_bytes(struct buffer *out, const void *bytes, size_t length)
{
    buffer_put_int32(out, (int32_t)length);
    buffer_append(out, bytes, length);
}

static void put_number(struct buffer *out, int bytes, int64_t value)
{
    buffer_put_int32(out, bytes);
    if (bytes == 2)
        buffer_put_int16(out, (int16_t)value);
    else if (bytes == 4)
        buffer_put_int32(out, (int32_t)value);
    else
        buffer_put_int64(out, value);
}

static bool put_bool(struct buffer *out, struct array_element element)
{
    bool value;
    if (!text_to_bool(element.text, element.length, &value))
        return false;
    put_bytes(out, value ? "\1" : "\0", 1);
    return true;
}

static bool put_int(struct buffer *out, int bytes, int64_t least, int64_t most,
                    struct array_element element)
{
    int64_t value;
    if (!text_to_int(element.text, element.length, least, most, &value))
        return false;
    put_number(out, bytes, value);
    return true;
}

static bool put_int2(struct buffer *out, struct array_element element)
{
    return put_int(out, 2, INT16_MIN, INT16_MAX, element);
}

static bool put_int4(struct buffer *out, struct array_element element)
{
    return put_int(out, 4, INT32_MIN, INT32_MAX, element);
}

static bool put_int8(struct buffer *out, struct array_element element)
{
    return put_int(out, 8, INT64_MIN, INT64_MAX, element);
}

static bool put_date(struct buffer *out, struct array_element element)
{
    int32_t days;
    if (!text_to_date(element.text, element.length, &days))
        return false;
    put_number(out, 4, days);
    return true;
}

static bool put_timestamp(struct buffer *out, struct array_element element)
{
    int64_t us;
    if (!text_to_timestamp(element.text, element.length, &us))
        return false;
    put_number(out, 8, us);
    return true;
}

static bool put_uuid(struct buffer *out, struct array_element element)
{
    unsigned char value[16];
    if (!text_to_uuid(element.text, element.length, value))
        return false;
    put_bytes(out, value, sizeof value);
    return true;
}

static bool put_text(struct buffer *out, struct array_element element)
{
    put_bytes(out, element.text, element.length);
    return true;
}

static bool put_jsonb(struct buffer *out, struct array_element element)
{
    buffer_put_int32(out, (int32_t)element.length + 1);
    buffer_putc(out, JSONB_VERSION);
    buffer_append(out, element.text, element.length);
    return true;
}

typedef bool put_element(struct buffer *out, struct array_element element);

static put_element *put_of(uint32_t type)
{
    switch (type) {
    case OID_BOOL: return put_bool;
    case OID_INT2: return put_int2;
    case OID_INT4: return put_int4;
    case OID_INT8: return put_int8;
    case OID_DATE: return put_date;
    case OID_TIMESTAMP: case OID_TIMESTAMPTZ: return put_timestamp;
    case OID_UUID: return put_uuid;
    case OID_TEXT: case OID_VARCHAR: case OID_JSON: return put_text;
    case OID_JSONB: return put_jsonb;
    default: return NULL;
    }
}

static bool any_null(const struct array_element *elements, unsigned count)
{
    bool any = false;
    for (unsigned e = 0; e < count; e++)
        any |= elements[e].text == NULL;
    return any;
}

static void put_head(struct buffer *out, uint32_t type, bool nulls, unsigned count)
{
    buffer_put_int32(out, 1); /* dimension */
    buffer_put_int32(out, nulls);
    buffer_put_int32(out, (int32_t)type);
    buffer_put_int32(out, (int32_t)count);
    buffer_put_int32(out, 1); /* the first index */
}

bool array_put_binary(struct buffer *out, uint32_t type, const struct array_element *elements,
                      unsigned count)
{
    size_t start = out->length;
    put_element *put = put_of(type);
    if (put == NULL)
        return false;
    put_head(out, type, any_null(elements, count), count);
    for (unsigned e = 0; e < count; e++) {
        if (elements[e].text == NULL) {
            buffer_put_int32(out, -1);
        } else if (!put(out, elements[e])) {
            buffer_truncate(out, start);
            return false;
        }
    }
    return true;
}

void array_put_text(struct buffer *out, const struct array_element *elements, unsigned count)
{
    for (unsigned e = 0; e < count; e++) {
        buffer_putc(out, e == 0 ? '{' : ',');
        quote_element(out, elements[e].text, elements[e].length);
    }
    buffer_append(out, "}", 2);
}
