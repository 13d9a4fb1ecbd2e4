#include "stream/readback.h"

#include <pthread.h>

#include "mapping/statements.h"
#include "pg/conn.h"
#include "state/snapshot.h"
#include "util/clock.h"

enum {
    FREE_WAIT_US = 100 * 1000, /* how often a stop is looked for */
    VISIBLE_POLL_US = 5 * 1000,
    VISIBLE_US_MAX = 10 * 1000 * 1000,
    RESULT_SNAPSHOT = 0, /* columns of statement_read_back() */
    RESULT_FOUND = 1,
    RESULT_VALUES = 2,
};

struct readback {
    const char *conninfo;
    struct stop *stop;
    unsigned sessions_max;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t freed;
    unsigned sessions; /* open, or being opened */
    PGconn **idle;
    unsigned idle_count;
};

struct readback *readback_new(const char *conninfo, unsigned sessions_max, struct stop *stop)
{
    struct readback *readback = check_calloc(1, sizeof *readback);
    CHECK(sessions_max > 0);
    *readback = (struct readback){
        .conninfo = conninfo,
        .stop = stop,
        .sessions_max = sessions_max,
        .idle = check_calloc(sessions_max, sizeof *readback->idle),
    };
    pthread_mutex_init(&readback->lock, NULL);
    pthread_cond_init(&readback->freed, NULL);
    return readback;
}

void readback_free(struct readback *readback)
{
    if (readback == NULL)
        return;
    CHECK(readback->sessions == readback->idle_count);
    for (unsigned s = 0; s < readback->idle_count; s++)
        conn_close(readback->idle[s]);
    pthread_cond_destroy(&readback->freed);
    pthread_mutex_destroy(&readback->lock);
    free(readback->idle);
    free(readback);
}

/* ---- sessions ---- */

/* False when it has to wait. *conn is NULL where one may be opened. */
static bool try_take(struct readback *readback, PGconn **conn)
{
    bool idle = readback->idle_count > 0, room = readback->sessions < readback->sessions_max;
    *conn = idle ? readback->idle[--readback->idle_count] : NULL;
    if (!idle && room)
        readback->sessions++;
    return idle || room;
}

static bool wait_for_session(struct readback *readback, PGconn **conn, struct error *err)
{
    bool stopped = false, taken;
    pthread_mutex_lock(&readback->lock);
    while (!(taken = try_take(readback, conn)) && !(stopped = stop_requested(readback->stop))) {
        struct timespec deadline = clock_deadline(FREE_WAIT_US);
        pthread_cond_clockwait(&readback->freed, &readback->lock, CLOCK_MONOTONIC, &deadline);
    }
    pthread_mutex_unlock(&readback->lock);
    return taken || stop_error(err);
}

/* One that is lost makes room for another. */
static void give(struct readback *readback, PGconn *conn)
{
    bool lost = conn == NULL || PQstatus(conn) != CONNECTION_OK;
    if (lost)
        conn_close(conn);
    pthread_mutex_lock(&readback->lock);
    if (lost)
        readback->sessions--;
    else
        readback->idle[readback->idle_count++] = conn;
    pthread_cond_signal(&readback->freed);
    pthread_mutex_unlock(&readback->lock);
}

/* NULL on error. */
static PGconn *take(struct readback *readback, struct error *err)
{
    PGconn *conn;
    if (!wait_for_session(readback, &conn, err))
        return NULL;
    if (conn == NULL)
        conn = conn_open(readback->conninfo, CONN_SESSION, "read back", err);
    if (conn == NULL)
        give(readback, NULL);
    return conn;
}

/* ---- statements ---- */

typedef PGresult *ask(PGconn *conn, const char *sql, int count, const char *const *values,
                      struct error *err);

static PGresult *query(struct readback *readback, ask *how, const char *sql, int count,
                       const char *const *values, struct error *err)
{
    PGconn *conn = take(readback, err);
    if (conn == NULL)
        return NULL;
    PGresult *result = how(conn, sql, count, values, err);
    give(readback, conn);
    return result;
}

static void fill_values(struct change *change, const struct column_set *missing,
                        const PGresult *result, struct arena *arena)
{
    int column = RESULT_VALUES;
    for (unsigned c = 0; c < change->new_row.count; c++) {
        if (!column_set_has(missing, c))
            continue;
        struct value *value = &change->new_row.values[c];
        int length = PQgetlength(result, 0, column);
        if (PQgetisnull(result, 0, column))
            *value = (struct value){.kind = VALUE_NULL};
        else
            *value = (struct value){
                .kind = VALUE_TEXT,
                .length = (uint32_t)length,
                .bytes = arena_strndup(arena, PQgetvalue(result, 0, column), (size_t)length),
            };
        column++;
    }
}

/* By the statement of statement_read_back(), which gives one row in any case. */
static PGresult *read_row(struct readback *readback, const struct change *change, const char *sql,
                          struct error *err)
{
    const struct mapping *mapping = change->mapping;
    const char *key[RELATION_COLUMNS_MAX];
    for (unsigned k = 0; k < mapping->key_count; k++)
        key[k] = change->new_row.values[mapping->key[k].source].bytes;
    return query(readback, conn_query_row, sql, (int)mapping->key_count, key, err);
}

/* Whether the row was read by a snapshot that sees the change's transaction. */
static bool is_new_enough(const PGresult *result, uint32_t xid, bool *enough, struct error *err)
{
    struct snapshot snapshot;
    if (!snapshot_parse(result_text(result, 0, RESULT_SNAPSHOT), &snapshot, err))
        return false;
    *enough = snapshot_sees(&snapshot, snapshot_widen(xid, snapshot.xmax));
    snapshot_release(&snapshot);
    return true;
}

static bool wait_for_transaction(struct readback *readback, uint32_t xid, int64_t until_us,
                                 struct error *err)
{
    if (clock_monotonic_us() < until_us)
        return !stop_wait(readback->stop, VISIBLE_POLL_US) || stop_error(err);
    error_set(err, ERROR_RETRY,
              "transaction %u has been streamed, but the source does not show it for %d s", xid,
              VISIBLE_US_MAX / 1000000);
    error_detail(err, "A commit is shown only when the synchronous standbys have it.");
    return error_hint(err, "If pgportage is one of them, take it out of synchronous_standby_names"
                           " until it has caught up.");
}

/* NULL on error. */
static PGresult *read_new_enough(struct readback *readback, const struct change *change,
                                 const char *sql, struct error *err)
{
    int64_t until_us = clock_monotonic_us() + VISIBLE_US_MAX;
    for (;;) {
        bool enough;
        PGresult *result = read_row(readback, change, sql, err);
        if (result == NULL)
            return NULL;
        bool ok = is_new_enough(result, change->xid, &enough, err);
        if (ok && enough)
            return result;
        PQclear(result);
        if (!ok || !wait_for_transaction(readback, change->xid, until_us, err))
            return NULL;
    }
}

static bool sees(struct readback *readback, uint32_t xid, bool *seen, struct error *err)
{
    PGresult *result = query(readback, conn_query_row,
                             "SELECT pg_catalog.txid_current_snapshot()", 0, NULL, err);
    bool ok = result != NULL && is_new_enough(result, xid, seen, err);
    PQclear(result);
    return ok;
}

PGresult *readback_query(struct readback *readback, uint32_t xid, const char *sql, int count,
                         const char *const *values, struct error *err)
{
    int64_t until_us = clock_monotonic_us() + VISIBLE_US_MAX;
    bool seen;
    for (;;) {
        if (!sees(readback, xid, &seen, err))
            return NULL;
        if (seen) /* what one session sees any later statement of another one does */
            return query(readback, conn_query, sql, count, values, err);
        if (!wait_for_transaction(readback, xid, until_us, err))
            return NULL;
    }
}

bool readback_fill(struct readback *readback, struct change *change,
                   const struct column_set *missing, struct arena *arena, bool *found,
                   struct error *err)
{
    const struct mapping *mapping = change->mapping;
    PGresult *result = read_new_enough(readback, change,
                                       statement_read_back(mapping, missing, arena), err);
    if (result == NULL)
        return error_context(err, "reading back a row of %s", mapping->name);
    *found = result_bool(result, 0, RESULT_FOUND);
    if (*found)
        fill_values(change, missing, result, arena);
    PQclear(result);
    return true;
}
