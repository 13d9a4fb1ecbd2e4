#include "stream/parts.h"

#include "mapping/rejoin.h"
#include "pg/conn.h"
#include "pg/quote.h"

void parts_init(struct parts *parts, const struct mapping_set *mappings, unsigned stream,
                struct readback *readback, struct pipeline *pipeline)
{
    *parts = (struct parts){
        .mappings = mappings, .stream = stream, .readback = readback, .pipeline = pipeline};
    parts->rejoins = check_calloc(mappings->count + 1, sizeof(struct rejoin *));
    arena_init(&parts->arena, 16 * 1024);
}

void parts_release(struct parts *parts)
{
    free(parts->rejoins);
    arena_release(&parts->arena);
}

static const struct rejoin *rejoin_of(struct parts *parts, const struct mapping *mapping)
{
    struct rejoin **rejoin = &parts->rejoins[mapping->index];
    if (*rejoin == NULL) {
        *rejoin = arena_zalloc(&parts->arena, sizeof **rejoin);
        rejoin_make(parts->mappings, mapping, &parts->arena, *rejoin);
    }
    return *rejoin;
}

static bool put(struct parts *parts, const struct rejoin *rejoin, const PGresult *row,
                struct error *err)
{
    const char *values[RELATION_COLUMNS_MAX];
    for (unsigned c = 0; c < rejoin->columns_count; c++)
        values[c] = PQgetisnull(row, 0, (int)c) ? NULL : PQgetvalue(row, 0, (int)c);
    return pipeline_query(parts->pipeline, rejoin->put, (int)rejoin->columns_count, values,
                          EXPECT_OK, err);
}

static const char *array_text(const char *const *key, unsigned count, struct arena *arena)
{
    struct buffer text;
    buffer_init(&text, 64 * 1024 * 1024);
    quote_array(&text, key, count);
    return arena_take(arena, &text);
}

static bool mark(struct parts *parts, const struct mapping *mapping, const char *const *key,
                 struct arena *arena, struct error *err)
{
    char stream[12];
    const char *const values[] = {mapping->name, array_text(key, mapping->key_count, arena),
                                  stream};
    snprintf(stream, sizeof stream, "%u", parts->stream);
    return pipeline_query(parts->pipeline,
                          "INSERT INTO portage.dirty (mapping, key, owner)"
                          " VALUES ($1, $2::text[]::text, $3::int)",
                          3, values, EXPECT_OK, err);
}

static bool bring(struct parts *parts, const struct change *change, const char *const *key,
                  struct arena *arena, struct error *err)
{
    const struct mapping *mapping = change->mapping;
    const struct rejoin *rejoin = rejoin_of(parts, mapping);
    PGresult *row = readback_query(parts->readback, change->xid, rejoin->read,
                                   (int)mapping->key_count, key, err);
    if (row == NULL)
        return false;
    bool ok = PQntuples(row) > 0 ? put(parts, rejoin, row, err)
                                 : pipeline_query(parts->pipeline, rejoin->remove,
                                                (int)mapping->key_count, key, EXPECT_OK, err) &&
                                     mark(parts, mapping, key, arena, err);
    PQclear(row);
    return ok;
}

bool parts_take(struct parts *parts, const struct change *change, struct arena *arena,
                struct error *err)
{
    const struct mapping *mapping = change->mapping;
    const char **key = arena_alloc(arena, mapping->key_count * sizeof *key);
    for (unsigned k = 0; k < mapping->key_count; k++)
        key[k] = change_row(change)->values[mapping->key[k].source].bytes;
    return bring(parts, change, key, arena, err) ||
           error_context(err, "bringing back a row of %s", mapping->name);
}

/* INSERT INTO portage.dirty of many keys, whose arrays are the parameters. */
static const char *mark_many_sql(const struct parts *parts, const struct mapping *mapping,
                                 struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, 64 * 1024);
    buffer_puts(&sql, "INSERT INTO portage.dirty (mapping, key, owner) SELECT ");
    quote_literal(&sql, mapping->name);
    buffer_puts(&sql, ", ARRAY[");
    for (unsigned k = 0; k < mapping->key_count; k++)
        buffer_printf(&sql, "%sportage_%u", k > 0 ? ", " : "", k);
    buffer_printf(&sql, "]::text, %u FROM ROWS FROM (", parts->stream);
    for (unsigned k = 0; k < mapping->key_count; k++)
        buffer_printf(&sql, "%spg_catalog.unnest($%u::text[])", k > 0 ? ", " : "", k + 1);
    buffer_puts(&sql, ") AS portage_keys (");
    for (unsigned k = 0; k < mapping->key_count; k++)
        buffer_printf(&sql, "%sportage_%u", k > 0 ? ", " : "", k);
    buffer_putc(&sql, ')');
    return arena_take(arena, &sql);
}

static bool remove_many(struct parts *parts, const struct mapping *mapping,
                        const char *const *const *keys, unsigned count, struct arena *arena,
                        struct error *err)
{
    const char **arrays = arena_alloc(arena, mapping->key_count * sizeof *arrays);
    int columns = (int)mapping->key_count;
    return rejoin_keys(keys, count, mapping->key_count, arena, arrays, err) &&
           pipeline_query(parts->pipeline, rejoin_of(parts, mapping)->remove_many, columns, arrays,
                          EXPECT_OK, err) &&
           pipeline_query(parts->pipeline, mark_many_sql(parts, mapping, arena), columns, arrays,
                          EXPECT_OK, err) &&
           pipeline_flush(parts->pipeline, err) &&
           pipeline_wait(parts->pipeline, parts->pipeline->sent, err);
}

bool parts_remove_gone(struct parts *parts, const struct change *change,
                       const char *const *const *keys, unsigned count, struct arena *arena,
                       struct error *err)
{
    const struct mapping *mapping = change->mapping;
    const char **arrays = arena_alloc(arena, mapping->key_count * sizeof *arrays);
    const char *const **absent = arena_alloc(arena, count * sizeof *absent);
    if (!rejoin_keys(keys, count, mapping->key_count, arena, arrays, err))
        return false;
    PGresult *gone = readback_query(parts->readback, change->xid, rejoin_of(parts, mapping)->gone,
                                    (int)mapping->key_count, arrays, err);
    if (gone == NULL)
        return false;
    for (int row = 0; row < PQntuples(gone); row++)
        absent[row] = keys[result_int(gone, row, 0) - 1];
    bool ok = PQntuples(gone) == 0 || remove_many(parts, mapping, absent,
                                                  (unsigned)PQntuples(gone), arena, err);
    PQclear(gone);
    return ok;
}
