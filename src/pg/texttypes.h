/*
 * Values in the text form that pinned sessions give (pg/conn.h: ISO dates, UTC, bytea as hex), as the
 * numbers that PostgreSQL holds inside. False when the bytes are not of the type.
 */
#ifndef PG_TEXTTYPES_H
#define PG_TEXTTYPES_H

#include <stddef.h>
#include <stdint.h>

#include "util/buffer.h"

bool text_to_bool(const char *text, size_t length, bool *value) MUST_CHECK;
bool text_to_int(const char *text, size_t length, int64_t least, int64_t most,
                 int64_t *value) MUST_CHECK;
bool text_to_uuid(const char *text, size_t length, unsigned char value[16]) MUST_CHECK;
/* Days, and microseconds, since 2000-01-01 (UTC); infinities are the type's extremes. */
bool text_to_date(const char *text, size_t length, int32_t *days) MUST_CHECK;
bool text_to_timestamp(const char *text, size_t length, int64_t *us) MUST_CHECK;
bool text_to_bytea(const char *text, size_t length, struct buffer *value) MUST_CHECK;

/* numeric: base-10000 digits without zeros at either end; `special` for NaN and infinities. */
struct numeric {
    bool special;
    int weight; /* of the first digit, as a power of 10000 */
    unsigned count;
    int16_t *digits; /* malloc'ed; free with numeric_release */
};
bool text_to_numeric(const char *text, size_t length, struct numeric *numeric) MUST_CHECK;
bool binary_to_numeric(const char *bytes, size_t length, struct numeric *numeric) MUST_CHECK;
void numeric_release(struct numeric *numeric);

#endif
