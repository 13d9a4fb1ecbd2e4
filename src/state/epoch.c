#include "state/epoch.h"

#include "pg/conn.h"
#include "util/log.h"

static const char try_lock_sql[] =
    "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtext('portage.instance'))";

static const char raise_sql[] =
    "BEGIN;"
    "%s"
    "SET LOCAL lock_timeout = '2s';"
    "UPDATE portage.instance SET epoch = %lld;"
    "UPDATE portage.lane SET epoch = %lld;"
    "UPDATE portage.range SET epoch = %lld;"
    "COMMIT";

/* Whoever blocks us there is of our own role: an instance that lost the lock, or a repair that hangs. */
static const char evict_sql[] =
    "SELECT a.pid, a.application_name, pg_catalog.pg_terminate_backend(a.pid)"
    "  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
    " WHERE l.locktype = 'relation' AND l.mode IN ('RowExclusiveLock', 'RowShareLock')"
    "   AND l.granted"
    "   AND l.relation IN ('portage.instance'::regclass, 'portage.lane'::regclass,"
    "                      'portage.range'::regclass)"
    "   AND a.pid <> pg_catalog.pg_backend_pid() AND a.usename = CURRENT_USER"
    "   AND a.application_name LIKE 'pgportage %'";

bool epoch_try_lock(PGconn *control, bool *taken, struct error *err)
{
    PGresult *result = conn_query_row(control, try_lock_sql, 0, NULL, err);
    if (result == NULL)
        return false;
    *taken = result_bool(result, 0, 0);
    PQclear(result);
    return true;
}

static bool epoch_read(PGconn *shard, int64_t *epoch, struct error *err)
{
    PGresult *result = conn_query_row(shard, "SELECT epoch FROM portage.instance", 0, NULL, err);
    if (result == NULL)
        return false;
    *epoch = result_int(result, 0, 0);
    PQclear(result);
    return true;
}

static bool epoch_evict(PGconn *shard, struct error *err)
{
    PGresult *result = conn_query(shard, evict_sql, 0, NULL, err);
    if (result == NULL)
        return false;
    for (int row = 0; row < PQntuples(result); row++)
        log_warning("ended session %s (%s) of an instance that lost its lock",
                    result_text(result, row, 0), result_text(result, row, 1));
    PQclear(result);
    return true;
}

static bool epoch_write(PGconn *shard, int64_t epoch, const char *first, struct error *err)
{
    char sql[512];
    long long value = epoch;
    snprintf(sql, sizeof sql, raise_sql, first, value, value, value);
    for (int attempt = 0;; attempt++) {
        if (conn_exec(shard, sql, err))
            return true;
        struct error failed = *err;
        if (!conn_exec(shard, "ROLLBACK", err))
            return false;
        *err = failed;
        if (strcmp(err->sqlstate, "55P03") != 0 || attempt == 5)
            return error_context(err, "raising the epoch in database \"%s\"", PQdb(shard));
        if (!epoch_evict(shard, err))
            return false;
    }
}

/* The source may be waiting for us as its synchronous standby, and we have not begun (S5). */
static const char local_sql[] = "SET LOCAL synchronous_commit = local;";

bool epoch_raise(PGconn *const *shards, unsigned shards_count, PGconn *source, int64_t *epoch,
                 struct error *err)
{
    int64_t highest;
    if (!epoch_read(source, &highest, err))
        return false;
    for (unsigned s = 0; s < shards_count; s++) {
        int64_t found;
        if (!epoch_read(shards[s], &found, err))
            return false;
        highest = found > highest ? found : highest;
    }
    *epoch = highest + 1;
    for (unsigned s = 0; s < shards_count; s++) {
        if (!epoch_write(shards[s], *epoch, "", err))
            return false;
    }
    return epoch_write(source, *epoch, local_sql, err);
}
