#include "mapping/rejoin.h"
#include "pg/conn.h"
#include "pg/quote.h"
#include "util/log.h"
#include "verify/bring.h"
#include "verify/reading.h"

enum { STATEMENT_MAX = 1 << 20 };

/* The first row of `row`, as parameters of a statement. */
static bool run_with_row(PGconn *conn, const char *sql, const PGresult *row, struct error *err)
{
    const char *values[RELATION_COLUMNS_MAX];
    unsigned count = (unsigned)PQnfields(row);
    CHECK(count <= RELATION_COLUMNS_MAX);
    for (unsigned c = 0; c < count; c++)
        values[c] = PQgetisnull(row, 0, (int)c) ? NULL : result_text(row, 0, (int)c);
    return conn_run(conn, sql, (int)count, values, err);
}

/* ---- tables with a key ---- */

/* The way back's key as the texts that rejoin.h takes, from a row of either side. */
static const char *const *key_texts(const struct mapping *mapping, const struct mapping *back,
                                    const struct seen_row *row, struct arena *arena)
{
    const char **texts = arena_zalloc(arena, back->key_count * sizeof *texts);
    for (unsigned k = 0; k < back->key_count; k++) {
        const struct column *column = &back->source->columns[back->key[k].source];
        for (unsigned i = 0; i < mapping->items_count; i++) {
            if (strcmp(mapping->items[i].target->name, column->name) == 0)
                texts[k] = row->values[i];
        }
        if (texts[k] == NULL)
            return NULL;
    }
    return texts;
}

static const char *array_text(const char *const *texts, unsigned count, struct arena *arena)
{
    struct buffer text;
    buffer_init(&text, 1 << 28);
    quote_array(&text, texts, count);
    return arena_take(arena, &text);
}

static bool mark(PGconn *source, const struct mapping *back, const char *const *key,
                 unsigned shard, struct arena *arena, struct error *err)
{
    const char *const values[] = {back->name, array_text(key, back->key_count, arena),
                                  arena_printf(arena, "%u", shard)};
    return conn_run(source,
                    "INSERT INTO portage.dirty (mapping, key, owner)"
                    " VALUES ($1, $2::text[]::text, $3::int)",
                    3, values, err);
}

/* The one row of the live side, where it belongs; NULL when there is none. False when it has the key
 * twice, or on a shard that it does not belong to: the source cannot have that. */
static bool find_row(const struct mapping *mapping, const struct seen *target,
                     const struct seen_row **row)
{
    *row = NULL;
    for (unsigned t = 0; t < target->count; t++) {
        if (mapping->everywhere && target->rows[t].shard > 0)
            continue;
        if (*row != NULL || !target->rows[t].placed)
            return false;
        *row = &target->rows[t];
    }
    return true;
}

/* As a lane does with a part (stream/parts.h): the whole row as the shard has it, or none. */
static bool put_whole(struct session *session, const struct rejoin *rejoin,
                      const struct mapping *back, const char *const *key, unsigned shard,
                      struct arena *arena, struct error *err)
{
    PGresult *row = conn_query(session->shards[shard], rejoin->read, (int)back->key_count, key, err);
    if (row == NULL)
        return false;
    bool ok = PQntuples(row) > 0
                  ? run_with_row(session->source, rejoin->put, row, err)
                  : conn_run(session->source, rejoin->remove, back->key_count, key, err);
    PQclear(row);
    return ok && mark(session->source, back, key, shard, arena, err);
}

/* Of a split a part may be left: its key is marked. */
static bool remove_whole(struct session *session, const struct rejoin *rejoin,
                         const struct mapping *back, const char *const *key, unsigned shard,
                         struct arena *arena, struct error *err)
{
    return conn_run(session->source, rejoin->remove, back->key_count, key, err) &&
           (back->parts == 1 || mark(session->source, back, key, shard, arena, err));
}

static bool bring_keyed(struct session *session, const struct ways *ways,
                        const struct mapping *mapping, const struct seen *source,
                        const struct seen_row *live, struct arena *arena, struct error *err)
{
    struct rejoin rejoin;
    unsigned shard = live != NULL ? live->shard : 0;
    const struct mapping *back = ways_find(ways, shard, mapping);
    CHECK(back != NULL);
    const char *const *key =
        key_texts(mapping, back, live != NULL ? live : &source->rows[0], arena);
    if (key == NULL)
        return error_set(err, ERROR_FATAL, "a key of %s has no value", mapping->name);
    rejoin_make(&ways->items[shard].set, back, arena, &rejoin);
    return live != NULL ? put_whole(session, &rejoin, back, key, shard, arena, err)
                        : remove_whole(session, &rejoin, back, key, shard, arena, err);
}

/* ---- tables without a key: as many equal rows as the target has ---- */

/* The source's row that a row of the shard becomes, by its version ($1). */
static const char *read_sql(const struct mapping *back, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    for (unsigned i = 0; i < back->items_count; i++) {
        const struct mapping_item *item = &back->items[i];
        buffer_puts(&sql, i == 0 ? "SELECT " : ", ");
        if (item->target->builtin)
            buffer_printf(&sql, "(%s)::%s", item->select->expr, item->target->base_type);
        else
            buffer_puts(&sql, item->select->expr);
    }
    buffer_puts(&sql, " FROM ");
    relation_put_only(&sql, back->source);
    buffer_puts(&sql, " WHERE " READING_AT_VERSION);
    return arena_take(arena, &sql);
}

static const char *insert_sql(const struct mapping *back, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "INSERT INTO ");
    quote_name(&sql, back->target->schema, back->target->name);
    for (unsigned i = 0; i < back->items_count; i++) {
        buffer_puts(&sql, i == 0 ? " (" : ", ");
        quote_ident(&sql, back->items[i].target->name);
    }
    for (unsigned i = 0; i < back->items_count; i++)
        buffer_printf(&sql, "%s$%u", i == 0 ? ") OVERRIDING SYSTEM VALUE VALUES (" : ", ", i + 1);
    buffer_putc(&sql, ')');
    return arena_take(arena, &sql);
}

static const char *delete_sql(const struct mapping *back, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "DELETE FROM ");
    relation_put_only(&sql, back->target);
    buffer_puts(&sql, " WHERE " READING_AT_VERSION);
    return arena_take(arena, &sql);
}

static bool insert_copy(struct session *session, const struct mapping *back,
                        const struct seen_row *row, struct arena *arena, struct error *err)
{
    PGresult *made =
        conn_query(session->shards[row->shard], read_sql(back, arena), 1, &row->version, err);
    if (made == NULL)
        return false;
    /* One that went meanwhile is found out when the live rows are read again. */
    bool ok = PQntuples(made) == 0 ||
              run_with_row(session->source, insert_sql(back, arena), made, err);
    PQclear(made);
    return ok;
}

static bool level(struct session *session, const struct mapping *mapping, const struct ways *ways,
                  const struct seen *source, const struct seen *target, struct arena *arena,
                  struct error *err)
{
    const struct mapping *back = ways_find(ways, 0, mapping);
    unsigned wanted = 0;
    bool ok = true;
    for (unsigned t = 0; ok && t < target->count; t++) {
        const struct seen_row *row = &target->rows[t];
        if (mapping->everywhere && row->shard > 0)
            continue;
        if (++wanted > source->count)
            ok = insert_copy(session, back, row, arena, err);
    }
    for (unsigned s = wanted; ok && s < source->count; s++)
        ok = conn_run(session->source, delete_sql(back, arena), 1, &source->rows[s].version, err);
    return ok;
}

static bool cannot(const struct mapping *mapping, const char *why, bool *brought)
{
    log_warning("a row of %s cannot be repaired: %s", mapping->name, why);
    *brought = false;
    return true;
}

bool bring_back(struct session *session, const struct ways *ways, const struct suspect *suspect,
                const struct seen *source, const struct seen *target, struct arena *arena,
                bool *brought, struct error *err)
{
    const struct seen_row *live;
    const struct mapping *mapping = suspect->mapping;
    const struct mapping *back = ways_find(ways, 0, mapping);
    *brought = true;
    if (seen_equal(session, mapping, source, target))
        return true;
    if (back == NULL || back->has_key != mapping->has_key)
        return cannot(mapping, "there is no way back for it", brought);
    if (!mapping->has_key)
        return level(session, mapping, ways, source, target, arena, err);
    if (!find_row(mapping, target, &live))
        return cannot(mapping,
                      "the target is live, and has its key twice or on a shard where it does not"
                      " belong",
                      brought);
    return bring_keyed(session, ways, mapping, source, live, arena, err);
}
