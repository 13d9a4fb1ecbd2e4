#include "state/range.h"

#include <jansson.h>

#include "pg/conn.h"
#include "pg/quote.h"

enum { KEY_BYTES_MAX = 1 << 20 };

static bool key_encode(const struct mapping *mapping, const char *const *texts,
                       struct arena *arena, const struct key **key, struct error *err)
{
    struct buffer bytes;
    struct key made = {.texts = texts};
    bool ok = true;
    buffer_init(&bytes, KEY_BYTES_MAX);
    for (unsigned k = 0; ok && k < mapping->range_count; k++)
        ok = sortkey_append_text(&bytes, mapping->key[k].sort, texts[k], strlen(texts[k]), err);
    if (ok) {
        made.bytes = arena_memdup(arena, buffer_text(&bytes), bytes.length);
        made.length = bytes.length;
        *key = arena_memdup(arena, &made, sizeof made);
    } else {
        error_context(err, "key of %s", mapping->name);
    }
    buffer_release(&bytes);
    return ok;
}

bool key_from_result(const struct mapping *mapping, const PGresult *result, int row, int column,
                     struct arena *arena, const struct key **key, struct error *err)
{
    const char **texts = arena_alloc(arena, mapping->range_count * sizeof *texts);
    for (unsigned k = 0; k < mapping->range_count; k++)
        texts[k] = arena_strdup(arena, result_text(result, row, column + (int)k));
    return key_encode(mapping, texts, arena, key, err);
}

/* From a JSON array of texts. */
static bool key_from_json(const struct mapping *mapping, const char *json, struct arena *arena,
                          const struct key **key, struct error *err)
{
    const char **texts = arena_alloc(arena, mapping->range_count * sizeof *texts);
    json_t *array = json_loads(json, 0, NULL);
    bool ok = json_array_size(array) == mapping->range_count;
    for (unsigned k = 0; ok && k < mapping->range_count; k++) {
        const char *text = json_string_value(json_array_get(array, k));
        ok = text != NULL;
        if (ok)
            texts[k] = arena_strdup(arena, text);
    }
    json_decref(array);
    if (!ok)
        return error_set(err, ERROR_FATAL, "a stored key of %s does not fit its key columns: %s",
                         mapping->name, json);
    return key_encode(mapping, texts, arena, key, err);
}

int key_compare(const struct key *a, const struct key *b)
{
    return sortkey_compare(a->bytes, a->length, b->bytes, b->length);
}

/* An SQL expression of type text[]. */
static void put_key(struct buffer *sql, const struct mapping *mapping, const struct key *key)
{
    if (key == NULL) {
        buffer_puts(sql, "NULL::text[]");
        return;
    }
    buffer_puts(sql, "ARRAY[");
    for (unsigned k = 0; k < mapping->range_count; k++) {
        buffer_puts(sql, k > 0 ? ", " : "");
        quote_literal(sql, key->texts[k]);
    }
    buffer_puts(sql, "]::text[]");
}

static void put_range(struct buffer *sql, const struct mapping *mapping, int range)
{
    quote_literal(sql, mapping->name);
    buffer_printf(sql, ", %d", range);
}

static bool run(PGconn *shard, struct buffer *sql, struct error *err)
{
    bool ok = buffer_failed(sql)
                  ? error_set(err, ERROR_LIMIT, "a key is longer than %d bytes", KEY_BYTES_MAX)
                  : conn_exec(shard, buffer_text(sql), err);
    buffer_release(sql);
    return ok;
}

bool range_create(PGconn *shard, const struct range_row *row, int64_t epoch, struct error *err)
{
    struct buffer sql;
    buffer_init(&sql, 4 * KEY_BYTES_MAX);
    buffer_puts(&sql, "INSERT INTO portage.range (mapping, range, leaf, lower, upper, epoch)"
                      " VALUES (");
    put_range(&sql, row->mapping, row->range);
    buffer_printf(&sql, ", NULLIF(%u::oid, 0), ", row->leaf);
    put_key(&sql, row->mapping, row->lower);
    buffer_puts(&sql, ", ");
    put_key(&sql, row->mapping, row->upper);
    buffer_printf(&sql, ", %lld) ON CONFLICT DO NOTHING", (long long)epoch);
    return run(shard, &sql, err);
}

bool range_create_late(PGconn *control, const struct mapping *mapping, uint32_t leaf,
                       int64_t epoch, struct error *err)
{
    struct buffer sql;
    buffer_init(&sql, 8192);
    buffer_puts(&sql, "INSERT INTO portage.range (mapping, range, leaf, epoch) SELECT ");
    quote_literal(&sql, mapping->name);
    buffer_printf(&sql,
                  ", COALESCE(pg_catalog.max(range), -1) + 1, %u, %lld FROM portage.range"
                  " WHERE mapping = ",
                  leaf, (long long)epoch);
    quote_literal(&sql, mapping->name);
    return run(control, &sql, err);
}

static bool mapping_gone(const char *name, struct error *err)
{
    error_set(err, ERROR_CONFIG, "the migration has begun with a mapping for %s, which is gone",
              name);
    return error_begin_again(err, "Put it back into the configuration, or");
}

/* A cell that holds a key as JSON, or NULL. */
static bool cell_key(const struct mapping *mapping, const PGresult *result, int row, int column,
                     struct arena *arena, const struct key **key, struct error *err)
{
    *key = NULL;
    return PQgetisnull(result, row, column) ||
           key_from_json(mapping, result_text(result, row, column), arena, key, err);
}

static bool range_row_read(const struct mapping_set *set, const PGresult *result, int row,
                           struct arena *arena, struct range_row *out, struct error *err)
{
    const struct mapping *mapping = mapping_set_named(set, result_text(result, row, 0));
    if (mapping == NULL)
        return mapping_gone(result_text(result, row, 0), err);
    *out = (struct range_row){
        .mapping = mapping,
        .range = (int)result_int(result, row, 1),
        .done = result_bool(result, row, 5),
        .rows = result_int(result, row, 6),
        .bytes = result_int(result, row, 7),
        .leaf = (uint32_t)result_int(result, row, 8),
    };
    return cell_key(mapping, result, row, 2, arena, &out->lower, err) &&
           cell_key(mapping, result, row, 3, arena, &out->upper, err) &&
           cell_key(mapping, result, row, 4, arena, &out->cursor, err);
}

bool range_load(PGconn *shard, const struct mapping_set *set, struct arena *arena,
                struct range_row **rows, unsigned *count, struct error *err)
{
    PGresult *result = conn_query(
        shard,
        "SELECT mapping, range, pg_catalog.array_to_json(lower), pg_catalog.array_to_json(upper),"
        "       pg_catalog.array_to_json(cursor), done, rows, bytes,"
        "       leaf"
        "  FROM portage.range ORDER BY mapping, range",
        0, NULL, err);
    if (result == NULL)
        return false;
    bool ok = true;
    *count = (unsigned)PQntuples(result);
    *rows = arena_alloc(arena, *count * sizeof **rows);
    for (unsigned i = 0; ok && i < *count; i++)
        ok = range_row_read(set, result, (int)i, arena, &(*rows)[i], err);
    PQclear(result);
    return ok;
}

static bool chunk_row_read(const struct mapping_set *set, const PGresult *result, int row,
                           struct arena *arena, struct chunk_row *out, struct error *err)
{
    const struct mapping *mapping = mapping_set_named(set, result_text(result, row, 0));
    if (mapping == NULL)
        return mapping_gone(result_text(result, row, 0), err);
    *out = (struct chunk_row){
        .mapping = mapping,
        .range = (int)result_int(result, row, 1),
        .snapshot = arena_strdup(arena, result_text(result, row, 4)),
    };
    return cell_key(mapping, result, row, 2, arena, &out->lower, err) &&
           cell_key(mapping, result, row, 3, arena, &out->upper, err) &&
           result_lsn(result, row, 5, &out->lsn, err);
}

bool chunk_load(PGconn *shard, const struct mapping_set *set, struct arena *arena,
                struct chunk_row **rows, unsigned *count, struct error *err)
{
    PGresult *result = conn_query(
        shard,
        "SELECT mapping, range, pg_catalog.array_to_json(lower), pg_catalog.array_to_json(upper),"
        "       snapshot, lsn FROM portage.chunk ORDER BY mapping, range, ordinal",
        0, NULL, err);
    if (result == NULL)
        return false;
    bool ok = true;
    *count = (unsigned)PQntuples(result);
    *rows = arena_alloc(arena, *count * sizeof **rows);
    for (unsigned i = 0; ok && i < *count; i++)
        ok = chunk_row_read(set, result, (int)i, arena, &(*rows)[i], err);
    PQclear(result);
    return ok;
}

bool range_claim(PGconn *shard, const struct mapping *mapping, int range, int64_t epoch,
                 struct error *err)
{
    struct buffer sql;
    buffer_init(&sql, 4096);
    buffer_puts(&sql, "UPDATE portage.range SET epoch = epoch WHERE (mapping, range) = (");
    put_range(&sql, mapping, range);
    buffer_printf(&sql, ") AND epoch = %lld", (long long)epoch);
    PGresult *result = conn_query(shard, buffer_text(&sql), 0, NULL, err);
    buffer_release(&sql);
    if (result == NULL)
        return false;
    bool claimed = strcmp(PQcmdTuples(result), "1") == 0;
    PQclear(result);
    return claimed || error_set(err, ERROR_RETRY, "another instance of pgportage has taken over");
}

bool range_advance(PGconn *shard, const struct chunk_row *chunk, bool done, int64_t rows,
                   int64_t bytes, struct error *err)
{
    struct buffer sql;
    buffer_init(&sql, 8 * KEY_BYTES_MAX);
    buffer_puts(&sql, "UPDATE portage.range SET cursor = ");
    put_key(&sql, chunk->mapping, chunk->upper);
    buffer_printf(&sql, ", done = %s, rows = rows + %lld, bytes = bytes + %lld",
                  done ? "true" : "false", (long long)rows, (long long)bytes);
    buffer_puts(&sql, " WHERE (mapping, range) = (");
    put_range(&sql, chunk->mapping, chunk->range);
    buffer_puts(&sql, "); INSERT INTO portage.chunk (mapping, range, lower, upper, snapshot, lsn)"
                      " VALUES (");
    put_range(&sql, chunk->mapping, chunk->range);
    buffer_puts(&sql, ", ");
    put_key(&sql, chunk->mapping, chunk->lower);
    buffer_puts(&sql, ", ");
    put_key(&sql, chunk->mapping, chunk->upper);
    buffer_puts(&sql, ", ");
    quote_literal(&sql, chunk->snapshot);
    buffer_printf(&sql, ", '" LSN_FORMAT "')", LSN_ARGS(chunk->lsn));
    return run(shard, &sql, err);
}

bool chunk_drop(PGconn *shard, const char *whole_tables, bool whole, lsn_t progress,
                struct error *err)
{
    char position[LSN_TEXT_SIZE];
    const char *const values[] = {lsn_text(progress, position), whole_tables, whole ? "t" : "f"};
    PGresult *result = conn_query(shard,
                                  "DELETE FROM portage.chunk WHERE lsn <= $1::pg_lsn"
                                  "   AND (mapping = ANY ($2::text[])) = $3::bool",
                                  3, values, err);
    PQclear(result);
    return result != NULL;
}
