#include "verify/repair.h"

#include "pg/conn.h"
#include "pg/quote.h"
#include "util/clock.h"
#include "util/log.h"
#include "verify/position.h"
#include "verify/reading.h"
#include "verify/seen.h"

enum { STATEMENT_MAX = 1 << 20 };

/* ---- statements ---- */

static void put_table(struct buffer *sql, const struct mapping *mapping)
{
    quote_name(sql, mapping->target->schema, mapping->target->name);
}

/* DELETE of every row of the key; parameters as in reading_target_row(). */
static const char *delete_sql(const struct mapping *mapping, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "DELETE FROM ");
    put_table(&sql, mapping);
    buffer_puts(&sql, reading_target_match(mapping, arena));
    const char *text = arena_strdup(arena, buffer_text(&sql));
    buffer_release(&sql);
    return text;
}

/* INSERT of all items, each as the text of a parameter. */
static const char *insert_sql(const struct mapping *mapping, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "INSERT INTO ");
    put_table(&sql, mapping);
    for (unsigned i = 0; i < mapping->items_count; i++) {
        buffer_puts(&sql, i > 0 ? ", " : " (");
        quote_ident(&sql, mapping->items[i].target->name);
    }
    buffer_puts(&sql, ") OVERRIDING SYSTEM VALUE VALUES ");
    for (unsigned i = 0; i < mapping->items_count; i++)
        buffer_printf(&sql, "%s$%u", i > 0 ? ", " : "(", i + 1);
    buffer_putc(&sql, ')');
    const char *text = arena_strdup(arena, buffer_text(&sql));
    buffer_release(&sql);
    return text;
}

/* UPDATE of the one row at ctid $1, so that columns which are not mapped stay. */
static const char *update_sql(const struct mapping *mapping, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "UPDATE ");
    put_table(&sql, mapping);
    for (unsigned i = 0; i < mapping->items_count; i++) {
        buffer_puts(&sql, i > 0 ? ", " : " SET ");
        quote_ident(&sql, mapping->items[i].target->name);
        buffer_printf(&sql, " = $%u", i + 1);
    }
    buffer_printf(&sql, " WHERE tableoid::text || '/' || ctid::text || '/' || xmin::text = $%u",
                  mapping->items_count + 1);
    const char *text = arena_strdup(arena, buffer_text(&sql));
    buffer_release(&sql);
    return text;
}

/* ---- one key ---- */

static bool on_all_shards(struct session *session, const char *sql, struct error *err)
{
    for (unsigned s = 0; s < session->shards_count; s++) {
        if (!conn_exec(session->shards[s], sql, err))
            return error_context(err, "repairing on shard %u", s);
    }
    return true;
}

static bool insert_on(struct session *session, unsigned shard, const struct mapping *mapping,
                      const struct seen_row *row, struct arena *arena, struct error *err)
{
    PGresult *result = conn_query(session->shards[shard], insert_sql(mapping, arena),
                                  (int)mapping->items_count, row->values, err);
    PQclear(result);
    return result != NULL;
}

static bool belongs_on(struct session *session, unsigned shard, const struct mapping *mapping,
                       const struct seen_row *row, struct arena *arena, bool *belongs,
                       struct error *err)
{
    *belongs = true;
    if (!reading_is_placed(mapping, session->shards_count))
        return true;
    const char *const values[] = {row->values[mapping->shard_item]};
    PGresult *result = conn_query_row(
        session->shards[shard], reading_place(mapping, shard, session->shards_count, arena), 1,
        values, err);
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
    const char **values = arena_alloc(arena, (mapping->items_count + 1) * sizeof *values);
    memcpy(values, source->rows[0].values, mapping->items_count * sizeof *values);
    values[mapping->items_count] = strchr(target->version, ':') + 1;
    PGresult *result = conn_query(session->shards[target->rows[0].shard],
                                  update_sql(mapping, arena), (int)mapping->items_count + 1,
                                  values, err);
    PQclear(result);
    return result != NULL;
}

static bool bring(struct session *session, const struct suspect *suspect,
                  const struct seen *source, struct arena *arena, struct error *err)
{
    struct seen target;
    const struct mapping *mapping = suspect->mapping;
    if (!seen_target(session, suspect, arena, &target, err))
        return false;
    if (seen_equal(session, mapping, source, &target))
        return true;
    bool in_place = source->count == 1 && target.count == 1 && target.rows[0].placed &&
                    !mapping->everywhere;
    return in_place ? update(session, mapping, source, &target, arena, err)
                    : replace(session, suspect, source, arena, err);
}

/* With the lanes held: writes when the source's row is still as it was. *done tells. */
static bool bring_when_still(struct session *session, const struct suspect *suspect,
                             const struct seen *before, uint64_t newest, struct arena *arena,
                             bool *done, struct error *err)
{
    struct seen after;
    uint64_t oldest;
    if (!position_oldest(session, &oldest, err) ||
        !seen_source(session, suspect, arena, &after, err))
        return false;
    bool untouched = after.count == 1 && !after.rows[0].touched;
    *done = strcmp(before->version, after.version) == 0 && (untouched || oldest >= newest);
    return !*done || bring(session, suspect, &after, arena, err);
}

static bool try_once(struct session *session, const struct suspect *suspect, struct arena *arena,
                     bool *done, struct judgement *judgement, struct error *err)
{
    struct seen before;
    lsn_t position;
    uint64_t newest;
    bool passed;
    *done = false;
    if (!seen_source(session, suspect, arena, &before, err) ||
        !position_newest(session, &newest, err) || !position_now(session, &position, err) ||
        !position_wait(session, position, &passed, judgement->why_undecided,
                       sizeof judgement->why_undecided, err))
        return false;
    if (!passed)
        return error_set(err, ERROR_CONFIG, "cannot repair: %s", judgement->why_undecided);
    if (!on_all_shards(session,
                       "BEGIN; SELECT FROM portage.lane ORDER BY lane FOR UPDATE", err) ||
        !bring_when_still(session, suspect, &before, newest, arena, done, err))
        return false;
    return on_all_shards(session, *done ? "COMMIT" : "ROLLBACK", err);
}

static bool repair_one(struct session *session, const struct suspect *suspect,
                       struct judgement *judgement, bool *done, struct error *err)
{
    struct arena arena;
    int64_t deadline_us = clock_monotonic_us() + session->options->patience_us;
    bool ok = true;
    *done = false;
    arena_init(&arena, 64 * 1024);
    while (ok && !*done && clock_monotonic_us() < deadline_us) {
        arena_clear(&arena);
        ok = try_once(session, suspect, &arena, done, judgement, err);
    }
    arena_release(&arena);
    return ok;
}

bool repair(struct session *session, struct judgement *judgement, struct suspects *suspects,
            uint64_t *repaired, struct error *err)
{
    *repaired = 0;
    while (judgement->guilty != NULL) {
        struct suspect *suspect = judgement->guilty;
        bool done = false;
        if (!suspect->mapping->has_key)
            log_warning("a row of %s cannot be repaired: the table has no key",
                        suspect->mapping->name);
        else if (!session_prepare(session, suspect->mapping, err) ||
                 !repair_one(session, suspect, judgement, &done, err))
            return error_context(err, "repairing a row of %s", suspect->mapping->name);
        *repaired += done;
        judgement->guilty = suspect->next;
        suspects_return(suspects, suspect);
    }
    return true;
}
