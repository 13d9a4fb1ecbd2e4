#include "run/target.h"

#include <errno.h>

#include "mapping/invert.h"
#include "pg/conn.h"
#include "run/created.h"
#include "run/deferred.h"
#include "run/gates.h"
#include "run/partitions.h"
#include "run/preflight.h"
#include "state/schema.h"
#include "state/setting.h"
#include "util/log.h"

enum {
    SCHEMA_FILE_MAX = 64 * 1024 * 1024,
    NAMES_MAX = 8 * 1024 * 1024, /* of 10,000 mappings, each of two long names */
};

static const char applied_setting[] = "target_schema";

static bool read_file(const char *path, struct buffer *text, struct error *err)
{
    char block[8192];
    size_t got;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return error_set(err, ERROR_CONFIG, "cannot open target.schema \"%s\": %s", path,
                         strerror(errno));
    while ((got = fread(block, 1, sizeof block, file)) > 0)
        buffer_append(text, block, got);
    bool ok = ferror(file) == 0 && !buffer_failed(text);
    fclose(file);
    return ok || error_set(err, ERROR_CONFIG, "cannot read target.schema \"%s\"", path);
}

bool target_is_applied(PGconn *shard, bool *applied, struct error *err)
{
    bool exists;
    char *value = NULL;
    *applied = false;
    if (!schema_exists(shard, &exists, err))
        return false;
    if (exists && !setting_get(shard, applied_setting, &value, err))
        return false;
    *applied = value != NULL;
    free(value);
    return true;
}

/* The line of an error in the file, from the server's character position. */
static int line_of(const char *sql, const char *position)
{
    int line = 1;
    long left = strtol(position, NULL, 10);
    for (; *sql != '\0' && left > 1; sql++) {
        line += *sql == '\n';
        left -= ((unsigned char)*sql & 0xC0) != 0x80;
    }
    return line;
}

static bool apply_schema(PGconn *shard, const char *path, const char *sql, struct error *err)
{
    /* What a file without schema names expects. */
    if (!conn_exec(shard, "SET LOCAL search_path = public", err))
        return false;
    PGresult *result = PQexec(shard, sql);
    bool ok = PQresultStatus(result) == PGRES_COMMAND_OK ||
              PQresultStatus(result) == PGRES_TUPLES_OK ||
              PQresultStatus(result) == PGRES_EMPTY_QUERY;
    if (!ok) {
        const char *position = PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION);
        conn_result_error(shard, result, err);
        err->class = err->class == ERROR_RETRY ? ERROR_RETRY : ERROR_CONFIG;
        if (strcmp(err->sqlstate, "42501") == 0 && err->hint[0] == '\0')
            error_hint(err, "Grant what the file needs, as GRANT USAGE, CREATE ON SCHEMA public TO \"%s\";",
                       PQuser(shard));
        if (position != NULL)
            error_context(err, "%s:%d", path, line_of(sql, position));
        else
            error_context(err, "%s", path);
    } else if (PQtransactionStatus(shard) != PQTRANS_INTRANS) {
        ok = error_set(err, ERROR_CONFIG, "%s ends the transaction it is applied in", path);
        error_hint(err, "Take BEGIN, COMMIT and ROLLBACK out of the file.");
    }
    PQclear(result);
    return ok && conn_exec(shard, "SET LOCAL search_path = ''", err);
}

static bool try_shard(struct migration *migration, unsigned shard, const char *sql,
                      struct error *err)
{
    PGconn *conn = migration->shards[shard];
    bool applied;
    if (!target_is_applied(conn, &applied, err))
        return false;
    if (applied)
        return true;
    if (!conn_exec(conn, "BEGIN", err))
        return false;
    char *before = created_before(conn, err);
    if (before == NULL)
        return false;
    migration->there_before[shard] = arena_strdup(&migration->arena, before);
    free(before);
    return sql == NULL || apply_schema(conn, migration->config->schema_file, sql, err);
}

static bool is_open(PGconn *conn)
{
    return PQtransactionStatus(conn) != PQTRANS_IDLE;
}

/* What only servers can tell, of the way there and of the way back. */
static bool check_servers(struct migration *migration, struct error *err)
{
    PGconn *source = migration->source, *target = migration->shards[0];
    struct arena *arena = &migration->arena;
    struct findings *findings = &migration->findings;
    if (!bind_check_servers(migration->config, &migration->set, source, target, arena, findings,
                            err))
        return false;
    invert_check(&migration->set, migration->config, arena, findings);
    return findings->refused > 0 || invert_check_servers(&migration->set, migration->config, source,
                                                         target, arena, findings, err);
}

bool target_try(struct migration *migration, struct error *err)
{
    const char *path = migration->config->schema_file;
    struct buffer sql;
    bool ok = true;
    if (!preflight(migration, err))
        return false;
    if (findings_have(&migration->findings, "same-database"))
        return true; /* the second transaction there would wait for the first */
    buffer_init(&sql, SCHEMA_FILE_MAX);
    if (path != NULL)
        ok = read_file(path, &sql, err);
    for (unsigned s = 0; ok && s < migration->shards_count; s++) {
        ok = try_shard(migration, s, path != NULL ? buffer_text(&sql) : NULL, err) ||
             error_context(err, "applying target.schema on shard %u", s);
    }
    buffer_release(&sql);
    if (!ok || !preflight_tables(migration, err) || !migration_bind(migration, err))
        return false;
    if (migration->findings.refused > 0)
        return true;
    return check_servers(migration, err);
}

bool target_rollback(struct migration *migration, struct error *err)
{
    for (unsigned s = 0; s < migration->shards_count; s++) {
        if (is_open(migration->shards[s]) && !conn_exec(migration->shards[s], "ROLLBACK", err))
            return false;
    }
    return true;
}

static bool commit_shard(struct migration *migration, unsigned shard, struct error *err)
{
    PGconn *conn = migration->shards[shard];
    if (!is_open(conn))
        return true;
    for (unsigned m = 0; m < migration->set.count; m++) {
        const struct mapping *mapping = &migration->set.mappings[m];
        if (mapping->partition_item >= 0 &&
            !partitions_create(migration->source, conn, mapping, NULL, err))
            return false;
    }
    return created_record(conn, migration->there_before[shard], err) &&
           deferred_take(conn, err) && gates_close_new(conn, &migration->set, err) &&
           setting_put(conn, applied_setting, "applied", err) &&
           conn_exec(conn, "COMMIT", err);
}

static bool is_serial(const struct migration *migration, const struct mapping *mapping)
{
    (void)migration;
    return mapping->serial_lane;
}

/* Rows of one target table keep to the lanes of one kind, also where it is merged. */
static bool is_whole(const struct migration *migration, const struct mapping *mapping)
{
    for (unsigned m = 0; m < migration->set.count; m++) {
        const struct mapping *other = &migration->set.mappings[m];
        if (other->target->oid == mapping->target->oid && other->copy_mode == COPY_WHOLE)
            return true;
    }
    return false;
}

static bool keep_names(struct migration *migration, const char *setting,
                       bool (*is)(const struct migration *, const struct mapping *),
                       struct error *err)
{
    struct buffer names;
    buffer_init(&names, NAMES_MAX);
    for (unsigned m = 0; m < migration->set.count; m++) {
        if (is(migration, &migration->set.mappings[m]))
            buffer_printf(&names, "%s\n", migration->set.mappings[m].name);
    }
    CHECK(!buffer_failed(&names));
    bool ok = setting_put(migration->shards[0], setting, buffer_text(&names), err);
    buffer_release(&names);
    return ok;
}

/*
 * Tables whose rows must keep the source's order, and those that have the lanes of tables copied whole;
 * decided while all their indexes are there. `serial_tables` is written last: where it is, both are.
 */
static bool keep_lanes(struct migration *migration, struct error *err)
{
    char *known;
    if (!setting_get(migration->shards[0], "serial_tables", &known, err))
        return false;
    bool begun = known != NULL;
    free(known);
    return begun || (keep_names(migration, "whole_tables", is_whole, err) &&
                     keep_names(migration, "serial_tables", is_serial, err));
}

static bool prepare(struct migration *migration, struct error *err)
{
    if (!target_try(migration, err))
        return false;
    for (unsigned f = 0; f < migration->findings.count; f++) {
        const struct finding *finding = &migration->findings.items[f];
        if (finding->severity == SEVERITY_WARNING)
            log_warning("%s: %s", finding->object, finding->reason);
    }
    if (migration->findings.refused > 0)
        return migration_refused(migration, err);
    for (unsigned s = 0; s < migration->shards_count; s++) {
        if (s == 0 && !keep_lanes(migration, err))
            return false;
        if (!commit_shard(migration, s, err))
            return error_context(err, "preparing shard %u", s);
    }
    return true;
}

/* Who waits for somebody's lock says so, and tries again: an error of class RETRY. */
static bool bound_locks(struct migration *migration, struct error *err)
{
    bool ok = true;
    for (unsigned s = 0; ok && s < migration->shards_count; s++)
        ok = conn_exec(migration->shards[s], "SET lock_timeout = '10s'", err);
    return ok;
}

bool target_prepare(const struct config *config, struct error *err)
{
    struct migration migration;
    if (!migration_open(&migration, config, "prepare", err))
        return false;
    /* what is open is rolled back with the connection */
    bool ok = (bound_locks(&migration, err) && prepare(&migration, err)) ||
              error_context(err, "preparing the target");
    migration_close(&migration);
    return ok;
}
