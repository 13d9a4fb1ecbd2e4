#include "pg/parthash.h"

#include "pg/oid.h"
#include "pg/texttypes.h"

static const uint64_t partition_seed = UINT64_C(0x7A5B22367996DCFD); /* HASH_PARTITION_SEED */
static const uint64_t combine_constant = UINT64_C(0x49a0f4dd15e5a8e3); /* hash_combine64() */

enum parthash_type parthash_type_of(uint32_t type_oid)
{
    switch (type_oid) {
    case OID_BOOL:
        return PARTHASH_BOOL;
    case OID_INT2:
        return PARTHASH_INT2;
    case OID_INT4:
        return PARTHASH_INT4;
    case OID_INT8:
        return PARTHASH_INT8;
    case OID_TEXT:
    case OID_VARCHAR:
        return PARTHASH_TEXT;
    case OID_BPCHAR:
        return PARTHASH_BPCHAR;
    case OID_UUID:
        return PARTHASH_UUID;
    case OID_NUMERIC:
        return PARTHASH_NUMERIC;
    case OID_DATE:
        return PARTHASH_DATE;
    case OID_TIMESTAMP:
    case OID_TIMESTAMPTZ:
        return PARTHASH_TIMESTAMP;
    case OID_BYTEA:
        return PARTHASH_BYTEA;
    default:
        return PARTHASH_NONE;
    }
}

/* ---- Bob Jenkins' lookup3 with PostgreSQL's start values: hashfn.c ---- */

struct state {
    uint32_t a, b, c;
};

static uint32_t rotate(uint32_t x, int bits)
{
    return x << bits | x >> (32 - bits);
}

static void mix(struct state *s)
{
    s->a -= s->c, s->a ^= rotate(s->c, 4), s->c += s->b;
    s->b -= s->a, s->b ^= rotate(s->a, 6), s->a += s->c;
    s->c -= s->b, s->c ^= rotate(s->b, 8), s->b += s->a;
    s->a -= s->c, s->a ^= rotate(s->c, 16), s->c += s->b;
    s->b -= s->a, s->b ^= rotate(s->a, 19), s->a += s->c;
    s->c -= s->b, s->c ^= rotate(s->b, 4), s->b += s->a;
}

static uint64_t finish(struct state *s)
{
    s->c ^= s->b, s->c -= rotate(s->b, 14);
    s->a ^= s->c, s->a -= rotate(s->c, 11);
    s->b ^= s->a, s->b -= rotate(s->a, 25);
    s->c ^= s->b, s->c -= rotate(s->b, 16);
    s->a ^= s->c, s->a -= rotate(s->c, 4);
    s->b ^= s->a, s->b -= rotate(s->a, 14);
    s->c ^= s->b, s->c -= rotate(s->b, 24);
    return (uint64_t)s->b << 32 | s->c;
}

static struct state start(uint32_t length)
{
    uint32_t value = UINT32_C(0x9e3779b9) + length + 3923095;
    struct state s = {value, value, value};
    s.a += (uint32_t)(partition_seed >> 32);
    s.b += (uint32_t)partition_seed;
    mix(&s);
    return s;
}

/* Little-endian word of up to four bytes. */
static uint32_t word(const unsigned char *bytes, size_t length)
{
    uint32_t value = 0;
    for (size_t i = 0; i < length && i < 4; i++)
        value |= (uint32_t)bytes[i] << 8 * i;
    return value;
}

/* hash_bytes_extended() */
static uint64_t hash_bytes(const void *data, size_t length)
{
    const unsigned char *bytes = data;
    struct state s = start((uint32_t)length);
    for (; length >= 12; length -= 12, bytes += 12) {
        s.a += word(bytes, 4);
        s.b += word(bytes + 4, 4);
        s.c += word(bytes + 8, 4);
        mix(&s);
    }
    s.a += word(bytes, length);
    s.b += length > 4 ? word(bytes + 4, length - 4) : 0;
    s.c += length > 8 ? word(bytes + 8, length - 8) << 8 : 0; /* its lowest byte is the length's */
    return finish(&s);
}

/* hash_bytes_uint32_extended() */
static uint64_t hash_uint32(uint32_t value)
{
    struct state s = start(sizeof value);
    s.a += value;
    return finish(&s);
}

/* hashint8extended(): an int8 hashes as the int4 of the same value. */
static uint64_t hash_int8(int64_t value)
{
    uint32_t low = (uint32_t)value, high = (uint32_t)((uint64_t)value >> 32);
    return hash_uint32(low ^ (value >= 0 ? high : ~high));
}

/* hash_numeric_extended() */
static uint64_t hash_numeric(const struct numeric *numeric)
{
    if (numeric->special)
        return partition_seed;
    if (numeric->count == 0)
        return partition_seed - 1;
    return hash_bytes(numeric->digits, numeric->count * sizeof *numeric->digits) ^
           (uint64_t)(int64_t)numeric->weight;
}

static size_t without_spaces(const char *text, size_t length)
{
    while (length > 0 && text[length - 1] == ' ')
        length--;
    return length;
}

/* compute_partition_hash_value(): hash_combine64() onto 0, for the one column there is. */
static uint64_t row_hash(uint64_t hash)
{
    return hash + combine_constant;
}

uint64_t parthash_int8(int64_t value)
{
    return row_hash(hash_int8(value));
}

static bool wrong_bytes(struct error *err)
{
    return error_set(err, ERROR_DATA, "a shard key's value is not of its type");
}

/* ---- from text ---- */

static bool text_integer(const char *text, size_t length, int64_t least, int64_t most,
                         uint64_t *hash)
{
    int64_t value;
    if (!text_to_int(text, length, least, most, &value))
        return false;
    *hash = hash_int8(value);
    return true;
}

static bool text_numeric(const char *text, size_t length, uint64_t *hash)
{
    struct numeric numeric;
    bool ok = text_to_numeric(text, length, &numeric);
    if (ok)
        *hash = hash_numeric(&numeric);
    numeric_release(&numeric);
    return ok;
}

static bool text_bytea(const char *text, size_t length, uint64_t *hash)
{
    struct buffer value;
    buffer_init(&value, length + 1);
    bool ok = text_to_bytea(text, length, &value);
    if (ok)
        *hash = hash_bytes(buffer_text(&value), value.length);
    buffer_release(&value);
    return ok;
}

static bool text_fixed(enum parthash_type type, const char *text, size_t length, uint64_t *hash)
{
    bool truth = false;
    int32_t days = 0;
    int64_t us = 0;
    unsigned char uuid[16];
    switch (type) {
    case PARTHASH_BOOL:
        return text_to_bool(text, length, &truth) && (*hash = hash_uint32(truth), true);
    case PARTHASH_DATE:
        return text_to_date(text, length, &days) && (*hash = hash_uint32((uint32_t)days), true);
    case PARTHASH_TIMESTAMP:
        return text_to_timestamp(text, length, &us) && (*hash = hash_int8(us), true);
    case PARTHASH_UUID:
        return text_to_uuid(text, length, uuid) && (*hash = hash_bytes(uuid, sizeof uuid), true);
    default:
        return false;
    }
}

static bool hash_of_text(enum parthash_type type, const char *text, size_t length, uint64_t *hash)
{
    switch (type) {
    case PARTHASH_INT2:
        return text_integer(text, length, INT16_MIN, INT16_MAX, hash);
    case PARTHASH_INT4:
        return text_integer(text, length, INT32_MIN, INT32_MAX, hash);
    case PARTHASH_INT8:
        return text_integer(text, length, INT64_MIN, INT64_MAX, hash);
    case PARTHASH_TEXT:
        *hash = hash_bytes(text, length);
        return true;
    case PARTHASH_BPCHAR:
        *hash = hash_bytes(text, without_spaces(text, length));
        return true;
    case PARTHASH_NUMERIC:
        return text_numeric(text, length, hash);
    case PARTHASH_BYTEA:
        return text_bytea(text, length, hash);
    default:
        return text_fixed(type, text, length, hash);
    }
}

bool parthash_text(enum parthash_type type, const char *text, size_t length, uint64_t *hash,
                   struct error *err)
{
    if (!hash_of_text(type, text, length, hash))
        return wrong_bytes(err);
    *hash = row_hash(*hash);
    return true;
}

/* ---- from binary ---- */

/* Big-endian, sign-extended. */
static bool binary_integer(const char *bytes, size_t length, size_t width, int64_t *value)
{
    uint64_t bits = 0;
    if (length != width)
        return false;
    for (size_t i = 0; i < width; i++)
        bits = bits << 8 | (unsigned char)bytes[i];
    unsigned unused = (unsigned)(64 - 8 * width);
    *value = (int64_t)(bits << unused) >> unused;
    return true;
}

static size_t integer_width(enum parthash_type type)
{
    switch (type) {
    case PARTHASH_BOOL:
        return 1;
    case PARTHASH_INT2:
        return 2;
    case PARTHASH_INT4:
    case PARTHASH_DATE:
        return 4;
    default:
        return 8;
    }
}

static bool binary_numeric(const char *bytes, size_t length, uint64_t *hash)
{
    struct numeric numeric;
    bool ok = binary_to_numeric(bytes, length, &numeric);
    if (ok)
        *hash = hash_numeric(&numeric);
    numeric_release(&numeric);
    return ok;
}

static bool hash_of_binary(enum parthash_type type, const char *bytes, size_t length,
                           uint64_t *hash)
{
    int64_t value;
    switch (type) {
    case PARTHASH_NONE:
        return false;
    case PARTHASH_TEXT:
    case PARTHASH_BYTEA:
        *hash = hash_bytes(bytes, length);
        return true;
    case PARTHASH_BPCHAR:
        *hash = hash_bytes(bytes, without_spaces(bytes, length));
        return true;
    case PARTHASH_UUID:
        *hash = hash_bytes(bytes, length);
        return length == 16;
    case PARTHASH_NUMERIC:
        return binary_numeric(bytes, length, hash);
    default:
        if (!binary_integer(bytes, length, integer_width(type), &value))
            return false;
        *hash = hash_int8(value);
        return true;
    }
}

bool parthash_binary(enum parthash_type type, const char *bytes, size_t length, uint64_t *hash,
                     struct error *err)
{
    if (!hash_of_binary(type, bytes, length, hash))
        return wrong_bytes(err);
    *hash = row_hash(*hash);
    return true;
}
