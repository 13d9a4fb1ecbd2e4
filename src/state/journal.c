#include "state/journal.h"

#include <inttypes.h>

#include "pg/conn.h"
#include "pg/quote.h"
#include "state/setting.h"

#define LOCK_KEY "pg_catalog.hashtext('portage.switch')"

static const char holder_sql[] =
    "SELECT pg_catalog.format('pid %s (%s, user %s, from %s, since %s)', a.pid, a.application_name,"
    "       a.usename, COALESCE(a.client_addr::text, 'this host'),"
    "       pg_catalog.date_trunc('second', a.backend_start))"
    "  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.database ="
    "       (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
    "   AND l.objsubid = 1"
    "   AND (l.classid::bigint << 32 | l.objid::bigint) = " LOCK_KEY "::bigint";

static bool tell_holder(PGconn *control, char holder[256], struct error *err)
{
    PGresult *result = conn_query(control, holder_sql, 0, NULL, err);
    if (result == NULL)
        return false;
    snprintf(holder, 256, "%s",
             PQntuples(result) > 0 ? result_text(result, 0, 0) : "a session that has just ended");
    PQclear(result);
    return true;
}

bool journal_try_lock(PGconn *control, bool *taken, char holder[256], struct error *err)
{
    PGresult *result = conn_query_row(
        control, "SELECT pg_catalog.pg_try_advisory_lock(" LOCK_KEY ")", 0, NULL, err);
    if (result == NULL)
        return false;
    *taken = result_bool(result, 0, 0);
    PQclear(result);
    return *taken || tell_holder(control, holder, err);
}

bool journal_unlock(PGconn *control, struct error *err)
{
    return conn_exec(control, "SELECT pg_catalog.pg_advisory_unlock(" LOCK_KEY ")", err);
}

static const char abandoned_sql[] =
    "SELECT switch, (SELECT r.detail->>'endpoint' FROM portage.journal r"
    "                 WHERE r.switch = last.switch AND r.step = 'ready' AND r.state = 'done'"
    "                 ORDER BY r.id DESC LIMIT 1)"
    "  FROM (SELECT switch, step FROM portage.journal WHERE switch IS NOT NULL"
    "                     ORDER BY id DESC LIMIT 1) AS last"
    " WHERE step NOT IN ('ready', 'done', 'aborted')"
    "   AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks l"
    "        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.database ="
    "              (SELECT oid FROM pg_catalog.pg_database"
    "                WHERE datname = pg_catalog.current_database())"
    "          AND (l.classid::bigint << 32 | l.objid::bigint) = " LOCK_KEY "::bigint)";

bool journal_abandoned(PGconn *control, struct journal_abandoned *abandoned, struct error *err)
{
    PGresult *result = conn_query(control, abandoned_sql, 0, NULL, err);
    *abandoned = (struct journal_abandoned){0};
    if (result == NULL)
        return error_context(err, "looking for a switch that was left");
    if (PQntuples(result) == 1) {
        snprintf(abandoned->verb, sizeof abandoned->verb, "%s", result_text(result, 0, 0));
        snprintf(abandoned->endpoint, sizeof abandoned->endpoint, "%s", result_text(result, 0, 1));
    }
    PQclear(result);
    return true;
}

/* ---- the epoch ---- */

bool journal_epoch(PGconn *conn, int64_t *epoch, struct error *err)
{
    PGresult *result = conn_query_row(conn, "SELECT epoch FROM portage.gate", 0, NULL, err);
    if (result == NULL)
        return false;
    *epoch = result_int(result, 0, 0);
    PQclear(result);
    return true;
}

bool journal_superseded(PGconn *conn, struct error *err)
{
    error_clear(err);
    error_set(err, ERROR_RETRY, "another switch has taken over");
    error_detail(err, "Database \"%s\" has another switching epoch than ours.", PQdb(conn));
    snprintf(err->sqlstate, sizeof err->sqlstate, "%s", JOURNAL_SUPERSEDED);
    return error_hint(err, "\"pgportage journal\" shows what it does.");
}

bool journal_is_superseded(const struct error *err)
{
    return strcmp(err->sqlstate, JOURNAL_SUPERSEDED) == 0;
}

/* The lock of the row waits for whatever an older run has in flight. */
static bool raise_one(PGconn *conn, int64_t epoch, struct error *err)
{
    char sql[128];
    snprintf(sql, sizeof sql, "UPDATE portage.gate SET epoch = %" PRId64 " WHERE epoch < %" PRId64,
             epoch, epoch);
    PGresult *result = conn_query(conn, sql, 0, NULL, err);
    if (result == NULL)
        return false;
    bool raised = strcmp(PQcmdTuples(result), "1") == 0;
    PQclear(result);
    return raised || journal_superseded(conn, err);
}

bool journal_raise_epoch(PGconn *const *servers, unsigned count, int64_t *epoch, struct error *err)
{
    int64_t highest = 0;
    for (unsigned s = 0; s < count; s++) {
        int64_t found;
        if (!journal_epoch(servers[s], &found, err))
            return error_context(err, "reading the switching epoch");
        highest = found > highest ? found : highest;
    }
    *epoch = highest + 1;
    for (unsigned s = 0; s < count; s++) {
        if (!raise_one(servers[s], *epoch, err))
            return error_context(err, "raising the switching epoch of database \"%s\"",
                                 PQdb(servers[s]));
    }
    return true;
}

/* ---- entries ---- */

bool journal_live(PGconn *control, enum which_side *live, struct error *err)
{
    char *value;
    if (!setting_get(control, "live", &value, err))
        return error_context(err, "reading which side is live");
    bool ok = true;
    *live = SIDE_SOURCE;
    if (value != NULL && strcmp(value, side_name(SIDE_TARGET)) == 0)
        *live = SIDE_TARGET;
    else if (value != NULL && strcmp(value, side_name(SIDE_SOURCE)) != 0)
        ok = error_set(err, ERROR_FATAL, "the setting \"live\" is \"%.20s\"", value);
    free(value);
    return ok;
}

static void put_nullable(struct buffer *sql, const char *text)
{
    if (text == NULL)
        buffer_puts(sql, "NULL");
    else
        quote_literal(sql, text);
}

static void put_entry(struct buffer *sql, const struct journal_entry *entry)
{
    buffer_puts(sql, "(");
    quote_literal(sql, entry->which);
    buffer_puts(sql, ", ");
    quote_literal(sql, entry->step);
    buffer_puts(sql, ", ");
    quote_literal(sql, entry->state);
    buffer_puts(sql, ", ");
    put_nullable(sql, entry->detail);
    if (entry->us < 0)
        buffer_puts(sql, "::jsonb, NULL::numeric)");
    else
        buffer_printf(sql, "::jsonb, %.1f)", (double)entry->us / 1000);
}

bool journal_steps(PGconn *control, int64_t epoch, const struct journal_entry *entries,
                   unsigned count, struct error *err)
{
    struct buffer sql;
    buffer_init(&sql, 1 << 20);
    buffer_printf(&sql,
                  "WITH mine AS MATERIALIZED (SELECT FROM portage.gate WHERE epoch = %" PRId64
                  " FOR UPDATE)"
                  " INSERT INTO portage.journal (epoch, switch, step, state, detail, ms)"
                  " SELECT %" PRId64 ", entry.* FROM mine, (VALUES ",
                  epoch, epoch);
    for (unsigned e = 0; e < count; e++) {
        buffer_puts(&sql, e > 0 ? ", " : "");
        put_entry(&sql, &entries[e]);
    }
    buffer_puts(&sql, ") AS entry");
    PGresult *result = conn_query(control, buffer_text(&sql), 0, NULL, err);
    buffer_release(&sql);
    if (result == NULL)
        return error_context(err, "writing the journal");
    bool written = strtol(PQcmdTuples(result), NULL, 10) == (long)count;
    PQclear(result);
    return written || journal_superseded(control, err);
}

static const char left_sql[] =
    "WITH entry AS (SELECT id, switch, step FROM portage.journal WHERE switch IS NOT NULL),"
    " last AS (SELECT * FROM entry ORDER BY id DESC LIMIT 1),"
    " switched AS (SELECT * FROM entry WHERE step = 'switched' ORDER BY id DESC LIMIT 1)"
    " SELECT (SELECT switch FROM last WHERE step NOT IN ('ready', 'done', 'aborted')),"
    "        (SELECT switch FROM switched s WHERE NOT EXISTS"
    "           (SELECT FROM entry e WHERE e.step = 'done' AND e.id > s.id)),"
    "        EXISTS (SELECT FROM switched)";

bool journal_left(PGconn *control, struct journal_left *left, struct error *err)
{
    PGresult *result = conn_query_row(control, left_sql, 0, NULL, err);
    if (result == NULL)
        return error_context(err, "looking for a switch that was left");
    snprintf(left->begun, sizeof left->begun, "%s", result_text(result, 0, 0));
    snprintf(left->unfinished, sizeof left->unfinished, "%s", result_text(result, 0, 1));
    left->ever = result_bool(result, 0, 2);
    PQclear(result);
    return true;
}

/* {…} are filled in: DO takes no parameters. */
static const char switch_sql[] =
    "DO $portage$ BEGIN"
    " PERFORM FROM portage.gate WHERE epoch = %" PRId64 " FOR UPDATE;"
    " IF NOT FOUND OR COALESCE((SELECT value FROM portage.setting WHERE name = 'live'), 'source')"
    "    <> '%s' THEN"
    "  RAISE EXCEPTION USING ERRCODE = '" JOURNAL_SUPERSEDED
    "', MESSAGE = 'not the state of this switch';"
    " END IF;"
    " INSERT INTO portage.setting (name, value) VALUES ('live', '%s')"
    "  ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value;"
    " INSERT INTO portage.journal (epoch, switch, step, state, detail)"
    "  VALUES (%" PRId64 ", '%s', 'switched', 'done', %s::jsonb);"
    "END $portage$";

bool journal_switch(PGconn *control, int64_t epoch, const char *which, const char *from,
                    const char *to, const char *detail, struct error *err)
{
    struct buffer sql, literal;
    buffer_init(&sql, 1 << 20);
    buffer_init(&literal, 1 << 19);
    quote_literal(&literal, detail);
    buffer_printf(&sql, switch_sql, epoch, from, to, epoch, which, buffer_text(&literal));
    bool ok = conn_exec(control, buffer_text(&sql), err);
    if (!ok && journal_is_superseded(err))
        journal_superseded(control, err);
    buffer_release(&sql);
    buffer_release(&literal);
    return ok || error_context(err, "writing \"switched\" to the journal");
}
