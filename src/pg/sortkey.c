#include "pg/sortkey.h"

#include "pg/oid.h"
#include "pg/texttypes.h"

enum sortkey_type sortkey_type_of(uint32_t type_oid, bool bytewise)
{
    switch (type_oid) {
    case OID_BOOL:
        return SORTKEY_BOOL;
    case OID_INT2:
        return SORTKEY_INT2;
    case OID_INT4:
        return SORTKEY_INT4;
    case OID_INT8:
        return SORTKEY_INT8;
    case OID_OID:
        return SORTKEY_OID;
    case OID_UUID:
        return SORTKEY_UUID;
    case OID_DATE:
        return SORTKEY_DATE;
    case OID_TIMESTAMP:
    case OID_TIMESTAMPTZ:
        return SORTKEY_TIMESTAMP;
    case OID_BYTEA:
        return SORTKEY_BYTES;
    case OID_TEXT:
    case OID_VARCHAR:
        return bytewise ? SORTKEY_TEXT : SORTKEY_NONE;
    default:
        return SORTKEY_NONE;
    }
}

/* How many bytes a fixed type takes, here and in binary form; 0 for variable ones. */
static size_t fixed_width(enum sortkey_type type)
{
    switch (type) {
    case SORTKEY_BOOL:
        return 1;
    case SORTKEY_INT2:
        return 2;
    case SORTKEY_INT4:
    case SORTKEY_OID:
    case SORTKEY_DATE:
        return 4;
    case SORTKEY_INT8:
    case SORTKEY_TIMESTAMP:
        return 8;
    case SORTKEY_UUID:
        return 16;
    case SORTKEY_NONE:
    case SORTKEY_BYTES:
    case SORTKEY_TEXT:
        break;
    }
    return 0;
}

static bool is_signed(enum sortkey_type type)
{
    return type != SORTKEY_BOOL && type != SORTKEY_OID && type != SORTKEY_UUID;
}

/* Big-endian; the sign bit is turned over, so that negative ones come first. */
static void append_int(struct buffer *key, int64_t value, size_t width, bool with_sign)
{
    uint64_t bits = (uint64_t)value;
    if (with_sign)
        bits ^= UINT64_C(1) << (8 * width - 1);
    for (size_t i = width; i-- > 0;)
        buffer_putc(key, (char)(bits >> 8 * i));
}

static void append_escaped(struct buffer *key, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        buffer_putc(key, bytes[i]);
        if (bytes[i] == '\0')
            buffer_putc(key, (char)0xFF);
    }
    buffer_append(key, "\0\0", 2);
}

static bool append_bytea(struct buffer *key, const char *text, size_t length)
{
    struct buffer value;
    buffer_init(&value, length + 1);
    bool ok = text_to_bytea(text, length, &value);
    if (ok)
        append_escaped(key, buffer_text(&value), value.length);
    buffer_release(&value);
    return ok;
}

static bool fixed_of_text(enum sortkey_type type, const char *text, size_t length, int64_t *value)
{
    bool truth = false;
    int32_t days = 0;
    bool ok;
    switch (type) {
    case SORTKEY_BOOL:
        ok = text_to_bool(text, length, &truth);
        *value = truth;
        return ok;
    case SORTKEY_INT2:
        return text_to_int(text, length, INT16_MIN, INT16_MAX, value);
    case SORTKEY_INT4:
        return text_to_int(text, length, INT32_MIN, INT32_MAX, value);
    case SORTKEY_INT8:
        return text_to_int(text, length, INT64_MIN, INT64_MAX, value);
    case SORTKEY_OID:
        return text_to_int(text, length, 0, UINT32_MAX, value);
    case SORTKEY_DATE:
        ok = text_to_date(text, length, &days);
        *value = days;
        return ok;
    case SORTKEY_TIMESTAMP:
        return text_to_timestamp(text, length, value);
    default:
        return false;
    }
}

static bool append_text(struct buffer *key, enum sortkey_type type, const char *text,
                        size_t length)
{
    unsigned char uuid[16];
    int64_t value;
    switch (type) {
    case SORTKEY_TEXT:
        append_escaped(key, text, length);
        return true;
    case SORTKEY_BYTES:
        return append_bytea(key, text, length);
    case SORTKEY_UUID:
        if (!text_to_uuid(text, length, uuid))
            return false;
        buffer_append(key, uuid, sizeof uuid);
        return true;
    default:
        if (!fixed_of_text(type, text, length, &value))
            return false;
        append_int(key, value, fixed_width(type), is_signed(type));
        return true;
    }
}

static bool wrong_bytes(struct error *err)
{
    return error_set(err, ERROR_DATA, "a key's value is not of its type");
}

bool sortkey_append_text(struct buffer *key, enum sortkey_type type, const char *text,
                         size_t length, struct error *err)
{
    return append_text(key, type, text, length) || wrong_bytes(err);
}

bool sortkey_append_binary(struct buffer *key, enum sortkey_type type, const char *bytes,
                           size_t length, struct error *err)
{
    size_t width = fixed_width(type);
    if (type == SORTKEY_TEXT || type == SORTKEY_BYTES) {
        append_escaped(key, bytes, length);
        return true;
    }
    if (width == 0 || width != length)
        return wrong_bytes(err);
    buffer_putc(key, (char)(is_signed(type) ? bytes[0] ^ 0x80 : bytes[0]));
    buffer_append(key, bytes + 1, length - 1);
    return true;
}

int sortkey_compare(const void *a, size_t a_length, const void *b, size_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order != 0 ? order : (a_length > b_length) - (a_length < b_length);
}
