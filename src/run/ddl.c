#include "run/ddl.h"

#include "pg/conn.h"
#include "state/journal.h"
#include "state/setting.h"
#include "stream/relations.h"
#include "util/log.h"

enum { ARRAY_MAX = 4 << 20 };

static const char seen_setting[] = "ddl_seen";

struct ddl_file {
    uint32_t leaf;
    uint32_t node; /* where its rows were at the last look; TRUNCATE, VACUUM FULL and a rewrite leave another */
    char *columns; /* by LEAF_COLUMNS_SQL */
};

void ddl_init(struct ddl *ddl, struct migration *migration)
{
    *ddl = (struct ddl){.migration = migration};
}

void ddl_release(struct ddl *ddl)
{
    for (unsigned f = 0; f < ddl->files_count; f++)
        free(ddl->files[f].columns);
    free(ddl->files);
}

/* The oldest transaction that runs at the source: all before it can be seen by now. */
static bool oldest_running(PGconn *source, int64_t *xid, struct error *err)
{
    PGresult *result = conn_query_row(source,
                                      "SELECT pg_catalog.txid_snapshot_xmin("
                                      "pg_catalog.txid_current_snapshot())",
                                      0, NULL, err);
    if (result == NULL)
        return false;
    *xid = result_int(result, 0, 0);
    PQclear(result);
    return true;
}

static bool record_seen(const struct migration *migration, int64_t xid, struct error *err)
{
    char text[24], name[SETTING_NAME_MAX];
    snprintf(text, sizeof text, "%lld", (long long)xid);
    return setting_put(migration->control, setting_name(seen_setting, migration->suffix, name), text,
                       err);
}

/* `leaves`: a JSON array of [leaf, file, columns]. */
static bool record_files(const struct migration *migration, const char *leaves, struct error *err)
{
    const char *const values[] = {migration->suffix, leaves};
    PGresult *result =
        conn_query(migration->control,
                   "INSERT INTO portage.file AS f (direction, leaf, file, columns)"
                   " SELECT $1, (l->>0)::oid, (l->>1)::oid, (l->2)::text"
                   "   FROM pg_catalog.jsonb_array_elements($2::jsonb) AS l"
                   " ON CONFLICT (direction, leaf)"
                   " DO UPDATE SET file = EXCLUDED.file, columns = EXCLUDED.columns"
                   "  WHERE (f.file, f.columns) <> (EXCLUDED.file, EXCLUDED.columns)",
                   2, values, err);
    PQclear(result);
    return result != NULL;
}

static char *list_tables(const struct mapping_set *set)
{
    struct buffer oids;
    buffer_init(&oids, ARRAY_MAX);
    const char *comma = "";
    buffer_putc(&oids, '{');
    for (unsigned m = 0; m < set->count; m++) {
        const struct relation *source = set->mappings[m].source;
        buffer_printf(&oids, "%s%u", comma, source->oid);
        comma = ",";
        for (unsigned l = 0; l < source->leaves_count; l++)
            buffer_printf(&oids, ",%u", source->leaves[l].oid);
    }
    buffer_putc(&oids, '}');
    return buffer_detach(&oids);
}

/* By one snapshot; $1: the tables. */
static const char begin_sql[] =
    "SELECT pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot()),"
    "       COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(c.oid::bigint,"
    "                                       c.relfilenode::bigint, " LEAF_COLUMNS_SQL ")), '[]')"
    "  FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1::oid[]) AND c.relkind = 'r'";

/* Whoever writes to the shards has been another one than the application when this was read. */
static bool is_too_late(const struct migration *migration, bool *too_late, struct error *err)
{
    enum which_side live = SIDE_SOURCE;
    bool ok = !migration->config->reversed || journal_live(migration->control, &live, err);
    *too_late = live == SIDE_TARGET;
    return ok;
}

bool ddl_record(struct migration *migration, struct error *err)
{
    bool too_late;
    char *tables = list_tables(&migration->set);
    const char *const values[] = {tables};
    PGresult *result = conn_query_row(migration->source, begin_sql, 1, values, err);
    free(tables);
    bool ok = result != NULL && is_too_late(migration, &too_late, err);
    if (ok && !too_late)
        ok = record_files(migration, result_text(result, 0, 1), err) &&
             record_seen(migration, result_int(result, 0, 0), err);
    PQclear(result);
    return ok;
}

/* ---- what is on record ---- */

static void add_file(struct ddl *ddl, uint32_t leaf, uint32_t node, const char *columns)
{
    ddl->files = check_realloc(ddl->files, (ddl->files_count + 1) * sizeof *ddl->files);
    ddl->files[ddl->files_count++] =
        (struct ddl_file){.leaf = leaf, .node = node, .columns = check_strdup(columns)};
}

static bool read_files(struct ddl *ddl, struct error *err)
{
    const char *const values[] = {ddl->migration->suffix};
    PGresult *result = conn_query(ddl->migration->control,
                                  "SELECT leaf, file, columns FROM portage.file"
                                  " WHERE direction = $1",
                                  1, values, err);
    if (result == NULL)
        return false;
    for (int f = 0; f < PQntuples(result); f++)
        add_file(ddl, (uint32_t)result_int(result, f, 0), (uint32_t)result_int(result, f, 1),
                 result_text(result, f, 2));
    PQclear(result);
    return true;
}

/* A leaf that has come since, as it was when it was bound. */
static bool add_new_file(struct ddl *ddl, const struct leaf *leaf, struct error *err)
{
    struct buffer leaves;
    buffer_init(&leaves, ARRAY_MAX);
    buffer_printf(&leaves, "[[%u, %u, %s]]", leaf->oid, leaf->file, leaf->columns);
    bool ok = record_files(ddl->migration, buffer_text(&leaves), err);
    buffer_release(&leaves);
    add_file(ddl, leaf->oid, leaf->file, leaf->columns);
    return ok;
}

/* After VACUUM FULL and kin, or where a column has come or gone that no mapping uses. */
static bool record_file(const struct migration *migration, const struct ddl_file *file,
                        struct error *err)
{
    char leaf[12], node[12];
    snprintf(leaf, sizeof leaf, "%u", file->leaf);
    snprintf(node, sizeof node, "%u", file->node);
    const char *const values[] = {migration->suffix, leaf, node, file->columns};
    PGresult *result = conn_query(migration->control,
                                  "UPDATE portage.file SET file = $3::oid, columns = $4"
                                  " WHERE direction = $1 AND leaf = $2::oid",
                                  4, values, err);
    PQclear(result);
    return result != NULL;
}

/* Under the name of a column that was dropped, or given to another one, stand other values than those that
 * were carried: its number tells. */
static bool check_columns(const struct ddl *ddl, const struct relation *source, const char *now,
                          const char *recorded, struct error *err)
{
    const struct mapping_set *set = &ddl->migration->set;
    const char *const values[] = {now, recorded};
    PGresult *result =
        conn_query(ddl->migration->control,
                   "SELECT now.name FROM pg_catalog.jsonb_array_elements_text($1::jsonb)"
                   "                     WITH ORDINALITY AS now (name, attnum)"
                   " WHERE now.name <> COALESCE($2::jsonb->>(now.attnum::int - 1), '')",
                   2, values, err);
    bool ok = result != NULL;
    for (int row = 0; ok && row < PQntuples(result); row++) {
        int column = relation_column(source, result_text(result, row, 0));
        if (column >= 0 && mapping_set_uses(set, source, (unsigned)column))
            ok = relations_changed(set, source, source->columns[column].name,
                                   "is not the one that was carried: that was dropped or renamed", err);
    }
    PQclear(result);
    return ok;
}

static bool follow_columns(struct ddl *ddl, const struct relation *source, const struct leaf *leaf,
                           struct ddl_file *file, struct error *err)
{
    if (strcmp(leaf->columns, file->columns) == 0)
        return true;
    if (!check_columns(ddl, source, leaf->columns, file->columns, err))
        return false;
    free(file->columns);
    file->columns = check_strdup(leaf->columns);
    return record_file(ddl->migration, file, err);
}

/* NULL when the OID is no leaf's: a partitioned table has no file. */
static struct ddl_file *file_of(struct ddl *ddl, uint32_t oid)
{
    for (unsigned f = 0; f < ddl->files_count; f++) {
        if (ddl->files[f].leaf == oid)
            return &ddl->files[f];
    }
    return NULL;
}

/* The leaves as they are bound now, beside what is on record. */
static bool check_record(struct ddl *ddl, struct error *err)
{
    const struct mapping_set *set = &ddl->migration->set;
    for (unsigned m = 0; m < set->count; m++) {
        const struct relation *source = set->mappings[m].source;
        for (unsigned l = 0; l < source->leaves_count; l++) {
            const struct leaf *leaf = &source->leaves[l];
            struct ddl_file *file = file_of(ddl, leaf->oid);
            if (file == NULL ? !add_new_file(ddl, leaf, err)
                             : !follow_columns(ddl, source, leaf, file, err))
                return false;
        }
    }
    return true;
}

/* Without a record, as after a switch by hand, they begin now. */
static bool read_record(struct ddl *ddl, struct error *err)
{
    char *seen, name[SETTING_NAME_MAX];
    if (!read_files(ddl, err) || !check_record(ddl, err) ||
        !setting_get(ddl->migration->control,
                     setting_name(seen_setting, ddl->migration->suffix, name), &seen, err))
        return false;
    bool ok = seen != NULL || oldest_running(ddl->migration->source, &ddl->seen, err);
    if (seen != NULL)
        ddl->seen = strtoll(seen, NULL, 10);
    free(seen);
    return ok;
}

/* ---- one look ---- */

/* A column of a table whose catalog rows are new; attnum 0: only the table's own row is. */
struct changed {
    uint32_t oid, node, type_oid;
    int attnum;
    const char *name;
    bool dropped;
};

/* $1 tables and leaves, $2 what was seen before. age() counts from the newest id at its first call, which
 * may be later than the snapshot: so ages are compared with ages, never with an id of the snapshot. */
static const char changed_sql[] =
    "WITH look AS (SELECT pg_catalog.age((($2::bigint & 4294967295)::text)::xid) AS span)"
    " SELECT c.oid, pg_catalog.pg_relation_filenode(c.oid), a.atttypid, a.attnum, a.attname,"
    "        a.attisdropped"
    "   FROM look CROSS JOIN pg_catalog.pg_class c"
    "   LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
    "             AND pg_catalog.age(a.xmin) <= look.span"
    "  WHERE c.oid = ANY ($1::oid[])"
    "    AND (pg_catalog.age(c.xmin) <= look.span OR a.attnum IS NOT NULL)";

static struct changed changed_at(const PGresult *result, int row)
{
    return (struct changed){.oid = (uint32_t)result_int(result, row, 0),
                            .node = (uint32_t)result_int(result, row, 1),
                            .type_oid = (uint32_t)result_int(result, row, 2),
                            .attnum = (int)result_int(result, row, 3),
                            .name = result_text(result, row, 4),
                            .dropped = result_bool(result, row, 5)};
}

/* The table's columns, against those that the mappings were bound to. */
static bool check_form(const struct mapping_set *set, const struct relation *source,
                       const struct changed *changed, struct error *err)
{
    int index = relation_column_by_attnum(source, changed->attnum);
    if (index < 0) {
        if (!changed->dropped)
            log_warning("column \"%s\" of %s.%s is new at %s: it is not carried", changed->name,
                        source->schema, source->name, relations_publisher(set));
        return true;
    }
    const struct column *column = &source->columns[index];
    if (!mapping_set_uses(set, source, (unsigned)index))
        return true;
    if (changed->dropped)
        return relations_changed(set, source, column->name, "was dropped", err);
    if (strcmp(changed->name, column->name) != 0)
        return relations_changed(set, source, column->name, "was renamed", err);
    return changed->type_oid == column->type_oid ||
           relations_changed(set, source, column->name, "has another type", err);
}

/* New rows in another file, and a column that is new too: ALTER TYPE, maybe there and back. */
static bool check_rewrite(struct ddl *ddl, const struct relation *source,
                          const struct changed *changed, struct error *err)
{
    const struct mapping_set *set = &ddl->migration->set;
    const struct ddl_file *file = file_of(ddl, changed->oid);
    int column = relation_column(source, changed->name);
    if (file == NULL || file->node == changed->node || column < 0 ||
        !mapping_set_uses(set, source, (unsigned)column))
        return true;
    return relations_changed(set, source, changed->name,
                             "was rewritten, and the stream does not bring what that made of it",
                             err);
}

static bool check(struct ddl *ddl, const struct changed *changed, struct error *err)
{
    const struct mapping_set *set = &ddl->migration->set;
    const struct mapping *mapping;
    if (mapping_set_find(set, changed->oid, &mapping, 1) == 0 || changed->attnum == 0)
        return true;
    if (changed->oid == mapping->source->oid && !check_form(set, mapping->source, changed, err))
        return false;
    return check_rewrite(ddl, mapping->source, changed, err);
}

static bool follow_file(struct ddl *ddl, const struct changed *changed, struct error *err)
{
    struct ddl_file *file = file_of(ddl, changed->oid);
    if (file == NULL || file->node == changed->node)
        return true;
    file->node = changed->node;
    return record_file(ddl->migration, file, err);
}

static bool take(struct ddl *ddl, const PGresult *result, struct error *err)
{
    for (int row = 0; row < PQntuples(result); row++) {
        struct changed changed = changed_at(result, row);
        if (!check(ddl, &changed, err))
            return false;
    }
    for (int row = 0; row < PQntuples(result); row++) {
        struct changed changed = changed_at(result, row);
        if (!follow_file(ddl, &changed, err))
            return false;
    }
    return true;
}

bool ddl_look(struct ddl *ddl, struct error *err)
{
    int64_t seen;
    char since[24];
    if ((ddl->seen == 0 && !read_record(ddl, err)) ||
        !oldest_running(ddl->migration->source, &seen, err))
        return false;
    snprintf(since, sizeof since, "%lld", (long long)ddl->seen);
    char *tables = list_tables(&ddl->migration->set);
    const char *const values[] = {tables, since};
    PGresult *result = conn_query(ddl->migration->source, changed_sql, 2, values, err);
    free(tables);
    bool ok = result != NULL && take(ddl, result, err);
    PQclear(result);
    if (!ok || seen == ddl->seen)
        return ok;
    ddl->seen = seen;
    return record_seen(ddl->migration, seen, err);
}
