#include "copy/copier.h"

#include <stdatomic.h>

#include "copy/chunk.h"
#include "mapping/statements.h"
#include "mapping/connections.h"
#include "pg/conn.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    SMALL_TABLE_BYTES = 4 * 1024 * 1024, /* copied as one chunk */
    FIRST_CHUNK_BYTES = 4 * 1024 * 1024,
    CHUNK_BYTES_MAX = 256 * 1024 * 1024,
    FIRST_ROWS_MAX = 50 * 1000,
    IDLE_US = 100 * 1000,
    REACH_POLL_US = 1000,
    RETAKE_US = 5 * 1000,
    HOLD_US_MAX = 10 * 1000 * 1000, /* waiting for a snapshot; then the hold is lifted for a while */
};

/* One range of one mapping, as the workers see it. Guarded by the copier's lock. */
struct task {
    const struct mapping *mapping;
    unsigned range;
    bool taken;
};

/* How large the next chunk of a mapping shall be. Guarded by the copier's lock. */
struct sizing {
    int64_t rows;  /* 0: not known yet */
    bool bisects;  /* a row of it was refused: chunks shrink until it is alone */
};

struct worker {
    struct copier *copier;
    pthread_t thread;
    unsigned number;
    struct arena keys;  /* live as long as the copier: the holds point to them */
    struct chunk_copy copy;
};

struct copier {
    struct stream *stream;
    struct inflight *inflight;
    struct throttle throttle;
    pthread_mutex_t lock;
    struct task *tasks;
    unsigned tasks_count;
    unsigned whole_taken; /* tasks of tables with whole_lane; guarded by the lock */
    struct sizing *sizings; /* one a mapping */
    struct worker *workers;
    unsigned workers_count;
    unsigned shards_count;
    atomic_bool finishing;
    atomic_bool paused;
};

/* ---- what there is to do ---- */

static int by_size(const void *a, const void *b)
{
    const struct task *x = a, *y = b;
    int64_t xb = x->mapping->source->bytes, yb = y->mapping->source->bytes;
    if (xb != yb)
        return xb > yb ? -1 : 1;
    return (int)x->mapping->index - (int)y->mapping->index +
           (x->mapping == y->mapping ? (int)x->range - (int)y->range : 0);
}

static void list_tasks(struct copier *copier)
{
    const struct mapping_set *set = copier->stream->mappings;
    unsigned count = 0;
    for (unsigned m = 0; m < set->count; m++)
        count += holds_ranges(copier->stream->holds, &set->mappings[m]);
    copier->tasks = check_calloc(count, sizeof *copier->tasks);
    for (unsigned m = 0; m < set->count; m++) {
        const struct mapping *mapping = &set->mappings[m];
        for (unsigned r = 0; r < holds_ranges(copier->stream->holds, mapping); r++)
            copier->tasks[copier->tasks_count++] = (struct task){.mapping = mapping, .range = r};
    }
    qsort(copier->tasks, copier->tasks_count, sizeof *copier->tasks, by_size); /* long ones first */
}

/* A late leaf's changes must all be in the stream first (run/leaves.h). */
static bool may_copy(const struct mapping *mapping, const struct pending *pending)
{
    return pending->leaf == 0 || relation_leaf(mapping->source, pending->leaf)->published;
}

/* With the lock held. */
static struct task *find_task(struct copier *copier, bool whole, struct pending *pending)
{
    for (unsigned t = 0; t < copier->tasks_count; t++) {
        struct task *task = &copier->tasks[t];
        if (!task->taken && (whole || !task->mapping->whole_lane) &&
            holds_pending(copier->stream->holds, task->mapping, task->range, pending) &&
            may_copy(task->mapping, pending))
            return task;
    }
    return NULL;
}

/*
 * A range that is pending and nobody's; NULL if there is none at the moment. While one of the tables that
 * share lanes with those copied whole is under way, the others may have to wait for these lanes until it is
 * over: they are taken when nothing else is left.
 */
static struct task *take_task(struct copier *copier, struct pending *pending)
{
    pthread_mutex_lock(&copier->lock);
    struct task *found = find_task(copier, copier->whole_taken == 0, pending);
    if (found == NULL)
        found = find_task(copier, true, pending);
    if (found != NULL) {
        found->taken = true;
        copier->whole_taken += found->mapping->whole_lane;
    }
    pthread_mutex_unlock(&copier->lock);
    return found;
}

static void return_task(struct copier *copier, struct task *task)
{
    pthread_mutex_lock(&copier->lock);
    task->taken = false;
    copier->whole_taken -= task->mapping->whole_lane;
    pthread_mutex_unlock(&copier->lock);
}

/* ---- sizes ---- */

static struct sizing sizing_of(struct copier *copier, const struct mapping *mapping)
{
    struct sizing *sizing = &copier->sizings[mapping->index];
    pthread_mutex_lock(&copier->lock);
    if (sizing->rows == 0 && mapping->source->bytes >= SMALL_TABLE_BYTES) {
        int64_t rows = mapping->source->rows_estimate > 0 ? mapping->source->rows_estimate : 1;
        int64_t row_bytes = mapping->source->bytes / rows + 1;
        int64_t first = FIRST_CHUNK_BYTES / row_bytes + 1;
        sizing->rows = first < FIRST_ROWS_MAX ? first : FIRST_ROWS_MAX;
    }
    struct sizing now = *sizing;
    pthread_mutex_unlock(&copier->lock);
    return now;
}

/* Feedback: the next chunk shall take chunk_ms, and not too many bytes. */
static void learn_size(struct copier *copier, const struct chunk *chunk, int64_t took_us)
{
    struct sizing *sizing = &copier->sizings[chunk->mapping->index];
    int64_t aim_us = (int64_t)copier->stream->config->chunk_ms * 1000;
    if (chunk->rows == 0)
        return;
    pthread_mutex_lock(&copier->lock);
    if (sizing->rows > 0 && chunk->rows >= sizing->rows / 2 && !sizing->bisects) {
        double scale = (double)aim_us / (double)(took_us + 1);
        scale = scale > 2 ? 2 : scale < 0.25 ? 0.25 : scale;
        int64_t rows = (int64_t)((double)chunk->rows * scale);
        int64_t most = CHUNK_BYTES_MAX / (chunk->bytes / chunk->rows + 1) + 1;
        sizing->rows = rows < 1 ? 1 : rows > most ? most : rows;
    }
    pthread_mutex_unlock(&copier->lock);
}

/* After a refused row: half the chunk. False when it was one row already, or cannot be divided. */
static bool bisect(struct copier *copier, const struct chunk *chunk)
{
    struct sizing *sizing = &copier->sizings[chunk->mapping->index];
    bool smaller = false;
    pthread_mutex_lock(&copier->lock);
    if (chunk->mapping->copy_mode == COPY_RANGES && sizing->rows != 1) {
        int64_t rows = sizing->rows > 0 ? sizing->rows : FIRST_ROWS_MAX;
        sizing->rows = rows > 4 ? rows / 4 : 1;
        sizing->bisects = smaller = true;
    }
    pthread_mutex_unlock(&copier->lock);
    return smaller;
}

/* ---- step 5: interval, hold, snapshot ---- */

static bool query_key(struct worker *worker, const struct chunk *chunk, int64_t offset,
                      const struct key **key, struct error *err)
{
    struct key_interval interval = {
        .lower = chunk->pending.cursor != NULL ? chunk->pending.cursor->texts : NULL,
        .upper = chunk->pending.upper != NULL ? chunk->pending.upper->texts : NULL,
        .leaf = chunk->pending.leaf,
    };
    struct arena scratch;
    arena_init(&scratch, 16 * 1024);
    PGresult *result = conn_query(worker->copy.source,
                                  statement_key_at(chunk->mapping, interval, offset, &scratch), 0,
                                  NULL, err);
    arena_release(&scratch);
    if (result == NULL)
        return false;
    bool ok = true;
    *key = NULL;
    if (PQntuples(result) > 0)
        ok = key_from_result(chunk->mapping, result, 0, 0, &worker->keys, key, err);
    PQclear(result);
    return ok;
}

/*
 * The interval is fixed before anything is on hold. At an open end it stops at the largest key there
 * is, so that new rows behind it are skipped and not stalled; when there is none left, the last chunk
 * takes all that is to come.
 */
static bool plan_chunk(struct worker *worker, struct chunk *chunk, struct error *err)
{
    int64_t rows = sizing_of(worker->copier, chunk->mapping).rows;
    chunk->upper = chunk->pending.upper;
    if (chunk->pending.fixed) {
        chunk->upper = chunk->pending.fixed_upper;
    } else if (chunk->mapping->copy_mode == COPY_RANGES && rows > 0) {
        const struct key *upper;
        if (!query_key(worker, chunk, rows - 1, &upper, err))
            return false;
        if (upper == NULL && chunk->pending.upper == NULL &&
            !query_key(worker, chunk, -1, &upper, err))
            return false;
        if (upper != NULL)
            chunk->upper = upper;
    }
    chunk->done = chunk->upper == NULL || (chunk->pending.upper != NULL &&
                                           key_compare(chunk->upper, chunk->pending.upper) == 0);
    return true;
}

/* Forgets, for every table, the skipped transactions that this snapshot sees; tells of this one
 * table whether all before h are seen. */
static bool skipped_seen(struct stream *stream, const struct mapping *mapping,
                         const struct snapshot *snapshot, lsn_t h)
{
    bool seen = true;
    for (unsigned m = 0; m < stream->mappings->count; m++) {
        const struct mapping *each = &stream->mappings->mappings[m];
        bool all = holds_skipped_seen(stream->holds, each, snapshot, h);
        seen &= all || each != mapping;
    }
    return seen;
}

enum taken { TAKEN, TAKE_AGAIN, TAKE_FAILED };

/*
 * Begins a transaction on the source. The table is locked before there is a snapshot: one that is
 * truncated in between reads as empty, also to a snapshot that does not see the TRUNCATE. Whoever has it
 * for himself may be waiting for us to confirm, so he is not waited for long.
 */
static enum taken begin_locked(struct worker *worker, const struct chunk *chunk, struct error *err)
{
    struct arena scratch;
    arena_init(&scratch, 4096);
    const char *sql = arena_printf(&scratch,
                                   "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
                                   "SET LOCAL lock_timeout = '1s'; %s; SET LOCAL lock_timeout = 0",
                                   statement_lock(chunk->mapping, chunk->pending.leaf, &scratch));
    bool ok = conn_exec(worker->copy.source, sql, err);
    arena_release(&scratch);
    if (ok)
        return TAKEN;
    if (strcmp(err->sqlstate, "55P03") != 0)
        return TAKE_FAILED;
    error_clear(err);
    return conn_exec(worker->copy.source, "ROLLBACK", err) ? TAKE_AGAIN : TAKE_FAILED;
}

/* Of the open transaction: its snapshot and L. */
static bool read_snapshot(struct worker *worker, struct snapshot *snapshot, lsn_t *lsn,
                          struct error *err)
{
    PGresult *result = conn_query_row(worker->copy.source,
                                      "SELECT pg_catalog.txid_current_snapshot(),"
                                      "       pg_catalog.pg_current_wal_insert_lsn()",
                                      0, NULL, err);
    if (result == NULL)
        return false;
    bool ok = snapshot_parse(result_text(result, 0, 0), snapshot, err) &&
              (result_lsn(result, 0, 1, lsn, err) || (snapshot_release(snapshot), false));
    PQclear(result);
    return ok;
}

static enum taken try_snapshot(struct worker *worker, struct chunk *chunk, lsn_t h,
                               struct error *err)
{
    struct stream *stream = worker->copier->stream;
    struct snapshot snapshot;
    bool ended;
    enum taken begun = begin_locked(worker, chunk, err);
    if (begun != TAKEN)
        return begun;
    if (!read_snapshot(worker, &snapshot, &chunk->lsn, err))
        return TAKE_FAILED;
    holds_set_xmax(stream->holds, snapshot.xmax);
    bool ok = inflight_ended(worker->copier->inflight, worker->copy.source, &snapshot, &ended, err);
    bool good = ok && ended && skipped_seen(stream, chunk->mapping, &snapshot, h);
    if (good)
        chunk->snapshot = arena_strdup(&worker->keys, snapshot.text);
    snapshot_release(&snapshot);
    if (!ok || (!good && !conn_exec(worker->copy.source, "ROLLBACK", err)))
        return TAKE_FAILED;
    return good ? TAKEN : TAKE_AGAIN;
}

/* Step 1: before the first chunk, and without any hold, W must have ended. */
static bool wait_for_inflight(struct worker *worker, struct error *err)
{
    bool ended = false;
    while (!ended) {
        struct snapshot snapshot;
        lsn_t unused;
        if (stop_requested(worker->copy.stop))
            return stop_error(err);
        if (!conn_exec(worker->copy.source, "BEGIN READ ONLY", err) ||
            !read_snapshot(worker, &snapshot, &unused, err))
            return false;
        bool ok = inflight_ended(worker->copier->inflight, worker->copy.source, &snapshot, &ended,
                                 err);
        snapshot_release(&snapshot);
        if (!ok || !conn_exec(worker->copy.source, "ROLLBACK", err))
            return false;
        if (!ended)
            stop_wait(worker->copy.stop, IDLE_US);
    }
    return true;
}

/*
 * With the interval on hold: waits for the lanes, then for a snapshot that shows all that was skipped
 * before h. *again when it took too long: whoever has written that may wait for somebody else.
 */
static bool reach_snapshot(struct worker *worker, struct chunk *chunk, lsn_t h, bool *again,
                           struct error *err)
{
    struct stream *stream = worker->copier->stream;
    int64_t since_us = clock_monotonic_us();
    *again = false;
    while (!stream_reached(stream, chunk->mapping, h)) {
        if (stop_wait(stream->stop, REACH_POLL_US))
            return stop_error(err);
    }
    for (;;) {
        enum taken taken = try_snapshot(worker, chunk, h, err);
        if (taken != TAKE_AGAIN)
            return taken == TAKEN;
        *again = clock_monotonic_us() - since_us > HOLD_US_MAX;
        if (*again)
            return true;
        if (stop_wait(stream->stop, RETAKE_US))
            return stop_error(err);
    }
}

/* ---- a worker ---- */

static bool open_connections(struct worker *worker, struct error *err)
{
    const struct config *config = worker->copier->stream->config;
    char purpose[32];
    snprintf(purpose, sizeof purpose, "copy %u", worker->number);
    worker->copy.source = conn_open(config->source.text, CONN_SESSION, purpose, err);
    bool ok = worker->copy.source != NULL;
    for (unsigned s = 0; ok && s < worker->copy.shards_count; s++) {
        worker->copy.shards[s] = conn_open(config->shards[s].text, CONN_APPLY, purpose, err);
        ok = worker->copy.shards[s] != NULL;
    }
    return ok;
}

static void close_connections(struct worker *worker)
{
    conn_close(worker->copy.source);
    worker->copy.source = NULL;
    for (unsigned s = 0; s < worker->copy.shards_count; s++) {
        conn_close(worker->copy.shards[s]);
        worker->copy.shards[s] = NULL;
    }
}

static bool name_row(const struct chunk *chunk, struct error *err)
{
    const struct mapping *mapping = chunk->mapping;
    struct buffer key;
    buffer_init(&key, 256);
    for (unsigned k = 0; chunk->upper != NULL && k < mapping->range_count; k++)
        buffer_printf(&key, "%s%s = %s", k > 0 ? ", " : "",
                      mapping->source->columns[mapping->key[k].source].name,
                      chunk->upper->texts[k]);
    error_context(err, "copying %s.%s into %s%s%s", mapping->source->schema, mapping->source->name,
                  mapping->name, key.length > 0 ? ", row " : "", buffer_text(&key));
    buffer_release(&key);
    return false;
}

/* A row was refused: look for it in smaller chunks, on fresh connections. */
static bool recover(struct worker *worker, const struct chunk *chunk, struct error *err)
{
    bool of_a_row = err->class == ERROR_DATA || err->class == ERROR_LIMIT;
    if (!of_a_row || !bisect(worker->copier, chunk))
        return name_row(chunk, err);
    log_warning("%s: %s; looking for the row", chunk->mapping->name, err->message);
    holds_cancel(worker->copy.holds, chunk->mapping, chunk->pending.range);
    close_connections(worker);
    error_clear(err);
    return open_connections(worker, err);
}

static bool copy_chunk(struct worker *worker, struct chunk *chunk, struct error *err)
{
    struct stream *stream = worker->copier->stream;
    bool again;
    if (!plan_chunk(worker, chunk, err))
        return false;
    int64_t begun_us = clock_monotonic_us();
    lsn_t h = atomic_load(&stream->dispatched);
    if (!holds_begin(stream->holds, chunk->mapping, &chunk->pending, chunk->upper, &h))
        return !stop_wait(stream->stop, RETAKE_US) || stop_error(err); /* emptied meanwhile */
    if (!reach_snapshot(worker, chunk, h, &again, err))
        return false;
    if (again) {
        holds_cancel(stream->holds, chunk->mapping, chunk->pending.range);
        return !stop_wait(stream->stop, IDLE_US) || stop_error(err);
    }
    if (!chunk_run(&worker->copy, chunk, err))
        return recover(worker, chunk, err);
    learn_size(worker->copier, chunk, clock_monotonic_us() - begun_us);
    log_debug("%s range %d: %lld rows, %lld bytes in %lld ms", chunk->mapping->name,
              chunk->pending.range, (long long)chunk->rows, (long long)chunk->bytes,
              (long long)(clock_monotonic_us() - begun_us) / 1000);
    return true;
}

static bool worker_loop(struct worker *worker, struct error *err)
{
    struct copier *copier = worker->copier;
    while (!stop_requested(worker->copy.stop)) {
        struct chunk chunk = {0};
        struct task *task = atomic_load(&copier->paused) ? NULL : take_task(copier, &chunk.pending);
        if (task == NULL) {
            if (atomic_load(&copier->finishing))
                break;
            stop_wait(worker->copy.stop, IDLE_US);
            continue;
        }
        chunk.mapping = task->mapping;
        bool ok = copy_chunk(worker, &chunk, err);
        return_task(copier, task);
        if (!ok)
            return false;
    }
    return true;
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct error err = ERROR_INIT;
    char subject[32];
    snprintf(subject, sizeof subject, "copy %u", worker->number);
    log_set_subject(subject);
    bool ok = open_connections(worker, &err) && wait_for_inflight(worker, &err) &&
              worker_loop(worker, &err);
    if (!ok)
        stop_fail(worker->copy.stop, &err);
    close_connections(worker);
    return NULL;
}

/* ---- all of it ---- */

struct copier *copier_new(struct stream *stream, struct inflight *inflight)
{
    struct copier *copier = check_calloc(1, sizeof *copier);
    copier->stream = stream;
    copier->inflight = inflight;
    copier->shards_count = stream->mappings->shards_count;
    copier->workers_count = connections_copy_workers(stream->config);
    copier->workers = check_calloc(copier->workers_count, sizeof *copier->workers);
    copier->sizings = check_calloc(stream->mappings->count, sizeof *copier->sizings);
    throttle_init(&copier->throttle, stream->config->source_rate_max);
    pthread_mutex_init(&copier->lock, NULL);
    list_tasks(copier);
    for (unsigned w = 0; w < copier->workers_count; w++) {
        struct worker *worker = &copier->workers[w];
        *worker = (struct worker){.copier = copier, .number = w};
        worker->copy = (struct chunk_copy){
            .holds = stream->holds, .config = stream->config, .throttle = &copier->throttle,
            .stop = stream->stop, .epoch = stream->epoch, .shards_count = copier->shards_count,
            .shards = check_calloc(copier->shards_count, sizeof(PGconn *)),
        };
        arena_init(&worker->keys, 64 * 1024);
    }
    return copier;
}

void copier_start(struct copier *copier)
{
    for (unsigned w = 0; w < copier->workers_count; w++)
        CHECK(pthread_create(&copier->workers[w].thread, NULL, worker_main, &copier->workers[w]) ==
              0);
}

void copier_pause(struct copier *copier, bool paused)
{
    atomic_store(&copier->paused, paused);
}

void copier_finish(struct copier *copier)
{
    atomic_store(&copier->finishing, true);
    for (unsigned w = 0; w < copier->workers_count; w++)
        pthread_join(copier->workers[w].thread, NULL);
}

void copier_free(struct copier *copier)
{
    if (copier == NULL)
        return;
    for (unsigned w = 0; w < copier->workers_count; w++) {
        arena_release(&copier->workers[w].keys);
        free(copier->workers[w].copy.shards);
    }
    free(copier->workers);
    free(copier->sizings);
    free(copier->tasks);
    throttle_release(&copier->throttle);
    pthread_mutex_destroy(&copier->lock);
    free(copier);
}
