#include "switchover/acting.h"

#include "pg/conn.h"
#include "util/log.h"

enum { LOCK_WAIT_US = 200 * 1000 };

/*
 * $1: OIDs of the tables, roots and leaves. One row for each thing that acts: a statement that takes it
 * away (NULL: it goes with its parent's), one that brings it back (NULL: nothing at once), one that
 * finishes (NULL: nothing), one that takes what was brought back. Keys of a partitioned table come back
 * leaf by leaf, because it knows no NOT VALID; the parent adopts them.
 */
static const char find_sql[] =
    "WITH mine AS (SELECT c.oid, c.relkind,"
    "    pg_catalog.format('%I.%I', n.nspname, c.relname) AS name"
    "    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    "   WHERE c.oid = ANY ($1::oid[]))"
    " SELECT 'trigger ' || pg_catalog.quote_ident(g.tgname) || ' of ' || m.name AS what,"
    "        pg_catalog.format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', m.name, g.tgname) AS take,"
    "        pg_catalog.format('ALTER TABLE ONLY %s ENABLE %sTRIGGER %I', m.name,"
    "          CASE g.tgenabled WHEN 'A' THEN 'ALWAYS ' ELSE '' END, g.tgname) AS bring,"
    "        NULL AS finish,"
    "        pg_catalog.format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', m.name, g.tgname) AS again,"
    "        0 AS part"
    "   FROM pg_catalog.pg_trigger g JOIN mine m ON m.oid = g.tgrelid"
    "  WHERE NOT g.tgisinternal AND g.tgname <> 'portage_gate' AND g.tgenabled IN ('O', 'A')"
    " UNION ALL "
    " SELECT 'foreign key ' || pg_catalog.quote_ident(c.conname) || ' of ' || m.name,"
    "        CASE WHEN c.conparentid = 0 THEN"
    "          pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', m.name, c.conname) END,"
    "        CASE m.relkind WHEN 'p' THEN NULL ELSE"
    "          pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s NOT VALID', m.name, c.conname,"
    "            pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(c.oid), ' NOT VALID$', '')) END,"
    "        CASE WHEN m.relkind = 'p' THEN"
    "          pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', m.name, c.conname,"
    "            pg_catalog.pg_get_constraintdef(c.oid))"
    "             WHEN c.convalidated THEN"
    "          pg_catalog.format('ALTER TABLE %s VALIDATE CONSTRAINT %I', m.name, c.conname) END,"
    "        pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', m.name, c.conname),"
    /* keys of leaves go with the parent's, and come back before it */
    "        CASE m.relkind WHEN 'p' THEN 2 ELSE 1 END"
    "   FROM pg_catalog.pg_constraint c JOIN mine m ON m.oid = c.conrelid"
    /* those of the partitions of the table that is pointed to are the server's own */
    "  WHERE c.contype = 'f' AND (c.conparentid = 0 OR EXISTS ("
    "          SELECT FROM pg_catalog.pg_constraint p"
    "           WHERE p.oid = c.conparentid AND p.conrelid <> c.conrelid))"
    " ORDER BY part, what";

/* $1 what, $2 bring, $3 finish, $4 again. What is known from before keeps how it comes back. */
static const char note_sql[] =
    "INSERT INTO portage.aside (what, bring, finish, again, back) VALUES ($1, $2, $3, $4, false)"
    " ON CONFLICT (what) DO UPDATE SET back = false";

static bool is_lock_timeout(const struct error *err)
{
    return strcmp(err->sqlstate, "55P03") == 0 || strcmp(err->sqlstate, "40P01") == 0;
}

static bool begin_patiently(PGconn *source, struct error *err)
{
    return conn_exec(source, "BEGIN; SET LOCAL lock_timeout = '500ms'", err);
}

static bool rollback(PGconn *source, struct error *err)
{
    struct error failed = *err;
    error_clear(err);
    bool ok = conn_exec(source, "ROLLBACK", err);
    if (ok)
        *err = failed;
    return ok;
}

static bool take_one(PGconn *source, const PGresult *found, int row, struct error *err)
{
    const char *const values[] = {result_text(found, row, 0),
                                  PQgetisnull(found, row, 2) ? NULL : result_text(found, row, 2),
                                  PQgetisnull(found, row, 3) ? NULL : result_text(found, row, 3),
                                  result_text(found, row, 4)};
    if (!begin_patiently(source, err))
        return false;
    PGresult *noted = conn_query(source, note_sql, 4, values, err);
    bool goes = !PQgetisnull(found, row, 1); /* else with its parent's */
    bool ok = noted != NULL && (!goes || conn_exec(source, result_text(found, row, 1), err)) &&
              conn_exec(source, "COMMIT", err);
    PQclear(noted);
    return ok || error_context(err, "%s", result_text(found, row, 0));
}

/* Readers at the source may keep a table; they are waited for without being in each other's way. */
static bool take_patiently(PGconn *source, const PGresult *found, int row, struct stop *stop,
                           struct error *err)
{
    for (;;) {
        if (take_one(source, found, row, err))
            return true;
        if (!rollback(source, err) || !is_lock_timeout(err))
            return false;
        error_clear(err);
        if (stop_wait(stop, LOCK_WAIT_US))
            return stop_error(err);
    }
}

static void put_tables(const struct mapping_set *set, struct buffer *oids)
{
    for (unsigned m = 0; m < set->count; m++) {
        const struct relation *table = set->mappings[m].source;
        buffer_printf(oids, "%s%u", oids->length > 0 ? "," : "{", table->oid);
        for (unsigned l = 0; l < table->leaves_count; l++)
            buffer_printf(oids, ",%u", table->leaves[l].oid);
    }
    buffer_putc(oids, '}');
}

static bool put_aside(PGconn *source, const struct mapping_set *set, struct stop *stop,
                      struct error *err)
{
    struct buffer oids;
    buffer_init(&oids, 1 << 20);
    put_tables(set, &oids);
    const char *const values[] = {buffer_text(&oids)};
    PGresult *found = conn_query(source, find_sql, 1, values, err);
    buffer_release(&oids);
    bool ok = found != NULL && conn_exec(source, "UPDATE portage.aside SET back = false WHERE back", err);
    for (int row = 0; ok && row < PQntuples(found); row++)
        ok = take_patiently(source, found, row, stop, err);
    if (ok && PQntuples(found) > 0)
        log_info("%d triggers and foreign keys of the source are put aside until it takes the writes"
                 " again",
                 PQntuples(found));
    PQclear(found);
    return ok || error_context(err, "putting triggers and foreign keys of the source aside");
}

bool acting_put_aside(PGconn *source, const struct config *config, const struct mapping_set *set,
                      struct stop *stop, struct error *err)
{
    PGconn *conn = conn_open(config->source.text, CONN_APPLY, "triggers", err);
    if (conn == NULL)
        return false;
    bool spared = conn_is_replica_role(conn);
    conn_close(conn);
    return spared || put_aside(source, set, stop, err);
}

static bool hold_guard(PGconn *source, const char *guard, struct error *err)
{
    PGresult *result = conn_query_row(source, guard, 0, NULL, err);
    PQclear(result);
    return result != NULL;
}

/* All that `find` gives, one text, in one transaction. */
static bool turn(PGconn *source, const char *find, const char *guard, const char *back,
                 struct error *err)
{
    PGresult *found = conn_query(source, find, 0, NULL, err);
    if (found == NULL)
        return false;
    bool ok = true;
    if (!PQgetisnull(found, 0, 0)) {
        struct buffer sql;
        buffer_init(&sql, 64 << 20);
        buffer_printf(&sql, "%s; UPDATE portage.aside SET back = %s; COMMIT",
                      result_text(found, 0, 0), back);
        ok = begin_patiently(source, err) &&
             (guard == NULL || hold_guard(source, guard, err)) &&
             conn_exec(source, buffer_text(&sql), err);
        ok = ok || (rollback(source, err) && false);
        buffer_release(&sql);
    }
    PQclear(found);
    return ok;
}

bool acting_bring_back(PGconn *source, const char *guard, struct error *err)
{
    return turn(source,
                "SELECT pg_catalog.string_agg(bring, '; ' ORDER BY id)"
                "  FROM portage.aside WHERE NOT back AND bring IS NOT NULL",
                guard, "true", err) ||
           error_context(err, "bringing triggers and foreign keys of the source back");
}

bool acting_put_aside_again(PGconn *source, struct error *err)
{
    return turn(source,
                "SELECT pg_catalog.string_agg(again, '; ' ORDER BY id) FROM portage.aside"
                " WHERE back",
                NULL, "false", err) ||
           error_context(err, "putting triggers and foreign keys of the source aside again");
}

static bool finish_one(PGconn *source, const char *id, const char *sql, struct error *err)
{
    if (sql != NULL && (!begin_patiently(source, err) || !conn_exec(source, sql, err)))
        return error_context(err, "%s", sql);
    PGresult *gone =
        conn_query(source, "DELETE FROM portage.aside WHERE id = $1::bigint", 1, &id, err);
    PQclear(gone);
    return gone != NULL && (sql == NULL || conn_exec(source, "COMMIT", err));
}

static bool finish_patiently(PGconn *source, const char *id, const char *sql, struct stop *stop,
                             struct error *err)
{
    while (!finish_one(source, id, sql, err)) {
        if (!rollback(source, err) || !is_lock_timeout(err))
            return false;
        error_clear(err);
        if (stop_wait(stop, LOCK_WAIT_US))
            return stop_error(err);
    }
    return true;
}

bool acting_finish(PGconn *source, struct stop *stop, struct error *err)
{
    PGresult *found = conn_query(
        source, "SELECT id, finish FROM portage.aside WHERE back ORDER BY id", 0, NULL, err);
    bool ok = found != NULL;
    for (int row = 0; ok && row < PQntuples(found); row++)
        ok = finish_patiently(source, result_text(found, row, 0),
                              PQgetisnull(found, row, 1) ? NULL : result_text(found, row, 1), stop,
                              err);
    if (ok && PQntuples(found) > 0)
        log_info("%d triggers and foreign keys of the source are as they were", PQntuples(found));
    PQclear(found);
    return ok || error_context(err, "finishing foreign keys of the source");
}

/* ---- the end ---- */

static bool is_refused(const struct error *err)
{
    return err->class == ERROR_DATA || err->class == ERROR_CONFIG;
}

/* What the rows refuse is no reason to stay for ever. */
static bool give_one_back(PGconn *source, const char *what, const char *id, const char *sql,
                          struct error *err)
{
    struct stop never;
    stop_init(&never);
    bool ok = finish_patiently(source, id, sql, &never, err);
    stop_release(&never);
    if (ok || !is_refused(err))
        return ok;
    log_error_as(LOG_WARNING, err);
    log_warning("%s of the source is left as it can be: %s;", what, sql);
    error_clear(err);
    return finish_one(source, id, NULL, err);
}

bool acting_give_back(PGconn *source, struct error *err)
{
    PGresult *found = conn_query_row(
        source, "SELECT pg_catalog.to_regclass('portage.aside') IS NOT NULL", 0, NULL, err);
    bool exists = found != NULL && result_bool(found, 0, 0), ok = found != NULL;
    PQclear(found);
    if (!ok || !exists)
        return ok;
    if (!acting_bring_back(source, NULL, err))
        return error_hint(err, "Somebody reads the table for long: try again.");
    found = conn_query(source, "SELECT id, finish, what FROM portage.aside WHERE back ORDER BY id",
                       0, NULL, err);
    ok = found != NULL;
    for (int row = 0; ok && row < PQntuples(found); row++)
        ok = give_one_back(source, result_text(found, row, 2), result_text(found, row, 0),
                           PQgetisnull(found, row, 1) ? NULL : result_text(found, row, 1), err);
    PQclear(found);
    return ok || error_context(err, "giving foreign keys of the source back");
}
