#include "verify/sample.h"

#include "pg/conn.h"

enum {
    ROWS_FACTOR = 3,       /* so many times the rows are read, of which some are drawn */
    PAGES_MIN = 40,        /* so many pages at least: of a handful it is chance how many are drawn */
    PAGE_BYTES = 8192,
    BYTES_SMALL = 1 << 24, /* all pages of a table up to this: a few percent may be none */
    ROW_BYTES = 100,       /* when nobody has counted */
    UNKEYED_ROWS_MAX = 10  /* each costs a scan of the table */
};

/* Percent of the pages that give `rows` rows, where the table's rows are spread over `servers`. */
static double percent_of(const struct relation *relation, int64_t rows, unsigned servers)
{
    int64_t all =
        relation->rows_estimate >= 0 ? relation->rows_estimate : relation->bytes / ROW_BYTES;
    int64_t wanted = rows * ROWS_FACTOR * servers;
    if (relation->bytes <= BYTES_SMALL || all <= wanted)
        return 100;
    double by_rows = 100.0 * (double)wanted / (double)all;
    double by_pages = 100.0 * PAGES_MIN * servers * PAGE_BYTES / (double)relation->bytes;
    return by_rows > by_pages ? by_rows : by_pages;
}

/* Every row that is read becomes a suspect. Gives how many. */
static bool suspect_all(struct session *session, PGconn *conn, const struct mapping *mapping,
                        const char *select, bool target, struct suspects *suspects, uint64_t *count,
                        struct error *err)
{
    struct rows rows;
    struct buffer key;
    enum rows_result result = ROWS_ERROR;
    buffer_init(&key, 1 << 26);
    if (rows_begin(&rows, conn, mapping, select, target, session->options->strict, err)) {
        while ((result = rows_next(&rows, err)) == ROWS_ROW) {
            rows_key(&rows, &key);
            if (buffer_failed(&key)) {
                result = ROWS_ERROR;
                error_set(err, ERROR_LIMIT, "a key of %s is too long", mapping->name);
                break;
            }
            suspects_add(suspects, mapping, buffer_text(&key), key.length);
            ++*count;
        }
    }
    rows_end(&rows);
    buffer_release(&key);
    return result == ROWS_END;
}

bool sample_table(struct session *session, const struct mapping *mapping, int64_t rows,
                  struct suspects *suspects, struct compared *compared, struct error *err)
{
    struct arena arena;
    arena_init(&arena, 64 * 1024);
    unsigned spread = mapping->everywhere ? 1 : session->shards_count;
    if (!mapping->has_key && rows > UNKEYED_ROWS_MAX)
        rows = UNKEYED_ROWS_MAX;
    bool ok =
        suspect_all(session, session->source, mapping,
                    reading_source_sample(mapping, percent_of(mapping->source, rows, 1), rows, &arena),
                    false, suspects, &compared->source_rows, err);
    for (unsigned s = 0; ok && s < session->shards_count; s++)
        ok = suspect_all(session, session->shards[s], mapping,
                         reading_target_sample(mapping, percent_of(mapping->source, rows, spread),
                                               rows, s, session->shards_count, &arena),
                         true, suspects, &compared->target_rows, err) ||
             error_context(err, "shard %u", s);
    arena_release(&arena);
    return ok || error_context(err, "sampling %s", mapping->name);
}

static bool count_rows(PGconn *conn, const char *sql, uint64_t *count, struct error *err)
{
    PGresult *result = conn_query_row(conn, sql, 0, NULL, err);
    if (result == NULL)
        return false;
    *count = (uint64_t)result_int(result, 0, 0);
    PQclear(result);
    return true;
}

bool count_table(struct session *session, const struct mapping *mapping, struct compared *compared,
                 json_t *shards, struct error *err)
{
    struct arena arena;
    arena_init(&arena, 4096);
    bool ok = count_rows(session->source, reading_count(mapping, false, &arena),
                         &compared->source_rows, err);
    for (unsigned s = 0; ok && s < session->shards_count; s++) {
        uint64_t count = 0;
        ok = count_rows(session->shards[s], reading_count(mapping, true, &arena), &count, err) ||
             error_context(err, "shard %u", s);
        compared->target_rows += count;
        json_array_append_new(shards, json_integer((json_int_t)count));
    }
    arena_release(&arena);
    return ok || error_context(err, "counting %s", mapping->name);
}
