#include "stream/pipeline.h"

#include <errno.h>
#include <poll.h>
#include <xxhash.h>

#include "pg/conn.h"
#include "util/clock.h"

enum {
    RING_START = 1024,
    POLL_MS = 100,
    STOPPING_US = 1000 * 1000, /* that a statement has to end by itself */
};

bool pipeline_init(struct pipeline *pipeline, PGconn *conn, struct stop *stop, struct error *err)
{
    *pipeline = (struct pipeline){.conn = conn, .stop = stop, .ring_size = RING_START};
    pipeline->ring = check_malloc(RING_START * sizeof *pipeline->ring);
    if (PQsetnonblocking(conn, 1) != 0 || PQenterPipelineMode(conn) != 1)
        return conn_error(conn, err);
    return true;
}

void pipeline_release(struct pipeline *pipeline)
{
    free(pipeline->ring);
    pipeline->ring = NULL;
}

static struct expectation *pipeline_slot(struct pipeline *pipeline, uint64_t number)
{
    return &pipeline->ring[number & (pipeline->ring_size - 1)];
}

/* The ring grows to what a lane has in flight: bounded by two batches. */
static void pipeline_grow(struct pipeline *pipeline)
{
    unsigned size = pipeline->ring_size * 2;
    struct expectation *ring = check_malloc(size * sizeof *ring);
    for (uint64_t n = pipeline->answered; n < pipeline->sent; n++)
        ring[n & (size - 1)] = *pipeline_slot(pipeline, n);
    free(pipeline->ring);
    pipeline->ring = ring;
    pipeline->ring_size = size;
}

static void pipeline_expect(struct pipeline *pipeline, const struct expectation *expected)
{
    if (pipeline->sent - pipeline->answered == pipeline->ring_size)
        pipeline_grow(pipeline);
    *pipeline_slot(pipeline, pipeline->sent++) = *expected;
}

static void pipeline_expect_kind(struct pipeline *pipeline, enum expect_kind kind)
{
    pipeline_expect(pipeline, &(struct expectation){.kind = kind});
}

bool pipeline_prepare(struct pipeline *pipeline, const char *name, const char *sql,
                      struct error *err)
{
    if (PQsendPrepare(pipeline->conn, name, sql, 0, NULL) != 1)
        return conn_error(pipeline->conn, err);
    pipeline_expect_kind(pipeline, EXPECT_OK);
    return true;
}

bool pipeline_execute(struct pipeline *pipeline, const char *name,
                      const struct parameters *parameters, const struct expectation *expected,
                      struct error *err)
{
    if (PQsendQueryPrepared(pipeline->conn, name, parameters->count, parameters->values,
                            parameters->lengths, parameters->formats, 0) != 1)
        return conn_error(pipeline->conn, err);
    pipeline_expect(pipeline, expected);
    return true;
}

bool pipeline_query(struct pipeline *pipeline, const char *sql, int count,
                    const char *const *values, enum expect_kind kind, struct error *err)
{
    if (PQsendQueryParams(pipeline->conn, sql, count, NULL, values, NULL, NULL, 0) != 1)
        return conn_error(pipeline->conn, err);
    pipeline_expect_kind(pipeline, kind);
    return true;
}

bool pipeline_sync(struct pipeline *pipeline, struct error *err)
{
    if (PQpipelineSync(pipeline->conn) != 1)
        return conn_error(pipeline->conn, err);
    pipeline_expect_kind(pipeline, EXPECT_SYNC);
    return true;
}

bool pipeline_flush(struct pipeline *pipeline, struct error *err)
{
    if (PQsendFlushRequest(pipeline->conn) != 1 || PQflush(pipeline->conn) < 0)
        return conn_error(pipeline->conn, err);
    return true;
}

/* Where a change that failed comes from, and what it was. */
static bool change_context(const struct expectation *expected, struct error *err)
{
    struct buffer key;
    const struct change *change = expected->change;
    if (change == NULL || expected->rows > 1)
        return false;
    const struct mapping *mapping = change->mapping;
    const struct tuple *row = change->new_row.count > 0 ? &change->new_row : &change->old_row;
    buffer_init(&key, 256);
    for (unsigned k = 0; row->count > 0 && k < mapping->key_count; k++) {
        unsigned column = (unsigned)mapping->key[k].source;
        const struct value *value = &row->values[column];
        buffer_printf(&key, "%s%s=%.60s", k > 0 ? ", " : " with ",
                      mapping->source->columns[column].name,
                      value->bytes != NULL ? value->bytes : "null");
    }
    error_context(err, "applying %s of %s.%s%s, committed at " LSN_FORMAT,
                  change_op_name(change->op), mapping->source->schema, mapping->source->name,
                  buffer_text(&key), LSN_ARGS(change->lsn));
    buffer_release(&key);
    return false;
}

static bool wrong_rows(const struct expectation *expected, unsigned long rows, struct error *err)
{
    error_set(err, ERROR_FATAL, "conflict: %s touched %lu rows of %s instead of %u",
              expected->rows == 1 ? "a change" : "changes", rows, expected->change->mapping->name,
              expected->rows);
    error_detail(err, "The target does not hold the row that the source changed.");
    error_begin_again(err, "Did something else write to the target? Compare the two rows by hand; then");
    return change_context(expected, err);
}

static uint64_t row_hash(const PGresult *result, int row)
{
    uint64_t hash = 0;
    for (int column = 0; column < PQnfields(result); column++)
        hash = XXH3_64bits_withSeed(PQgetvalue(result, row, column),
                                    (size_t)PQgetlength(result, row, column), hash);
    return hash;
}

static int by_hash(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Two keys with one hash would cost no more than looking at the changes one by one. */
static bool any_twice(const PGresult *result)
{
    bool twice = false;
    int rows = PQntuples(result);
    if (rows < 2)
        return false;
    uint64_t *hashes = check_malloc((size_t)rows * sizeof *hashes);
    for (int row = 0; row < rows; row++)
        hashes[row] = row_hash(result, row);
    qsort(hashes, (size_t)rows, sizeof *hashes, by_hash);
    for (int row = 1; row < rows; row++)
        twice |= hashes[row] == hashes[row - 1];
    free(hashes);
    return twice;
}

static bool key_twice(const struct expectation *expected, struct error *err)
{
    error_set(err, ERROR_FATAL, "conflict: several rows of %s have one key of the source",
              expected->change->mapping->name);
    error_detail(err, "Its own key has further columns, and does not keep them apart.");
    error_hint(err, "Did something else write to the target? \"pgportage verify\" tells what there is"
                    " besides the source's row; remove that.");
    return change_context(expected, err);
}

/* One of several changes cannot be applied: which, is found by applying each by itself. */
static bool suspect(struct pipeline *pipeline, const struct expectation *expected,
                    struct error *err)
{
    if (expected->rows < 2 || err->class == ERROR_RETRY)
        return false;
    pipeline->suspect = expected->last;
    err->class = ERROR_RETRY;
    return error_context(err, "one of %u changes of %s; applying one by one to find it",
                         expected->rows, expected->change->mapping->name);
}

/* Judges one result; false is an error. */
static bool pipeline_take(struct pipeline *pipeline, struct expectation *expected,
                          const PGresult *result, struct error *err)
{
    ExecStatusType status = PQresultStatus(result);
    expected->answered = true;
    if (status == PGRES_PIPELINE_SYNC)
        return expected->kind == EXPECT_SYNC ||
               error_set(err, ERROR_FATAL, "the server's answers do not fit what was sent");
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        conn_result_error(pipeline->conn, result, err);
        change_context(expected, err);
        return suspect(pipeline, expected, err);
    }
    unsigned long rows = strtoul(PQcmdTuples((PGresult *)result), NULL, 10);
    if (expected->kind == EXPECT_OURS && rows != 1)
        return error_set(err, ERROR_RETRY,
                         "the lane is another instance's, or a switch that was given up has left what"
                         " acts in its way");
    if (expected->tells_keys && any_twice(result))
        return key_twice(expected, err), suspect(pipeline, expected, err);
    if (expected->kind != EXPECT_ROWS || rows == expected->rows)
        return true;
    wrong_rows(expected, rows, err);
    return suspect(pipeline, expected, err);
}

/* Waits until the socket can be read (or written while there is something to write). */
static bool pipeline_poll(struct pipeline *pipeline, struct error *err)
{
    int flushed = PQflush(pipeline->conn);
    if (flushed < 0)
        return conn_error(pipeline->conn, err);
    struct pollfd fd = {.fd = PQsocket(pipeline->conn),
                        .events = (short)(flushed > 0 ? POLLIN | POLLOUT : POLLIN)};
    if (poll(&fd, 1, POLL_MS) < 0 && errno != EINTR)
        return error_set(err, ERROR_FATAL, "could not wait for the target: %s", strerror(errno));
    if ((fd.revents & (POLLIN | POLLERR | POLLHUP)) != 0 && PQconsumeInput(pipeline->conn) == 0)
        return conn_error(pipeline->conn, err);
    return true;
}

/* Without it the server would hold the transaction's locks until it gets the one that it waits for: it
 * does not look whether we are still there. */
static bool pipeline_cancel(struct pipeline *pipeline, struct error *err)
{
    conn_cancel(pipeline->conn);
    return stop_error(err);
}

static bool pipeline_stops(struct pipeline *pipeline)
{
    int64_t now_us = clock_monotonic_us();
    if (!stop_requested(pipeline->stop))
        return false;
    if (pipeline->stopped_us == 0)
        pipeline->stopped_us = now_us;
    return now_us - pipeline->stopped_us >= STOPPING_US;
}

bool pipeline_wait(struct pipeline *pipeline, uint64_t upto, struct error *err)
{
    while (pipeline->answered < upto) {
        struct expectation *expected = pipeline_slot(pipeline, pipeline->answered);
        if (PQisBusy(pipeline->conn)) {
            if (pipeline_stops(pipeline))
                return pipeline_cancel(pipeline, err);
            if (!pipeline_poll(pipeline, err))
                return false;
            continue;
        }
        PGresult *result = PQgetResult(pipeline->conn);
        if (result == NULL) { /* the end of one statement's results */
            if (expected->answered)
                pipeline->answered++;
            else if (PQstatus(pipeline->conn) == CONNECTION_BAD)
                return conn_error(pipeline->conn, err);
            continue;
        }
        bool ok = pipeline_take(pipeline, expected, result, err);
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) /* not followed by an end */
            pipeline->answered++;
        PQclear(result);
        if (!ok)
            return false;
    }
    return true;
}
