#include "stream/readback.h"

#include "mapping/statements.h"
#include "pg/conn.h"
#include "state/snapshot.h"
#include "util/clock.h"

enum {
    VISIBLE_POLL_US = 5 * 1000,
    VISIBLE_US_MAX = 10 * 1000 * 1000,
    RESULT_SNAPSHOT = 0, /* columns of statement_read_back() */
    RESULT_FOUND = 1,
    RESULT_VALUES = 2,
};

void readback_init(struct readback *readback, const char *conninfo, struct stop *stop)
{
    *readback = (struct readback){.conninfo = conninfo, .stop = stop};
}

void readback_release(struct readback *readback)
{
    conn_close(readback->conn);
    readback->conn = NULL;
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

static PGresult *read_row(struct readback *readback, const struct change *change, const char *sql,
                          struct error *err)
{
    const struct mapping *mapping = change->mapping;
    const char *key[RELATION_COLUMNS_MAX];
    if (readback->conn == NULL)
        readback->conn = conn_open(readback->conninfo, CONN_SESSION, "read back", err);
    if (readback->conn == NULL)
        return NULL;
    for (unsigned k = 0; k < mapping->key_count; k++)
        key[k] = change->new_row.values[mapping->key[k].source].bytes;
    return conn_query_row(readback->conn, sql, (int)mapping->key_count, key, err);
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
    PGresult *result =
        conn_query_row(readback->conn, "SELECT pg_catalog.txid_current_snapshot()", 0, NULL, err);
    bool ok = result != NULL && is_new_enough(result, xid, seen, err);
    PQclear(result);
    return ok;
}

bool readback_see(struct readback *readback, uint32_t xid, struct error *err)
{
    int64_t until_us = clock_monotonic_us() + VISIBLE_US_MAX;
    bool seen;
    if (readback->conn == NULL)
        readback->conn = conn_open(readback->conninfo, CONN_SESSION, "read back", err);
    if (readback->conn == NULL)
        return false;
    for (;;) {
        if (!sees(readback, xid, &seen, err))
            return false;
        if (seen)
            return true;
        if (!wait_for_transaction(readback, xid, until_us, err))
            return false;
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
