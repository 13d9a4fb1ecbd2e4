#include "verify/kept.h"

#include <jansson.h>

#include "pg/conn.h"
#include "pg/quote.h"
#include "util/clock.h"

enum {
    WRITE_EVERY_US = 1000 * 1000,
    CURSOR_BYTES_MAX = 1 << 20,
    SUSPECTS_AT_ONCE = 1000, /* read or written … */
    KEYS_BYTES_AT_ONCE = 1 << 20, /* … and so many bytes of their keys, or one key */
    KEYS_BYTES_MAX = 1 << 28,
};

/* ---- SQL; $1 is the pass's id, $2 our turn, wherever both are needed ---- */

static const char lock_sql[] =
    "SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtext('portage.verification'),"
    "         pg_catalog.hashtext($1))";
/* The session of a process that was killed a moment ago may still be there. */
static const char wait_for_lock_sql[] = "SET lock_timeout = '3s'";
static const char wait_no_more_sql[] = "SET lock_timeout = 0";
/* What nobody has gone on with for a day says little of today. Of other requests, which may be at work
 * over one large table, only what is a month old. */
static const char clear_sql[] =
    "WITH gone AS (DELETE FROM portage.verification"
    "               WHERE (request = $1 AND ($2 OR"
    "                      written_at < pg_catalog.clock_timestamp() - interval '24 hours'))"
    "                  OR written_at < pg_catalog.clock_timestamp() - interval '30 days'"
    "              RETURNING id),"
    " tables AS (DELETE FROM portage.verified WHERE verification IN (SELECT id FROM gone))"
    " DELETE FROM portage.suspect WHERE verification IN (SELECT id FROM gone)";
static const char begin_sql[] =
    "INSERT INTO portage.verification (request) VALUES ($1)"
    " ON CONFLICT (request) DO UPDATE SET turn = verification.turn + 1"
    " RETURNING id, turn, begun_at, not_kept";
static const char tables_sql[] =
    "SELECT mapping, complete, pg_catalog.array_to_json(cursor), source_rows, target_rows, bytes"
    "  FROM portage.verified WHERE verification = $1";
static const char suspects_sql[] =
    "SELECT id, mapping, key FROM portage.suspect WHERE verification = $1 AND id > $2::bigint"
    " ORDER BY id LIMIT $3::bigint";
static const char write_suspects_sql[] =
    "INSERT INTO portage.suspect (verification, mapping, key)"
    " SELECT v.id, s.mapping, pg_catalog.decode(s.key, 'hex')"
    "   FROM portage.verification v,"
    "        ROWS FROM (pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]))"
    "          AS s (mapping, key)"
    "  WHERE v.id = $1::bigint AND v.turn = $2::bigint";
static const char write_table_sql[] =
    "WITH ours AS (UPDATE portage.verification SET written_at = pg_catalog.clock_timestamp(),"
    "                     not_kept = $9::bigint"
    "               WHERE id = $1::bigint AND turn = $2::bigint RETURNING id)"
    " INSERT INTO portage.verified"
    "   (verification, mapping, complete, cursor, source_rows, target_rows, bytes)"
    " SELECT id, $3, $4::bool, $5::text[], $6::bigint, $7::bigint, $8::bigint FROM ours"
    " ON CONFLICT (verification, mapping) DO UPDATE SET complete = excluded.complete,"
    "   cursor = excluded.cursor, source_rows = excluded.source_rows,"
    "   target_rows = excluded.target_rows, bytes = excluded.bytes";
static const char end_sql[] =
    "WITH gone AS (DELETE FROM portage.verification WHERE id = $1::bigint AND turn = $2::bigint"
    "              RETURNING id),"
    " tables AS (DELETE FROM portage.verified WHERE verification IN (SELECT id FROM gone))"
    " DELETE FROM portage.suspect WHERE verification IN (SELECT id FROM gone)";

void kept_init(struct kept *kept, unsigned tables_count)
{
    *kept = (struct kept){.tables_count = tables_count};
    kept->tables = check_calloc(tables_count + 1, sizeof *kept->tables);
    pthread_mutex_init(&kept->lock, NULL);
}

void kept_release(struct kept *kept)
{
    free(kept->tables);
    pthread_mutex_destroy(&kept->lock);
}

static bool take_lock(PGconn *control, const char *request, bool *taken, struct error *err)
{
    if (!conn_exec(control, wait_for_lock_sql, err))
        return false;
    *taken = conn_run(control, lock_sql, 1, &request, err);
    if (!*taken && strcmp(err->sqlstate, "55P03") != 0)
        return false;
    error_clear(err);
    return conn_exec(control, wait_no_more_sql, err);
}

/* ---- taking up ---- */

static struct kept_table *find_table(struct kept *kept, const char *mapping)
{
    for (unsigned t = 0; t < kept->tables_count; t++) {
        if (strcmp(kept->tables[t].mapping->name, mapping) == 0)
            return &kept->tables[t];
    }
    return NULL;
}

/* NULL when it has another number of columns than the key, or none. */
static const char *const *cursor_of(const struct mapping *mapping, const char *json,
                                    struct arena *arena)
{
    json_t *array = json_loads(json, 0, NULL);
    const char **texts = NULL;
    if (json_array_size(array) == mapping->range_count && mapping->range_count > 0) {
        texts = arena_alloc(arena, mapping->range_count * sizeof *texts);
        for (unsigned k = 0; k < mapping->range_count; k++)
            texts[k] = arena_strdup(arena, json_string_value(json_array_get(array, k)));
    }
    json_decref(array);
    return texts;
}

static void take_table(struct kept *kept, const PGresult *result, int row, struct arena *arena)
{
    struct kept_table *table = find_table(kept, result_text(result, row, 0));
    if (table == NULL)
        return;
    table->written_complete = result_bool(result, row, 1);
    table->written_cursor = cursor_of(table->mapping, result_text(result, row, 2), arena);
    if (!table->written_complete && table->written_cursor == NULL)
        return;
    table->complete_before = table->written_complete;
    table->before = (struct compared){.source_rows = (uint64_t)result_int(result, row, 3),
                                      .target_rows = (uint64_t)result_int(result, row, 4),
                                      .bytes = (uint64_t)result_int(result, row, 5)};
    ledger_init(table->ledger, table->written_cursor, table->written_complete, &table->before);
    kept->continued = true;
}

static bool take_tables(struct kept *kept, PGconn *control, struct arena *arena, struct error *err)
{
    const char *const values[] = {kept->id};
    PGresult *result = conn_query(control, tables_sql, 1, values, err);
    for (int row = 0; result != NULL && row < PQntuples(result); row++)
        take_table(kept, result, row, arena);
    PQclear(result);
    return result != NULL;
}

static bool take_suspect(struct kept *kept, const PGresult *result, int row,
                         struct suspects *suspects, struct error *err)
{
    size_t length;
    const struct kept_table *table = find_table(kept, result_text(result, row, 1));
    if (table == NULL)
        return true;
    unsigned char *key = PQunescapeBytea(
        (const unsigned char *)PQgetvalue(result, row, 2), &length);
    if (key == NULL)
        return error_set(err, ERROR_FATAL, "a key of %s that was kept cannot be read",
                         table->mapping->name);
    suspects_add(suspects, table->mapping, (const char *)key, length);
    PQfreemem(key);
    return true;
}

static bool take_suspects(struct kept *kept, PGconn *control, struct suspects *suspects,
                          struct error *err)
{
    char last[24] = "0", limit[24];
    bool more = true, ok = true;
    snprintf(limit, sizeof limit, "%d", SUSPECTS_AT_ONCE);
    while (ok && more) {
        const char *const values[] = {kept->id, last, limit};
        PGresult *result = conn_query(control, suspects_sql, 3, values, err);
        ok = result != NULL;
        more = ok && PQntuples(result) == SUSPECTS_AT_ONCE;
        for (int row = 0; ok && row < PQntuples(result); row++)
            ok = take_suspect(kept, result, row, suspects, err);
        if (more)
            snprintf(last, sizeof last, "%s", result_text(result, SUSPECTS_AT_ONCE - 1, 0));
        PQclear(result);
    }
    suspects->not_kept += kept->not_kept;
    kept->last_suspect = suspects_last(suspects);
    return ok;
}

static bool take_turn(struct kept *kept, PGconn *control, const char *request, bool fresh,
                      struct error *err)
{
    const char *const values[] = {request, fresh ? "true" : "false"};
    if (!conn_run(control, clear_sql, 2, values, err))
        return false;
    PGresult *result = conn_query_row(control, begin_sql, 1, values, err);
    if (result == NULL)
        return false;
    snprintf(kept->id, sizeof kept->id, "%s", result_text(result, 0, 0));
    snprintf(kept->turn, sizeof kept->turn, "%s", result_text(result, 0, 1));
    snprintf(kept->begun_at, sizeof kept->begun_at, "%s", result_text(result, 0, 2));
    kept->not_kept = (uint64_t)result_int(result, 0, 3);
    PQclear(result);
    return true;
}

bool kept_begin(struct kept *kept, PGconn *control, const char *request, bool fresh,
                struct arena *arena, struct suspects *suspects, struct error *err)
{
    bool locked = false;
    if (!take_lock(control, request, &locked, err))
        return error_context(err, "reading on shard 0 how far the pass was");
    kept->on = locked;
    kept->why = "the same is being verified by somebody else";
    bool ok = !kept->on || (take_turn(kept, control, request, fresh, err) &&
                            take_tables(kept, control, arena, err) &&
                            take_suspects(kept, control, suspects, err));
    return ok || error_context(err, "reading on shard 0 how far the pass was");
}

/* ---- writing ---- */

/* One row, under our turn. */
static bool write_row(PGconn *control, const char *sql, int count, const char *const *values,
                      struct error *err)
{
    PGresult *result = conn_query(control, sql, count, values, err);
    if (result == NULL)
        return error_context(err, "keeping on shard 0 how far the pass is");
    bool ours = strcmp(PQcmdTuples(result), "1") == 0;
    PQclear(result);
    return ours || error_set(err, ERROR_CONFIG, "another verify has taken up this pass");
}

static void put_hex(struct buffer *out, const struct buffer *bytes)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = buffer_text(bytes);
    for (size_t i = 0; i < bytes->length; i++) {
        buffer_putc(out, digits[(unsigned char)at[i] >> 4]);
        buffer_putc(out, digits[(unsigned char)at[i] & 15]);
    }
}

/* Adds a suspect to two texts of arrays. */
static void put_suspect(struct buffer *mappings, struct buffer *keys, const struct suspect *suspect)
{
    const char *name = suspect->mapping->name;
    buffer_putc(mappings, mappings->length > 0 ? ',' : '{');
    quote_element(mappings, name, strlen(name));
    buffer_putc(keys, keys->length > 0 ? ',' : '{');
    put_hex(keys, &suspect->key);
}

/* Those behind `from`, as many as one statement takes. Gives the last one of them. */
static const struct suspect *put_some(struct suspects *suspects, const struct suspect *from,
                                      const struct suspect *last, struct buffer *mappings,
                                      struct buffer *keys)
{
    unsigned count = 0;
    do {
        from = suspects_after(suspects, from);
        put_suspect(mappings, keys, from);
    } while (from != last && ++count < SUSPECTS_AT_ONCE && keys->length < KEYS_BYTES_AT_ONCE);
    buffer_putc(mappings, '}');
    buffer_putc(keys, '}');
    return from;
}

/* Those that are new, up to the one that is the last by now. */
static bool write_suspects(struct kept *kept, PGconn *control, struct suspects *suspects,
                           struct error *err)
{
    const struct suspect *last = suspects_last(suspects);
    bool ok = true;
    while (ok && kept->last_suspect != last) {
        struct buffer mappings, keys;
        buffer_init(&mappings, KEYS_BYTES_MAX);
        buffer_init(&keys, KEYS_BYTES_MAX);
        const struct suspect *end =
            put_some(suspects, kept->last_suspect, last, &mappings, &keys);
        const char *const values[] = {kept->id, kept->turn, buffer_text(&mappings),
                                      buffer_text(&keys)};
        ok = !buffer_failed(&mappings) && !buffer_failed(&keys)
                 ? conn_run(control, write_suspects_sql, 4, values, err)
                 : error_set(err, ERROR_LIMIT, "a key is too long to be kept");
        buffer_release(&mappings);
        buffer_release(&keys);
        kept->last_suspect = end;
    }
    return ok || error_context(err, "keeping what differed in the pass");
}

/* As the text of an array, the caller's buffer. */
static const char *cursor_text(const struct mapping *mapping, const char *const *cursor,
                               struct buffer *text)
{
    if (cursor == NULL)
        return NULL;
    quote_array(text, cursor, mapping->range_count);
    return buffer_text(text);
}

static bool write_table(struct kept *kept, PGconn *control, struct kept_table *table,
                        const struct ledger *settled, uint64_t not_kept, struct error *err)
{
    char counts[4][24];
    const uint64_t numbers[] = {settled->settled.source_rows, settled->settled.target_rows,
                                settled->settled.bytes, not_kept};
    struct buffer cursor;
    buffer_init(&cursor, CURSOR_BYTES_MAX);
    for (unsigned n = 0; n < 4; n++)
        snprintf(counts[n], sizeof counts[n], "%lld", (long long)numbers[n]);
    const char *const values[] = {kept->id,
                                  kept->turn,
                                  table->mapping->name,
                                  settled->complete ? "true" : "false",
                                  cursor_text(table->mapping, settled->cursor, &cursor),
                                  counts[0],
                                  counts[1],
                                  counts[2],
                                  counts[3]};
    bool ok = buffer_failed(&cursor) || write_row(control, write_table_sql, 9, values, err);
    buffer_release(&cursor);
    table->written_cursor = settled->cursor;
    table->written_complete = settled->complete;
    return ok;
}

static bool write_tables(struct kept *kept, PGconn *control, const struct ledger *settled,
                         uint64_t not_kept, struct error *err)
{
    bool ok = true;
    for (unsigned t = 0; ok && t < kept->tables_count; t++) {
        struct kept_table *table = &kept->tables[t];
        if (settled[t].cursor != table->written_cursor ||
            settled[t].complete != table->written_complete)
            ok = write_table(kept, control, table, &settled[t], not_kept, err);
    }
    return ok;
}

static bool write_all(struct kept *kept, PGconn *control, pthread_mutex_t *lock,
                      struct suspects *suspects, struct error *err)
{
    struct ledger *settled = check_calloc(kept->tables_count + 1, sizeof *settled);
    /* First the ledgers: whatever suspects their intervals left are in the list by then. */
    pthread_mutex_lock(lock);
    for (unsigned t = 0; t < kept->tables_count; t++)
        settled[t] = *kept->tables[t].ledger;
    pthread_mutex_unlock(lock);
    bool ok = write_suspects(kept, control, suspects, err) &&
              write_tables(kept, control, settled, suspects_not_kept(suspects), err);
    free(settled);
    kept->written_us = clock_monotonic_us();
    return ok;
}

bool kept_write(struct kept *kept, PGconn *control, pthread_mutex_t *lock,
                struct suspects *suspects, struct error *err)
{
    if (!kept->on)
        return true;
    pthread_mutex_lock(&kept->lock);
    bool ok = write_all(kept, control, lock, suspects, err);
    pthread_mutex_unlock(&kept->lock);
    return ok;
}

bool kept_write_if_due(struct kept *kept, PGconn *control, pthread_mutex_t *lock,
                       struct suspects *suspects, struct error *err)
{
    bool ok = true;
    if (!kept->on || pthread_mutex_trylock(&kept->lock) != 0)
        return true; /* somebody is writing */
    if (clock_monotonic_us() - kept->written_us >= WRITE_EVERY_US)
        ok = write_all(kept, control, lock, suspects, err);
    pthread_mutex_unlock(&kept->lock);
    return ok;
}

bool kept_end(struct kept *kept, PGconn *control, struct error *err)
{
    const char *const values[] = {kept->id, kept->turn};
    return !kept->on || conn_run(control, end_sql, 2, values, err) ||
           error_context(err, "forgetting on shard 0 how far the pass was");
}
