#include "run/status.h"

#include "mapping/invert.h"
#include "pg/conn.h"
#include "run/deferred.h"
#include "run/spilled.h"
#include "state/schema.h"
#include "state/setting.h"
#include "state/wal.h"
#include "switchover/closed.h"
#include "switchover/gate.h"

struct reading {
    const struct config *config;
    PGconn *source;
    PGconn **shards;
    json_t *status;
    json_t *spilled; /* by lane; NULL: nothing */
    bool backward; /* the target is live */
    lsn_t source_position;
    json_t *wal_seen;     /* what `run` has seen of the slots */
    json_t *full;         /* of `slots`: the one that will first have kept all that it may … */
    int64_t full_seconds; /* … and when; -1: none will, as far as it is known */
    struct error *err;
};

static json_t *cell_text(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) ? json_null()
                                            : json_string(result_text(result, row, column));
}

static json_t *cell_int(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) ? json_null()
                                            : json_integer(result_int(result, row, column));
}

static const char *next_step(const char *phase)
{
    static const char *const next[][2] = {
        {"new", "pgportage run begins the migration"},
        {"preparing", "the slot is being created; it waits for transactions that run at the source"},
        {"copying", "copy beside the stream; indexes and keys follow"},
        {"indexing", "indexes and keys are being built; then it is ready to cut over"},
        {"ready", "ready to cut over; the stream goes on"},
        {"backward", "the target is live; the source follows, until a rollback or finish"},
        {"finished", "the target is live, the old source is kept closed; \"pgportage finish"
                     " --open-source\" takes its gate away"},
    };
    for (size_t n = 0; n < sizeof next / sizeof next[0]; n++) {
        if (strcmp(phase, next[n][0]) == 0)
            return next[n][1];
    }
    return "";
}

/* ---- control ---- */

static bool read_control(struct reading *reading)
{
    PGconn *control = reading->shards[0];
    PGresult *result = conn_query_row(
        control,
        "SELECT CASE WHEN EXISTS (SELECT FROM portage.setting"
        "                          WHERE name = 'live' AND value = 'target') THEN 'backward'"
        "  ELSE COALESCE((SELECT value FROM portage.setting WHERE name = 'phase'), 'new') END,"
        "       (SELECT epoch FROM portage.instance),"
        "       EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted"
        "                 AND database = (SELECT oid FROM pg_catalog.pg_database"
        "                                  WHERE datname = pg_catalog.current_database())"
        "                 AND (classid::bigint << 32 | objid::bigint)"
        "                     = pg_catalog.hashtext('portage.instance')::bigint),"
        "       (SELECT value FROM portage.setting WHERE name = 'copy_waits')",
        0, NULL, reading->err);
    if (result == NULL)
        return false;
    json_t *status = reading->status;
    reading->backward = strcmp(result_text(result, 0, 0), "backward") == 0;
    json_object_set_new(status, "phase", cell_text(result, 0, 0));
    json_object_set_new(status, "live", json_string(reading->backward ? "target" : "source"));
    json_object_set_new(status, "epoch", cell_int(result, 0, 1));
    json_object_set_new(status, "running", json_boolean(result_bool(result, 0, 2)));
    json_object_set_new(status, "copy_waits",
                        result_bool(result, 0, 2) ? cell_text(result, 0, 3) : json_null());
    json_object_set_new(status, "dead_letters", json_integer(0));
    PQclear(result);
    return true;
}

/* ---- shards ---- */

static void add_to(json_t *object, const char *key, int64_t value)
{
    int64_t before = (int64_t)json_integer_value(json_object_get(object, key));
    json_object_set_new(object, key, json_integer(before + value));
}

static json_t *table_of(json_t *tables, const char *name)
{
    size_t index;
    json_t *table;
    json_array_foreach (tables, index, table) {
        if (strcmp(json_string_value(json_object_get(table, "name")), name) == 0)
            return table;
    }
    table = json_pack("{s:s}", "name", name);
    json_array_append_new(tables, table);
    return table;
}

/* Tables add up over shards. */
static bool read_ranges(struct reading *reading, unsigned shard)
{
    PGresult *result = conn_query(reading->shards[shard],
                                  "SELECT mapping, count(*), count(*) FILTER (WHERE done),"
                                  "       sum(rows), sum(bytes)"
                                  "  FROM portage.range GROUP BY mapping ORDER BY mapping",
                                  0, NULL, reading->err);
    if (result == NULL)
        return false;
    for (int row = 0; row < PQntuples(result); row++) {
        json_t *table = table_of(json_object_get(reading->status, "tables"),
                                 result_text(result, row, 0));
        add_to(table, "ranges", result_int(result, row, 1));
        add_to(table, "ranges_done", result_int(result, row, 2));
        add_to(table, "rows", result_int(result, row, 3));
        add_to(table, "bytes", result_int(result, row, 4));
    }
    PQclear(result);
    return true;
}

/* Since when the publisher's log has what the lane has not: by the clock of its last position, which is
 * a second old at most where nothing was for this lane. Never too small. */
static json_t *lag_seconds(const PGresult *result, int row, int column, lsn_t position,
                           int64_t behind)
{
    if (position == 0 || PQgetisnull(result, row, column))
        return json_null();
    return json_real(behind <= 0 ? 0.0 : strtod(result_text(result, row, column), NULL));
}

/* Those of the live direction: on the shard, or at the source of what comes from the shard. `position`
 * is where the publisher's log stands; 0 when it does not answer. */
static bool read_lanes(struct reading *reading, unsigned shard, lsn_t position)
{
    char stream[12];
    const char *const values[] = {stream};
    if (reading->backward && reading->source == NULL)
        return true;
    snprintf(stream, sizeof stream, "%u", reading->backward ? shard : 0);
    PGresult *result = conn_query(
        reading->backward ? reading->source : reading->shards[shard],
        "SELECT lane, progress, changes, source_time,"
        "       EXTRACT(epoch FROM pg_catalog.clock_timestamp() - source_time)::text"
        "  FROM portage.lane WHERE stream = $1::int ORDER BY lane",
        1, values, reading->err);
    if (result == NULL)
        return false;
    for (int row = 0; row < PQntuples(result); row++) {
        lsn_t progress;
        if (!result_lsn(result, row, 1, &progress, reading->err)) {
            PQclear(result);
            return false;
        }
        int64_t behind = (int64_t)(position - progress);
        json_t *lane = json_object();
        json_object_set_new(lane, "shard", json_integer(shard));
        json_object_set_new(lane, "lane", cell_int(result, row, 0));
        json_object_set_new(lane, "progress", cell_text(result, row, 1));
        json_object_set_new(lane, "behind_bytes",
                            position == 0 ? json_null() : json_integer(behind > 0 ? behind : 0));
        json_object_set_new(lane, "lag_seconds", lag_seconds(result, row, 4, position, behind));
        json_object_set_new(lane, "changes", cell_int(result, row, 2));
        json_object_set_new(lane, "source_time", cell_text(result, row, 3));
        int64_t spilled = spilled_of_lane(reading->spilled, shard, result_int(result, row, 0));
        json_object_set_new(lane, "spilled_bytes", json_integer(spilled));
        json_array_append_new(json_object_get(reading->status, "lanes"), lane);
    }
    PQclear(result);
    return true;
}

static bool read_deferred(struct reading *reading, unsigned shard)
{
    PGresult *result = conn_query(reading->shards[shard],
                                  "SELECT kind, count(*) FILTER (WHERE state IN ('waiting', 'building')),"
                                  "       count(*) FILTER (WHERE state = 'done'),"
                                  "       count(*) FILTER (WHERE state = 'back'),"
                                  "       count(*) FILTER (WHERE state = 'invalid')"
                                  "  FROM portage.deferred GROUP BY kind ORDER BY kind",
                                  0, NULL, reading->err);
    if (result == NULL)
        return false;
    for (int row = 0; row < PQntuples(result); row++)
        json_array_append_new(json_object_get(reading->status, "deferred"),
                              json_pack("{s:i, s:s, s:I, s:I, s:I, s:I}", "shard", (int)shard,
                                        "kind", result_text(result, row, 0), "waiting",
                                        (json_int_t)result_int(result, row, 1), "done",
                                        (json_int_t)result_int(result, row, 2), "validating",
                                        (json_int_t)result_int(result, row, 3), "not_valid",
                                        (json_int_t)result_int(result, row, 4)));
    PQclear(result);
    return deferred_under_way(reading->shards[shard], shard,
                              json_object_get(reading->status, "building"), reading->err);
}

/* ---- source ---- */

static json_t *known_int(int64_t value)
{
    return value >= 0 ? json_integer(value) : json_null();
}

/* What it keeps against what it may, and when that is reached. */
static void tell_wal(struct reading *reading, json_t *told, const char *slot,
                     const struct wal_slot *state)
{
    const char *what;
    double rate = 0;
    int64_t budget = reading->config->wal_budget;
    int64_t most = wal_most(state, budget, &what);
    bool known = wal_growth(reading->wal_seen, slot, state, &rate);
    json_object_set_new(told, "wal_retained_bytes", known_int(state->retained));
    json_object_set_new(told, "wal_budget_bytes", known_int(budget > 0 ? budget : -1));
    json_object_set_new(told, "wal_limit_bytes", known_int(state->limit));
    json_object_set_new(told, "wal_growth_bytes_per_second",
                        known ? json_integer((int64_t)rate) : json_null());
    int64_t seconds = wal_seconds_left(state, most, rate);
    json_object_set_new(told, "wal_full_seconds", known_int(seconds));
    json_object_set_new(told, "wal_full_at", most >= 0 ? json_string(what) : json_null());
    if (seconds >= 0 && (reading->full_seconds < 0 || seconds < reading->full_seconds)) {
        reading->full_seconds = seconds;
        reading->full = told;
    }
}

/* A slot of ours, wherever it is: whether it is read, and what it keeps. */
static bool read_slot(struct reading *reading, PGconn *server, const char *publisher,
                      const char *slot, lsn_t *position, json_t **told)
{
    struct wal_slot state;
    char text[LSN_TEXT_SIZE];
    if (!wal_read(server, slot, &state, reading->err))
        return false;
    *position = state.position;
    *told = json_pack("{s:s, s:s, s:b, s:b}", "on", publisher, "slot", slot, "exists",
                      (int)state.exists, "active", (int)state.active);
    json_array_append_new(json_object_get(reading->status, "slots"), *told);
    tell_wal(reading, *told, slot, &state);
    if (strcmp(publisher, "source") == 0)
        json_object_set_new(reading->status, "source_position",
                            json_string(lsn_text(state.position, text)));
    return true;
}

/* What the gate of a server has rejected, and when `run` last told more of it. */
static bool read_rejected(struct reading *reading, PGconn *server, const char *name)
{
    int64_t count;
    if (!gate_rejected(server, &count, reading->err))
        return false;
    if (count == 0)
        return true;
    PGresult *result = conn_query_row(reading->shards[0],
                                      "SELECT pg_catalog.max(at) FROM portage.journal"
                                      " WHERE step = 'rejected' AND detail->>'server' = $1",
                                      1, &name, reading->err);
    if (result == NULL)
        return false;
    json_array_append_new(json_object_get(reading->status, "rejected"),
                          json_pack("{s:s, s:I, s:o}", "server", name, "statements",
                                    (json_int_t)count, "last_at", cell_text(result, 0, 0)));
    PQclear(result);
    return true;
}

static bool read_source(struct reading *reading)
{
    json_t *slot;
    if (!read_slot(reading, reading->source, "source", reading->config->slot,
                   &reading->source_position, &slot))
        return false;
    if (!read_rejected(reading, reading->source, "source"))
        return false;
    json_object_set(reading->status, "slot_active", json_object_get(slot, "active"));
    json_object_set(reading->status, "wal_retained_bytes",
                    json_object_get(slot, "wal_retained_bytes"));
    return true;
}

static bool read_shard(struct reading *reading, unsigned shard)
{
    struct arena arena;
    struct config back;
    char name[24];
    lsn_t position;
    json_t *slot;
    arena_init(&arena, 1024);
    invert_servers(reading->config, shard, &arena, &back);
    snprintf(name, sizeof name, "shard %u", shard);
    bool ok = read_slot(reading, reading->shards[shard], name, back.slot, &position, &slot) &&
              read_lanes(reading, shard,
                         reading->backward ? position : reading->source_position) &&
              read_ranges(reading, shard) && read_deferred(reading, shard) &&
              read_rejected(reading, reading->shards[shard], name);
    arena_release(&arena);
    return ok;
}

/* How many bytes of its publisher's log the slowest lane is behind, and what waits in files for all of them. */
static void set_lag(struct reading *reading)
{
    size_t index;
    json_t *lane;
    int64_t behind = 0, spilled = 0;
    double lag = 0;
    json_array_foreach (json_object_get(reading->status, "lanes"), index, lane) {
        int64_t each = (int64_t)json_integer_value(json_object_get(lane, "behind_bytes"));
        double seconds = json_real_value(json_object_get(lane, "lag_seconds"));
        behind = each > behind ? each : behind;
        lag = seconds > lag ? seconds : lag;
        spilled += (int64_t)json_integer_value(json_object_get(lane, "spilled_bytes"));
    }
    json_object_set_new(reading->status, "behind_bytes", json_integer(behind));
    json_object_set_new(reading->status, "lag_seconds", json_real(lag));
    json_object_set_new(reading->status, "spilled_bytes", json_integer(spilled));
}

/* Files are the process', so without one there are none. */
static bool read_spilled(struct reading *reading)
{
    return reading->backward || !json_is_true(json_object_get(reading->status, "running")) ||
           spilled_read(reading->shards[0], &reading->spilled, reading->err);
}

/* Passes of verify that have no outcome yet; one that is not written to any more was interrupted. */
static const char verifying_sql[] =
    "SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(pass) ORDER BY pass.begun_at), '[]')"
    "  FROM (SELECT pg_catalog.split_part(v.request, '/', 1) AS \"by\", v.begun_at, v.written_at,"
    "               (SELECT pg_catalog.count(*) FROM portage.verified t"
    "                 WHERE t.verification = v.id AND t.complete) AS tables_complete,"
    "               (SELECT COALESCE(pg_catalog.sum(t.source_rows), 0)::bigint"
    "                  FROM portage.verified t WHERE t.verification = v.id) AS source_rows"
    "          FROM portage.verification v) AS pass";

static bool read_verifying(struct reading *reading)
{
    PGresult *result = conn_query(reading->shards[0], verifying_sql, 0, NULL, reading->err);
    json_t *passes = result != NULL ? json_loads(result_text(result, 0, 0), 0, NULL) : NULL;
    if (passes != NULL)
        json_object_set_new(reading->status, "verifying", passes);
    PQclear(result);
    return result != NULL;
}

/* The last pass of verify over everything, when there was one. */
static bool read_verify(struct reading *reading)
{
    char *value;
    if (!read_verifying(reading) ||
        !setting_get(reading->shards[0], "verify", &value, reading->err))
        return false;
    json_t *verify = value != NULL ? json_loads(value, 0, NULL) : NULL;
    if (verify != NULL)
        json_object_set_new(reading->status, "verify", verify);
    free(value);
    return true;
}

/* The phase never goes back; what has come since is copied beside it (leaves.h). */
static void set_next(struct reading *reading)
{
    size_t index;
    json_t *table;
    const char *phase = json_string_value(json_object_get(reading->status, "phase"));
    bool open = false;
    json_array_foreach (json_object_get(reading->status, "tables"), index, table)
        open |= json_integer_value(json_object_get(table, "ranges_done")) <
                json_integer_value(json_object_get(table, "ranges"));
    const char *next = next_step(phase);
    if (reading->full_seconds == 0)
        next = reading->backward
                   ? "a slot keeps as much WAL as it may: \"pgportage finish\" is due, or the end of"
                     " what keeps the stream behind; before that, a rollback is possible"
                   : "a slot keeps as much WAL as it may: see what keeps the stream behind";
    if (open && strcmp(phase, "ready") == 0)
        next = "a new partition, or a table that was emptied, is copied; then it is ready again";
    json_object_set_new(reading->status, "next", json_string(next));
}

/* While the target is live the way back can be given up; at the source the slot is the migration. */
static void set_due(struct reading *reading)
{
    json_object_set_new(reading->status, "finish_due_seconds",
                        reading->backward ? known_int(reading->full_seconds) : json_null());
    json_object_set_new(reading->status, "wal_full_first",
                        reading->full != NULL
                            ? json_incref(json_object_get(reading->full, "slot"))
                            : json_null());
}

/* Of a migration that is over nothing is there, or the gate of its old source. */
static bool read_nothing(struct reading *reading)
{
    struct closed closed;
    json_t *status = reading->status;
    if (reading->source == NULL)
        closed.closed = false;
    else if (!closed_read(reading->source, &closed, reading->err))
        return false;
    json_object_set_new(status, "phase", json_string(closed.closed ? "finished" : "new"));
    json_object_set_new(status, "running", json_false());
    if (closed.closed) {
        json_object_set_new(status, "live", json_string("target"));
        json_object_set_new(status, "closed_since", json_string(closed.since));
        json_object_set_new(status, "closed_tables", json_integer(closed.tables));
    }
    set_next(reading);
    return true;
}

static bool read_all(struct reading *reading)
{
    bool exists;
    if (reading->source != NULL && !schema_check(reading->source, reading->err))
        return error_context(reading->err, "the source");
    if (!schema_exists(reading->shards[0], &exists, reading->err))
        return error_context(reading->err, "shard 0");
    if (!exists)
        return read_nothing(reading);
    reading->wal_seen = wal_seen_load(reading->shards[0], reading->err);
    if (reading->wal_seen == NULL || !read_control(reading) || !read_spilled(reading) ||
        !read_verify(reading) || (reading->source != NULL && !read_source(reading)))
        return false;
    for (unsigned s = 0; s < reading->config->shards_count; s++) {
        if (reading->shards[s] == NULL)
            continue;
        if (!schema_exists(reading->shards[s], &exists, reading->err) ||
            (exists && !read_shard(reading, s)))
            return error_context(reading->err, "reading shard %u", s);
    }
    set_lag(reading);
    set_due(reading);
    set_next(reading);
    return true;
}

/* What the others know is told also when one does not answer; without control there is nothing to
 * tell. */
static bool connect_server(struct reading *reading, const char *conninfo, const char *name,
                           PGconn **conn)
{
    *conn = conn_open(conninfo, CONN_SESSION, "status", reading->err);
    if (*conn != NULL)
        return true;
    if (reading->err->class != ERROR_RETRY || conn == &reading->shards[0])
        return error_context(reading->err, "%s", name);
    json_array_append_new(json_object_get(reading->status, "unreachable"),
                          json_pack("{s:s, s:s}", "on", name, "why", reading->err->message));
    error_clear(reading->err);
    return true;
}

static bool connect_all(struct reading *reading)
{
    const struct config *config = reading->config;
    bool ok = connect_server(reading, config->source.text, "source", &reading->source);
    for (unsigned s = 0; ok && s < config->shards_count; s++) {
        char name[24];
        snprintf(name, sizeof name, "shard %u", s);
        ok = connect_server(reading, config->shards[s].text, name, &reading->shards[s]);
    }
    return ok;
}

json_t *status_read(const struct config *config, struct error *err)
{
    struct reading reading = {.config = config, .full_seconds = -1, .err = err};
    reading.shards = check_calloc(config->shards_count, sizeof *reading.shards);
    reading.status = json_pack("{s:[], s:[], s:[], s:[], s:[], s:[], s:[]}", "tables", "lanes", "deferred",
                               "building", "slots", "unreachable", "rejected");
    bool ok = connect_all(&reading) && read_all(&reading);
    json_decref(reading.wal_seen);
    conn_close(reading.source);
    for (unsigned s = 0; s < config->shards_count; s++)
        conn_close(reading.shards[s]);
    free(reading.shards);
    json_decref(reading.spilled);
    if (ok)
        return reading.status;
    json_decref(reading.status);
    return NULL;
}
