#include "run/cleanup.h"

#include "mapping/invert.h"
#include "pg/conn.h"
#include "run/created.h"
#include "run/slot.h"
#include "state/epoch.h"
#include "state/journal.h"
#include "state/schema.h"
#include "state/setting.h"
#include "switchover/acting.h"
#include "switchover/closed.h"
#include "switchover/gate.h"
#include "util/log.h"

struct cleaning {
    const struct config *config;
    struct migration migration; /* connections only; nothing is bound */
    bool give_up;
    bool keep_target;
    bool open_source;
    struct closed left; /* what an earlier finish has left at the source */
    bool target_live;
    bool lost_closed;   /* the source is closed, and control does not know why */
    bool stays_closed;  /* the source, after this */
    bool slot_ours;       /* or of somebody who has chosen the same name */
    struct config *backs; /* by shard: the names of what the way back has there … */
    bool *back_ours;      /* … and whether the slot is ours */
    struct error *err;
};

/* Nobody else may be at work, and none may begin: the lock is ours until the connection ends. */
static bool take_lock(struct cleaning *cleaning)
{
    bool taken;
    if (!epoch_try_lock(cleaning->migration.shards[0], &taken, cleaning->err))
        return false;
    if (taken)
        return true;
    error_set(cleaning->err, ERROR_CONFIG, "an instance of pgportage is running");
    return error_hint(cleaning->err, "Stop \"pgportage run\" first (SIGTERM).");
}

/* ---- who is live ---- */

static bool read_live(struct cleaning *cleaning, bool *known)
{
    enum which_side live = SIDE_SOURCE;
    PGconn *control = cleaning->migration.shards[0];
    if (!schema_exists(control, known, cleaning->err) ||
        (*known && !journal_live(control, &live, cleaning->err)))
        return false;
    cleaning->target_live = live == SIDE_TARGET;
    return true;
}

static bool look_who_is_live(struct cleaning *cleaning)
{
    bool known;
    struct gate_state gate;
    PGconn *source = cleaning->migration.source;
    if (!read_live(cleaning, &known) || !gate_read(source, &gate, cleaning->err) ||
        !closed_read(source, &cleaning->left, cleaning->err))
        return false;
    cleaning->lost_closed = !known && gate.closed && gate.sealed;
    cleaning->stays_closed =
        (cleaning->target_live || cleaning->lost_closed) && !cleaning->open_source;
    return true;
}

/* Of all that there was the gate alone is left, by a finish that came to its end. What stands on the
 * shards is none of it: somebody may have begun another migration there. */
static bool is_left_alone(const struct cleaning *cleaning)
{
    return cleaning->left.closed && cleaning->left.others == 0 && !cleaning->target_live;
}

static bool refuse_abort(struct cleaning *cleaning)
{
    error_set(cleaning->err, ERROR_CONFIG,
              "the target is live: its tables are the application's now");
    return error_hint(cleaning->err, "\"pgportage finish\" ends the migration and leaves the target as"
                                     " it is, \"pgportage rollback\" leads back to the source.");
}

/* Where it would have been left the target's gates go, and with them what is not done yet. */
static bool check_settled(struct cleaning *cleaning)
{
    struct journal_left left;
    if (!cleaning->target_live)
        return true;
    if (!journal_left(cleaning->migration.control, &left, cleaning->err))
        return false;
    const char *verb = left.unfinished[0] != '\0' ? left.unfinished : left.begun;
    if (verb[0] == '\0')
        return true;
    error_set(cleaning->err, ERROR_CONFIG, "a %s was left at its half", verb);
    error_hint(cleaning->err, "\"pgportage %s --abort\" settles it: restores, or finishes what had"
                              " switched.", verb);
    return false;
}

static bool check_live(struct cleaning *cleaning)
{
    if (cleaning->give_up && !cleaning->keep_target &&
        (cleaning->target_live || cleaning->lost_closed))
        return refuse_abort(cleaning);
    return check_settled(cleaning);
}

/* ---- what else stands against it ---- */

static bool check_phase(struct cleaning *cleaning)
{
    bool exists;
    char *phase = NULL;
    PGconn *control = cleaning->migration.shards[0];
    if (cleaning->give_up)
        return true;
    if (!schema_exists(control, &exists, cleaning->err) ||
        (exists && !setting_get(control, "phase", &phase, cleaning->err)))
        return false;
    bool over = !exists || (phase != NULL && strcmp(phase, "ready") == 0);
    if (!over) {
        error_set(cleaning->err, ERROR_CONFIG, "the migration is not finished: its phase is %s",
                  phase != NULL ? phase : "new");
        error_hint(cleaning->err, "\"pgportage run\" goes on with it, \"pgportage abort\" gives it up.");
    }
    free(phase);
    return over;
}

/* A partition that appeared late is copied after "ready". */
static bool check_copied(struct cleaning *cleaning, unsigned shard)
{
    PGresult *result = conn_query_row(cleaning->migration.shards[shard],
                                      "SELECT pg_catalog.count(*) FROM portage.range WHERE NOT done",
                                      0, NULL, cleaning->err);
    if (result == NULL)
        return false;
    int64_t open = result_int(result, 0, 0);
    PQclear(result);
    if (open == 0 || cleaning->give_up)
        return true;
    error_set(cleaning->err, ERROR_CONFIG, "%lld ranges are not copied to shard %u yet",
              (long long)open, shard);
    return error_hint(cleaning->err, "\"pgportage run\" copies them, \"pgportage abort\" gives up.");
}

/* $1: also those of tables that abort drops; %s: what keys need that are there (acting_unfinished_sql). */
static const char deferred_sql[] =
    "SELECT CASE WHEN u.sql IS NOT NULL THEN u.sql"
    "  WHEN kind = 'trigger' AND EXISTS (SELECT FROM pg_catalog.pg_trigger"
    "              WHERE tgname = name AND tgrelid = pg_catalog.to_regclass("
    "                    pg_catalog.format('%%I.%%I', table_schema, table_name)))"
    "    THEN pg_catalog.format('ALTER TABLE ONLY %%I.%%I ENABLE %%sTRIGGER %%I', table_schema, table_name,"
    "      CASE WHEN always THEN 'ALWAYS ' ELSE '' END, name)"
    "  WHEN kind IN ('index', 'trigger') THEN definition"
    "  ELSE pg_catalog.format('ALTER TABLE %%I.%%I ADD CONSTRAINT %%I %%s',"
    "    table_schema, table_name, name, definition) END"
    "  FROM portage.deferred LEFT JOIN (%s) AS u USING (ordinal)"
    " WHERE (state IN ('waiting', 'building') OR u.sql IS NOT NULL)"
    "   AND ($1::bool OR NOT EXISTS (SELECT FROM portage.created c WHERE c.object"
    "     = pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', table_schema, table_name))))"
    " ORDER BY ordinal";

static PGresult *read_deferred(struct cleaning *cleaning, PGconn *conn)
{
    struct buffer sql;
    const char *kept = cleaning->keep_target ? "true" : "false"; /* or else goes with its table */
    buffer_init(&sql, 64 * 1024);
    buffer_printf(&sql, deferred_sql, acting_unfinished_sql);
    PGresult *result = conn_query(conn, buffer_text(&sql), 1, &kept, cleaning->err);
    buffer_release(&sql);
    return result;
}

/* Definitions that only portage.deferred knows: `finish` keeps them, `abort` hands them over. */
static bool keep_deferred(struct cleaning *cleaning, unsigned shard)
{
    bool exists, ok = true;
    PGconn *conn = cleaning->migration.shards[shard];
    if (!schema_exists(conn, &exists, cleaning->err))
        return false;
    if (!exists)
        return true;
    if (!check_copied(cleaning, shard))
        return false;
    PGresult *result = read_deferred(cleaning, conn);
    if (result == NULL)
        return false;
    int count = PQntuples(result);
    if (count > 0 && !cleaning->give_up) {
        error_set(cleaning->err, ERROR_CONFIG,
                  "%d indexes, keys and triggers of shard %u are not built yet, or not validated",
                  count, shard);
        error_hint(cleaning->err, "They come with the cutover, and \"pgportage run\" validates them, or"
                                  " says which rows violate them;"
                                  " \"pgportage abort --keep-target\" prints their SQL and leaves the"
                                  " rows.");
        ok = false;
    }
    if (count > 0 && cleaning->give_up)
        printf("-- shard %u: not built on the target or not valid, and no longer recorded after this:\n", shard);
    for (int row = 0; cleaning->give_up && row < count; row++)
        printf("%s;\n", result_text(result, row, 0));
    PQclear(result);
    return ok;
}

static bool keep_all_deferred(struct cleaning *cleaning)
{
    for (unsigned s = 0; s < cleaning->migration.shards_count; s++) {
        if (!keep_deferred(cleaning, s))
            return false;
    }
    return true;
}

static bool tell_target(struct cleaning *cleaning, unsigned shard)
{
    bool exists;
    PGconn *conn = cleaning->migration.shards[shard];
    if (cleaning->keep_target)
        return true;
    return schema_exists(conn, &exists, cleaning->err) &&
           (!exists || created_tell(conn, shard, cleaning->err));
}

/* ---- telling ---- */

static void tell_closed(const struct cleaning *cleaning)
{
    printf("source: stays closed to writes: the function portage.gate(), its triggers portage_gate on %u"
           " tables, the\n  rows portage.gate and portage.setting, the sequence portage.gate_rejected. %s\n",
           cleaning->left.tables, CLOSED_WAY_OUT);
}

static void tell_open(const struct cleaning *cleaning)
{
    printf("source: the gate of %u tables: then it takes writes again, and nothing brings them to the"
           " target\n", cleaning->left.tables);
}

static bool tell_source(struct cleaning *cleaning)
{
    const struct config *config = cleaning->config;
    printf("source: replication slot \"%s\", publication \"%s\", schema portage%s\n", config->slot,
           config->publication, cleaning->stays_closed ? ", but for its gate" : "");
    if (!cleaning->target_live && !cleaning->lost_closed)
        return true;
    if (!closed_count(cleaning->migration.source, &cleaning->left.tables, cleaning->err))
        return false;
    if (cleaning->stays_closed)
        tell_closed(cleaning);
    else
        tell_open(cleaning);
    return true;
}

static bool tell(struct cleaning *cleaning)
{
    const struct config *config = cleaning->config;
    if (!tell_source(cleaning))
        return false;
    for (unsigned s = 0; s < config->shards_count; s++) {
        printf("shard %u: replication slot \"%s\", publication \"%s\", schema portage\n", s,
               cleaning->backs[s].slot, cleaning->backs[s].publication);
        if (!tell_target(cleaning, s))
            return error_context(cleaning->err, "shard %u", s);
    }
    return true;
}

/* ---- removing ---- */

/* The gate a table at a time: with the schema it would be a lock on all of them at once. */
static bool remove_source(struct cleaning *cleaning)
{
    bool exists;
    struct error *err = cleaning->err;
    PGconn *source = cleaning->migration.source;
    if (!slot_remove(source, cleaning->config, cleaning->slot_ours, err) ||
        !schema_exists(source, &exists, err))
        return false;
    if (!exists)
        return true;
    return acting_give_back(source, err) &&
           (cleaning->stays_closed ? closed_leave(source, err)
                                   : gate_remove(source, err) && schema_remove(source, err));
}

/* What we have made there goes together with the record of it. */
static bool remove_shard(struct cleaning *cleaning, unsigned shard)
{
    bool exists;
    PGconn *conn = cleaning->migration.shards[shard];
    if (!schema_exists(conn, &exists, cleaning->err))
        return false;
    if (!exists)
        return true;
    return (!cleaning->keep_target || gate_remove(conn, cleaning->err)) &&
           conn_exec(conn, "BEGIN", cleaning->err) &&
           (cleaning->keep_target || created_drop(conn, cleaning->err)) &&
           schema_remove(conn, cleaning->err) && conn_exec(conn, "COMMIT", cleaning->err);
}

/* Shards' slots keep WAL as the source's does: they go first. */
static bool remove_way_back(struct cleaning *cleaning, unsigned shard)
{
    char suffix[24];
    const struct config *back = &cleaning->backs[shard];
    struct migration *migration = &cleaning->migration;
    snprintf(suffix, sizeof suffix, "_back_%u", shard);
    return slot_is_ours(migration->control, back, suffix, &cleaning->back_ours[shard],
                        cleaning->err) &&
           slot_remove(migration->shards[shard], back, cleaning->back_ours[shard], cleaning->err);
}

static bool remove_all(struct cleaning *cleaning)
{
    struct migration *migration = &cleaning->migration;
    for (unsigned s = 0; s < migration->shards_count; s++) {
        if (!remove_way_back(cleaning, s))
            return error_context(cleaning->err, "cleaning shard %u", s);
    }
    if (!slot_is_ours(migration->control, cleaning->config, "", &cleaning->slot_ours,
                      cleaning->err) ||
        !remove_source(cleaning))
        return error_context(cleaning->err, "cleaning the source");
    /* control last: what remains to be done is still known until then */
    for (unsigned s = migration->shards_count; s-- > 0;) {
        if (!remove_shard(cleaning, s))
            return error_context(cleaning->err, "cleaning shard %u", s);
    }
    return true;
}

/* ---- proving ---- */

static const char left_sql[] =
    "SELECT (SELECT count(*) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1)"
    "     + (SELECT count(*) FROM pg_catalog.pg_publication WHERE pubname = $2)"
    "     + (SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = 'portage' AND $3::bool)"
    "     + (SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgname = 'portage_gate' AND $3::bool)";

/* `closed`: but for what keeps it so, which prove_closed() looks at. */
static bool count_left(struct cleaning *cleaning, PGconn *server, const struct config *config,
                       bool slot_ours, bool closed, int64_t *left)
{
    const char *const names[] = {slot_ours ? config->slot : "", config->publication,
                                 closed ? "false" : "true"};
    PGresult *result = conn_query_row(server, left_sql, 3, names, cleaning->err);
    if (result != NULL)
        *left += result_int(result, 0, 0);
    PQclear(result);
    return result != NULL;
}

static bool prove_closed(struct cleaning *cleaning, int64_t *left)
{
    struct gate_state gate;
    PGconn *source = cleaning->migration.source;
    if (!gate_read(source, &gate, cleaning->err) ||
        !closed_read(source, &cleaning->left, cleaning->err))
        return false;
    *left += cleaning->left.others;
    return (gate.closed && gate.sealed && cleaning->left.closed) ||
           error_set(cleaning->err, ERROR_FATAL, "the gate of the source does not stand any more");
}

static bool prove_source(struct cleaning *cleaning, int64_t *left)
{
    return count_left(cleaning, cleaning->migration.source, cleaning->config, cleaning->slot_ours,
                      cleaning->stays_closed, left) &&
           (!cleaning->stays_closed || prove_closed(cleaning, left));
}

static bool none_is_left(struct cleaning *cleaning, int64_t left)
{
    return left == 0 || error_set(cleaning->err, ERROR_FATAL,
                                  "%lld of our objects are still there", (long long)left);
}

/* Looks again, rather than believing the DROPs. */
static bool prove(struct cleaning *cleaning)
{
    struct migration *migration = &cleaning->migration;
    int64_t left = 0;
    if (!prove_source(cleaning, &left))
        return false;
    for (unsigned s = 0; s < migration->shards_count; s++) {
        if (!count_left(cleaning, migration->shards[s], &cleaning->backs[s],
                        cleaning->back_ours[s], false, &left))
            return false;
    }
    if (!none_is_left(cleaning, left))
        return false;
    printf("Nothing of pgportage is left on %s%u shard%s.\n",
           cleaning->stays_closed ? "" : "the source and on ", migration->shards_count,
           migration->shards_count == 1 ? "" : "s");
    if (cleaning->stays_closed)
        tell_closed(cleaning);
    return true;
}

/* ---- all of it ---- */

/* A source that an earlier finish has left closed, and nothing else. */
static bool clean_left(struct cleaning *cleaning, bool dry_run)
{
    int64_t left = 0;
    if (cleaning->give_up)
        return closed_refuse(cleaning->migration.source, "the source", cleaning->err);
    cleaning->stays_closed = !cleaning->open_source;
    if (cleaning->stays_closed || dry_run) {
        (cleaning->stays_closed ? tell_closed : tell_open)(cleaning);
        return true;
    }
    if (!remove_source(cleaning) || !prove_source(cleaning, &left) ||
        !none_is_left(cleaning, left))
        return error_context(cleaning->err, "opening the source");
    printf("The source takes writes. Nothing of pgportage is left there.\n");
    return true;
}

static bool clean_all(struct cleaning *cleaning, bool dry_run)
{
    if (!take_lock(cleaning) || !check_live(cleaning) || !check_phase(cleaning) ||
        !keep_all_deferred(cleaning))
        return false;
    if (dry_run)
        return tell(cleaning);
    if (!remove_all(cleaning) || !prove(cleaning))
        return false;
    printf(cleaning->keep_target
               ? "The tables of the target and their rows were left as they are.\n"
               : "What target.schema had made on the target is gone; tables that were there"
                 " before are as they were left.\n");
    return true;
}

static void name_ways_back(struct cleaning *cleaning)
{
    struct arena *arena = &cleaning->migration.arena;
    unsigned count = cleaning->config->shards_count;
    cleaning->backs = arena_zalloc(arena, count * sizeof *cleaning->backs);
    cleaning->back_ours = arena_zalloc(arena, count * sizeof *cleaning->back_ours);
    for (unsigned s = 0; s < count; s++)
        invert_servers(cleaning->config, s, arena, &cleaning->backs[s]);
}

bool cleanup(const struct config *config, enum cleanup_kind kind, bool dry_run, struct error *err)
{
    bool finish = kind == CLEANUP_FINISH || kind == CLEANUP_FINISH_OPEN_SOURCE;
    struct cleaning cleaning = {.config = config,
                                .give_up = !finish,
                                .keep_target = kind != CLEANUP_ABORT,
                                .open_source = kind == CLEANUP_FINISH_OPEN_SOURCE,
                                .err = err};
    if (!migration_open(&cleaning.migration, config, "cleanup", err))
        return false;
    name_ways_back(&cleaning);
    bool ok = look_who_is_live(&cleaning) &&
              (is_left_alone(&cleaning) ? clean_left(&cleaning, dry_run)
                                        : clean_all(&cleaning, dry_run));
    migration_close(&cleaning.migration);
    return ok;
}
