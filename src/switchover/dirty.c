#include "switchover/dirty.h"

#include <inttypes.h>
#include <jansson.h>

#include "mapping/bind.h"
#include "mapping/invert.h"
#include "mapping/rejoin.h"
#include "pg/conn.h"
#include "state/journal.h"
#include "util/clock.h"

enum {
    KEY_COLUMNS_MAX = 64,
    KEYS = 1000,      /* of a page */
    KEYS_MANY = 5000, /* worth a warning */
    READ_SAMPLE = 20,
};

/* The way back of one shard: its mappings, and for each how a whole row is read and put. */
struct way {
    PGconn *shard;
    struct config config;
    struct mapping_set set;
    struct rejoin *rejoins; /* by the mapping's index; .read NULL: it has no key */
};

struct dirty {
    struct arena arena;
    PGconn *source;
    unsigned count;
    struct way *ways;
};

static bool bind_way(struct dirty *dirty, struct way *way, const struct config *config,
                     const struct mapping_set *set, unsigned shard, struct error *err)
{
    struct findings findings;
    findings_init(&findings, &dirty->arena);
    invert_config(set, config, shard, &dirty->arena, &way->config);
    if (!bind_mappings(&way->config, set->target, set->source, 1, &dirty->arena, &way->set,
                       &findings, err))
        return error_context(err, "the way back from shard %u", shard);
    way->rejoins = arena_zalloc(&dirty->arena, (way->set.count + 1) * sizeof *way->rejoins);
    for (unsigned m = 0; m < way->set.count; m++) {
        if (way->set.mappings[m].has_key)
            rejoin_make(&way->set, &way->set.mappings[m], &dirty->arena, &way->rejoins[m]);
    }
    return true;
}

bool dirty_prepare(const struct config *config, const struct mapping_set *set,
                   PGconn *const *shards, unsigned shards_count, struct dirty **dirty,
                   struct error *err)
{
    struct dirty *made = check_calloc(1, sizeof *made);
    arena_init(&made->arena, 256 * 1024);
    made->count = shards_count;
    made->ways = arena_zalloc(&made->arena, shards_count * sizeof *made->ways);
    made->source = conn_open(config->source.text, CONN_APPLY, "dirty keys", err);
    bool ok = made->source != NULL;
    for (unsigned s = 0; ok && s < shards_count; s++) {
        made->ways[s].shard = shards[s];
        ok = bind_way(made, &made->ways[s], config, set, s, err);
    }
    if (ok)
        *dirty = made;
    else
        dirty_free(made);
    return ok;
}

void dirty_free(struct dirty *dirty)
{
    if (dirty == NULL)
        return;
    conn_close(dirty->source);
    arena_release(&dirty->arena);
    free(dirty);
}

/* ---- one key ---- */

/* Its columns' texts; as many as the mapping's key has. */
static const char *const *key_read(const char *json, unsigned *count, struct arena *arena,
                                   struct error *err)
{
    json_t *array = json_loads(json, 0, NULL);
    *count = (unsigned)json_array_size(array);
    bool ok = array != NULL && *count > 0 && *count <= KEY_COLUMNS_MAX;
    const char **texts = arena_alloc(arena, (KEY_COLUMNS_MAX + 1) * sizeof *texts);
    for (unsigned k = 0; ok && k < *count; k++) {
        const char *text = json_string_value(json_array_get(array, k));
        ok = text != NULL;
        texts[k] = ok ? arena_strdup(arena, text) : NULL;
    }
    json_decref(array);
    if (!ok)
        error_set(err, ERROR_FATAL, "a dirty key cannot be read: %.200s", json);
    return ok ? texts : NULL;
}

/* NULL when this shard has no such mapping. */
static const struct rejoin *find_rejoin(const struct way *way, const char *mapping)
{
    for (unsigned m = 0; m < way->set.count; m++) {
        if (strcmp(way->set.mappings[m].name, mapping) == 0 && way->rejoins[m].read != NULL)
            return &way->rejoins[m];
    }
    return NULL;
}

static bool put_row(struct dirty *dirty, const struct rejoin *rejoin, const PGresult *row,
                    struct error *err)
{
    const char *values[RELATION_COLUMNS_MAX];
    CHECK(rejoin->columns_count <= RELATION_COLUMNS_MAX);
    for (unsigned c = 0; c < rejoin->columns_count; c++)
        values[c] = PQgetisnull(row, 0, (int)c) ? NULL : result_text(row, 0, (int)c);
    return conn_run(dirty->source, rejoin->put, (int)rejoin->columns_count, values, err);
}

static bool remove_row(struct dirty *dirty, const struct rejoin *rejoin,
                       const char *const *key, unsigned columns, struct error *err)
{
    return conn_run(dirty->source, rejoin->remove, (int)columns, key, err);
}

/* *rejoin: of a shard that has the mapping. *row: NULL when no shard has the row; else the caller's. */
static bool find_row(struct dirty *dirty, const char *mapping, const char *const *key,
                     unsigned columns, const struct rejoin **rejoin, PGresult **row,
                     struct error *err)
{
    *row = NULL;
    for (unsigned s = 0; s < dirty->count; s++) {
        const struct rejoin *each = find_rejoin(&dirty->ways[s], mapping);
        if (each == NULL)
            continue;
        *rejoin = each;
        PGresult *found = conn_query(dirty->ways[s].shard, each->read, (int)columns, key, err);
        if (found != NULL && PQntuples(found) > 0) {
            *row = found;
            return true;
        }
        PQclear(found);
        if (found == NULL)
            return false;
    }
    return true;
}

/* The shards have it once, or not at all. Removed first: what stands there may be the other shard's. */
static bool settle_key(struct dirty *dirty, const char *mapping, const char *const *key,
                       unsigned columns, struct error *err)
{
    const struct rejoin *rejoin = NULL;
    PGresult *row;
    bool ok = find_row(dirty, mapping, key, columns, &rejoin, &row, err) &&
              remove_row(dirty, rejoin, key, columns, err) &&
              (row == NULL || put_row(dirty, rejoin, row, err));
    PQclear(row);
    return ok || error_context(err, "reading a dirty key of %s again", mapping);
}

/* ---- many keys of a mapping ---- */

struct keys {
    const char *mapping;
    unsigned count, columns;
    const char *const **items; /* of each the texts */
    unsigned *gone;            /* of how many shards it is known that they have no row of it */
};

/* Counts those that the shard has no row of. */
static bool ask_shard(const struct way *way, const struct rejoin *rejoin, struct keys *keys,
                      const char *const *arrays, struct error *err)
{
    PGresult *gone = conn_query(way->shard, rejoin->gone, (int)keys->columns, arrays, err);
    for (int row = 0; gone != NULL && row < PQntuples(gone); row++)
        keys->gone[result_int(gone, row, 0) - 1]++;
    PQclear(gone);
    return gone != NULL;
}

/* *shards: how many were asked. NULL on error. */
static const struct rejoin *ask_shards(struct dirty *dirty, struct keys *keys, unsigned *shards,
                                       struct arena *arena, struct error *err)
{
    const struct rejoin *rejoin = NULL;
    const char **arrays = arena_alloc(arena, keys->columns * sizeof *arrays);
    *shards = 0;
    if (!rejoin_keys(keys->items, keys->count, keys->columns, arena, arrays, err))
        return NULL;
    for (unsigned s = 0; s < dirty->count; s++) {
        const struct rejoin *each = find_rejoin(&dirty->ways[s], keys->mapping);
        if (each == NULL)
            continue;
        rejoin = each;
        (*shards)++;
        if (!ask_shard(&dirty->ways[s], each, keys, arrays, err))
            return NULL;
    }
    if (rejoin == NULL)
        error_set(err, ERROR_FATAL, "no mapping back is called \"%s\", which has a dirty key",
                  keys->mapping);
    return rejoin;
}

static bool remove_keys(struct dirty *dirty, const struct rejoin *rejoin, const struct keys *keys,
                        unsigned shards, struct arena *arena, struct error *err)
{
    const char *const **gone = arena_alloc(arena, keys->count * sizeof *gone);
    const char **arrays = arena_alloc(arena, keys->columns * sizeof *arrays);
    unsigned count = 0;
    for (unsigned k = 0; k < keys->count; k++) {
        if (keys->gone[k] == shards)
            gone[count++] = keys->items[k];
    }
    if (count == 0)
        return true;
    if (!rejoin_keys(gone, count, keys->columns, arena, arrays, err))
        return false;
    return conn_run(dirty->source, rejoin->remove_many, (int)keys->columns, arrays, err);
}

/* A TRUNCATE marks many keys that no shard has: those go together, and each of the others by itself. */
static bool settle_keys(struct dirty *dirty, struct keys *keys, struct arena *arena,
                        struct error *err)
{
    unsigned shards;
    keys->gone = arena_zalloc(arena, keys->count * sizeof *keys->gone);
    const struct rejoin *rejoin = ask_shards(dirty, keys, &shards, arena, err);
    if (rejoin == NULL || !remove_keys(dirty, rejoin, keys, shards, arena, err))
        return error_context(err, "reading dirty keys of %s again", keys->mapping);
    for (unsigned k = 0; k < keys->count; k++) {
        if (keys->gone[k] < shards &&
            !settle_key(dirty, keys->mapping, keys->items[k], keys->columns, err))
            return false;
    }
    return true;
}

/* ---- all of them ---- */

/* What we write is known as ours by its first change. */
static bool begin(PGconn *source, int64_t epoch, struct error *err)
{
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT FROM portage.gate WHERE epoch = %" PRId64 " FOR UPDATE",
             epoch);
    if (!conn_exec(source, "BEGIN", err))
        return false;
    PGresult *result = conn_query(source, sql, 0, NULL, err);
    bool ours = result != NULL && PQntuples(result) == 1;
    if (result != NULL && !ours)
        journal_superseded(source, err);
    PQclear(result);
    return ours && conn_exec(source, "UPDATE portage.instance SET epoch = epoch", err);
}

/* Those of one mapping from this row on. */
static bool next_keys(const PGresult *result, int row, struct keys *keys, struct arena *arena,
                      struct error *err)
{
    *keys = (struct keys){.mapping = result_text(result, row, 0)};
    keys->items = arena_alloc(arena, KEYS * sizeof *keys->items);
    for (; row < PQntuples(result) && keys->count < KEYS; row++) {
        unsigned columns;
        if (strcmp(result_text(result, row, 0), keys->mapping) != 0)
            break;
        const char *const *key = key_read(result_text(result, row, 1), &columns, arena, err);
        if (key == NULL)
            return false;
        if (keys->count > 0 && columns != keys->columns)
            return error_set(err, ERROR_FATAL, "a dirty key of %s has %u columns, not %u",
                             keys->mapping, columns, keys->columns);
        keys->columns = columns;
        keys->items[keys->count++] = key;
    }
    return true;
}

#define JSON_KEY "pg_catalog.array_to_json(key::text[])::text"

/* By pages: a TRUNCATE marks as many keys as a partition has rows. */
static const char declare_sql[] =
    "DECLARE dirty_keys NO SCROLL CURSOR FOR SELECT mapping, " JSON_KEY
    "  FROM (SELECT DISTINCT mapping, key FROM portage.dirty) AS d ORDER BY mapping";

static bool settle_page(struct dirty *dirty, const PGresult *page, struct arena *arena,
                        struct error *err)
{
    struct keys keys;
    for (int row = 0; row < PQntuples(page); row += (int)keys.count) {
        arena_clear(arena);
        if (!next_keys(page, row, &keys, arena, err) || !settle_keys(dirty, &keys, arena, err))
            return false;
    }
    return true;
}

static bool may_go_on(const struct dirty_limit *limit, unsigned count, struct error *err)
{
    if (stop_requested(limit->stop))
        return stop_error(err);
    if (clock_monotonic_us() < limit->until_us)
        return true;
    error_set(err, ERROR_LIMIT, "the dirty keys could not be read again in time: %u were", count);
    return error_hint(err, "Give it more time: --timeout. The finding dirty-keys of \"pgportage"
                           " rollback --dry-run\" says how much.");
}

static bool settle_all(struct dirty *dirty, const struct dirty_limit *limit, unsigned *count,
                       struct error *err)
{
    struct arena arena;
    int rows = KEYS;
    bool ok = conn_exec(dirty->source, declare_sql, err);
    arena_init(&arena, 256 * 1024);
    while (ok && rows == KEYS) {
        PGresult *page = conn_query(dirty->source, "FETCH 1000 FROM dirty_keys", 0, NULL, err);
        rows = page != NULL ? PQntuples(page) : 0;
        ok = page != NULL && settle_page(dirty, page, &arena, err);
        PQclear(page);
        *count += (unsigned)rows;
        ok = ok && (rows == 0 || may_go_on(limit, *count, err));
    }
    arena_release(&arena);
    return ok;
}

static bool any_marks(struct dirty *dirty, bool *any, struct error *err)
{
    PGresult *result =
        conn_query_row(dirty->source, "SELECT EXISTS (SELECT FROM portage.dirty)", 0, NULL, err);
    *any = result != NULL && result_bool(result, 0, 0);
    PQclear(result);
    return result != NULL || error_context(err, "reading the dirty keys");
}

bool dirty_settle(struct dirty *dirty, int64_t epoch, const struct dirty_limit *limit,
                  unsigned *count, struct error *err)
{
    bool any;
    *count = 0;
    if (!any_marks(dirty, &any, err) || !any)
        return err->class == ERROR_NONE;
    bool ok = begin(dirty->source, epoch, err) && settle_all(dirty, limit, count, err) &&
              conn_exec(dirty->source, "COMMIT", err);
    struct error ignored = ERROR_INIT;
    if (!ok && !conn_exec(dirty->source, "ROLLBACK", &ignored)) {
        /* the first error tells more */
    }
    return ok;
}

/* ---- how long that would take ---- */

static const char count_sql[] =
    "SELECT pg_catalog.count(*) FROM (SELECT DISTINCT mapping, key FROM portage.dirty) AS d";

/* $1: of how many marks one is taken. Of all ages: what came by one TRUNCATE stands together. */
static const char sample_sql[] =
    "SELECT mapping, " JSON_KEY " FROM"
    "  (SELECT DISTINCT mapping, key FROM portage.dirty"
    "    WHERE (pg_catalog.hashint8(id) & 2147483647) % $1::bigint = 0 LIMIT 1000) AS d"
    " ORDER BY mapping";

struct sample {
    int64_t keys, present; /* present: a shard has a row of it */
    int64_t asked_us;      /* all of them at the shards, as they are asked in the pause */
    int64_t read, read_us; /* of those that are there */
};

static bool sample_present(struct dirty *dirty, const struct keys *keys, unsigned shards,
                           struct sample *sample, struct error *err)
{
    int64_t began_us = clock_monotonic_us();
    for (unsigned k = 0; k < keys->count; k++) {
        const struct rejoin *rejoin;
        PGresult *row;
        if (keys->gone[k] == shards)
            continue;
        sample->present++;
        if (sample->read >= READ_SAMPLE)
            continue;
        sample->read++;
        if (!find_row(dirty, keys->mapping, keys->items[k], keys->columns, &rejoin, &row, err))
            return false;
        PQclear(row);
    }
    sample->read_us += clock_monotonic_us() - began_us;
    return true;
}

static bool sample_keys(struct dirty *dirty, struct keys *keys, struct arena *arena,
                        struct sample *sample, struct error *err)
{
    unsigned shards;
    int64_t began_us = clock_monotonic_us();
    keys->gone = arena_zalloc(arena, keys->count * sizeof *keys->gone);
    if (ask_shards(dirty, keys, &shards, arena, err) == NULL)
        return false;
    sample->keys += keys->count;
    sample->asked_us += clock_monotonic_us() - began_us;
    return sample_present(dirty, keys, shards, sample, err);
}

static bool take_sample(struct dirty *dirty, int64_t count, struct sample *sample,
                        struct error *err)
{
    char every[24];
    const char *const values[] = {every};
    struct arena arena;
    struct keys keys;
    snprintf(every, sizeof every, "%" PRId64, count / KEYS + 1);
    PGresult *rows = conn_query(dirty->source, sample_sql, 1, values, err);
    bool ok = rows != NULL;
    arena_init(&arena, 256 * 1024);
    for (int row = 0; ok && row < PQntuples(rows); row += (int)keys.count) {
        arena_clear(&arena);
        ok = next_keys(rows, row, &keys, &arena, err) &&
             sample_keys(dirty, &keys, &arena, sample, err);
    }
    arena_release(&arena);
    PQclear(rows);
    return ok;
}

/* What the shards are asked is measured; that the source deletes and puts takes as long again for many keys,
 * and twice for one. */
static int64_t expected_us(int64_t count, int64_t counted_us, const struct sample *sample)
{
    double us = (double)counted_us;
    if (sample->keys > 0)
        us += (double)count / (double)sample->keys * 2 * (double)sample->asked_us;
    if (sample->read > 0)
        us += (double)count / (double)sample->keys * (double)sample->present * 3 *
              (double)sample->read_us / (double)sample->read;
    return (int64_t)us;
}

static bool count_keys(struct dirty *dirty, int64_t *count, struct error *err)
{
    PGresult *result = conn_query_row(dirty->source, count_sql, 0, NULL, err);
    *count = result != NULL ? result_int(result, 0, 0) : 0;
    PQclear(result);
    return result != NULL;
}

static void tell(int64_t count, int64_t us, int timeout_s, struct findings *findings)
{
    char fix[128];
    double seconds = (double)us / 1e6;
    bool fits = seconds < timeout_s;
    snprintf(fix, sizeof fix, "Give it the time: --timeout %.0f. The target takes no writes meanwhile.",
             2 * seconds + 10);
    findings_add(findings,
                 !fits                ? SEVERITY_REFUSE
                 : count >= KEYS_MANY ? SEVERITY_WARNING
                                      : SEVERITY_NOTE,
                 "dirty-keys", NULL, "source", fits ? NULL : fix,
                 "%" PRId64 " keys are to be read again from the shards in the pause: about %.1f s%s",
                 count, seconds, fits ? "" : ", more than the switch may take");
}

bool dirty_foresee(struct dirty *dirty, int timeout_s, struct findings *findings, struct error *err)
{
    struct sample sample = {0};
    int64_t count, began_us = clock_monotonic_us();
    if (!count_keys(dirty, &count, err))
        return error_context(err, "counting the dirty keys");
    int64_t counted_us = clock_monotonic_us() - began_us;
    if (count > 0 && !take_sample(dirty, count, &sample, err))
        return error_context(err, "trying how long the dirty keys take");
    if (count > 0)
        tell(count, expected_us(count, counted_us, &sample), timeout_s, findings);
    return true;
}

bool dirty_forget(PGconn *source, int64_t epoch, struct error *err)
{
    char sql[256];
    snprintf(
        sql, sizeof sql,
        "DELETE FROM portage.dirty WHERE EXISTS (SELECT FROM portage.gate WHERE epoch = %" PRId64
        " FOR UPDATE)",
        epoch);
    return conn_exec(source, sql, err) || error_context(err, "forgetting the dirty keys");
}
