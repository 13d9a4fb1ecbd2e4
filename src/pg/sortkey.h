/*
 * Keys as byte strings whose memcmp() order is the order of PostgreSQL's index, so that a change's
 * key can be compared with a copy's cursor here, without a server.
 *
 * Types: int2, int4, int8, oid, uuid, date, timestamp, timestamptz, bool,
 * bytea, and text/varchar under collation C or POSIX (or a C database default). Everything else is
 * not bytewise comparable; a key is used up to its first such column (DESIGN.md, "whole").
 * A composite key is the concatenation of its columns' encodings; each is self-delimiting, so that
 * the order of the whole is the order of the columns (variable-length ones escape 0x00 as 0x00 0xFF
 * and end with 0x00 0x00).
 */
#ifndef PG_SORTKEY_H
#define PG_SORTKEY_H

#include <stddef.h>
#include <stdint.h>

#include "util/buffer.h"
#include "util/error.h"

enum sortkey_type {
    SORTKEY_NONE = 0, /* not bytewise comparable */
    SORTKEY_BOOL,
    SORTKEY_INT2,
    SORTKEY_INT4,
    SORTKEY_INT8,
    SORTKEY_OID,
    SORTKEY_UUID,
    SORTKEY_DATE,
    SORTKEY_TIMESTAMP, /* and timestamptz */
    SORTKEY_BYTES,     /* bytea */
    SORTKEY_TEXT,      /* text, varchar, bytewise collation */
};

/* By built-in type OID; `bytewise` tells whether the column's collation is C or POSIX. */
enum sortkey_type sortkey_type_of(uint32_t type_oid, bool bytewise);

/* Appends the encoding of a value in text (pinned settings) or binary form. Class DATA when the bytes
 * are not of the type. infinity and -infinity are handled. Never NULL values: keys have none. */
bool sortkey_append_text(struct buffer *key, enum sortkey_type type, const char *text,
                         size_t length, struct error *err) MUST_CHECK;
bool sortkey_append_binary(struct buffer *key, enum sortkey_type type, const char *bytes,
                           size_t length, struct error *err) MUST_CHECK;

/* memcmp() order with lengths: negative, 0, positive. */
int sortkey_compare(const void *a, size_t a_length, const void *b, size_t b_length);

#endif
