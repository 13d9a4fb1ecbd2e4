#include "copy/inflight.h"

#include <pthread.h>

#include "pg/conn.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    LOOK_EVERY_US = 500 * 1000,
    NAME_AFTER_US = 10 * 1000 * 1000,
    NAME_EVERY_US = 60 * 1000 * 1000,
};

struct inflight {
    pthread_mutex_t lock; /* guards all below */
    unsigned count;
    uint64_t *xids;
    int64_t taken_us, looked_us, named_us;
};

/*
 * Who holds a transaction id in our database. Not the snapshot's list: an id that runs and above which
 * none has ended yet is beyond the snapshot's xmax, and not in it. The lock on an id is held until its
 * end is visible. It is of 32 bits, and widened by the snapshot's xmax; ids of subtransactions come
 * too and do no harm, they end with theirs.
 */
static const char members_sql[] =
    "WITH now AS (SELECT pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot()) AS xmax),"
    "     holders AS (SELECT l.transactionid::text::bigint AS xid, a.pid, a.usename,"
    "                        a.application_name, a.state, p.gid,"
    "                        COALESCE(a.xact_start, p.prepared) AS since"
    "                   FROM pg_catalog.pg_locks l"
    "                   LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
    "                   LEFT JOIN pg_catalog.pg_prepared_xacts p"
    "                        ON l.pid IS NULL AND p.transaction = l.transactionid"
    "                  WHERE l.locktype = 'transactionid' AND l.granted"
    "                    AND l.mode = 'ExclusiveLock'"
    "                    AND COALESCE(a.datname, p.database) = pg_catalog.current_database())"
    " SELECT now.xmax + (h.xid - now.xmax % 4294967296 + 6442450944) % 4294967296 - 2147483648,"
    "        h.pid, h.usename, h.application_name, h.state, h.gid,"
    "        pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - h.since), now.xmax"
    "   FROM now LEFT JOIN holders h ON true";

static bool is_idle(const PGresult *result, int row)
{
    return strncmp(result_text(result, row, 4), "idle in transaction", 19) == 0;
}

struct inflight *inflight_new(void)
{
    struct inflight *inflight = check_calloc(1, sizeof *inflight);
    pthread_mutex_init(&inflight->lock, NULL);
    return inflight;
}

void inflight_free(struct inflight *inflight)
{
    if (inflight == NULL)
        return;
    pthread_mutex_destroy(&inflight->lock);
    free(inflight->xids);
    free(inflight);
}

bool inflight_take(struct inflight *inflight, PGconn *source, uint64_t *xmax, struct error *err)
{
    PGresult *result = conn_query(source, members_sql, 0, NULL, err);
    if (result == NULL)
        return error_context(err, "reading the source's transactions in progress");
    int rows = PQntuples(result);
    inflight->xids = check_calloc((size_t)rows + 1, sizeof *inflight->xids);
    inflight->taken_us = clock_monotonic_us();
    *xmax = 0;
    for (int row = 0; row < rows; row++) {
        *xmax = (uint64_t)result_int(result, row, 7);
        if (!PQgetisnull(result, row, 0) && !is_idle(result, row))
            inflight->xids[inflight->count++] = (uint64_t)result_int(result, row, 0);
    }
    PQclear(result);
    return true;
}

static void remove_at(struct inflight *inflight, unsigned index)
{
    inflight->xids[index] = inflight->xids[--inflight->count];
}

static bool still_runs(uint64_t xid, const PGresult *result)
{
    for (int row = 0; row < PQntuples(result); row++) {
        if ((uint64_t)result_int(result, row, 0) == xid && !is_idle(result, row))
            return true;
    }
    return false;
}

static void name_blockers(struct inflight *inflight, const PGresult *result)
{
    int64_t now_us = clock_monotonic_us();
    if (now_us - inflight->taken_us < NAME_AFTER_US || now_us - inflight->named_us < NAME_EVERY_US)
        return;
    inflight->named_us = now_us;
    for (int row = 0; row < PQntuples(result); row++) {
        if (PQgetisnull(result, row, 0))
            continue;
        if (!PQgetisnull(result, row, 5))
            log_warning("the copy waits for prepared transaction '%s', %s old (COMMIT PREPARED or"
                        " ROLLBACK PREPARED ends it)",
                        result_text(result, row, 5), result_text(result, row, 6));
        else
            log_warning("the copy waits for a transaction of %s (%s, pid %s), %s old",
                        result_text(result, row, 2), result_text(result, row, 3),
                        result_text(result, row, 1), result_text(result, row, 6));
    }
}

static void forget_ended(struct inflight *inflight, const struct snapshot *snapshot)
{
    for (unsigned i = inflight->count; i-- > 0;) {
        bool running = inflight->xids[i] >= snapshot->xmax;
        for (unsigned x = 0; x < snapshot->count; x++)
            running |= snapshot->xip[x] == inflight->xids[i];
        if (!running)
            remove_at(inflight, i);
    }
}

/* What only the views know: who has fallen idle. Called with the lock held. */
static bool look(struct inflight *inflight, PGconn *source, struct error *err)
{
    inflight->looked_us = clock_monotonic_us();
    PGresult *result = conn_query(source, members_sql, 0, NULL, err);
    if (result == NULL)
        return error_context(err, "reading the source's transactions in progress");
    for (unsigned i = inflight->count; i-- > 0;) {
        if (!still_runs(inflight->xids[i], result))
            remove_at(inflight, i);
    }
    if (inflight->count > 0)
        name_blockers(inflight, result);
    PQclear(result);
    return true;
}

bool inflight_ended(struct inflight *inflight, PGconn *source, const struct snapshot *snapshot,
                    bool *ended, struct error *err)
{
    bool ok = true;
    pthread_mutex_lock(&inflight->lock);
    if (inflight->count > 0)
        forget_ended(inflight, snapshot);
    if (inflight->count > 0 && clock_monotonic_us() - inflight->looked_us >= LOOK_EVERY_US)
        ok = look(inflight, source, err);
    *ended = inflight->count == 0;
    pthread_mutex_unlock(&inflight->lock);
    return ok;
}
