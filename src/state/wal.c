#include "state/wal.h"

#include "pg/conn.h"
#include "state/setting.h"

enum {
    LOOK_MS = 5 * 60 * 1000,  /* how far two looks are apart */
    TELL_AFTER_MS = 2 * 1000, /* what has come in less says nothing */
    WARN_FIRST = 80,
    WARN_LAST = 100,
    WARN_AGAIN_BELOW = 70,
};

static const char read_sql[] =
    "SELECT pg_catalog.pg_current_wal_lsn(),"
    "       (EXTRACT(epoch FROM pg_catalog.clock_timestamp()) * 1000)::bigint,"
    "       s.slot_name IS NOT NULL, s.active,"
    "       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn)::bigint,"
    "       (SELECT setting::bigint * 1024 * 1024 FROM pg_catalog.pg_settings"
    "         WHERE name = 'max_slot_wal_keep_size' AND setting <> '-1')"
    "  FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1";

static int64_t cell(const PGresult *result, int column)
{
    return PQgetisnull(result, 0, column) ? -1 : result_int(result, 0, column);
}

bool wal_read(PGconn *server, const char *slot, struct wal_slot *state, struct error *err)
{
    PGresult *result = conn_query_row(server, read_sql, 1, &slot, err);
    if (result == NULL)
        return error_context(err, "reading what replication slot \"%s\" keeps", slot);
    *state = (struct wal_slot){
        .at_ms = result_int(result, 0, 1),
        .exists = result_bool(result, 0, 2),
        .active = result_bool(result, 0, 3),
        .retained = cell(result, 4),
        .limit = cell(result, 5),
    };
    bool ok = result_lsn(result, 0, 0, &state->position, err);
    PQclear(result);
    return ok;
}

int64_t wal_most(const struct wal_slot *state, int64_t budget, const char **what)
{
    bool limited = state->limit >= 0 && (budget <= 0 || state->limit < budget);
    *what = limited ? "max_slot_wal_keep_size" : "wal_budget";
    if (limited)
        return state->limit;
    return budget > 0 ? budget : -1;
}

/* ---- what was seen ---- */

json_t *wal_seen_load(PGconn *control, struct error *err)
{
    char *value;
    if (!setting_get(control, "wal_seen", &value, err))
        return NULL;
    json_t *seen = value != NULL ? json_loads(value, 0, NULL) : NULL;
    free(value);
    return seen != NULL ? seen : json_object();
}

bool wal_seen_store(PGconn *control, const json_t *seen, struct error *err)
{
    char *value = json_dumps(seen, JSON_SORT_KEYS);
    CHECK(value != NULL);
    bool ok = setting_put(control, "wal_seen", value, err);
    free(value);
    return ok;
}

static int64_t number(const json_t *look, const char *name)
{
    return (int64_t)json_integer_value(json_object_get(look, name));
}

static json_t *look_of(const struct wal_slot *state)
{
    return json_pack("{s:I, s:I}", "at_ms", (json_int_t)state->at_ms, "bytes",
                     (json_int_t)state->retained);
}

void wal_seen_add(json_t *seen, const char *slot, const struct wal_slot *state)
{
    json_t *known = json_object_get(seen, slot);
    if (state->retained < 0)
        return;
    if (known == NULL) {
        known = json_pack("{s:o, s:o}", "older", look_of(state), "newer", look_of(state));
        json_object_set_new(seen, slot, known);
        return;
    }
    json_t *newer = json_object_get(known, "newer");
    if (state->at_ms - number(newer, "at_ms") < LOOK_MS)
        return;
    json_object_set(known, "older", newer);
    json_object_set_new(known, "newer", look_of(state));
}

bool wal_growth(const json_t *seen, const char *slot, const struct wal_slot *state, double *rate)
{
    const json_t *older = json_object_get(json_object_get(seen, slot), "older");
    int64_t ms = state->at_ms - number(older, "at_ms");
    if (older == NULL || state->retained < 0 || ms < TELL_AFTER_MS)
        return false;
    int64_t more = state->retained - number(older, "bytes");
    *rate = more > 0 ? (double)more * 1000 / (double)ms : 0;
    return true;
}

int64_t wal_seconds_left(const struct wal_slot *state, int64_t most, double rate)
{
    if (state->retained < 0 || most < 0)
        return -1;
    if (state->retained >= most)
        return 0;
    double seconds = rate > 0 ? (double)(most - state->retained) / rate : -1;
    return seconds < 0 || seconds > 1e15 ? -1 : (int64_t)seconds;
}

int wal_seen_warn(json_t *seen, const char *slot, const struct wal_slot *state, int64_t most)
{
    json_t *known = json_object_get(seen, slot);
    if (known == NULL || state->retained < 0 || most <= 0)
        return 0;
    double percent = (double)state->retained * 100 / (double)most;
    int64_t warned = number(known, "warned");
    int level = percent >= WARN_LAST ? WARN_LAST : percent >= WARN_FIRST ? WARN_FIRST : 0;
    if (level > warned || percent < WARN_AGAIN_BELOW)
        json_object_set_new(known, "warned", json_integer(level));
    return level > warned ? level : 0;
}
