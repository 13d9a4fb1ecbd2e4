#include "copy/ranges.h"

#include "mapping/statements.h"
#include "pg/conn.h"
#include "pg/quote.h"

enum {
    RANGES_MAX = 16,
    RANGE_BYTES_MIN = 32 * 1024 * 1024,
    OFFSET_ROWS_MAX = 20 * 1000 * 1000, /* above it, finding quantiles by counting takes too long */
};

static unsigned wanted_ranges(const struct mapping *mapping)
{
    int64_t ranges = mapping->source->bytes / RANGE_BYTES_MIN;
    if (mapping->copy_mode != COPY_RANGES || ranges < 2)
        return 1;
    return ranges < RANGES_MAX ? (unsigned)ranges : RANGES_MAX;
}

/* One key, or none at all. */
static bool query_key(PGconn *source, const struct mapping *mapping, const char *sql,
                      struct arena *arena, const struct key **key, struct error *err)
{
    PGresult *result = conn_query(source, sql, 0, NULL, err);
    bool ok = result != NULL;
    *key = NULL;
    if (ok && PQntuples(result) > 0)
        ok = key_from_result(mapping, result, 0, 0, arena, key, err);
    PQclear(result);
    return ok;
}

/* The first key whose leading column is at or above a value. */
static const char *key_from_sql(const struct mapping *mapping, long long value,
                                struct arena *arena)
{
    struct buffer sql, columns;
    const struct relation *source = mapping->source;
    buffer_init(&sql, 1 << 20);
    buffer_init(&columns, 1 << 20);
    buffer_puts(&sql, "SELECT ");
    for (unsigned k = 0; k < mapping->range_count; k++) {
        const char *name = source->columns[mapping->key[k].source].name;
        buffer_puts(&sql, k > 0 ? ", " : "");
        quote_ident(&sql, name);
        buffer_printf(&sql, "::text AS portage_key_%u", k); /* ORDER BY must not mean the text */
        buffer_puts(&columns, k > 0 ? ", " : "");
        quote_ident(&columns, name);
    }
    buffer_puts(&sql, " FROM ");
    relation_put_only(&sql, source);
    buffer_puts(&sql, " WHERE ");
    quote_ident(&sql, source->columns[mapping->key[0].source].name);
    buffer_printf(&sql, " >= %lld ORDER BY %s LIMIT 1", value, buffer_text(&columns));
    const char *text = arena_take(arena, &sql);
    buffer_release(&columns);
    return text;
}

static bool leads_with_integer(const struct mapping *mapping)
{
    enum sortkey_type sort = mapping->key[0].sort;
    return sort == SORTKEY_INT2 || sort == SORTKEY_INT4 || sort == SORTKEY_INT8;
}

/* Integers: evenly between least and largest, at keys that exist. */
static bool split_evenly(PGconn *source, const struct mapping *mapping, unsigned ranges,
                         unsigned number, struct arena *arena, const struct key **key,
                         struct error *err)
{
    struct key_interval all = {0};
    const struct key *least, *most;
    *key = NULL;
    if (!query_key(source, mapping, statement_key_at(mapping, all, 0, arena), arena, &least, err) ||
        !query_key(source, mapping, statement_key_at(mapping, all, -1, arena), arena, &most, err))
        return false;
    if (least == NULL || most == NULL)
        return true;
    long double low = strtoll(least->texts[0], NULL, 10), high = strtoll(most->texts[0], NULL, 10);
    long long value = (long long)(low + (high - low) * number / ranges);
    return query_key(source, mapping, key_from_sql(mapping, value, arena), arena, key, err);
}

/* The key that ends range `number`; *key NULL when there is none worth having. */
static bool split(PGconn *source, const struct mapping *mapping, unsigned ranges, unsigned number,
                  struct arena *arena, const struct key **key, struct error *err)
{
    struct key_interval all = {0};
    int64_t rows = mapping->source->rows_estimate;
    *key = NULL;
    if (leads_with_integer(mapping))
        return split_evenly(source, mapping, ranges, number, arena, key, err);
    if (rows <= 0 || rows > OFFSET_ROWS_MAX)
        return true;
    return query_key(source, mapping,
                     statement_key_at(mapping, all, rows * number / ranges, arena), arena, key,
                     err);
}

static bool create_for_mapping(PGconn *source, PGconn *control, const struct mapping *mapping,
                               int64_t epoch, struct error *err)
{
    struct arena arena;
    unsigned ranges = wanted_ranges(mapping);
    struct range_row row = {.mapping = mapping};
    const struct key *upper;
    bool ok = true;
    arena_init(&arena, 16 * 1024);
    for (unsigned r = 1; ok && r < ranges; r++) {
        ok = split(source, mapping, ranges, r, &arena, &upper, err);
        if (!ok || upper == NULL || (row.lower != NULL && key_compare(upper, row.lower) <= 0))
            continue;
        row.upper = upper;
        ok = range_create(control, &row, epoch, err);
        row.range++;
        row.lower = upper;
    }
    row.upper = NULL;
    ok = ok && range_create(control, &row, epoch, err);
    arena_release(&arena);
    return ok || error_context(err, "dividing %s into ranges", mapping->name);
}

static bool has_ranges(const struct range_row *rows, unsigned count, const struct mapping *mapping)
{
    for (unsigned r = 0; r < count; r++) {
        if (rows[r].mapping == mapping)
            return true;
    }
    return false;
}

static bool create_on_control(PGconn *source, PGconn *control, const struct mapping_set *set,
                              int64_t epoch, struct arena *arena, struct error *err)
{
    struct range_row *rows;
    unsigned count;
    if (!range_load(control, set, arena, &rows, &count, err) || !conn_exec(control, "BEGIN", err))
        return false;
    for (unsigned m = 0; m < set->count; m++) {
        const struct mapping *mapping = &set->mappings[m];
        if (!has_ranges(rows, count, mapping) &&
            !create_for_mapping(source, control, mapping, epoch, err))
            return false;
    }
    return conn_exec(control, "COMMIT", err);
}

static bool create_as_on_control(PGconn *control, PGconn *shard, const struct mapping_set *set,
                                 int64_t epoch, struct arena *arena, struct error *err)
{
    struct range_row *rows;
    unsigned count;
    if (!range_load(control, set, arena, &rows, &count, err) || !conn_exec(shard, "BEGIN", err))
        return false;
    for (unsigned r = 0; r < count; r++) {
        if (!range_create(shard, &rows[r], epoch, err))
            return false;
    }
    return conn_exec(shard, "COMMIT", err);
}

bool ranges_create(PGconn *source, PGconn *const *shards, unsigned shards_count,
                   const struct mapping_set *set, int64_t epoch, struct error *err)
{
    struct arena arena;
    arena_init(&arena, 64 * 1024);
    bool ok = create_on_control(source, shards[0], set, epoch, &arena, err);
    for (unsigned s = 1; ok && s < shards_count; s++)
        ok = create_as_on_control(shards[0], shards[s], set, epoch, &arena, err);
    arena_release(&arena);
    return ok;
}
