#include "stream/look.h"

#include "pg/conn.h"

enum { KEYS = 1000 };

static bool look_up(const struct look *look, const struct change *change, const PGresult *rows,
                    struct arena *arena, struct error *err)
{
    unsigned count = (unsigned)PQntuples(rows), columns = change->mapping->key_count;
    const char *const **keys = arena_alloc(arena, count * sizeof *keys);
    for (unsigned row = 0; row < count; row++) {
        const char **key = arena_alloc(arena, columns * sizeof *key);
        for (unsigned k = 0; k < columns; k++)
            key[k] = result_text(rows, (int)row, (int)k);
        keys[row] = key;
    }
    return parts_remove_gone(look->parts, change, keys, count, arena, err);
}

static bool open_cursor(PGconn *conn, const struct look *look, const struct mapping *mapping,
                        struct arena *arena, struct error *err)
{
    const char *place = erase_place(mapping, look->of, arena);
    return conn_exec(conn, "BEGIN", err) && (place == NULL || conn_exec(conn, place, err)) &&
           conn_exec(conn,
                     arena_printf(arena, "DECLARE portage_keys NO SCROLL CURSOR FOR %s",
                                  erase_keys(mapping, look->of, arena)),
                     err);
}

static bool look_through(PGconn *conn, const struct look *look, const struct change *change,
                         struct error *err)
{
    struct arena arena, chunk;
    char fetch[64];
    int count = KEYS;
    arena_init(&arena, 16 * 1024);
    arena_init(&chunk, 256 * 1024);
    snprintf(fetch, sizeof fetch, "FETCH %d FROM portage_keys", KEYS);
    bool ok = open_cursor(conn, look, change->mapping, &arena, err);
    while (ok && count == KEYS) {
        PGresult *keys = stop_requested(look->parts->pipeline->stop)
                             ? (stop_error(err), NULL)
                             : conn_query(conn, fetch, 0, NULL, err);
        count = keys != NULL ? PQntuples(keys) : 0;
        ok = keys != NULL && (count == 0 || look_up(look, change, keys, &chunk, err));
        PQclear(keys);
        arena_clear(&chunk);
    }
    arena_release(&chunk);
    arena_release(&arena);
    return ok;
}

bool look_take(const struct look *look, const struct change *change, struct error *err)
{
    const struct mapping *mapping = change->mapping;
    PGconn *conn = conn_open(look->conninfo, CONN_SESSION, "look", err);
    bool ok = conn != NULL && look_through(conn, look, change, err);
    conn_close(conn);
    return ok || error_context(err, "looking for what a TRUNCATE of a partition of %s.%s has taken",
                               mapping->source->schema, mapping->source->name);
}
