#include "verify/rows.h"

#include <xxhash.h>

#include "pg/conn.h"

enum {
    SIGNATURE_BYTES = 19, /* with flags and the length of an extension that nobody writes */
    NUMERIC_DSCALE_AT = 6,
    NUMERIC_HEADER = 8,
    NUMERIC_OID = 1700,
};

static int32_t read_int(const char *bytes, unsigned size)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value = value << 8 | (unsigned char)bytes[i];
    return size == 2 ? (int16_t)value : (int32_t)value;
}

bool rows_begin(struct rows *rows, PGconn *conn, const struct mapping *mapping, const char *select,
                bool target, bool strict, struct error *err)
{
    struct buffer sql;
    *rows = (struct rows){.conn = conn, .mapping = mapping, .target = target, .strict = strict};
    buffer_init(&sql, 1 << 21);
    buffer_printf(&sql, "COPY (%s) TO STDOUT (FORMAT binary)", select);
    int sent = PQsendQuery(conn, buffer_text(&sql));
    buffer_release(&sql);
    if (sent != 1)
        return conn_error(conn, err);
    rows->fields = check_calloc(mapping->items_count, sizeof *rows->fields);
    return true;
}

/* A COPY that was asked for and not begun gives its beginning as a result, again and again until its
 * rows are taken. */
static void drain(PGconn *conn)
{
    PGresult *result;
    while ((result = PQgetResult(conn)) != NULL) {
        bool copying = PQresultStatus(result) == PGRES_COPY_OUT;
        char *message = NULL;
        PQclear(result);
        while (copying && PQgetCopyData(conn, &message, 0) > 0)
            PQfreemem(message);
    }
}

void rows_end(struct rows *rows)
{
    if (rows->conn == NULL)
        return;
    if (rows->fields != NULL && PQtransactionStatus(rows->conn) == PQTRANS_ACTIVE)
        conn_cancel(rows->conn);
    PQfreemem(rows->message);
    drain(rows->conn);
    free(rows->fields);
    *rows = (struct rows){0};
}

static enum rows_result malformed(struct rows *rows, struct error *err)
{
    error_set(err, ERROR_FATAL, "the server sent no binary COPY row of %u columns for %s",
              rows->mapping->items_count, rows->mapping->name);
    return ROWS_ERROR;
}

/* The COPY's own answer, before its first row and after its last. */
static bool take_result(struct rows *rows, ExecStatusType wanted, struct error *err)
{
    PGresult *result = PQgetResult(rows->conn);
    bool ok = result != NULL && PQresultStatus(result) == wanted;
    if (!ok)
        conn_result_error(rows->conn, result, err);
    PQclear(result);
    return ok;
}

static enum rows_result end_of_copy(struct rows *rows, struct error *err)
{
    PGresult *result;
    if (!take_result(rows, PGRES_COMMAND_OK, err))
        return ROWS_ERROR;
    while ((result = PQgetResult(rows->conn)) != NULL)
        PQclear(result);
    return ROWS_END;
}

/*
 * Gives a numeric the least display scale that shows all its digits. It has a header (number of digits,
 * weight of the first, sign, scale) and digits to the base of 10,000, without leading and trailing zeros.
 */
static void least_scale(struct field *field)
{
    int digits = read_int(field->bytes, 2), weight = read_int(field->bytes + 2, 2);
    int scale = (digits - weight - 1) * 4;
    if (digits > 0 && field->length < NUMERIC_HEADER + 2 * digits)
        return;
    int last = digits > 0 ? read_int(field->bytes + NUMERIC_HEADER + 2 * (digits - 1), 2) : 0;
    for (; scale > 0 && last % 10 == 0 && digits > 0; last /= 10)
        scale--;
    if (scale < 0 || digits == 0)
        scale = 0;
    field->bytes[NUMERIC_DSCALE_AT] = (char)(scale >> 8);
    field->bytes[NUMERIC_DSCALE_AT + 1] = (char)scale;
}

/* Splits the row into fields and digests them; `at` is behind the number of columns. */
static bool take_fields(struct rows *rows, char *row, size_t length, size_t at)
{
    const struct mapping *mapping = rows->mapping;
    size_t first = at;
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (length - at < 4)
            return false;
        struct field *field = &rows->fields[i];
        *field = (struct field){.bytes = row + at + 4, .length = read_int(row + at, 4)};
        at += 4 + (size_t)(field->length > 0 ? field->length : 0);
        if (at > length)
            return false;
        if (!rows->strict && mapping->has_key &&
            mapping->items[i].target->base_oid == NUMERIC_OID && field->length >= NUMERIC_HEADER)
            least_scale(field);
    }
    XXH128_hash_t hash = XXH3_128bits(row + first, at - first);
    rows->digest = (struct digest){.low = hash.low64, .high = hash.high64};
    return at == length;
}

static bool take_row(struct rows *rows, char *row, size_t length)
{
    enum { COUNT_BYTES = 2, PLACED_BYTES = 4 + 1 };
    size_t at = COUNT_BYTES;
    rows->placed = true;
    if (rows->target) {
        if (length < COUNT_BYTES + PLACED_BYTES || read_int(row + at, 4) != 1)
            return false;
        rows->placed = row[at + 4] != 0;
        at += PLACED_BYTES;
    }
    return take_fields(rows, row, length, at);
}

enum rows_result rows_next(struct rows *rows, struct error *err)
{
    for (;;) {
        size_t skip = 0;
        if (!rows->begun && !take_result(rows, PGRES_COPY_OUT, err))
            return ROWS_ERROR;
        PQfreemem(rows->message);
        rows->message = NULL;
        int got = PQgetCopyData(rows->conn, &rows->message, 0);
        if (got < 0)
            return end_of_copy(rows, err);
        if (!rows->begun && got < SIGNATURE_BYTES)
            return malformed(rows, err);
        skip = rows->begun ? 0 : SIGNATURE_BYTES;
        rows->begun = true;
        rows->bytes += (uint64_t)got;
        char *row = rows->message + skip;
        size_t length = (size_t)got - skip;
        if (length == 0 || (length == 2 && read_int(row, 2) == -1))
            continue; /* the header alone, or the trailer */
        return take_row(rows, row, length) ? ROWS_ROW : malformed(rows, err);
    }
}

static void append_field(struct buffer *key, const struct field *field)
{
    buffer_append(key, &field->length, sizeof field->length);
    if (field->length > 0)
        buffer_append(key, field->bytes, (size_t)field->length);
}

void rows_key(const struct rows *rows, struct buffer *key)
{
    const struct mapping *mapping = rows->mapping;
    buffer_clear(key);
    for (unsigned k = 0; k < mapping->key_count; k++)
        append_field(key, &rows->fields[mapping->key[k].item]);
    for (unsigned i = 0; !mapping->has_key && i < mapping->items_count; i++)
        append_field(key, &rows->fields[i]);
}
