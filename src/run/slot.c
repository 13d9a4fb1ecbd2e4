#include "run/slot.h"

#include <errno.h>
#include <poll.h>

#include "pg/conn.h"
#include "pg/quote.h"
#include "run/leaves.h"
#include "state/journal.h"
#include "state/schema.h"
#include "state/setting.h"
#include "util/clock.h"
#include "util/log.h"

enum { NAME_BLOCKERS_US = 10 * 1000 * 1000 };

/* ---- settings of a direction ---- */

static bool get(const struct migration *migration, const char *setting, char **value,
                struct error *err)
{
    char name[SETTING_NAME_MAX];
    return setting_get(migration->control, setting_name(setting, migration->suffix, name), value, err);
}

static bool put(const struct migration *migration, const char *setting, const char *value,
                struct error *err)
{
    char name[SETTING_NAME_MAX];
    return setting_put(migration->control, setting_name(setting, migration->suffix, name), value, err);
}

/* ---- publication ---- */

/* Each leaf once, whatever number of mappings reads it. */
static bool seen_before(const struct mapping_set *set, unsigned mapping)
{
    for (unsigned m = 0; m < mapping; m++) {
        if (set->mappings[m].source == set->mappings[mapping].source)
            return true;
    }
    return false;
}

/*
 * Leaves by name: what a partition held before it came is copied (leaves.h). On the way back nothing is,
 * so the whole is published, with whatever partitions it is given; since version 13 it can be.
 */
static bool is_published_whole(const struct migration *migration, const struct relation *source)
{
    return migration->config->reversed && source->kind == 'p' &&
           migration->source_catalog.version >= 130000;
}

static void put_oid(struct buffer *oids, uint32_t oid)
{
    buffer_printf(oids, "%s%u", oids->length > 0 ? "," : "", oid);
}

/* The tables that are not published yet, as a list for ALTER PUBLICATION … ADD TABLE. */
static bool missing_tables(struct migration *migration, struct buffer *list, struct error *err)
{
    struct buffer oids;
    buffer_init(&oids, 1 << 20);
    for (unsigned m = 0; m < migration->set.count; m++) {
        const struct relation *source = migration->set.mappings[m].source;
        bool whole = is_published_whole(migration, source), seen = seen_before(&migration->set, m);
        if (whole && !seen)
            put_oid(&oids, source->oid);
        for (unsigned l = 0; !whole && !seen && l < source->leaves_count; l++)
            put_oid(&oids, source->leaves[l].oid);
    }
    char *array = check_malloc(oids.length + 3);
    snprintf(array, oids.length + 3, "{%s}", buffer_text(&oids));
    const char *const values[] = {array, migration->config->publication};
    PGresult *result = conn_query(
        migration->source,
        "SELECT pg_catalog.string_agg(pg_catalog.format('ONLY %I.%I', n.nspname, c.relname), ', ')"
        "  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE (c.oid = ANY ($1::oid[])"
        "        OR (n.nspname = 'portage' AND c.relname IN (" SCHEMA_PUBLISHED ")))"
        "   AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r"
        "                     JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid"
        "                    WHERE p.pubname = $2 AND r.prrelid = c.oid)",
        2, values, err);
    free(array);
    buffer_release(&oids);
    if (result == NULL)
        return false;
    buffer_puts(list, result_text(result, 0, 0));
    PQclear(result);
    return true;
}

static bool publication_exists(struct migration *migration, bool *exists, struct error *err)
{
    const char *name = migration->config->publication;
    PGresult *result = conn_query(migration->source,
                                  "SELECT FROM pg_catalog.pg_publication WHERE pubname = $1", 1,
                                  &name, err);
    *exists = PQntuples(result) > 0;
    PQclear(result);
    return result != NULL;
}

static bool prepare_publication(struct migration *migration, struct error *err)
{
    bool exists;
    struct buffer tables, sql;
    if (!publication_exists(migration, &exists, err))
        return false;
    buffer_init(&tables, 4 << 20);
    buffer_init(&sql, 4 << 20);
    bool ok = missing_tables(migration, &tables, err);
    if (ok && tables.length > 0) {
        buffer_puts(&sql, exists ? "ALTER PUBLICATION " : "CREATE PUBLICATION ");
        quote_ident(&sql, migration->config->publication);
        buffer_printf(&sql, exists ? " ADD TABLE %s" : " FOR TABLE %s", buffer_text(&tables));
        ok = conn_exec(migration->source, buffer_text(&sql), err);
        if (!ok && strcmp(err->sqlstate, "42501") == 0)
            error_hint(err, "A table is published by its owner: GRANT its owner's role TO \"%s\";",
                       PQuser(migration->source));
    }
    buffer_release(&tables);
    buffer_release(&sql);
    return ok || error_context(err, "creating publication \"%s\"", migration->config->publication);
}

/* ---- who the source is ---- */

/* "<system identifier>/<timeline>" */
static bool identify(const struct config *config, char text[64], struct error *err)
{
    PGconn *conn = conn_open(config->source.text, CONN_REPLICATION, "identify", err);
    if (conn == NULL)
        return false;
    PGresult *result = PQexec(conn, "IDENTIFY_SYSTEM");
    bool ok = PQresultStatus(result) == PGRES_TUPLES_OK || conn_result_error(conn, result, err);
    if (ok)
        snprintf(text, 64, "%s/%s", PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1));
    PQclear(result);
    conn_close(conn);
    return ok;
}

static bool check_identity(struct migration *migration, struct error *err)
{
    char now[64];
    char *then;
    if (!identify(migration->config, now, err) ||
        !get(migration, "source_identity", &then, err))
        return false;
    if (then == NULL)
        return put(migration, "source_identity", now, err);
    bool same = strcmp(then, now) == 0;
    if (!same) {
        error_set(err, ERROR_CONFIG,
                  "the source is not the server that this migration began with: it is %s, and was %s"
                  " (system identifier/timeline)", now, then);
        error_begin_again(err, "After a failover the slot is gone or behind, and changes may be lost:");
    }
    free(then);
    return same;
}

/* ---- the slot ---- */

static void name_blockers(const struct config *config)
{
    struct error err = ERROR_INIT;
    PGconn *conn = conn_open(config->source.text, CONN_SESSION, "blockers", &err);
    PGresult *result =
        conn == NULL ? NULL
                     : conn_query(conn,
                                  "SELECT pid::text, usename, application_name,"
                                  "       pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - xact_start)"
                                  "  FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL"
                                  "   AND xact_start < pg_catalog.clock_timestamp() - interval '5 s'"
                                  " UNION ALL SELECT 'prepared', owner, gid,"
                                  "       pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - prepared)"
                                  "  FROM pg_catalog.pg_prepared_xacts",
                                  0, NULL, &err);
    for (int row = 0; result != NULL && row < PQntuples(result); row++)
        log_warning("the slot waits for a transaction of %s (%s, pid %s), %s old",
                    result_text(result, row, 1), result_text(result, row, 2),
                    result_text(result, row, 0), result_text(result, row, 3));
    PQclear(result);
    conn_close(conn);
}

/* Creating a slot waits for every transaction that is running: until then others are named. */
static bool wait_result(PGconn *conn, const struct config *config, struct stop *stop,
                        struct error *err)
{
    int64_t named_us = clock_monotonic_us();
    while (PQisBusy(conn)) {
        struct pollfd ready = {.fd = PQsocket(conn), .events = POLLIN};
        if (stop_requested(stop))
            return stop_error(err);
        if (poll(&ready, 1, 100) < 0 && errno != EINTR)
            return error_set(err, ERROR_RETRY, "poll: %s", strerror(errno));
        if (ready.revents != 0 && !PQconsumeInput(conn))
            return conn_error(conn, err);
        if (clock_monotonic_us() - named_us > NAME_BLOCKERS_US) {
            name_blockers(config);
            named_us = clock_monotonic_us();
        }
    }
    return true;
}

static bool create_slot(const struct config *config, struct stop *stop, lsn_t *start,
                        struct error *err)
{
    PGconn *conn = conn_open(config->source.text, CONN_SESSION, "slot", err);
    if (conn == NULL)
        return false;
    bool ok = PQsendQueryParams(conn,
                                "SELECT lsn FROM pg_catalog.pg_create_logical_replication_slot("
                                "$1, 'pgoutput')",
                                1, NULL, &config->slot, NULL, NULL, 0) == 1 ||
              conn_error(conn, err);
    ok = ok && wait_result(conn, config, stop, err);
    if (ok) {
        PGresult *result = PQgetResult(conn);
        ok = (PQresultStatus(result) == PGRES_TUPLES_OK || conn_result_error(conn, result, err)) &&
             result_lsn(result, 0, 0, start, err);
        PQclear(result);
    }
    conn_close(conn); /* a server that still waits for others notices and gives up */
    return ok || error_context(err, "creating replication slot \"%s\"", config->slot);
}

struct slot_state {
    bool exists;
    bool ours; /* pgoutput, this database */
    bool active, lost;
    lsn_t confirmed;
};

static bool read_slot(PGconn *source, const char *name, struct slot_state *state,
                      struct error *err)
{
    const char *lost = PQserverVersion(source) >= 130000 ? "wal_status = 'lost'" : "restart_lsn IS NULL";
    char sql[512];
    snprintf(sql, sizeof sql,
             "SELECT plugin = 'pgoutput' AND database = pg_catalog.current_database(), active, %s,"
             "       COALESCE(confirmed_flush_lsn, '0/0')"
             "  FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
             lost);
    PGresult *result = conn_query(source, sql, 1, &name, err);
    bool ok = result != NULL;
    *state = (struct slot_state){.exists = PQntuples(result) > 0};
    if (ok && state->exists) {
        state->ours = result_bool(result, 0, 0);
        state->active = result_bool(result, 0, 1);
        state->lost = result_bool(result, 0, 2);
        ok = result_lsn(result, 0, 3, &state->confirmed, err);
    }
    PQclear(result);
    return ok;
}

static const char *trouble_of(const struct slot_state *state)
{
    return !state->exists ? "is gone"
           : !state->ours ? "belongs to somebody else"
                          : "has lost its WAL (max_slot_wal_keep_size)";
}

static bool drop_slot(PGconn *source, const char *name, struct error *err)
{
    PGresult *result = conn_query(source, "SELECT pg_catalog.pg_drop_replication_slot($1)", 1,
                                  &name, err);
    PQclear(result);
    return result != NULL || error_context(err, "dropping replication slot \"%s\"", name);
}

bool slot_is_ours(PGconn *control, const struct config *config, const char *suffix, bool *ours,
                  struct error *err)
{
    char *intent = NULL, name[SETTING_NAME_MAX];
    bool exists;
    if (!schema_exists(control, &exists, err) ||
        (exists && !setting_get(control, setting_name("slot_intent", suffix, name), &intent, err)))
        return false;
    *ours = intent != NULL && strcmp(intent, config->slot) == 0;
    free(intent);
    return true;
}

/* The intent is on record before the slot is made: one that stands there without it is not ours. */
static bool make_slot(struct migration *migration, int64_t epoch, struct stop *stop, lsn_t *start,
                      struct error *err)
{
    const struct config *config = migration->config;
    struct slot_state state;
    bool intended;
    char text[LSN_TEXT_SIZE];
    if (!slot_is_ours(migration->control, config, migration->suffix, &intended, err) ||
        !read_slot(migration->source, config->slot, &state, err))
        return false;
    if (state.exists && !intended) {
        error_set(err, ERROR_CONFIG, "replication slot \"%s\" exists and is not of this migration",
                  config->slot);
        return error_hint(err, "Set slot: to another name, or, if nobody needs it: SELECT"
                               " pg_drop_replication_slot('%s');", config->slot);
    }
    if (state.exists && !drop_slot(migration->source, config->slot, err))
        return false; /* made by us, but its start was not recorded */
    return put(migration, "slot_intent", config->slot, err) &&
           journal_write(migration->control, epoch, "create slot", NULL, err) &&
           create_slot(config, stop, start, err) &&
           (config->reversed || leaves_record(migration, err)) &&
           put(migration, "slot_start", lsn_text(*start, text), err);
}

bool slot_prepare(struct migration *migration, int64_t epoch, struct stop *stop, lsn_t *start,
                  struct error *err)
{
    char *recorded;
    if (!check_identity(migration, err) || !schema_install(migration->source, err) ||
        !get(migration, "slot_start", &recorded, err))
        return false;
    if (recorded == NULL) /* later, a table that is not published has changes that nobody brings */
        return prepare_publication(migration, err) &&
               make_slot(migration, epoch, stop, start, err);
    bool ok = lsn_parse(recorded, start) ||
              error_set(err, ERROR_FATAL, "recorded slot start \"%s\" is no position", recorded);
    free(recorded);
    return ok;
}

/* A switch that comes in between would let rows in that are not. */
bool slot_publish_new(struct migration *way, struct error *err)
{
    enum which_side live = SIDE_TARGET;
    struct error ignored = ERROR_INIT;
    bool ok = conn_exec(way->source, "BEGIN; SET LOCAL lock_timeout = '500ms'", err) &&
              prepare_publication(way, err) && journal_live(way->control, &live, err) &&
              conn_exec(way->source, live == SIDE_SOURCE ? "COMMIT" : "ROLLBACK", err);
    if (!ok && !conn_exec(way->source, "ROLLBACK", &ignored)) {
        /* the first error tells more */
    }
    return ok;
}

bool slot_forget_lost(struct migration *migration, bool *lost, struct error *err)
{
    const char *name = migration->config->slot;
    char *recorded, start[SETTING_NAME_MAX];
    struct slot_state state;
    *lost = false;
    if (!get(migration, "slot_start", &recorded, err))
        return false;
    bool made = recorded != NULL;
    free(recorded);
    if (!made || !read_slot(migration->source, name, &state, err))
        return !made;
    if (state.exists && (!state.ours || !state.lost))
        return true;
    *lost = true;
    log_warning("replication slot \"%s\" %s before anything came by it: it is made anew", name,
                trouble_of(&state));
    return setting_remove(migration->control, setting_name("slot_start", migration->suffix, start), err);
}

bool slot_check(struct migration *migration, lsn_t progress, struct error *err)
{
    const char *name = migration->config->slot;
    struct slot_state state;
    if (!read_slot(migration->source, name, &state, err))
        return false;
    if (!state.exists || !state.ours || state.lost) {
        error_set(err, ERROR_CONFIG, "replication slot \"%s\" %s", name, trouble_of(&state));
        return error_begin_again(err, "Changes of the source are missing from here on:");
    }
    if (state.confirmed <= progress)
        return true;
    error_set(err, ERROR_CONFIG,
              "replication slot \"%s\" is at " LSN_FORMAT ", ahead of what the shards have: "
              LSN_FORMAT, name, LSN_ARGS(state.confirmed), LSN_ARGS(progress));
    return error_begin_again(err,
                             "Somebody else has read from it, or a shard was restored from a backup:");
}

bool slot_advance(PGconn *server, const char *slot, lsn_t position, struct error *err)
{
    struct slot_state state;
    char text[LSN_TEXT_SIZE];
    if (!read_slot(server, slot, &state, err))
        return false;
    if (!state.exists || !state.ours || state.lost)
        return error_set(err, ERROR_CONFIG, "replication slot \"%s\" %s", slot,
                         trouble_of(&state));
    if (state.active || state.confirmed >= position)
        return true;
    const char *const values[] = {slot, lsn_text(position, text)};
    PGresult *result = conn_query(
        server, "SELECT pg_catalog.pg_replication_slot_advance($1, $2::pg_lsn)", 2, values, err);
    PQclear(result);
    return result != NULL || error_context(err, "advancing replication slot \"%s\"", slot);
}

bool slot_remove(PGconn *source, const struct config *config, bool ours, struct error *err)
{
    struct slot_state state;
    struct buffer sql;
    if (!read_slot(source, config->slot, &state, err) ||
        (ours && state.exists && state.ours && !drop_slot(source, config->slot, err)))
        return false;
    buffer_init(&sql, 1024);
    buffer_puts(&sql, "DROP PUBLICATION IF EXISTS ");
    quote_ident(&sql, config->publication);
    bool ok = conn_exec(source, buffer_text(&sql), err);
    buffer_release(&sql);
    return ok;
}
