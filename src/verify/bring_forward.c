#include "pg/conn.h"
#include "pg/quote.h"
#include "verify/bring.h"
#include "verify/reading.h"

enum { STATEMENT_MAX = 1 << 20 };

/* ---- statements ---- */

/* DELETE of every row of the key; parameters as in reading_target_row(). */
static const char *delete_sql(const struct mapping *mapping, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "DELETE FROM ");
    relation_put_only(&sql, mapping->target);
    buffer_puts(&sql, reading_target_match(mapping, arena));
    return arena_take(arena, &sql);
}

/* INSERT of all items, each as the text of a parameter, and of those constants of the whole mapping that
 * are not compared (narrow.h). */
static const char *insert_sql(const struct mapping *mapping, const struct mapping *whole,
                              struct arena *arena)
{
    struct buffer sql, values;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_init(&values, STATEMENT_MAX);
    buffer_puts(&sql, "INSERT INTO ");
    quote_name(&sql, mapping->target->schema, mapping->target->name);
    for (unsigned i = 0; i < mapping->items_count; i++) {
        buffer_puts(&sql, i > 0 ? ", " : " (");
        quote_ident(&sql, mapping->items[i].target->name);
        buffer_printf(&values, "%s$%u", i > 0 ? ", " : "", i + 1);
    }
    for (unsigned i = 0; i < whole->items_count; i++) {
        if (mapping_has_item(mapping, whole->items[i].target))
            continue;
        buffer_puts(&sql, ", ");
        quote_ident(&sql, whole->items[i].target->name);
        buffer_printf(&values, ", (%s)", whole->items[i].select->expr);
    }
    buffer_printf(&sql, ") OVERRIDING SYSTEM VALUE VALUES (%s)", buffer_text(&values));
    buffer_release(&values);
    return arena_take(arena, &sql);
}

/* What an UPDATE in place sets: not the key, which is the same, nor what only an INSERT may give. */
static bool is_settable(const struct mapping *mapping, unsigned item)
{
    return !mapping_item_is_key(mapping, item) &&
           mapping->items[item].select->kind != SELECT_CONSTANT &&
           !mapping->items[item].target->identity_always;
}

/* UPDATE of the one row of a version ($1: tableoid/ctid/xmin), so that columns which are not mapped
 * stay. Gives the number of parameters; `items` tells whose they are. NULL when nothing is settable. */
static const char *update_sql(const struct mapping *mapping, struct arena *arena, unsigned *items,
                              unsigned *count)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "UPDATE ");
    relation_put_only(&sql, mapping->target);
    *count = 0;
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (!is_settable(mapping, i))
            continue;
        buffer_puts(&sql, *count > 0 ? ", " : " SET ");
        quote_ident(&sql, mapping->items[i].target->name);
        items[(*count)++] = i;
        buffer_printf(&sql, " = $%u", *count + 1);
    }
    buffer_puts(&sql, " WHERE " READING_AT_VERSION);
    const char *text = arena_take(arena, &sql);
    return *count > 0 ? text : NULL;
}

/* ---- one key ---- */

static bool insert_on(struct session *session, unsigned shard, const struct mapping *mapping,
                      const struct seen_row *row, struct arena *arena, struct error *err)
{
    const struct mapping *whole = &session->set->mappings[mapping->index];
    return conn_run(session->shards[shard], insert_sql(mapping, whole, arena),
                                  (int)mapping->items_count, row->values, err);
}

static bool belongs_on(struct session *session, unsigned shard, const struct mapping *mapping,
                       const struct seen_row *row, struct arena *arena, bool *belongs,
                       struct error *err)
{
    *belongs = true;
    if (!reading_is_placed(mapping, session->shards_count))
        return true;
    const char *const values[] = {row->values[mapping->shard_item]};
    PGresult *result =
        conn_query_row(session->shards[shard],
                       reading_place(mapping, shard, session->shards_count, arena), 1, values, err);
    if (result == NULL)
        return false;
    *belongs = result_bool(result, 0, 0);
    PQclear(result);
    return true;
}

static bool replace(struct session *session, const struct suspect *suspect,
                    const struct seen *source, struct arena *arena, struct error *err)
{
    const struct mapping *mapping = suspect->mapping;
    for (unsigned s = 0; s < session->shards_count; s++) {
        bool belongs;
        if (!seen_execute(session->shards[s], delete_sql(mapping, arena), suspect, arena, err))
            return false;
        if (source->count == 0)
            continue;
        if (!belongs_on(session, s, mapping, &source->rows[0], arena, &belongs, err) ||
            (belongs && !insert_on(session, s, mapping, &source->rows[0], arena, err)))
            return false;
    }
    return true;
}

/* The only row there is, where it belongs: only its mapped columns change. */
static bool update(struct session *session, const struct mapping *mapping,
                   const struct seen *source, const struct seen *target, struct arena *arena,
                   struct error *err)
{
    unsigned items[RELATION_COLUMNS_MAX], count;
    const char *values[RELATION_COLUMNS_MAX + 1] = {target->rows[0].version};
    const char *sql = update_sql(mapping, arena, items, &count);
    if (sql == NULL)
        return error_set(err, ERROR_FATAL, "nothing of a row of %s can be set", mapping->name);
    for (unsigned i = 0; i < count; i++)
        values[i + 1] = source->rows[0].values[items[i]];
    PGresult *result =
        conn_query(session->shards[target->rows[0].shard], sql, (int)count + 1, values, err);
    if (result == NULL)
        return false;
    bool one = strcmp(PQcmdTuples(result), "1") == 0;
    PQclear(result);
    return one || error_set(err, ERROR_FATAL, "a row of %s is not where it was a moment ago",
                            mapping->name);
}

/* ---- tables without a key: as many equal rows as there have to be ---- */

static bool delete_row(PGconn *shard, const struct mapping *mapping, const char *version,
                       struct arena *arena, struct error *err)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "DELETE FROM ");
    relation_put_only(&sql, mapping->target);
    buffer_puts(&sql, " WHERE " READING_AT_VERSION);
    return conn_run(shard, arena_take(arena, &sql), 1, &version, err);
}

static bool level(struct session *session, unsigned shard, const struct mapping *mapping,
                  const struct seen *source, const struct seen *target, struct arena *arena,
                  struct error *err)
{
    unsigned have = 0;
    bool belongs = false;
    if (source->count > 0 &&
        !belongs_on(session, shard, mapping, &source->rows[0], arena, &belongs, err))
        return false;
    unsigned wanted = belongs ? source->count : 0;
    for (unsigned t = 0; t < target->count; t++) {
        const struct seen_row *row = &target->rows[t];
        if (row->shard == shard && ++have > wanted &&
            !delete_row(session->shards[shard], mapping, row->version, arena, err))
            return false;
    }
    for (; have < wanted; have++) {
        if (!insert_on(session, shard, mapping, &source->rows[0], arena, err))
            return false;
    }
    return true;
}

static bool level_all(struct session *session, const struct mapping *mapping,
                      const struct seen *source, const struct seen *target, struct arena *arena,
                      struct error *err)
{
    bool ok = true;
    for (unsigned s = 0; ok && s < session->shards_count; s++)
        ok = level(session, s, mapping, source, target, arena, err);
    return ok;
}

bool bring_forward(struct session *session, const struct suspect *suspect,
                   const struct seen *source, const struct seen *target, struct arena *arena,
                   struct error *err)
{
    const struct mapping *mapping = suspect->mapping;
    if (seen_equal(session, mapping, source, target))
        return true;
    if (!mapping->has_key)
        return level_all(session, mapping, source, target, arena, err);
    bool in_place =
        source->count == 1 && target->count == 1 && target->rows[0].placed && !mapping->everywhere;
    return in_place ? update(session, mapping, source, target, arena, err)
                    : replace(session, suspect, source, arena, err);
}
