#include "copy/chunk.h"

#include "mapping/statements.h"
#include "pg/conn.h"
#include "util/clock.h"

enum {
    SEND_BYTES = 64 * 1024,
    STOP_EVERY_ROWS = 256,
};

/* What goes to one shard. */
struct outlet {
    PGconn *conn;
    bool active;
    struct buffer buffer;
    int64_t rows, bytes;
};

/* A chunk on its way from source to shards. */
struct transfer {
    struct chunk_copy *copy;
    struct chunk *chunk;
    const struct mapping *mapping;
    struct arena arena; /* of statements */
    struct copy_reader reader;
    struct copy_field *fields; /* NULL: nothing in the row needs looking at */
    struct buffer value;
    struct outlet *outlets; /* one a shard */
};

/* ---- into the shards ---- */

/* In slices: libpq keeps room for the largest message it was ever given, on each connection. Where
 * COPY's data is cut means nothing to the server. */
static bool outlet_put(struct outlet *outlet, const char *bytes, size_t length, struct error *err)
{
    for (size_t at = 0; at < length; at += SEND_BYTES) {
        size_t slice = length - at < SEND_BYTES ? length - at : SEND_BYTES;
        if (PQputCopyData(outlet->conn, bytes + at, (int)slice) != 1)
            return conn_error(outlet->conn, err);
    }
    return true;
}

static bool outlet_send(struct outlet *outlet, struct error *err)
{
    size_t max = outlet->buffer.max;
    if (!outlet_put(outlet, outlet->buffer.bytes, outlet->buffer.length, err))
        return false;
    if (outlet->buffer.capacity > 4 * SEND_BYTES) { /* one large row must not keep its memory */
        buffer_release(&outlet->buffer);
        buffer_init(&outlet->buffer, max);
    }
    buffer_clear(&outlet->buffer);
    return true;
}

static bool outlet_begin(struct transfer *transfer, struct outlet *outlet, const char *copy_in,
                         struct error *err)
{
    struct chunk_copy *copy = transfer->copy;
    if (!conn_exec(outlet->conn, "BEGIN", err) ||
        !range_claim(outlet->conn, transfer->mapping, transfer->chunk->pending.range, copy->epoch,
                     err))
        return false;
    PGresult *result = PQexec(outlet->conn, copy_in);
    bool ok = PQresultStatus(result) == PGRES_COPY_IN ||
              conn_result_error(outlet->conn, result, err);
    PQclear(result);
    if (ok && transfer->mapping->copy_format == COPY_BINARY)
        buffer_append(&outlet->buffer, copy_binary_header, sizeof copy_binary_header);
    return ok;
}

static bool outlet_end(struct transfer *transfer, struct outlet *outlet, struct error *err)
{
    bool ok = true;
    PGresult *result;
    if (transfer->mapping->copy_format == COPY_BINARY)
        buffer_append(&outlet->buffer, copy_binary_trailer, sizeof copy_binary_trailer);
    if (!outlet_send(outlet, err) || PQputCopyEnd(outlet->conn, NULL) != 1)
        return conn_error(outlet->conn, err);
    while ((result = PQgetResult(outlet->conn)) != NULL) {
        if (ok && PQresultStatus(result) != PGRES_COMMAND_OK)
            ok = conn_result_error(outlet->conn, result, err);
        PQclear(result);
    }
    return ok;
}

/* Steps 6 and 7. */
static bool outlet_commit(struct transfer *transfer, unsigned shard, struct error *err)
{
    struct outlet *outlet = &transfer->outlets[shard];
    const struct chunk *chunk = transfer->chunk;
    struct chunk_row row = {
        .mapping = chunk->mapping,
        .range = chunk->pending.range,
        .lower = chunk->pending.cursor,
        .upper = chunk->upper,
        .snapshot = chunk->snapshot,
        .lsn = chunk->lsn,
    };
    return range_advance(outlet->conn, &row, chunk->done, outlet->rows, outlet->bytes, err) &&
           conn_exec(outlet->conn, "COMMIT", err) &&
           holds_commit(transfer->copy->holds, shard, &row, chunk->done, err);
}

/* ---- rows ---- */

static bool field_hash(struct transfer *transfer, uint64_t *hash, struct error *err)
{
    const struct mapping *mapping = transfer->mapping;
    const struct copy_field *field = &transfer->fields[mapping->shard_item];
    *hash = parthash_null();
    if (field->length < 0)
        return true;
    if (mapping->copy_format == COPY_BINARY)
        return parthash_binary(mapping->shard_hash, field->bytes, (size_t)field->length, hash, err);
    buffer_clear(&transfer->value);
    copy_text_unescape(field, &transfer->value);
    return parthash_text(mapping->shard_hash, buffer_text(&transfer->value),
                         transfer->value.length, hash, err);
}

/* The row as the target takes it: jsonb in binary is a version byte and the text. */
static void put_row_with_jsonb(const struct transfer *transfer, struct buffer *buffer,
                               const char *row)
{
    const struct mapping *mapping = transfer->mapping;
    buffer_append(buffer, row, 2); /* the number of fields */
    for (unsigned i = 0; i < mapping->items_count; i++) {
        const struct copy_field *field = &transfer->fields[i];
        bool jsonb = mapping->items[i].jsonb_from_text && field->length >= 0;
        buffer_put_int32(buffer, jsonb ? field->length + 1 : field->length);
        if (jsonb)
            buffer_putc(buffer, 1);
        if (field->length > 0)
            buffer_append(buffer, field->bytes, (size_t)field->length);
    }
}

static bool put_row(struct transfer *transfer, struct outlet *outlet, const char *row,
                    size_t length, bool with_jsonb, struct error *err)
{
    if (!outlet->active)
        return true;
    outlet->rows++;
    outlet->bytes += (int64_t)length;
    if (!with_jsonb && length >= SEND_BYTES) /* not copied once more */
        return outlet_send(outlet, err) && outlet_put(outlet, row, length, err);
    if (with_jsonb)
        put_row_with_jsonb(transfer, &outlet->buffer, row);
    else
        buffer_append(&outlet->buffer, row, length);
    CHECK(!buffer_failed(&outlet->buffer)); /* it has room for a row of row_bytes_max */
    return outlet->buffer.length < SEND_BYTES || outlet_send(outlet, err);
}

static bool route_row(struct transfer *transfer, const char *row, size_t length, bool with_jsonb,
                      struct error *err)
{
    const struct mapping *mapping = transfer->mapping;
    unsigned shards = transfer->copy->shards_count;
    uint64_t hash;
    if (mapping->everywhere) {
        for (unsigned s = 0; s < shards; s++) {
            if (!put_row(transfer, &transfer->outlets[s], row, length, with_jsonb, err))
                return false;
        }
        return true;
    }
    if (shards == 1)
        return put_row(transfer, &transfer->outlets[0], row, length, with_jsonb, err);
    return field_hash(transfer, &hash, err) &&
           put_row(transfer, &transfer->outlets[parthash_shard(hash, shards)], row, length,
                   with_jsonb, err);
}

static bool take_message(struct transfer *transfer, const char *message, size_t length,
                         bool with_jsonb, struct error *err)
{
    const char *row;
    size_t row_length;
    int64_t most = transfer->copy->config->row_bytes_max;
    if (!copy_reader_row(&transfer->reader, message, length, &row, &row_length, transfer->fields,
                         err))
        return false;
    if (row_length == 0)
        return true;
    if ((int64_t)row_length > most) {
        error_set(err, ERROR_LIMIT, "a row of %s.%s has %zu bytes", transfer->mapping->source->schema,
                  transfer->mapping->source->name, row_length);
        return error_hint(err, "Set row_bytes_max, now %lld, above it; memory follows it.",
                          (long long)most);
    }
    transfer->chunk->rows++;
    transfer->chunk->bytes += (int64_t)row_length;
    return route_row(transfer, row, row_length, with_jsonb, err);
}

/* ---- out of the source ---- */

static bool has_jsonb(const struct mapping *mapping)
{
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (mapping->items[i].jsonb_from_text)
            return true;
    }
    return false;
}

static bool pump(struct transfer *transfer, struct error *err)
{
    struct chunk_copy *copy = transfer->copy;
    bool with_jsonb = has_jsonb(transfer->mapping);
    char *message;
    int length;
    bool ok = true;
    while (ok && (length = PQgetCopyData(copy->source, &message, 0)) > 0) {
        ok = take_message(transfer, message, (size_t)length, with_jsonb, err);
        PQfreemem(message);
        throttle_take(copy->throttle, (size_t)length, copy->stop);
        if (ok && transfer->chunk->rows % STOP_EVERY_ROWS == 0 && stop_requested(copy->stop))
            ok = stop_error(err);
    }
    if (!ok)
        return false;
    if (length == -2)
        return conn_error(copy->source, err);
    PGresult *result = PQgetResult(copy->source);
    ok = PQresultStatus(result) == PGRES_COMMAND_OK ||
         conn_result_error(copy->source, result, err);
    PQclear(result);
    while ((result = PQgetResult(copy->source)) != NULL)
        PQclear(result);
    return ok;
}

static bool open_source(struct transfer *transfer, struct error *err)
{
    const struct chunk *chunk = transfer->chunk;
    struct key_interval interval = {
        .lower = chunk->pending.cursor != NULL ? chunk->pending.cursor->texts : NULL,
        .upper = chunk->upper != NULL ? chunk->upper->texts : NULL,
        .leaf = chunk->pending.leaf,
    };
    PGresult *result = PQexec(transfer->copy->source,
                              statement_copy_out(chunk->mapping, interval, &transfer->arena));
    bool ok = PQresultStatus(result) == PGRES_COPY_OUT ||
              conn_result_error(transfer->copy->source, result, err);
    PQclear(result);
    return ok;
}

static bool transfer_run(struct transfer *transfer, struct error *err)
{
    struct chunk_copy *copy = transfer->copy;
    const char *copy_in = statement_copy_in(transfer->mapping, &transfer->arena);
    for (unsigned s = 0; s < copy->shards_count; s++) {
        if (transfer->outlets[s].active &&
            !outlet_begin(transfer, &transfer->outlets[s], copy_in, err))
            return error_context(err, "shard %u", s);
    }
    if (!open_source(transfer, err) || !pump(transfer, err) ||
        !conn_exec(copy->source, "COMMIT", err)) /* the snapshot goes as early as it can */
        return false;
    for (unsigned s = 0; s < copy->shards_count; s++) {
        if (transfer->outlets[s].active && !outlet_end(transfer, &transfer->outlets[s], err))
            return error_context(err, "shard %u", s);
    }
    for (unsigned s = 0; s < copy->shards_count; s++) {
        if (transfer->outlets[s].active && !outlet_commit(transfer, s, err))
            return error_context(err, "shard %u", s);
    }
    return true;
}

static void transfer_init(struct transfer *transfer, struct chunk_copy *copy, struct chunk *chunk)
{
    const struct mapping *mapping = chunk->mapping;
    bool routed = !mapping->everywhere && copy->shards_count > 1;
    *transfer = (struct transfer){.copy = copy, .chunk = chunk, .mapping = mapping};
    arena_init(&transfer->arena, 16 * 1024);
    buffer_init(&transfer->value, 1 << 20);
    copy_reader_init(&transfer->reader, mapping->copy_format, mapping->items_count);
    if (routed || has_jsonb(mapping))
        transfer->fields = check_calloc(mapping->items_count, sizeof *transfer->fields);
    transfer->outlets = check_calloc(copy->shards_count, sizeof *transfer->outlets);
    for (unsigned s = 0; s < copy->shards_count; s++) {
        struct outlet *outlet = &transfer->outlets[s];
        outlet->conn = copy->shards[s];
        outlet->active = (chunk->pending.behind >> s) & 1;
        buffer_init(&outlet->buffer,
                    2 * SEND_BYTES + (size_t)copy->config->row_bytes_max + 8 * RELATION_COLUMNS_MAX);
    }
}

static void transfer_release(struct transfer *transfer)
{
    for (unsigned s = 0; s < transfer->copy->shards_count; s++)
        buffer_release(&transfer->outlets[s].buffer);
    free(transfer->outlets);
    free(transfer->fields);
    buffer_release(&transfer->value);
    arena_release(&transfer->arena);
}

bool chunk_run(struct chunk_copy *copy, struct chunk *chunk, struct error *err)
{
    struct transfer transfer;
    transfer_init(&transfer, copy, chunk);
    bool ok = transfer_run(&transfer, err);
    transfer_release(&transfer);
    return ok;
}
