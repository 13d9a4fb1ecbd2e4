#include "verify/position.h"

#include "pg/conn.h"
#include "util/clock.h"

enum {
    POLL_US = 5 * 1000,
    STANDS_US = 10 * 1000 * 1000, /* lanes that do not move for so long may not run */
};

static unsigned live_count(const struct session *session)
{
    return session->backward ? session->shards_count : 1;
}

static PGconn *live_server(const struct session *session, unsigned server)
{
    return session->backward ? session->shards[server] : session->source;
}

bool position_now(struct session *session, struct position *position, struct error *err)
{
    bool ok = true;
    *position = (struct position){0};
    for (unsigned l = 0; ok && l < live_count(session); l++) {
        PGresult *result = conn_query_row(live_server(session, l),
                                          "SELECT pg_catalog.pg_current_wal_insert_lsn()", 0, NULL,
                                          err);
        ok = result != NULL && result_lsn(result, 0, 0, &position->at[l], err);
        PQclear(result);
    }
    return ok;
}

static bool ask_live(struct session *session, const char *sql, struct horizon *horizon,
                     struct error *err)
{
    *horizon = (struct horizon){0};
    for (unsigned l = 0; l < live_count(session); l++) {
        PGresult *result = conn_query_row(live_server(session, l), sql, 0, NULL, err);
        if (result == NULL)
            return false;
        horizon->xid[l] = (uint64_t)result_int(result, 0, 0);
        PQclear(result);
    }
    return true;
}

bool horizon_oldest(struct session *session, struct horizon *oldest, struct error *err)
{
    return ask_live(session,
                    "SELECT pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot())",
                    oldest, err);
}

bool horizon_newest(struct session *session, struct horizon *newest, struct error *err)
{
    /* A new id, not a snapshot's xmax: transactions run above that too. */
    return ask_live(session, "SELECT pg_catalog.txid_current()", newest, err);
}

bool horizon_passed(const struct horizon *oldest, const struct horizon *newest)
{
    for (unsigned l = 0; l < CONFIG_SHARDS_MAX; l++) {
        if (oldest->xid[l] < newest->xid[l])
            return false;
    }
    return true;
}

/* ---- streams: forward one, which ends on each shard; backward one from each shard to the source ---- */

struct way {
    PGconn *end;
    char stream[12];
    lsn_t position;
    const char *lanes; /* only those below this number; NULL: all */
    char what[32]; /* "on shard 1", "from shard 1" */
};

static struct way way_of(const struct session *session, unsigned shard,
                         const struct position *position)
{
    struct way way = {.end = session->backward ? session->source : session->shards[shard],
                      .position = position->at[session->backward ? shard : 0],
                      .lanes = position->ordinary ? session->lanes : NULL};
    snprintf(way.stream, sizeof way.stream, "%u", session->backward ? shard : 0);
    snprintf(way.what, sizeof way.what, "%s shard %u", session->backward ? "from" : "on", shard);
    return way;
}

static bool read_progress(const struct way *way, lsn_t *progress, struct error *err)
{
    const char *const values[] = {way->stream, way->lanes};
    PGresult *result = conn_query_row(way->end,
                                      "SELECT COALESCE((SELECT progress FROM portage.lane"
                                      "   WHERE stream = $1::int AND ($2::int IS NULL OR lane < $2::int)"
                                      "   ORDER BY progress LIMIT 1), '0/0')",
                                      2, values, err);
    bool ok = result != NULL && result_lsn(result, 0, 0, progress, err);
    PQclear(result);
    return ok || error_context(err, "reading the progress of the stream %s", way->what);
}

bool position_passed(struct session *session, const struct position *position, bool *passed,
                     struct error *err)
{
    *passed = true;
    for (unsigned s = 0; *passed && s < session->shards_count; s++) {
        struct way way = way_of(session, s, position);
        lsn_t progress;
        if (!read_progress(&way, &progress, err))
            return false;
        *passed = progress >= way.position;
    }
    return true;
}

/* A lane may be long over one transaction; without an instance it is for ever. */
static bool instance_runs(PGconn *control, bool *runs, struct error *err)
{
    PGresult *result = conn_query_row(control,
                                      "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity"
                                      " WHERE application_name = 'pgportage instance'"
                                      "   AND datname = pg_catalog.current_database())",
                                      0, NULL, err);
    if (result == NULL)
        return false;
    *runs = result_bool(result, 0, 0);
    PQclear(result);
    return true;
}

static bool wait_for(struct session *session, const struct way *way, bool *passed, char *why,
                     size_t why_size, struct error *err)
{
    int64_t moved_us = clock_monotonic_us();
    lsn_t progress = 0, last = 0;
    for (;;) {
        if (!read_progress(way, &progress, err))
            return false;
        *passed = progress >= way->position;
        if (*passed)
            return true;
        if (progress != last)
            moved_us = clock_monotonic_us();
        last = progress;
        int64_t stands_us = clock_monotonic_us() - moved_us;
        bool runs = true;
        if (stands_us > STANDS_US && !instance_runs(session->shards[0], &runs, err))
            return false;
        if (!runs || stands_us > session->options->patience_us) {
            snprintf(why, why_size,
                     "the stream stands at " LSN_FORMAT " %s, before " LSN_FORMAT "%s",
                     LSN_ARGS(progress), way->what, LSN_ARGS(way->position),
                     runs ? "" : ": \"pgportage run\" does not run");
            return true;
        }
        if (session_wait(session, POLL_US))
            return stop_error(err);
    }
}

bool position_wait(struct session *session, const struct position *position, bool *passed,
                   char *why, size_t why_size, struct error *err)
{
    *passed = true;
    for (unsigned s = 0; *passed && s < session->shards_count; s++) {
        struct way way = way_of(session, s, position);
        if (!wait_for(session, &way, passed, why, why_size, err))
            return false;
    }
    return true;
}
