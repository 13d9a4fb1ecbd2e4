#include "switchover/acting.h"

#include <inttypes.h>

#include "pg/conn.h"
#include "state/journal.h"
#include "switchover/ask.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    LOCK_MS = 500,
    RESTORE_LOCK_MS = 2000,
    LOCK_AGAIN_US = 200 * 1000,
    LOOKS_SAME = 3, /* so often in a row the same row is without its parent: it is on no lane's way */
    LOOKS_MAX = 10, /* after so many different ones nothing is known */
    LANES_POLL_US = 50 * 1000,
    LANES_PATIENCE_US = 60 * 1000 * 1000,
};

/* ---- what there is ---- */

/* Clones that partitions have of their parent's triggers and keys go with these. */
const char acting_found_sql[] =
    "SELECT 'foreign key' AS kind, n.nspname AS schema, t.relname AS table_name, c.conname AS name,"
    "       pg_catalog.pg_get_constraintdef(c.oid) AS definition, false AS always, t.oid AS relid"
    "  FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class t ON t.oid = c.conrelid"
    "  JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace"
    " WHERE c.contype = 'f' AND c.conparentid = 0"
    "   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'portage')"
    " UNION ALL "
    "SELECT 'trigger', n.nspname, t.relname, g.tgname, pg_catalog.pg_get_triggerdef(g.oid),"
    "       g.tgenabled = 'A', t.oid"
    "  FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class t ON t.oid = g.tgrelid"
    "  JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace"
    " WHERE NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') AND g.tgname <> 'portage_gate'"
    "   AND COALESCE(pg_catalog.to_jsonb(g)->>'tgparentid', '0') = '0'" /* since 13 */
    "   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'portage')"
    " ORDER BY kind, relid, name";

/*
 * $1: a JSON array of tables, or null; %s is the query above. What waits, or is not valid yet, keeps the
 * definition that it was taken with. A key that a partition has while its parent's is not there is the
 * parent's.
 */
static const char note_sql[] =
    "INSERT INTO portage.deferred (kind, table_schema, table_name, name, definition, always, state)"
    " SELECT f.kind, f.schema, f.table_name, f.name, f.definition, f.always, 'done'"
    "   FROM (%s) AS f"
    "  WHERE ($1::json IS NULL OR f.relid IN ("
    "           SELECT pg_catalog.to_regclass(n) FROM pg_catalog.json_array_elements_text($1::json) AS n"
    "            UNION SELECT p.relid FROM pg_catalog.json_array_elements_text($1::json) AS n"
    "            CROSS JOIN LATERAL pg_catalog.pg_partition_tree(pg_catalog.to_regclass(n)) AS p))"
    "    AND NOT EXISTS (SELECT FROM portage.deferred d"
    "                      JOIN pg_catalog.pg_partition_ancestors(f.relid) AS a ON a.relid <> f.relid"
    "                       AND a.relid = pg_catalog.to_regclass(pg_catalog.format('%%I.%%I',"
    "                                       d.table_schema, d.table_name))"
    "                     WHERE d.kind = 'foreign key' AND d.name = f.name AND f.kind = d.kind)"
    "  ORDER BY f.kind, f.relid, f.name"
    " ON CONFLICT (table_schema, table_name, kind, name) DO UPDATE"
    "    SET definition = EXCLUDED.definition, always = EXCLUDED.always WHERE deferred.state = 'done'";

static bool note(PGconn *server, const char *tables, struct error *err)
{
    struct buffer sql;
    const char *const values[] = {tables};
    buffer_init(&sql, 64 * 1024);
    buffer_printf(&sql, note_sql, acting_found_sql);
    PGresult *result = conn_query(server, buffer_text(&sql), 1, values, err);
    buffer_release(&sql);
    PQclear(result);
    return result != NULL || error_context(err, "reading triggers and foreign keys");
}

/* ---- statements, made of a row of portage.deferred and what the catalog has of it now ---- */

#define ROWS                                                                                       \
    " FROM (SELECT d.*, t.oid AS relid, t.relkind,"                                                \
    "              pg_catalog.format('%I.%I', d.table_schema, d.table_name) AS rel,"               \
    "              d.kind || ' ' || pg_catalog.quote_ident(d.name) || ' of '"                      \
    "                || pg_catalog.format('%I.%I', d.table_schema, d.table_name) AS what"          \
    "         FROM portage.deferred d"                                                             \
    "         JOIN pg_catalog.pg_namespace n ON n.nspname = d.table_schema"                        \
    "         JOIN pg_catalog.pg_class t ON t.relnamespace = n.oid AND t.relname = d.table_name"   \
    "        WHERE d.kind IN ('foreign key', 'trigger')) AS d"
/* The table, and what it consists of. */
#define TREE                                                                                       \
    "(SELECT d.relid AS oid UNION SELECT p.relid FROM pg_catalog.pg_partition_tree(d.relid) AS p)"
/* Where the key can be NOT VALID: the table, or its leaves. */
#define PLACES                                                                                     \
    "(SELECT d.relid AS oid WHERE d.relkind <> 'p' UNION"                                          \
    "  SELECT p.relid FROM pg_catalog.pg_partition_tree(d.relid) AS p WHERE p.isleaf)"
#define HAS_KEY(relid)                                                                             \
    "EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conrelid = " relid                     \
    " AND c.conname = d.name AND c.contype = 'f')"

/* One row for each, with the statements that take it away. */
static const char take_sql[] =
    "SELECT d.ordinal, d.what, s.sql" ROWS
    " CROSS JOIN LATERAL (SELECT CASE d.kind WHEN 'trigger' THEN"
    "   (SELECT CASE WHEN d.relkind = 'p' AND g.tgtype & 1 = 1"
    "           THEN pg_catalog.format('DROP TRIGGER %I ON %s', d.name, d.rel)"
    "           ELSE pg_catalog.format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', d.rel, d.name) END"
    "      FROM pg_catalog.pg_trigger g"
    "     WHERE g.tgrelid = d.relid AND g.tgname = d.name AND g.tgenabled <> 'D')"
    "  ELSE (SELECT pg_catalog.string_agg(pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I',"
    "                                       c.conrelid::regclass, c.conname), '; ')"
    "          FROM " TREE " AS l JOIN pg_catalog.pg_constraint c ON c.conrelid = l.oid"
    "         WHERE c.conname = d.name AND c.contype = 'f' AND c.conparentid = 0) END AS sql) AS s"
    " WHERE s.sql IS NOT NULL AND d.state <> 'waiting'";

/* … and that bring it back. */
static const char bring_sql[] =
    "SELECT d.ordinal, d.what, s.sql" ROWS
    " CROSS JOIN LATERAL (SELECT CASE d.kind WHEN 'trigger' THEN"
    "   CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_trigger g"
    "                      WHERE g.tgrelid = d.relid AND g.tgname = d.name) THEN '' ELSE d.definition || '; ' END"
    "   || pg_catalog.format('ALTER TABLE ONLY %s ENABLE %sTRIGGER %I', d.rel,"
    "        CASE WHEN d.always THEN 'ALWAYS ' ELSE '' END, d.name)"
    "  ELSE (SELECT pg_catalog.string_agg(pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s NOT VALID',"
    "                 l.oid::regclass, d.name, pg_catalog.regexp_replace(d.definition, ' NOT VALID$', '')), '; ')"
    "          FROM " PLACES " AS l WHERE NOT " HAS_KEY("l.oid") ") END AS sql) AS s"
    " WHERE d.state = 'waiting'";

/* What has to be done before the key is as it was, in this order. The leaves that have come since come
 * first, and are validated with the others. */
#define STEPS                                                                                      \
    "SELECT 1 AS step, pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s NOT VALID',"          \
    "         l.oid::regclass, d.name, pg_catalog.regexp_replace(d.definition, ' NOT VALID$', '')) AS sql" \
    "  FROM " PLACES " AS l WHERE d.relkind = 'p' AND NOT " HAS_KEY("l.oid")                       \
    " UNION ALL "                                                                                  \
    "SELECT 2, pg_catalog.format('ALTER TABLE %s VALIDATE CONSTRAINT %I', c.conrelid::regclass, c.conname)" \
    "  FROM " TREE " AS l JOIN pg_catalog.pg_constraint c ON c.conrelid = l.oid"                   \
    " WHERE c.conname = d.name AND c.contype = 'f' AND c.conparentid = 0 AND NOT c.convalidated"   \
    "   AND d.definition !~ ' NOT (VALID|ENFORCED)$'"                                              \
    " UNION ALL "                                                                                  \
    "SELECT 2, pg_catalog.format('ALTER TABLE %s VALIDATE CONSTRAINT %I', l.oid::regclass, d.name)" \
    "  FROM " PLACES " AS l WHERE d.relkind = 'p' AND NOT " HAS_KEY("l.oid")                       \
    "   AND d.definition !~ ' NOT (VALID|ENFORCED)$'"                                              \
    " UNION ALL "                                                                                  \
    "SELECT 3, pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', d.rel, d.name, d.definition)" \
    " WHERE d.relkind = 'p' AND NOT " HAS_KEY("d.relid")

/* $1 ordinal. The first of them; looked at after each. */
static const char finish_sql[] =
    "SELECT s.sql" ROWS " CROSS JOIN LATERAL (" STEPS ") AS s"
    " WHERE d.ordinal = $1::int AND d.kind = 'foreign key' ORDER BY s.step, s.sql LIMIT 1";

const char acting_unfinished_sql[] =
    "SELECT d.ordinal, s.sql" ROWS
    " CROSS JOIN LATERAL (SELECT pg_catalog.string_agg(t.sql, E';\n' ORDER BY t.step, t.sql) AS sql"
    "                       FROM (" STEPS ") AS t) AS s"
    " WHERE d.kind = 'foreign key' AND d.state IN ('back', 'invalid') AND s.sql IS NOT NULL";

/* ---- doing it, on the server ---- */

struct turn {
    const char *find;  /* take_sql, bring_sql */
    const char *which; /* a condition on d, or "" */
    const char *state; /* which they have then */
    int64_t epoch;     /* of the switch that asks; 0: none */
    int lock_ms;
};

static void put_turn(struct buffer *sql, const struct turn *turn)
{
    buffer_puts(sql, "DO $portage$ DECLARE each record; BEGIN");
    if (turn->epoch > 0)
        buffer_printf(sql,
                      " PERFORM FROM portage.gate WHERE epoch = %" PRId64 " FOR UPDATE;"
                      " IF NOT FOUND THEN RAISE EXCEPTION USING ERRCODE = '" JOURNAL_SUPERSEDED "',"
                      "  MESSAGE = 'not the epoch of this switch'; END IF;",
                      turn->epoch);
    buffer_printf(sql,
                  " PERFORM pg_catalog.set_config('lock_timeout', '%dms', true);"
                  " FOR each IN %s%s ORDER BY d.ordinal LOOP"
                  "  IF each.sql IS NOT NULL THEN EXECUTE each.sql; END IF;"
                  "  UPDATE portage.deferred SET state = '%s', epoch = NULLIF(%" PRId64 ", 0)"
                  "   WHERE ordinal = each.ordinal;"
                  " END LOOP; END $portage$",
                  turn->lock_ms, turn->find, turn->which, turn->state, turn->epoch);
}

static bool turn_one(PGconn *server, const struct turn *turn, struct error *err)
{
    struct buffer sql;
    buffer_init(&sql, 64 * 1024);
    put_turn(&sql, turn);
    bool ok = conn_exec(server, buffer_text(&sql), err);
    buffer_release(&sql);
    return ok;
}

static bool is_lock_timeout(const struct error *err)
{
    return strcmp(err->sqlstate, "55P03") == 0 || strcmp(err->sqlstate, "40P01") == 0;
}

/* Waits for its locks without being in anybody's way. */
static bool turn_row(PGconn *server, const struct turn *turn, const char *ordinal, const char *what,
                     struct stop *stop, struct error *err)
{
    char which[512];
    struct turn one = *turn;
    bool told = false;
    snprintf(which, sizeof which, "%s AND d.ordinal = %s", turn->which, ordinal);
    one.which = which;
    while (!turn_one(server, &one, err)) {
        if (!is_lock_timeout(err))
            return error_context(err, "%s", what);
        if (!told)
            log_info("%s: others hold locks on its tables, they are waited for", what);
        told = true;
        error_clear(err);
        if (stop_wait(stop, LOCK_AGAIN_US))
            return stop_error(err);
    }
    return true;
}

/* One by one. *count: how many there were. */
static bool turn_patiently(PGconn *server, const struct turn *turn, int *count,
                           struct stop *stop, struct error *err)
{
    struct buffer sql;
    buffer_init(&sql, 64 * 1024);
    buffer_printf(&sql, "%s%s ORDER BY d.ordinal", turn->find, turn->which);
    PGresult *found = conn_query(server, buffer_text(&sql), 0, NULL, err);
    buffer_release(&sql);
    bool ok = found != NULL;
    *count = PQntuples(found);
    for (int row = 0; ok && row < *count; row++)
        ok = turn_row(server, turn, result_text(found, row, 0), result_text(found, row, 1), stop, err);
    PQclear(found);
    return ok;
}

/* ---- while rows are applied ---- */

bool acting_take_all(PGconn *server, struct error *err)
{
    const struct turn turn = {.find = take_sql, .which = "", .state = "waiting"};
    return (note(server, NULL, err) && turn_one(server, &turn, err)) ||
           error_context(err, "putting triggers and foreign keys aside");
}

/* What a switch has brought back may be about to be needed (invariant 3). */
#define NOT_OF_A_SWITCH                                                                            \
    " AND NOT (d.state = 'back' AND d.epoch = (SELECT g.epoch FROM portage.gate g))"

bool acting_put_aside(PGconn *server, const char *conninfo, const char *tables, struct stop *stop,
                      struct error *err)
{
    int count;
    PGconn *conn = conn_open(conninfo, CONN_APPLY, "triggers", err);
    if (conn == NULL)
        return false;
    bool spared = conn_is_replica_role(conn);
    conn_close(conn);
    const struct turn turn = {.find = take_sql,
                              .which = spared ? NOT_OF_A_SWITCH " AND d.always" : NOT_OF_A_SWITCH,
                              .state = "waiting",
                              .lock_ms = LOCK_MS};
    if (!note(server, tables, err) || !turn_patiently(server, &turn, &count, stop, err))
        return error_context(err, "putting triggers and foreign keys aside");
    if (count > 0)
        log_info("database \"%s\": %d triggers and foreign keys are put aside until it takes the writes"
                 " again",
                 PQdb(server), count);
    return true;
}

bool acting_build(PGconn *server, struct stop *stop, struct error *err)
{
    int count;
    const struct turn turn = {
        .find = bring_sql, .which = " AND NOT d.always", .state = "back", .lock_ms = LOCK_MS};
    return turn_patiently(server, &turn, &count, stop, err) &&
           acting_finish(server, ACTING_BESIDE_LANES, true, stop, err);
}

/* ---- in a switch ---- */

static bool exec_on_side(const struct side *side, const char *sql, struct error *err)
{
    struct ask *asks = check_calloc(side->count, sizeof *asks);
    for (unsigned s = 0; s < side->count; s++)
        asks[s] = (struct ask){.conn = side->conns[s], .sql = sql};
    bool ok = ask_all(asks, side->count, err);
    for (unsigned s = 0; s < side->count; s++)
        PQclear(asks[s].result);
    if (!ok && journal_is_superseded(err))
        journal_superseded(side->conns[0], err);
    free(asks);
    return ok;
}

static bool turn_side(const struct side *side, const struct turn *turn, struct error *err)
{
    struct buffer sql;
    buffer_init(&sql, 64 * 1024);
    put_turn(&sql, turn);
    bool ok = exec_on_side(side, buffer_text(&sql), err);
    buffer_release(&sql);
    return ok;
}

static bool count_back(const struct side *side, int64_t epoch, unsigned *count, struct error *err)
{
    char text[24];
    struct ask *asks = check_calloc(side->count, sizeof *asks);
    snprintf(text, sizeof text, "%" PRId64, epoch);
    for (unsigned s = 0; s < side->count; s++)
        asks[s] = (struct ask){.conn = side->conns[s],
                               .sql = "SELECT pg_catalog.count(*) FROM portage.deferred"
                                      " WHERE state = 'back' AND epoch = $1::bigint",
                               .values_count = 1,
                               .values = {text}};
    bool ok = ask_all(asks, side->count, err);
    for (unsigned s = 0; s < side->count; s++) {
        *count += ok ? (unsigned)result_int(asks[s].result, 0, 0) : 0;
        PQclear(asks[s].result);
    }
    free(asks);
    return ok;
}

bool acting_bring_back(const struct side *side, int64_t epoch, int lock_ms, unsigned *count,
                       struct error *err)
{
    const struct turn turn = {
        .find = bring_sql, .which = "", .state = "back", .epoch = epoch, .lock_ms = lock_ms};
    *count = 0;
    return (turn_side(side, &turn, err) && count_back(side, epoch, count, err)) ||
           error_context(err, "bringing triggers and foreign keys of the %s back", side->name);
}

/* Epoch 0 is no switch's; no lane has it, either. portage.lane is what a transaction of ours begins with. */
static const char leave_sql[] =
    "DO $portage$ BEGIN"
    " PERFORM FROM portage.gate WHERE epoch = %" PRId64 " FOR UPDATE;"
    " IF NOT FOUND THEN RAISE EXCEPTION USING ERRCODE = '" JOURNAL_SUPERSEDED "',"
    "  MESSAGE = 'not the epoch of this switch'; END IF;"
    " PERFORM pg_catalog.set_config('lock_timeout', '%dms', true);"
    " UPDATE portage.deferred SET epoch = 0 WHERE state = 'back' AND epoch > 0;"
    " IF FOUND THEN UPDATE portage.lane SET epoch = 0; END IF;"
    " END $portage$";

bool acting_leave_to_run(const struct side *side, int64_t epoch, struct error *err)
{
    char sql[sizeof leave_sql + 64];
    snprintf(sql, sizeof sql, leave_sql, epoch, RESTORE_LOCK_MS);
    return exec_on_side(side, sql, err) ||
           error_context(err, "leaving triggers and foreign keys of the %s to \"pgportage run\"",
                         side->name);
}

/* ---- validating ---- */

static bool set_state(PGconn *server, const char *ordinal, const char *state, struct error *err)
{
    const char *const values[] = {ordinal, state};
    PGresult *result = conn_query(server,
                                  "UPDATE portage.deferred SET state = $2,"
                                  "  finished_at = pg_catalog.clock_timestamp()"
                                  " WHERE ordinal = $1::int AND state IN ('back', 'invalid')",
                                  2, values, err);
    PQclear(result);
    return result != NULL;
}

/* The next statement that the key needs; NULL: none. The caller's. */
static bool next_statement(PGconn *server, const char *ordinal, char **sql, struct error *err)
{
    PGresult *result = conn_query(server, finish_sql, 1, &ordinal, err);
    *sql = PQntuples(result) > 0 ? check_strdup(result_text(result, 0, 0)) : NULL;
    PQclear(result);
    return result != NULL;
}

static bool exec_patiently(PGconn *server, const char *sql, struct stop *stop, struct error *err)
{
    struct buffer bounded;
    bool ok;
    buffer_init(&bounded, 64 * 1024);
    buffer_printf(&bounded, "SET lock_timeout = %d; %s; SET lock_timeout = 0", LOCK_MS, sql);
    while (!(ok = conn_exec_until(server, buffer_text(&bounded), stop, err)) && is_lock_timeout(err)) {
        error_clear(err);
        if (stop_wait(stop, LOCK_AGAIN_US)) {
            stop_error(err);
            break;
        }
    }
    buffer_release(&bounded);
    return ok;
}

/* Progress of a lane, and the part of a transaction that it has behind it, are in the transaction that
 * brings rows: what anybody has seen here came no later in its stream than the foremost lane. Positions of
 * two streams do not compare. */
static const char foremost_sql[] =
    "SELECT COALESCE(pg_catalog.json_object_agg(l.stream, l.position), '{}')"
    "  FROM (SELECT DISTINCT ON (stream) stream, GREATEST(progress, partial_lsn) AS position"
    "          FROM portage.lane ORDER BY stream, 2 DESC) AS l";
static const char passed_sql[] =
    "SELECT NOT EXISTS (SELECT FROM pg_catalog.json_each_text($1::json) AS f"
    "                     JOIN portage.lane l ON l.stream = f.key::int"
    "                    WHERE l.progress < f.value::pg_lsn)";

static bool have_passed(PGconn *server, const char *foremost, bool *passed, struct error *err)
{
    PGresult *result = conn_query_row(server, passed_sql, 1, &foremost, err);
    *passed = result != NULL && result_bool(result, 0, 0);
    PQclear(result);
    return result != NULL;
}

/* Until all lanes have brought what belongs to what was seen here. *passed is false when one stands. */
static bool let_lanes_pass(PGconn *server, struct stop *stop, bool *passed, struct error *err)
{
    int64_t until_us = clock_monotonic_us() + LANES_PATIENCE_US;
    PGresult *result = conn_query_row(server, foremost_sql, 0, NULL, err);
    bool ok = result != NULL;
    *passed = false;
    while (ok && !*passed && clock_monotonic_us() < until_us) {
        ok = have_passed(server, result_text(result, 0, 0), passed, err);
        if (ok && !*passed && stop_wait(stop, LANES_POLL_US))
            ok = stop_error(err);
    }
    PQclear(result);
    return ok;
}

enum verdict { VERDICT_VALID, VERDICT_VIOLATED, VERDICT_UNKNOWN };

/*
 * Parent and child of one transaction come by different lanes, so beside them a row may be seen before its
 * parent. It counts when it is seen again and again, with the lanes moving on between. With another verdict
 * than VALID *err is what was seen last.
 */
static bool try_statement(PGconn *server, const char *sql, enum acting_beside beside,
                          struct stop *stop, enum verdict *verdict, struct error *err)
{
    char before[sizeof err->detail] = "";
    int same = 0;
    bool passed = true;
    for (int look = 1; !exec_patiently(server, sql, stop, err); look++) {
        struct error seen = *err;
        if (err->class != ERROR_DATA)
            return false;
        same = strcmp(before, err->detail) == 0 ? same + 1 : 1;
        *verdict = VERDICT_VIOLATED;
        if (beside == ACTING_BESIDE_APPLICATION || strcmp(err->sqlstate, "23503") != 0 ||
            same == LOOKS_SAME)
            return true;
        *verdict = VERDICT_UNKNOWN;
        if (look == LOOKS_MAX)
            return true;
        snprintf(before, sizeof before, "%s", err->detail);
        error_clear(err);
        if (!let_lanes_pass(server, stop, &passed, err))
            return false;
        if (!passed) {
            *err = seen;
            return true;
        }
    }
    *verdict = VERDICT_VALID;
    return true;
}

struct key {
    const char *ordinal, *what;
    bool invalid; /* it was found so */
};

/* One that rows violate holds for what is written from now on. */
static bool tell_invalid(PGconn *server, const struct key *key, const char *sql, bool known,
                         struct error *err)
{
    struct error told = *err;
    error_clear(err);
    error_context(&told, "%s stays NOT VALID in database \"%s\"", key->what, PQdb(server));
    error_hint(&told, "It holds for new rows. Mend the rows that are there, then: %s;", sql);
    if (!known)
        log_error_as(LOG_WARNING, &told);
    return set_state(server, key->ordinal, "invalid", err);
}

static bool take_verdict(PGconn *server, const struct key *key, const char *sql,
                         enum acting_beside beside, enum verdict verdict, struct error *err)
{
    if (verdict == VERDICT_VIOLATED)
        return tell_invalid(server, key, sql, key->invalid && beside == ACTING_BESIDE_LANES, err);
    log_info("%s: rows are seen before the lanes bring what they point to (%s); it is validated later",
             key->what, err->detail);
    error_clear(err);
    return true;
}

static bool tell_done(PGconn *server, const struct key *key, int64_t began_us, struct error *err)
{
    log_info("%s is in place, after %.1f s", key->what,
             (double)(clock_monotonic_us() - began_us) / 1e6);
    return set_state(server, key->ordinal, "done", err);
}

/* An invalid one is only looked at, unless `again`: somebody may have validated it. */
static bool finish_one(PGconn *server, const struct key *key, enum acting_beside beside, bool again,
                       struct stop *stop, struct error *err)
{
    bool ok = true, finished = false;
    int64_t began_us = clock_monotonic_us();
    while (ok && !finished) {
        char *sql;
        enum verdict verdict = VERDICT_VALID;
        if (!next_statement(server, key->ordinal, &sql, err))
            return false;
        finished = sql == NULL || (key->invalid && !again);
        if (sql == NULL)
            ok = tell_done(server, key, began_us, err);
        else if (!finished)
            ok = try_statement(server, sql, beside, stop, &verdict, err);
        if (ok && verdict != VERDICT_VALID) {
            finished = true;
            ok = take_verdict(server, key, sql, beside, verdict, err);
        }
        free(sql);
    }
    return ok || error_context(err, "%s", key->what);
}

/* What a switch has brought back is its own, until its side is live. */
bool acting_finish(PGconn *server, enum acting_beside beside, bool again, struct stop *stop,
                   struct error *err)
{
    const char *const values[] = {beside == ACTING_BESIDE_LANES ? "true" : "false"};
    PGresult *found = conn_query(server,
                                 "SELECT d.ordinal, d.what, d.state = 'invalid'" ROWS
                                 " WHERE d.state = 'invalid'"
                                 "    OR (d.state = 'back' AND (d.epoch IS NULL OR NOT $1::bool))"
                                 " ORDER BY d.ordinal",
                                 1, values, err);
    bool ok = found != NULL;
    for (int row = 0; ok && row < PQntuples(found); row++) {
        const struct key key = {.ordinal = result_text(found, row, 0),
                                .what = result_text(found, row, 1),
                                .invalid = result_bool(found, row, 2)};
        ok = finish_one(server, &key, beside, again, stop, err);
    }
    PQclear(found);
    return ok || error_context(err, "validating foreign keys of database \"%s\"", PQdb(server));
}

/* ---- the end ---- */

static bool is_recorded(PGconn *server, bool *recorded, struct error *err)
{
    PGresult *result = conn_query_row(
        server, "SELECT pg_catalog.to_regclass('portage.deferred') IS NOT NULL", 0, NULL, err);
    *recorded = result != NULL && result_bool(result, 0, 0);
    PQclear(result);
    return result != NULL;
}

/* What rows refuse is no reason to stay for ever. */
bool acting_give_back(PGconn *server, struct error *err)
{
    const struct turn turn = {
        .find = bring_sql, .which = "", .state = "back", .lock_ms = RESTORE_LOCK_MS};
    struct stop never;
    bool recorded;
    if (!is_recorded(server, &recorded, err) || !recorded)
        return err->class == ERROR_NONE;
    if (!turn_one(server, &turn, err)) {
        error_context(err, "giving triggers and foreign keys back");
        return is_lock_timeout(err) ? error_hint(err, "Somebody uses the table for long: try again.")
                                    : false;
    }
    stop_init(&never);
    bool ok = acting_finish(server, ACTING_BESIDE_APPLICATION, true, &never, err);
    stop_release(&never);
    return ok;
}
