#include "run/leaves.h"

#include "pg/conn.h"
#include "pg/quote.h"
#include "run/created.h"
#include "run/ddl.h"
#include "run/deferred.h"
#include "run/gates.h"
#include "run/partitions.h"
#include "state/range.h"
#include "util/log.h"

/* ---- on record ---- */

struct known {
    uint32_t oid;
    const char *name;
    bool late, published;
    bool found; /* in the source's catalog */
};

struct known_leaves {
    unsigned count;
    struct known *leaves;
};

static bool put_leaf(PGconn *control, const struct leaf *leaf, bool late, struct error *err)
{
    char oid[12];
    snprintf(oid, sizeof oid, "%u", leaf->oid);
    const char *const values[] = {oid, leaf->name, late ? "true" : "false"};
    PGresult *result = conn_query(control,
                                  "INSERT INTO portage.leaf (leaf, name, late, published)"
                                  " VALUES ($1::oid, $2, $3::bool, NOT $3::bool)"
                                  " ON CONFLICT DO NOTHING",
                                  3, values, err);
    PQclear(result);
    return result != NULL;
}

bool leaves_record(struct migration *migration, struct error *err)
{
    PGconn *control = migration->shards[0];
    if (!conn_exec(control, "BEGIN; DELETE FROM portage.leaf", err))
        return false;
    for (unsigned m = 0; m < migration->set.count; m++) {
        const struct relation *source = migration->set.mappings[m].source;
        for (unsigned l = 0; l < source->leaves_count; l++) {
            if (!put_leaf(control, &source->leaves[l], false, err))
                return false;
        }
    }
    return ddl_record(migration, err) && conn_exec(control, "COMMIT", err);
}

static bool read_known(struct migration *migration, struct known_leaves *known, struct error *err)
{
    PGresult *result = conn_query(migration->shards[0],
                                  "SELECT leaf, name, late, published FROM portage.leaf", 0, NULL,
                                  err);
    if (result == NULL)
        return false;
    known->count = (unsigned)PQntuples(result);
    known->leaves = arena_zalloc(&migration->arena, known->count * sizeof *known->leaves);
    for (unsigned k = 0; k < known->count; k++)
        known->leaves[k] = (struct known){
            .oid = (uint32_t)result_int(result, (int)k, 0),
            .name = arena_strdup(&migration->arena, result_text(result, (int)k, 1)),
            .late = result_bool(result, (int)k, 2),
            .published = result_bool(result, (int)k, 3),
        };
    PQclear(result);
    return true;
}

static struct known *find_known(const struct known_leaves *known, uint32_t oid)
{
    for (unsigned k = 0; k < known->count; k++) {
        if (known->leaves[k].oid == oid)
            return &known->leaves[k];
    }
    return NULL;
}

/* ---- taking up a partition ---- */

/*
 * Begins a transaction. Once the lock is there, all that was ever written to the partition is visible
 * to whatever snapshot is taken from now on: locks are let go after that. Whoever writes next finds it
 * published (S1). The application's writers queue up behind us, so it is not waited for.
 */
static bool lock(PGconn *source, const char *name, bool *locked, struct error *err)
{
    struct buffer sql;
    buffer_init(&sql, 8192);
    buffer_printf(&sql, "BEGIN; SET LOCAL lock_timeout = '250ms';"
                        " LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE", name);
    *locked = conn_exec(source, buffer_text(&sql), err);
    buffer_release(&sql);
    if (*locked || strcmp(err->sqlstate, "55P03") != 0)
        return *locked || error_context(err, "locking the partition %s of the source", name);
    error_clear(err);
    return conn_exec(source, "ROLLBACK", err);
}

bool leaves_try_lock(PGconn *source, const char *name, bool *free, struct error *err)
{
    return lock(source, name, free, err) && (!*free || conn_exec(source, "ROLLBACK", err));
}

/* $1 the leaf, $2 its root, $3 the publication. */
static const char fitness_sql[] =
    "SELECT l.relreplident = r.relreplident"
    "   AND (l.relreplident = 'f'"
    "        OR EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = l.oid AND i.indimmediate"
    "                      AND CASE l.relreplident WHEN 'd' THEN i.indisprimary"
    "                               ELSE i.indisreplident END)),"
    "       EXISTS (SELECT FROM pg_catalog.pg_publication_rel m"
    "                 JOIN pg_catalog.pg_publication p ON p.oid = m.prpubid"
    "                WHERE p.pubname = $3 AND m.prrelid = l.oid)"
    "  FROM pg_catalog.pg_class l, pg_catalog.pg_class r WHERE l.oid = $1::oid AND r.oid = $2::oid";

/* Published without an identity like its table's, its updates would fail or tell us too little (R3). */
static bool check_fitness(struct migration *migration, const struct relation *root,
                          const struct leaf *leaf, bool *member, struct error *err)
{
    char leaf_oid[12], root_oid[12];
    snprintf(leaf_oid, sizeof leaf_oid, "%u", leaf->oid);
    snprintf(root_oid, sizeof root_oid, "%u", root->oid);
    const char *const values[] = {leaf_oid, root_oid, migration->config->publication};
    PGresult *result = conn_query_row(migration->source, fitness_sql, 3, values, err);
    if (result == NULL)
        return false;
    bool fits = result_bool(result, 0, 0);
    *member = result_bool(result, 0, 1);
    PQclear(result);
    if (fits)
        return true;
    error_set(err, ERROR_CONFIG,
              "the new partition %s of the source has not the replica identity of %s.%s",
              leaf->name, root->schema, root->name);
    return error_hint(err, "Give it the same: ALTER TABLE %s REPLICA IDENTITY %s; then run again.",
                      leaf->name, root->replica_identity == 'f'   ? "FULL"
                                  : root->replica_identity == 'i' ? "USING INDEX ..."
                                                                  : "DEFAULT");
}

/* Leaf and ranges, one for each mapping, before anything of it can come with the stream. */
static bool record_late(struct migration *migration, const struct relation *root,
                        const struct leaf *leaf, int64_t epoch, struct error *err)
{
    PGconn *control = migration->shards[0];
    if (!conn_exec(control, "BEGIN", err) || !put_leaf(control, leaf, true, err))
        return false;
    for (unsigned m = 0; m < migration->set.count; m++) {
        const struct mapping *mapping = &migration->set.mappings[m];
        if (mapping->source == root &&
            !range_create_late(control, mapping, leaf->oid, epoch, err))
            return false;
    }
    return conn_exec(control, "COMMIT", err);
}

/*
 * Ends the transaction of the lock. A member that is not on record as published is one of a moment that
 * we did not live to record, or somebody else's: taken out and put in again, under the lock, so that
 * nothing the server remembers of it is older.
 */
static bool publish(struct migration *migration, const struct leaf *leaf, bool member,
                    struct error *err)
{
    static const char *const verbs[] = {"DROP", "ADD"};
    for (size_t v = member ? 0 : 1; v < 2; v++) {
        struct buffer sql;
        buffer_init(&sql, 8192);
        buffer_puts(&sql, "ALTER PUBLICATION ");
        quote_ident(&sql, migration->config->publication);
        buffer_printf(&sql, " %s TABLE ONLY %s", verbs[v], leaf->name);
        bool ok = conn_exec(migration->source, buffer_text(&sql), err);
        buffer_release(&sql);
        if (!ok)
            return error_context(err, "publishing the partition %s", leaf->name);
    }
    return conn_exec(migration->source, "COMMIT", err);
}

static bool record_published(PGconn *control, const struct leaf *leaf, struct error *err)
{
    char sql[128];
    snprintf(sql, sizeof sql, "UPDATE portage.leaf SET published = true WHERE leaf = %u",
             leaf->oid);
    return conn_exec(control, sql, err);
}

/* On record first, then published, then on record as published; a crash in between begins here again. */
static bool take_up(struct migration *migration, const struct relation *root, struct leaf *leaf,
                    int64_t epoch, struct error *err)
{
    bool locked, member, known = leaf->late;
    if (!lock(migration->source, leaf->name, &locked, err))
        return false;
    if (!locked) {
        log_info("partition %s is being written to: it is taken up later", leaf->name);
        return true;
    }
    if (!check_fitness(migration, root, leaf, &member, err) ||
        (!known && !record_late(migration, root, leaf, epoch, err)) ||
        !publish(migration, leaf, member, err) ||
        !record_published(migration->shards[0], leaf, err))
        return false;
    leaf->late = leaf->published = true;
    log_info("partition %s, which appeared at the source, is carried too", leaf->name);
    return true;
}

/* ---- the bound relations ---- */

static bool is_another(const struct relation *source, struct error *err)
{
    error_set(err, ERROR_CONFIG,
              "the table %s.%s of the source is another one than this migration began with",
              source->schema, source->name);
    return error_begin_again(err, "Give the first one its name back and run again. Else");
}

static bool restore_leaf(struct migration *migration, const struct relation *source,
                         struct leaf *leaf, const struct known_leaves *known, int64_t epoch,
                         struct error *err)
{
    struct known *record = find_known(known, leaf->oid);
    if (record == NULL && source->kind != 'p')
        return is_another(source, err);
    leaf->late = record != NULL && record->late;
    leaf->published = record != NULL && record->published;
    if (record != NULL)
        record->found = true;
    return leaf->published || take_up(migration, source, leaf, epoch, err);
}

static bool restore_relation(struct migration *migration, struct relation *source,
                             const struct known_leaves *known, int64_t epoch, struct error *err)
{
    unsigned kept = 0;
    for (unsigned l = 0; l < source->leaves_count; l++) {
        struct leaf *leaf = &source->leaves[l];
        if (!restore_leaf(migration, source, leaf, known, epoch, err))
            return false;
        if (leaf->late || leaf->published)
            source->leaves[kept++] = *leaf;
    }
    source->leaves_count = kept;
    return true;
}

static bool is_mapped(const struct migration *migration, const struct relation *source)
{
    for (unsigned m = 0; m < migration->set.count; m++) {
        if (migration->set.mappings[m].source == source)
            return true;
    }
    return false;
}

bool leaves_gone(const char *name, struct error *err)
{
    error_set(err, ERROR_CONFIG,
              "the table %s of the source was dropped, or detached from its partitioned table, while"
              " it is carried", name);
    error_detail(err, "Its rows are on the target still, and no delete of them is in the stream.");
    return error_begin_again(err, "If it was only detached, attach it again and run again. Else");
}

bool leaves_exist(struct migration *migration, struct error *err)
{
    struct known_leaves known;
    const struct catalog *catalog = &migration->source_catalog;
    if (!read_known(migration, &known, err))
        return false;
    for (unsigned k = 0; k < known.count; k++) {
        bool found = false;
        for (unsigned r = 0; !found && r < catalog->relations_count; r++)
            found = relation_leaf(&catalog->relations[r], known.leaves[k].oid) != NULL;
        if (!found)
            return leaves_gone(known.leaves[k].name, err);
    }
    return true;
}

bool leaves_restore(struct migration *migration, int64_t epoch, struct error *err)
{
    struct known_leaves known;
    struct catalog *catalog = &migration->source_catalog;
    if (!read_known(migration, &known, err))
        return false;
    for (unsigned r = 0; r < catalog->relations_count; r++) {
        struct relation *source = &catalog->relations[r];
        if (is_mapped(migration, source) &&
            !restore_relation(migration, source, &known, epoch, err))
            return false;
    }
    for (unsigned k = 0; k < known.count; k++) {
        if (!known.leaves[k].found)
            return leaves_gone(known.leaves[k].name, err);
    }
    return true;
}

/* ---- the targets ---- */

static bool make_partitions(struct migration *migration, PGconn *shard,
                            const struct range_row *range, struct error *err)
{
    const struct mapping *mapping = range->mapping;
    if (range->leaf == 0 || mapping->partition_item < 0)
        return true;
    char *before = conn_exec(shard, "BEGIN", err) ? created_before(shard, err) : NULL;
    bool ok = before != NULL &&
              partitions_create(migration->source, shard, mapping,
                                relation_leaf(mapping->source, range->leaf), err) &&
              created_record(shard, before, err) &&
              gates_close_new(shard, &migration->set, err) && conn_exec(shard, "COMMIT", err);
    free(before);
    return ok;
}

/* Also where a shard's part of the table is done: its rows may be emptied at any moment (R13). */
static bool take_unique(struct migration *migration, const struct mapping *mapping,
                        struct error *err)
{
    for (unsigned s = 0; s < migration->shards_count; s++) {
        PGconn *shard = migration->shards[s];
        if (!conn_exec(shard, "BEGIN; SET LOCAL lock_timeout = '2s'", err) ||
            !deferred_take_unique(shard, mapping->target->schema, mapping->target->name, err) ||
            !conn_exec(shard, "COMMIT", err))
            return error_context(err, "shard %u", s);
    }
    return true;
}

/* Marks the mappings that have something to be copied on this shard. */
static bool make_room(struct migration *migration, PGconn *shard, bool *open, struct arena *arena,
                      struct error *err)
{
    struct range_row *rows;
    unsigned count;
    if (!range_load(shard, &migration->set, arena, &rows, &count, err))
        return false;
    for (unsigned r = 0; r < count; r++) {
        open[rows[r].mapping->index] |= !rows[r].done;
        if (!rows[r].done && !make_partitions(migration, shard, &rows[r], err))
            return false;
    }
    return true;
}

bool leaves_make_room(struct migration *migration, struct error *err)
{
    struct arena arena;
    bool ok = true;
    arena_init(&arena, 64 * 1024);
    bool *open = arena_zalloc(&arena, migration->set.count * sizeof *open);
    for (unsigned s = 0; ok && s < migration->shards_count; s++)
        ok = make_room(migration, migration->shards[s], open, &arena, err) ||
             error_context(err, "shard %u", s);
    for (unsigned m = 0; ok && m < migration->set.count; m++)
        ok = !open[m] || take_unique(migration, &migration->set.mappings[m], err);
    arena_release(&arena);
    return ok;
}
