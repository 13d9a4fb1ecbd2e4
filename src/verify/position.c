#include "verify/position.h"

#include "pg/conn.h"
#include "util/clock.h"

enum {
    POLL_US = 5 * 1000,
    STANDS_US = 10 * 1000 * 1000, /* lanes that do not move for so long may not run */
};

bool position_now(struct session *session, lsn_t *position, struct error *err)
{
    PGresult *result = conn_query_row(
        session->source, "SELECT pg_catalog.pg_current_wal_insert_lsn()", 0, NULL, err);
    bool ok = result != NULL && result_lsn(result, 0, 0, position, err);
    PQclear(result);
    return ok;
}

static bool ask_number(PGconn *conn, const char *sql, uint64_t *number, struct error *err)
{
    PGresult *result = conn_query_row(conn, sql, 0, NULL, err);
    if (result == NULL)
        return false;
    *number = (uint64_t)result_int(result, 0, 0);
    PQclear(result);
    return true;
}

bool position_oldest(struct session *session, uint64_t *oldest, struct error *err)
{
    return ask_number(session->source,
                      "SELECT pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot())",
                      oldest, err);
}

bool position_newest(struct session *session, uint64_t *newest, struct error *err)
{
    /* A new id, not a snapshot's xmax: transactions run above that too. */
    return ask_number(session->source, "SELECT pg_catalog.txid_current()", newest, err);
}

static bool read_progress(PGconn *shard, lsn_t *progress, struct error *err)
{
    PGresult *result = conn_query_row(
        shard, "SELECT COALESCE(pg_catalog.min(progress), '0/0') FROM portage.lane WHERE stream = 0", 0, NULL, err);
    bool ok = result != NULL && result_lsn(result, 0, 0, progress, err);
    PQclear(result);
    return ok;
}

bool position_passed(struct session *session, lsn_t position, bool *passed, struct error *err)
{
    *passed = true;
    for (unsigned s = 0; *passed && s < session->shards_count; s++) {
        lsn_t progress;
        if (!read_progress(session->shards[s], &progress, err))
            return error_context(err, "reading the progress of shard %u", s);
        *passed = progress >= position;
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

static bool wait_for_shard(struct session *session, unsigned shard, lsn_t position, bool *passed,
                           char *why, size_t why_size, struct error *err)
{
    int64_t moved_us = clock_monotonic_us();
    lsn_t progress = 0, last = 0;
    for (;;) {
        if (!read_progress(session->shards[shard], &progress, err))
            return error_context(err, "reading the progress of shard %u", shard);
        *passed = progress >= position;
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
                     "the stream stands at " LSN_FORMAT " on shard %u, before " LSN_FORMAT "%s",
                     LSN_ARGS(progress), shard, LSN_ARGS(position),
                     runs ? "" : ": \"pgportage run\" does not run");
            return true;
        }
        if (session_wait(session, POLL_US))
            return stop_error(err);
    }
}

bool position_wait(struct session *session, lsn_t position, bool *passed, char *why,
                   size_t why_size, struct error *err)
{
    *passed = true;
    for (unsigned s = 0; *passed && s < session->shards_count; s++) {
        if (!wait_for_shard(session, s, position, passed, why, why_size, err))
            return false;
    }
    return true;
}
