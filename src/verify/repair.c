#include "verify/repair.h"

#include "pg/conn.h"
#include "pg/quote.h"
#include "state/setting.h"
#include "util/clock.h"
#include "util/log.h"
#include "verify/position.h"
#include "verify/reading.h"
#include "verify/seen.h"

enum {
    STATEMENT_MAX = 1 << 20,
    AGAIN_US = 20 * 1000, /* after a row that somebody is writing */
};

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

/* INSERT of all items, each as the text of a parameter. */
static const char *insert_sql(const struct mapping *mapping, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "INSERT INTO ");
    quote_name(&sql, mapping->target->schema, mapping->target->name);
    for (unsigned i = 0; i < mapping->items_count; i++) {
        buffer_puts(&sql, i > 0 ? ", " : " (");
        quote_ident(&sql, mapping->items[i].target->name);
    }
    buffer_puts(&sql, ") OVERRIDING SYSTEM VALUE VALUES ");
    for (unsigned i = 0; i < mapping->items_count; i++)
        buffer_printf(&sql, "%s$%u", i > 0 ? ", " : "(", i + 1);
    buffer_putc(&sql, ')');
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
    buffer_puts(&sql, " WHERE tableoid = pg_catalog.split_part($1, '/', 1)::oid"
                      " AND ctid = pg_catalog.split_part($1, '/', 2)::tid"
                      " AND xmin::text = pg_catalog.split_part($1, '/', 3)");
    const char *text = arena_take(arena, &sql);
    return *count > 0 ? text : NULL;
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

static bool bring(struct session *session, const struct suspect *suspect, const struct seen *source,
                  const struct seen *target, struct arena *arena, struct error *err)
{
    const struct mapping *mapping = suspect->mapping;
    if (seen_equal(session, mapping, source, target))
        return true;
    bool in_place =
        source->count == 1 && target->count == 1 && target->rows[0].placed && !mapping->everywhere;
    return in_place ? update(session, mapping, source, target, arena, err)
                    : replace(session, suspect, source, arena, err);
}

/* What was seen before the lanes were held. */
struct before {
    struct seen source, target;
    uint64_t newest; /* transactions that had begun are below it */
};

/*
 * Whether nothing that the lanes have applied is newer than what the source shows. The row's header may
 * say so. Otherwise a commit might be in the log, applied, and not yet visible: then the target's row has
 * been written since, or whoever wrote it had begun before and has not ended.
 */
static bool is_still(const struct before *before, const struct seen *source,
                     const struct seen *target, uint64_t oldest)
{
    if (!digest_equal(before->source.version, source->version))
        return false;
    if (source->count == 1 && !source->rows[0].touched)
        return true;
    return oldest >= before->newest && digest_equal(before->target.version, target->version);
}

static bool bring_when_still(struct session *session, const struct suspect *suspect,
                             const struct before *before, struct arena *arena, bool *done,
                             struct error *err)
{
    struct seen source, target;
    uint64_t oldest;
    if (!position_oldest(session, &oldest, err) ||
        !seen_source(session, suspect, arena, &source, err) ||
        !seen_target(session, suspect, arena, &target, err))
        return false;
    *done = is_still(before, &source, &target, oldest);
    return !*done || bring(session, suspect, &source, &target, arena, err);
}

static bool look_before(struct session *session, const struct suspect *suspect, struct arena *arena,
                        struct before *before, struct judgement *judgement, struct error *err)
{
    lsn_t position;
    bool passed;
    if (!seen_source(session, suspect, arena, &before->source, err) ||
        !position_now(session, &position, err) ||
        !position_wait(session, position, &passed, judgement->why_undecided,
                       sizeof judgement->why_undecided, err))
        return false;
    if (!passed)
        return error_set(err, ERROR_CONFIG, "cannot repair: %s", judgement->why_undecided);
    return seen_target(session, suspect, arena, &before->target, err) &&
           position_newest(session, &before->newest, err);
}

/* *held is false when a lane is inside a long transaction: it may wait for one that we hold. */
static bool hold_lanes(struct session *session, bool *held, struct error *err)
{
    /* First what says that it is us who write: a decoder drops the transaction. */
    *held = on_all_shards(session,
                          "BEGIN; SET LOCAL lock_timeout = '200ms';"
                          " UPDATE portage.instance SET epoch = epoch",
                          err);
    if (!*held && strcmp(err->sqlstate, "55P03") == 0) {
        error_clear(err);
        return true;
    }
    if (!*held)
        return false;
    *held = on_all_shards(session, "SELECT FROM portage.lane ORDER BY stream, lane FOR UPDATE", err);
    if (!*held && strcmp(err->sqlstate, "55P03") != 0)
        return false;
    error_clear(err);
    return !*held || on_all_shards(session, "SET LOCAL lock_timeout = 0", err);
}

static bool try_once(struct session *session, const struct suspect *suspect, struct arena *arena,
                     bool *done, struct judgement *judgement, struct error *err)
{
    struct before before;
    bool held;
    *done = false;
    if (!look_before(session, suspect, arena, &before, judgement, err) ||
        !hold_lanes(session, &held, err) ||
        (held && !bring_when_still(session, suspect, &before, arena, done, err)))
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
        if (ok && !*done && session_wait(session, AGAIN_US))
            ok = stop_error(err);
    }
    arena_release(&arena);
    return ok;
}

/* Once the application writes to the target, it is the source that is behind. */
static bool check_live(struct session *session, struct error *err)
{
    char *live;
    if (!setting_get(session->shards[0], "live", &live, err))
        return false;
    bool target = live != NULL && strcmp(live, "target") == 0;
    free(live);
    return !target || error_set(err, ERROR_CONFIG,
                                "cannot repair: the target is live, and the source follows it");
}

bool repair(struct session *session, struct judgement *judgement, struct suspects *suspects,
            uint64_t *repaired, struct error *err)
{
    *repaired = 0;
    if (judgement->guilty != NULL && !check_live(session, err))
        return false;
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
