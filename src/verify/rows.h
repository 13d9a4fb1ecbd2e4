/*
 * Rows as verify reads them: COPY (SELECT …) TO STDOUT (FORMAT binary), row by row, each with a digest
 * of all its fields. Its own reader: what proves the copy shares no code with it.
 *
 * A numeric's display scale is made the least first: 1.0 and 1.00 are equal (unless `strict`). Everything else
 * is compared byte by byte. Source of the format: PostgreSQL documentation of COPY, "Binary Format".
 */
#ifndef VERIFY_ROWS_H
#define VERIFY_ROWS_H

#include <libpq-fe.h>

#include "mapping/mapping.h"
#include "util/stop.h"

struct field {
    char *bytes;
    int32_t length; /* -1 is NULL */
};

struct digest {
    uint64_t low, high;
};

static inline bool digest_equal(struct digest a, struct digest b)
{
    return a.low == b.low && a.high == b.high;
}

struct rows {
    PGconn *conn;
    const struct mapping *mapping;
    bool target; /* the first column is `placed` */
    bool strict;
    bool begun; /* the header has been read */
    char *message;
    uint64_t bytes; /* received so far */
    /* of the current row; valid until the next one is read */
    bool placed;
    struct digest digest;
    struct field *fields; /* the mapping's items */
};

/* Sends the COPY and does not wait; `select` need not outlive the call. */
bool rows_begin(struct rows *rows, PGconn *conn, const struct mapping *mapping, const char *select,
                bool target, bool strict, struct error *err) MUST_CHECK;

enum rows_result { ROWS_ROW, ROWS_END, ROWS_ERROR };
enum rows_result rows_next(struct rows *rows, struct error *err) MUST_CHECK;

/* Leaves the connection idle, also in the middle. */
void rows_end(struct rows *rows);

/* The key's fields, each with its length: equal keys, equal bytes. All fields without a key. */
void rows_key(const struct rows *rows, struct buffer *key);

#endif
