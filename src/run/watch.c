#include "run/watch.h"

#include "pg/conn.h"
#include "pg/quote.h"
#include "run/leaves.h"
#include "state/setting.h"
#include "stream/relations.h"
#include "util/clock.h"
#include "util/log.h"

enum { LOOK_EVERY_US = 3 * 1000 * 1000, ARRAY_MAX = 4 << 20 };

/*
 * $1 mapped tables, $2 their leaves as they were bound, $3 publication: kind of change, the relation's
 * OID and name. What ends the run comes first.
 */
static const char changes_sql[] =
    "WITH mapped AS (SELECT c.oid, c.relkind FROM pg_catalog.pg_class c"
    "                 WHERE c.oid = ANY ($1::oid[])),"
    " tree AS (SELECT m.oid FROM mapped m"
    "   UNION SELECT c.oid FROM mapped m CROSS JOIN LATERAL pg_catalog.pg_partition_tree(m.oid) p"
    "           JOIN pg_catalog.pg_class c ON c.oid = p.relid"
    "          WHERE m.relkind = 'p' AND p.isleaf AND c.relkind = 'r'),"
    " bound AS (SELECT l AS oid, c.relreplident FROM pg_catalog.unnest($2::oid[]) AS l"
    "             LEFT JOIN pg_catalog.pg_class c ON c.oid = l)"
    " SELECT 'gone', oid, '' FROM bound WHERE oid NOT IN (SELECT oid FROM tree)"
    " UNION ALL SELECT 'unpublished', oid, ''"
    "  FROM bound WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r"
    "                     JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid"
    "                    WHERE p.pubname = $3 AND (r.prrelid = bound.oid OR r.prrelid IN ("
    "                          SELECT a.relid FROM pg_catalog.pg_partition_ancestors(bound.oid) AS a)))"
    " UNION ALL SELECT 'identity', oid, '' FROM bound WHERE relreplident <> 'f'"
    "   AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = oid AND i.indimmediate"
    "                     AND CASE relreplident WHEN 'd' THEN i.indisprimary"
    "                              WHEN 'i' THEN i.indisreplident ELSE false END)"
    " UNION ALL SELECT 'new', c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname)"
    "  FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind = 'r'"
    "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid <> ALL ($2::oid[])";

static void put_oid(struct buffer *array, uint32_t oid)
{
    buffer_printf(array, "%s%u", array->length > 1 ? "," : "", oid);
}

void watch_init(struct watch *watch, struct migration *migration)
{
    struct buffer leaves, roots;
    buffer_init(&leaves, ARRAY_MAX);
    buffer_init(&roots, ARRAY_MAX);
    buffer_putc(&leaves, '{');
    buffer_putc(&roots, '{');
    for (unsigned m = 0; m < migration->set.count; m++) {
        const struct relation *source = migration->set.mappings[m].source;
        put_oid(&roots, source->oid);
        for (unsigned l = 0; l < source->leaves_count; l++)
            put_oid(&leaves, source->leaves[l].oid);
    }
    buffer_putc(&leaves, '}');
    buffer_putc(&roots, '}');
    *watch = (struct watch){.migration = migration,
                            .leaves = buffer_detach(&leaves),
                            .roots = buffer_detach(&roots)};
    ddl_init(&watch->ddl, migration);
}

void watch_release(struct watch *watch)
{
    free(watch->leaves);
    free(watch->roots);
    ddl_release(&watch->ddl);
}

static const struct leaf *find_leaf(const struct migration *migration, uint32_t oid)
{
    const struct leaf *leaf = NULL;
    for (unsigned m = 0; leaf == NULL && m < migration->set.count; m++)
        leaf = relation_leaf(migration->set.mappings[m].source, oid);
    CHECK(leaf != NULL); /* only bound ones are asked for */
    return leaf;
}

static bool unpublished(const struct mapping_set *set, const struct leaf *leaf, struct error *err)
{
    error_set(err, ERROR_CONFIG, "the table %s of %s is gone from the publication", leaf->name,
              relations_publisher(set));
    return relations_way_out(set, "What was written there since is not in the stream:", err);
}

static bool without_identity(const struct mapping_set *set, const struct leaf *leaf,
                             struct error *err)
{
    error_set(err, ERROR_CONFIG, "the table %s of %s has lost its replica identity", leaf->name,
              relations_publisher(set));
    error_detail(err, "Its updates and deletes fail there: give it back its key.");
    return relations_way_out(set, "Its updates and deletes fail at the source: give it back its key; then",
                             err);
}

static bool gone(const struct mapping_set *set, const struct leaf *leaf, struct error *err)
{
    if (set->publisher == NULL)
        return leaves_gone(leaf->name, err);
    error_set(err, ERROR_CONFIG,
              "the table %s of %s was dropped, or detached from its partitioned table, while the target"
              " is live",
              leaf->name, relations_publisher(set));
    error_detail(err, "Its rows are at the source still, and no delete of them is in the stream.");
    return relations_way_out(set, "", err);
}

/* In a transaction that has locked it: whether the publication may have it without anything missing. */
static bool publish_empty(struct watch *watch, const char *name, struct error *err)
{
    const struct migration *migration = watch->migration;
    struct buffer sql;
    buffer_init(&sql, 8192);
    buffer_printf(&sql, "SELECT EXISTS (SELECT FROM ONLY %s)", name);
    PGresult *result = conn_query_row(migration->source, buffer_text(&sql), 0, NULL, err);
    bool ok = result != NULL;
    if (ok && result_bool(result, 0, 0)) {
        ok = error_set(err, ERROR_CONFIG,
                       "the partition %s of %s had rows before its changes were in the stream", name,
                       relations_publisher(&migration->set));
        relations_way_out(&migration->set, "", err);
    }
    PQclear(result);
    buffer_clear(&sql);
    buffer_puts(&sql, "ALTER PUBLICATION ");
    quote_ident(&sql, migration->config->publication);
    buffer_printf(&sql, " ADD TABLE ONLY %s; COMMIT", name);
    ok = ok && conn_exec(migration->source, buffer_text(&sql), err);
    buffer_release(&sql);
    return ok;
}

/* Before version 13 partitions are published one by one (slot.c): one that appears on a shard is not. What
 * is written to now is looked at again later. */
static bool publish_partition(struct watch *watch, const char *name, struct error *err)
{
    struct error ignored = ERROR_INIT;
    PGconn *shard = watch->migration->source;
    struct buffer sql;
    buffer_init(&sql, 8192);
    buffer_printf(&sql,
                  "BEGIN; SET LOCAL lock_timeout = '500ms';"
                  " LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE",
                  name);
    bool ok = conn_exec(shard, buffer_text(&sql), err) && publish_empty(watch, name, err);
    buffer_release(&sql);
    if (!ok && !conn_exec(shard, "ROLLBACK", &ignored)) {
        /* the first error tells more */
    }
    return ok || error_context(err, "publishing the partition %s", name);
}

/* Bound by an incarnation that began when it was there already. */
static bool is_unpublished_partition(const struct watch *watch, const struct leaf *leaf)
{
    const struct migration *migration = watch->migration;
    bool is_root = false;
    for (unsigned m = 0; m < migration->set.count; m++)
        is_root |= migration->set.mappings[m].source->oid == leaf->oid;
    return migration->config->reversed && migration->source_catalog.version < 130000 && !is_root;
}

/* It is bound by the next incarnation. */
static bool appeared_on_shard(struct watch *watch, const char *name, struct error *err)
{
    const struct migration *migration = watch->migration;
    if (migration->source_catalog.version < 130000 && !publish_partition(watch, name, err))
        return false;
    return error_set(err, ERROR_RETRY, "partition %s has appeared on %s", name,
                     relations_publisher(&migration->set));
}

/* A partition that can be taken up is worth a new incarnation. */
static bool may_begin(struct watch *watch, const char *name, struct error *err)
{
    bool free;
    if (!leaves_try_lock(watch->migration->source, name, &free, err))
        return false;
    return !free || error_set(err, ERROR_RETRY, "partition %s has appeared at the source", name);
}

static bool take_change(struct watch *watch, const PGresult *result, int row, bool quiet,
                        struct error *err)
{
    const struct mapping_set *set = &watch->migration->set;
    const char *kind = result_text(result, row, 0);
    if (strcmp(kind, "new") == 0 && watch->migration->config->reversed)
        return appeared_on_shard(watch, result_text(result, row, 2), err);
    if (strcmp(kind, "new") == 0)
        return !quiet || may_begin(watch, result_text(result, row, 2), err);
    const struct leaf *leaf =
        find_leaf(watch->migration, (uint32_t)result_int(result, row, 1));
    if (strcmp(kind, "gone") == 0)
        return gone(set, leaf, err);
    if (!leaf->published && !watch->migration->config->reversed)
        return true;
    if (strcmp(kind, "identity") == 0)
        return without_identity(set, leaf, err);
    return is_unpublished_partition(watch, leaf) ? publish_partition(watch, leaf->name, err)
                                                 : unpublished(set, leaf, err);
}

/* Recorded, and then we died before they were published: their ranges wait, whatever else runs. */
static bool look_for_unpublished(struct watch *watch, struct error *err)
{
    const struct mapping_set *set = &watch->migration->set;
    for (unsigned m = 0; m < set->count; m++) {
        const struct relation *source = set->mappings[m].source;
        for (unsigned l = 0; l < source->leaves_count; l++) {
            if (!source->leaves[l].published && !may_begin(watch, source->leaves[l].name, err))
                return false;
        }
    }
    return true;
}

static void tell_waiting(struct watch *watch, int waiting)
{
    if (waiting > watch->waiting)
        log_info("%d new partitions of the source wait to be taken up", waiting);
    watch->waiting = waiting;
}

bool watch_look(struct watch *watch, bool quiet, struct error *err)
{
    const char *const values[] = {watch->roots, watch->leaves,
                                  watch->migration->config->publication};
    PGresult *result = conn_query(watch->migration->source, changes_sql, 3, values, err);
    bool ok = result != NULL;
    int waiting = 0;
    watch->looked_us = clock_monotonic_us();
    for (int row = 0; ok && row < PQntuples(result); row++) {
        ok = take_change(watch, result, row, quiet, err);
        waiting += strcmp(result_text(result, row, 0), "new") == 0;
    }
    PQclear(result);
    if (ok)
        tell_waiting(watch, waiting);
    ok = ok && (watch->migration->config->reversed || look_for_unpublished(watch, err)) &&
         ddl_look(&watch->ddl, err);
    return ok || error_context(err, "watching %s", relations_publisher(&watch->migration->set));
}

static bool record_look(struct watch *watch, int64_t marker, struct error *err)
{
    char text[24], name[SETTING_NAME_MAX];
    snprintf(text, sizeof text, "%lld", (long long)marker);
    watch->marker = marker;
    return setting_put(watch->migration->control,
                       setting_name(SETTING_LOOKED, watch->migration->suffix, name), text, err);
}

bool watch_source(struct watch *watch, bool quiet, int64_t marker, struct error *err)
{
    bool due = clock_monotonic_us() - watch->looked_us >= LOOK_EVERY_US;
    bool awaited = marker > watch->marker;
    if (!due && !awaited)
        return true;
    return watch_look(watch, quiet, err) && (!awaited || record_look(watch, marker, err));
}
