#include "switchover/dirty.h"

#include <inttypes.h>
#include <jansson.h>

#include "mapping/bind.h"
#include "mapping/invert.h"
#include "mapping/rejoin.h"
#include "pg/conn.h"
#include "state/journal.h"

enum { KEY_COLUMNS_MAX = 64, COLUMNS_MAX = 1600 };

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

struct key_texts {
    unsigned count;
    const char *texts[KEY_COLUMNS_MAX];
};

static bool key_read(const char *json, json_t **array, struct key_texts *key, struct error *err)
{
    *array = json_loads(json, 0, NULL);
    key->count = (unsigned)json_array_size(*array);
    bool ok = *array != NULL && key->count > 0 && key->count <= KEY_COLUMNS_MAX;
    for (unsigned k = 0; ok && k < key->count; k++)
        key->texts[k] = json_string_value(json_array_get(*array, k));
    return ok || error_set(err, ERROR_FATAL, "a dirty key cannot be read: %.200s", json);
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
    const char *values[COLUMNS_MAX];
    CHECK(rejoin->columns_count <= COLUMNS_MAX);
    for (unsigned c = 0; c < rejoin->columns_count; c++)
        values[c] = PQgetisnull(row, 0, (int)c) ? NULL : result_text(row, 0, (int)c);
    PGresult *result =
        conn_query(dirty->source, rejoin->put, (int)rejoin->columns_count, values, err);
    PQclear(result);
    return result != NULL;
}

static bool remove_row(struct dirty *dirty, const struct rejoin *rejoin,
                       const struct key_texts *key, struct error *err)
{
    PGresult *result = conn_query(dirty->source, rejoin->remove, (int)key->count, key->texts, err);
    PQclear(result);
    return result != NULL;
}

/* The shards have it once, or not at all. Removed first: what stands there may be the other shard's. */
static bool settle_key(struct dirty *dirty, const char *mapping, const struct key_texts *key,
                       struct error *err)
{
    const struct rejoin *rejoin = NULL, *found = NULL;
    PGresult *row = NULL;
    bool ok = true;
    for (unsigned s = 0; ok && found == NULL && s < dirty->count; s++) {
        const struct rejoin *each = find_rejoin(&dirty->ways[s], mapping);
        if (each == NULL)
            continue;
        rejoin = each;
        row = conn_query(dirty->ways[s].shard, each->read, (int)key->count, key->texts, err);
        ok = row != NULL;
        if (ok && PQntuples(row) > 0)
            found = each;
        else
            PQclear(row);
    }
    if (ok && rejoin == NULL)
        ok = error_set(err, ERROR_FATAL, "no mapping back is called \"%s\", which has a dirty key",
                       mapping);
    ok = ok && remove_row(dirty, rejoin, key, err) &&
         (found == NULL || put_row(dirty, found, row, err));
    if (found != NULL)
        PQclear(row);
    return ok || error_context(err, "reading a dirty key of %s again", mapping);
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

static bool settle_all(struct dirty *dirty, const PGresult *keys, int64_t epoch, struct error *err)
{
    if (!begin(dirty->source, epoch, err))
        return false;
    for (int row = 0; row < PQntuples(keys); row++) {
        json_t *array;
        struct key_texts key;
        bool ok = key_read(result_text(keys, row, 1), &array, &key, err) &&
                  settle_key(dirty, result_text(keys, row, 0), &key, err);
        json_decref(array);
        if (!ok)
            return false;
    }
    return conn_exec(dirty->source, "COMMIT", err);
}

bool dirty_settle(struct dirty *dirty, int64_t epoch, unsigned *count, struct error *err)
{
    PGresult *keys =
        conn_query(dirty->source,
                   "SELECT DISTINCT mapping, pg_catalog.array_to_json(key::text[])::text"
                   "  FROM portage.dirty",
                   0, NULL, err);
    if (keys == NULL)
        return error_context(err, "reading the dirty keys");
    *count = (unsigned)PQntuples(keys);
    bool ok = *count == 0 || settle_all(dirty, keys, epoch, err);
    PQclear(keys);
    struct error ignored = ERROR_INIT;
    if (!ok && !conn_exec(dirty->source, "ROLLBACK", &ignored)) {
        /* the first error tells more */
    }
    return ok;
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
