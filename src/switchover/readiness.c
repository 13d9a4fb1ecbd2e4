#include "switchover/readiness.h"

#include "mapping/invert.h"
#include "pg/conn.h"
#include "state/setting.h"
#include "switchover/carried.h"
#include "switchover/drain.h"
#include "switchover/gate.h"
#include "util/clock.h"

enum {
    STREAM_POLL_US = 100 * 1000,
    REST_LOOKS = 20,
    LOOK_POLL_US = 10 * 1000,
    LOOK_PATIENCE_US = 10 * 1000 * 1000, /* it may begin again meanwhile */
};

/* A question to a server: each row of the answer is a finding. */
struct question {
    enum severity severity;
    const char *code;
    const char *sql; /* object, reason, fix */
};

#define BAD SEVERITY_REFUSE
#define ODD SEVERITY_WARNING
#define SAY SEVERITY_NOTE

/* ---- control ---- */

static const struct question control_questions[] = {
    {BAD, "not-ready",
     "SELECT 'pgportage', 'the phase is ' || phase || ', not ready', 'Wait until \"pgportage status\"'\n"
     "       ' says ready.'"
     "  FROM (SELECT COALESCE((SELECT value FROM portage.setting WHERE name = 'phase'), 'new')) AS p(phase)"
     " WHERE phase <> 'ready'"},
    {BAD, "no-instance",
     "SELECT 'pgportage run', 'does not run', 'Start it: it carries the last changes across.'"
     " WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted"
     "         AND database = (SELECT oid FROM pg_catalog.pg_database"
     "                          WHERE datname = pg_catalog.current_database())"
     "         AND (classid::bigint << 32 | objid::bigint)"
     "             = pg_catalog.hashtext('portage.instance')::bigint)"},
};

/* Those of verify's last whole pass; $1: seconds. What was read before an interruption may be as old as
 * that pass. */
static const char verified_sql[] =
    "WITH last AS (SELECT value::jsonb AS v FROM portage.setting WHERE name = 'verify'),"
    " age AS (SELECT v, pg_catalog.clock_timestamp()"
    "   - COALESCE(v->'continued'->>'begun_at', v->>'at')::timestamptz AS age FROM last)"
    " SELECT CASE WHEN NOT EXISTS (SELECT FROM last) THEN 'never made'"
    /* what was written since, went another way */
    "   WHEN (SELECT COALESCE((v->'continued'->>'begun_at')::timestamptz, (v->>'at')::timestamptz"
    "                  - pg_catalog.make_interval(secs => (v->>'seconds')::float8))"
    "           FROM last) <= (SELECT pg_catalog.max(at) FROM portage.journal WHERE step = 'switched')"
    "   THEN 'made before the last switch'"
    "   WHEN (SELECT v->>'outcome' FROM last) <> 'equal' THEN 'it said ' || (SELECT v->>'outcome' FROM last)"
    "   WHEN (SELECT age FROM age) > pg_catalog.make_interval(secs => $1::int)"
    "   THEN (SELECT pg_catalog.date_trunc('second', age) || ' old' FROM age) END";

/* ---- each shard ---- */

static const struct question shard_questions[] = {
    {BAD, "not-copied",
     "SELECT mapping, pg_catalog.count(*) || ' ranges of it are not copied yet', NULL"
     "  FROM portage.range WHERE NOT done GROUP BY mapping"},
};

static const struct question target_questions[] = {
    {BAD, "not-built",
     "SELECT table_schema || '.' || table_name, kind || ' ' || name || ' is not built yet', NULL"
     "  FROM portage.deferred WHERE state <> 'done' AND kind NOT IN ('foreign key', 'trigger')"},
    {BAD, "not-valid",
     "SELECT d.table_schema || '.' || d.table_name, d.kind || ' ' || d.name || ' is not valid', NULL"
     "  FROM portage.deferred d"
     "  JOIN pg_catalog.pg_namespace n ON n.nspname = d.table_schema"
     "  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = d.name"
     "  JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid"
     " WHERE d.state = 'done' AND d.kind <> 'foreign key' AND NOT i.indisvalid"
     " UNION ALL"
     " SELECT d.table_schema || '.' || d.table_name, d.kind || ' ' || d.name || ' is not valid',"
     "        pg_catalog.format('ALTER TABLE %s VALIDATE CONSTRAINT %I;', k.conrelid::regclass, d.name)"
     "  FROM portage.deferred d"
     "  JOIN pg_catalog.pg_namespace n ON n.nspname = d.table_schema"
     "  JOIN pg_catalog.pg_class t ON t.relnamespace = n.oid AND t.relname = d.table_name"
     "  CROSS JOIN LATERAL (SELECT t.oid UNION"
     "                      SELECT p.relid FROM pg_catalog.pg_partition_tree(t.oid) AS p) AS l"
     "  JOIN pg_catalog.pg_constraint k ON k.conrelid = l.oid AND k.conname = d.name"
     " WHERE d.state = 'invalid' AND d.kind = 'foreign key' AND NOT k.convalidated"},
};

/* ---- each to-server ---- */

static const struct question to_questions[] = {
    {ODD, "subscription", SUBSCRIPTIONS_SQL},
    {SAY, "put-aside",
     "SELECT table_schema || '.' || table_name, kind || ' ' || name || ' comes back with the switch'"
     "       || CASE kind WHEN 'trigger' THEN '' ELSE ', NOT VALID; \"pgportage run\" validates it"
     " afterwards' END, definition"
     "  FROM portage.deferred WHERE state = 'waiting' AND kind IN ('foreign key', 'trigger')"},
};

/* ---- each from-server ---- */

static const struct question from_questions[] = {
    {BAD, "prepared-transaction",
     "SELECT gid, 'a prepared transaction, ' || pg_catalog.date_trunc('second',"
     "       pg_catalog.clock_timestamp() - prepared) || ' old: what it has written could come later',"
     "       pg_catalog.format('ROLLBACK PREPARED %L;', gid)"
     "  FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()"},
    {BAD, "subscription", SUBSCRIPTIONS_SQL},
};

static bool add_rows(const struct readiness *readiness, const char *server,
                     const struct question *question, const PGresult *result)
{
    struct findings *findings = readiness->switching->findings;
    for (int row = 0; row < PQntuples(result); row++) {
        char object[512];
        snprintf(object, sizeof object, "%s, %s", server, result_text(result, row, 0));
        findings_add(findings, question->severity, question->code, NULL, object,
                     PQgetisnull(result, row, 2) ? NULL : result_text(result, row, 2), "%s",
                     result_text(result, row, 1));
    }
    return true;
}

static bool may_not_look(const struct readiness *readiness, const char *server,
                         const struct question *question, struct error *err)
{
    if (strcmp(err->sqlstate, "42501") != 0)
        return false;
    findings_add(readiness->switching->findings, ODD, "not-looked-at", NULL, server, NULL,
                 "the role may not look for \"%s\": %s", question->code, err->message);
    error_clear(err);
    return true;
}

static bool ask(const struct readiness *readiness, PGconn *conn, const char *server,
                const struct question *questions, size_t count, struct error *err)
{
    for (size_t q = 0; q < count; q++) {
        PGresult *result = conn_query(conn, questions[q].sql, 0, NULL, err);
        if (result == NULL && may_not_look(readiness, server, &questions[q], err))
            continue;
        if (result == NULL)
            return error_context(err, "looking for \"%s\" on %s", questions[q].code, server);
        add_rows(readiness, server, &questions[q], result);
        PQclear(result);
    }
    return true;
}

#define ASK(readiness, conn, server, questions, err)                                               \
    ask(readiness, conn, server, questions, sizeof questions / sizeof questions[0], err)

/* The table comes with the queue. */
static bool ask_dead_letters(const struct readiness *readiness, PGconn *conn, const char *server,
                             struct error *err)
{
    static const struct question letters = {
        BAD, "dead-letter",
        "SELECT 'portage.dead_letter', pg_catalog.count(*) || ' changes are parked',"
        " '\"pgportage dead-letter\" lists, replays and drops them.'"
        " FROM portage.dead_letter HAVING pg_catalog.count(*) > 0"};
    PGresult *result = conn_query_row(
        conn, "SELECT pg_catalog.to_regclass('portage.dead_letter') IS NOT NULL", 0, NULL, err);
    if (result == NULL)
        return false;
    bool exists = result_bool(result, 0, 0);
    PQclear(result);
    return !exists || ask(readiness, conn, server, &letters, 1, err);
}

static bool check_verified(const struct readiness *readiness, struct error *err)
{
    const struct switching *switching = readiness->switching;
    char age[12];
    const char *const values[] = {age};
    snprintf(age, sizeof age, "%d", switching->options.verify_age_s);
    PGresult *result = conn_query_row(switching->shards[0], verified_sql, 1, values, err);
    if (result == NULL)
        return false;
    /* Who must go back may not be kept by a proof that cannot be had any more. */
    if (!PQgetisnull(result, 0, 0))
        findings_add(switching->findings,
                     switching->goal == SIDE_TARGET ? SEVERITY_REFUSE : SEVERITY_WARNING,
                     "not-verified", NULL, "pgportage verify",
                     "Run \"pgportage verify\", or add --verify.",
                     "the last proof that both sides are equal: %s", result_text(result, 0, 0));
    PQclear(result);
    return true;
}

/* ---- the stream ---- */

static bool slot_active(PGconn *conn, const char *slot, bool *exists, bool *active,
                        struct error *err)
{
    PGresult *result =
        conn_query(conn, "SELECT active FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
                   1, &slot, err);
    if (result == NULL)
        return false;
    *exists = PQntuples(result) == 1;
    *active = *exists && result_bool(result, 0, 0);
    PQclear(result);
    return true;
}

/* The forward slot for the source, the shard's one for the way back. */
static const char *slot_of(const struct readiness *readiness, const struct side *side,
                           unsigned server)
{
    const struct switching *switching = readiness->switching;
    return side->which == SIDE_SOURCE
               ? switching->config->slot
               : invert_slot(switching->config, server, switching->findings->arena);
}

/* *server is one whose slot nobody reads; from->count when there is none. */
static bool find_idle(const struct readiness *readiness, unsigned *server, bool *exists,
                      struct error *err)
{
    for (*server = 0; *server < readiness->from->count; ++*server) {
        const char *slot = slot_of(readiness, readiness->from, *server);
        bool active;
        if (!slot_active(readiness->from->conns[*server], slot, exists, &active, err))
            return false;
        if (!active)
            return true;
    }
    return true;
}

/* After a switch, and after an error, `run` takes a moment to begin again. */
static bool check_streaming(const struct readiness *readiness, struct error *err)
{
    const struct switching *switching = readiness->switching;
    int64_t until_us = clock_monotonic_us() + (int64_t)switching->options.max_lag_s * 1000000;
    bool exists;
    unsigned idle;
    char server[24];
    for (;;) {
        if (!find_idle(readiness, &idle, &exists, err))
            return false;
        if (idle == readiness->from->count)
            return true;
        if (clock_monotonic_us() >= until_us || findings_have(switching->findings, "no-instance"))
            break;
        if (stop_wait(switching->stop, STREAM_POLL_US))
            return stop_error(err);
    }
    const char *slot = slot_of(readiness, readiness->from, idle);
    findings_add(switching->findings, SEVERITY_REFUSE, "not-streaming", NULL,
                 side_server(readiness->from, idle, server),
                 "Look at the log of \"pgportage run\".",
                 exists ? "nobody reads the slot \"%s\"" : "there is no slot \"%s\"", slot);
    return true;
}

/* ---- what `run` has seen of the source ---- */

static bool not_looked(const struct readiness *readiness, unsigned number)
{
    char server[24];
    findings_add(readiness->switching->findings, SEVERITY_REFUSE, "not-looked", NULL,
                 "pgportage run", "Look at its log; it begins again, or has ended.",
                 "has not said that it carries the tables of %s as they are now",
                 side_server(readiness->from, number, server));
    return true;
}

/* It looks behind each marker of a switch. A change of the catalog that it has not seen yet may have
 * rewritten rows, which no stream brings. */
static bool wait_for_look(const struct readiness *readiness, unsigned number, int64_t marker,
                          int64_t until_us, struct error *err)
{
    char name[64];
    if (readiness->from->which == SIDE_SOURCE)
        snprintf(name, sizeof name, SETTING_LOOKED);
    else
        snprintf(name, sizeof name, SETTING_LOOKED "_back_%u", number);
    for (;;) {
        char *looked;
        if (!setting_get(readiness->switching->shards[0], name, &looked, err))
            return false;
        bool seen = looked != NULL && strtoll(looked, NULL, 10) >= marker;
        free(looked);
        if (seen)
            return true;
        if (clock_monotonic_us() >= until_us)
            return not_looked(readiness, number);
        if (stop_wait(readiness->switching->stop, LOOK_POLL_US))
            return stop_error(err);
    }
}

static bool wait_for_looks(const struct readiness *readiness, const struct drain *drain,
                           struct error *err)
{
    int64_t until_us = clock_monotonic_us() + LOOK_PATIENCE_US;
    for (unsigned s = 0; s < readiness->from->count; s++) {
        if (!wait_for_look(readiness, s, drain->markers[s], until_us, err))
            return false;
    }
    return true;
}

static bool check_leaves(const struct readiness *readiness, struct error *err)
{
    char missing[256], object[300];
    if (!carried_find_missing(readiness->switching->source, readiness->switching->shards[0],
                              readiness->from->tables, missing, err))
        return false;
    snprintf(object, sizeof object, "source, %s", missing);
    if (missing[0] != '\0')
        findings_add(readiness->switching->findings, SEVERITY_REFUSE, "not-carried", NULL, object,
                     "\"pgportage run\" takes it up when it can lock it: end what writes to it, and"
                     " try again.",
                     "a partition that is not carried yet");
    return true;
}

/* How far behind, measured by what matters: how long it takes until all lanes have a new marker. */
static bool check_lag(struct readiness *readiness, struct error *err)
{
    const struct switching *switching = readiness->switching;
    struct drain drain = {.from = readiness->from,
                          .to = readiness->to,
                          .lanes = switching->config->lanes,
                          .markers = check_calloc(readiness->from->count, sizeof(int64_t))};
    int64_t began_us = clock_monotonic_us();
    int64_t until_us = began_us + (int64_t)switching->options.max_lag_s * 1000000;
    bool ok = drain_mark(&drain, readiness->epoch, err);
    if (ok && drain_wait(&drain, until_us, switching->stop, err)) {
        readiness->drain_us = clock_monotonic_us() - began_us;
        ok = wait_for_looks(readiness, &drain, err);
    } else if (ok && err->class == ERROR_LIMIT) {
        findings_add(switching->findings, SEVERITY_REFUSE, "lag", NULL, err->message,
                     "Wait until it has caught up, or give it more: --max-lag.",
                     "the stream is more than %d s behind: %s", switching->options.max_lag_s,
                     err->detail);
        error_clear(err);
    } else
        ok = false;
    free(drain.markers);
    return ok;
}

/* ---- the way back ---- */

/* What becomes of its slot once the to-side is live. */
struct way_slot {
    bool exists, lost;
    bool read;    /* by somebody's walsender; run/rest holds it for moments only */
    char at[32];  /* its changes begin here */
    int64_t free; /* walsenders of its server that nobody uses */
};

/* Before version 13 no slot is lost. */
static const char way_slot_sql[] =
    "SELECT s.slot_name IS NOT NULL, COALESCE(pg_catalog.to_jsonb(s)->>'wal_status' = 'lost', false),"
    "       EXISTS (SELECT FROM pg_catalog.pg_stat_replication r WHERE r.pid = s.active_pid),"
    "       COALESCE(s.confirmed_flush_lsn, '0/0'),"
    "       pg_catalog.current_setting('max_wal_senders')::int"
    "         - (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication)"
    "  FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1";

static bool read_way_slot(PGconn *conn, const char *slot, struct way_slot *state, struct error *err)
{
    PGresult *result = conn_query_row(conn, way_slot_sql, 1, &slot, err);
    if (result == NULL)
        return false;
    state->exists = result_bool(result, 0, 0);
    state->lost = result_bool(result, 0, 1);
    state->read = result_bool(result, 0, 2);
    snprintf(state->at, sizeof state->at, "%s", result_text(result, 0, 3));
    state->free = result_int(result, 0, 4);
    PQclear(result);
    return true;
}

static void PRINTF_LIKE(4, 5)
    no_way_back(const struct readiness *readiness, const char *object, const char *fix,
                const char *format, ...)
{
    const struct switch_options *options = &readiness->switching->options;
    char reason[256];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    findings_add(readiness->switching->findings,
                 options->without_way_back ? SEVERITY_WARNING : SEVERITY_REFUSE, "way-back", NULL,
                 object, fix, "%s", reason);
}

#define RUN_MAKES_IT "\"pgportage run\" makes it; --no-way-back does without."

/* The lanes of this stream are there on each from-server, none behind its slot. */
static bool check_way_lanes(const struct readiness *readiness, unsigned stream, const char *at,
                            struct error *err)
{
    char number[12];
    const char *const values[] = {number, at};
    snprintf(number, sizeof number, "%u", stream);
    for (unsigned s = 0; s < readiness->from->count; s++) {
        char server[24];
        PGresult *result = conn_query_row(readiness->from->conns[s],
                                          "SELECT pg_catalog.count(*) FILTER (WHERE progress < $2::pg_lsn),"
                                          "       pg_catalog.count(*)"
                                          "  FROM portage.lane WHERE stream = $1::int",
                                          2, values, err);
        if (result == NULL)
            return false;
        if (result_int(result, 0, 0) > 0 ||
            result_int(result, 0, 1) < readiness->switching->config->lanes)
            no_way_back(readiness, side_server(readiness->from, s, server), RUN_MAKES_IT,
                        "has no lanes for the way back, or they are behind its slot");
        PQclear(result);
    }
    return true;
}

/* How many streams of the way back begin at the server of this one: shards may share it. */
static int64_t streams_there(const struct side *side, unsigned server)
{
    int64_t count = 0;
    for (unsigned s = 0; s < side->count; s++)
        count += strcmp(PQhost(side->conns[s]), PQhost(side->conns[server])) == 0 &&
                 strcmp(PQport(side->conns[s]), PQport(side->conns[server])) == 0;
    return count;
}

/* After a switch the last reader takes a moment to go. */
static bool wait_for_rest(const struct readiness *readiness, unsigned server, const char *slot,
                          struct way_slot *state, struct error *err)
{
    for (int look = 0; look < REST_LOOKS; look++) {
        if (!read_way_slot(readiness->to->conns[server], slot, state, err))
            return false;
        if (!state->read)
            return true;
        if (stop_wait(readiness->switching->stop, STREAM_POLL_US))
            return stop_error(err);
    }
    return true;
}

/* What carries changes from the to-side back, once it is live. */
static bool check_way_back(const struct readiness *readiness, struct error *err)
{
    for (unsigned s = 0; s < readiness->to->count; s++) {
        const char *slot = slot_of(readiness, readiness->to, s);
        struct way_slot state;
        char server[24];
        side_server(readiness->to, s, server);
        if (!wait_for_rest(readiness, s, slot, &state, err) ||
            (state.exists && !check_way_lanes(readiness, s, state.at, err)))
            return false;
        if (!state.exists)
            no_way_back(readiness, server, RUN_MAKES_IT, "has no slot \"%s\" for the way back",
                        slot);
        else if (state.lost)
            no_way_back(readiness, server,
                        readiness->to->which == SIDE_TARGET
                            ? RUN_MAKES_IT
                            : "To the target again is a new migration; --no-way-back does without.",
                        "the slot \"%s\" for the way back has lost its WAL", slot);
        else if (state.read)
            no_way_back(readiness, server, "Look into pg_stat_replication who it is.",
                        "somebody reads the slot \"%s\" for the way back", slot);
        if (state.free < streams_there(readiness->to, s))
            no_way_back(readiness, server, "ALTER SYSTEM SET max_wal_senders; then restart it.",
                        "has no free WAL sender for the slot \"%s\"", slot);
    }
    return true;
}

/* What the mappings lose on the way back is a reason not to go, unless it is accepted. */
static void check_losses(const struct readiness *readiness)
{
    const struct switching *switching = readiness->switching;
    struct findings *findings = switching->findings;
    unsigned first = findings->count;
    if (switching->goal != SIDE_TARGET)
        return;
    invert_check(switching->set, switching->config, findings->arena, findings);
    for (unsigned f = first; f < findings->count; f++) {
        if (strcmp(findings->items[f].code, "no-way-back") != 0 ||
            switching->options.without_way_back)
            continue;
        findings->items[f].severity = SEVERITY_REFUSE;
        findings->refused++;
    }
}

/* ---- all of it ---- */

static bool check_shards(const struct readiness *readiness, struct error *err)
{
    const struct switching *switching = readiness->switching;
    for (unsigned s = 0; s < switching->shards_count; s++) {
        char server[24];
        PGconn *conn = switching->shards[s];
        snprintf(server, sizeof server, "shard %u", s);
        if (!ASK(readiness, conn, server, shard_questions, err) ||
            !ask_dead_letters(readiness, conn, server, err))
            return false;
        if (switching->goal == SIDE_TARGET &&
            !ASK(readiness, conn, server, target_questions, err))
            return false;
    }
    return true;
}

static bool check_from(const struct readiness *readiness, struct error *err)
{
    for (unsigned s = 0; s < readiness->from->count; s++) {
        char server[24];
        if (!ASK(readiness, readiness->from->conns[s], side_server(readiness->from, s, server),
                 from_questions, err))
            return false;
    }
    return true;
}

static bool check_to(const struct readiness *readiness, struct error *err)
{
    for (unsigned s = 0; s < readiness->to->count; s++) {
        char server[24];
        if (!ASK(readiness, readiness->to->conns[s], side_server(readiness->to, s, server),
                 to_questions, err))
            return false;
    }
    return true;
}

bool readiness_check(struct readiness *readiness, struct error *err)
{
    const struct switching *switching = readiness->switching;
    readiness->drain_us = -1;
    if (!ASK(readiness, switching->shards[0], "control", control_questions, err) ||
        !check_verified(readiness, err) || !check_from(readiness, err) || !check_to(readiness, err) ||
        !check_streaming(readiness, err) || !check_way_back(readiness, err))
        return error_context(err, "looking whether all is ready");
    check_losses(readiness);
    bool streams = !findings_have(switching->findings, "no-instance") &&
                   !findings_have(switching->findings, "not-streaming");
    bool ok = (!streams || check_lag(readiness, err)) &&
              (readiness->from->which != SIDE_SOURCE || check_leaves(readiness, err)) &&
              check_shards(readiness, err);
    return ok || error_context(err, "looking whether all is ready");
}
