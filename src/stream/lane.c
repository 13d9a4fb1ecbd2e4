#include "stream/lane.h"

#include <stdatomic.h>

#include "pg/conn.h"
#include "stream/apply.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    TRANSACTION_CHANGES_MAX = 5000, /* of one target transaction, when it can end */
    TRANSACTION_US_MAX = 100 * 1000,
    IDLE_WAIT_US = 10 * 1000, /* how soon an idle lane follows the receiver's position */
    STALL_WAIT_US = 100 * 1000,
    OTHERS_WAIT_US = 500 * 1000, /* how long a lane that needs another stream leaves it alone */
    PROGRESS_EVERY_US = 200 * 1000, /* how often an idle lane writes its progress */
    COMMIT_EVERY_US = 10 * 1000,     /* commits are so far apart, unless something waits for one */
};

/* Prepared once a session. First: whose lane it is, and its lock. */
static const char lock_sql[] = "UPDATE portage.lane SET epoch = epoch"
                               " WHERE stream = $1::int AND lane = $2::int AND epoch = $3::bigint";
static const char progress_sql[] =
    "UPDATE portage.lane SET progress = $3::pg_lsn, partial_lsn = $4::pg_lsn,"
    " partial = $5::int, changes = changes + $6::bigint,"
    " source_time = COALESCE('2000-01-01 00:00:00Z'::timestamptz"
    "   + $7::bigint * interval '1 microsecond', source_time),"
    " written_at = pg_catalog.clock_timestamp(), marker = GREATEST(marker, $8::bigint)"
    " WHERE stream = $1::int AND lane = $2::int";

/* Microseconds between the epochs of Unix and PostgreSQL. */
static const int64_t pg_epoch_us = INT64_C(946684800000000);

struct lane {
    struct stream *stream;
    unsigned shard;
    unsigned number;
    char stream_text[12], number_text[12]; /* its row of portage.lane */
    const char *conninfo;
    struct backlog *backlog;

    _Atomic lsn_t progress;
    _Atomic lsn_t reached;
    _Atomic uint64_t barriers;

    /* of the lane's thread only */
    PGconn *conn;
    struct pipeline pipeline;
    struct applier applier;
    struct batch *batches; /* not yet answered, oldest first */
    struct batch *batches_last;
    lsn_t partial_lsn; /* commit of the source transaction that has begun here … */
    unsigned partial;  /* … and how many of its changes are judged: see invariant 3 */
    bool open;         /* a target transaction is under way */
    bool inside;       /* … and a source transaction in it */
    unsigned open_changes;
    int64_t open_since_us;
    lsn_t open_end;           /* end of the last source transaction that is complete in it */
    int64_t open_commit_time; /* its commit time, or the publisher's clock where nothing was for us */
    int64_t open_oldest_time; /* commit time of the oldest in it */
    int64_t open_marker;      /* id of the last marker in it; 0: none */
    const struct mapping *resets[16]; /* tables reset in it */
    unsigned resets_count;
    int64_t progress_written_us;

    pthread_mutex_t counts_lock; /* guards counts */
    struct lane_counts counts;
    struct lane_counts open_counts; /* of the open transaction; the lane's thread only */
};

struct lane *lane_new(struct stream *stream, unsigned shard, unsigned number, const char *conninfo)
{
    struct lane *lane = check_calloc(1, sizeof *lane);
    lane->stream = stream;
    lane->shard = shard;
    lane->number = number;
    snprintf(lane->stream_text, sizeof lane->stream_text, "%u", stream->number);
    snprintf(lane->number_text, sizeof lane->number_text, "%u", number);
    lane->conninfo = conninfo;
    bool spills = number >= (unsigned)stream->config->lanes && stream->spill.bytes_max > 0;
    lane->backlog = backlog_new((size_t)stream->config->queue_bytes_max / stream->lanes_count,
                                spills ? &stream->spill : NULL, stream->mappings);
    applier_init(&lane->applier,
                 &(struct applier_of){.config = stream->config,
                                      .mappings = stream->mappings,
                                      .stream = stream->number,
                                      .streams = stream->rivals + 1,
                                      .lane = number,
                                      .conninfo = conninfo,
                                      .readback = stream->readback},
                 &lane->pipeline);
    pthread_mutex_init(&lane->counts_lock, NULL);
    return lane;
}

static void lane_free_batches(struct lane *lane)
{
    while (lane->batches != NULL) {
        struct batch *next = lane->batches->next;
        batch_free(lane->batches);
        lane->batches = next;
    }
}

void lane_free(struct lane *lane)
{
    if (lane == NULL)
        return;
    lane_free_batches(lane);
    backlog_free(lane->backlog);
    applier_release(&lane->applier);
    pthread_mutex_destroy(&lane->counts_lock);
    free(lane);
}

struct backlog *lane_backlog(struct lane *lane)
{
    return lane->backlog;
}

lsn_t lane_progress(struct lane *lane)
{
    return atomic_load(&lane->progress);
}

static lsn_t lane_reached(struct lane *lane)
{
    return atomic_load(&lane->reached);
}

bool stream_reached(const struct stream *stream, const struct mapping *mapping, lsn_t position)
{
    for (unsigned s = 0; s < stream->mappings->shards_count; s++) {
        struct lane *const *lanes = &stream->lanes[stream_first_lane(stream, mapping, s)];
        for (int l = 0; l < stream->config->lanes; l++) {
            if (lane_reached(lanes[l]) < position)
                return false;
        }
    }
    return true;
}

uint64_t lane_barriers(struct lane *lane)
{
    return atomic_load(&lane->barriers);
}

void lane_read_counts(struct lane *lane, struct lane_counts *counts)
{
    pthread_mutex_lock(&lane->counts_lock);
    *counts = lane->counts;
    lane->counts.lag_us_max = 0;
    pthread_mutex_unlock(&lane->counts_lock);
}

/* Lanes pass the same ones, each at its pace. */
static void lane_passed_marker(struct lane *lane, int64_t marker)
{
    int64_t last = atomic_load(&lane->stream->marker);
    while (marker > last &&
           !atomic_compare_exchange_weak(&lane->stream->marker, &last, marker)) {
    }
}

bool lane_load(struct lane *lane, PGconn *shard, struct error *err)
{
    lsn_t progress;
    const char *const values[] = {lane->stream_text, lane->number_text};
    PGresult *result =
        conn_query_row(shard,
                       "SELECT progress, COALESCE(partial_lsn, '0/0'), partial, marker"
                       "  FROM portage.lane WHERE stream = $1::int AND lane = $2::int",
                       2, values, err);
    if (result == NULL)
        return error_context(err, "reading the progress of lane %u", lane->number);
    bool ok = result_lsn(result, 0, 0, &progress, err) &&
              result_lsn(result, 0, 1, &lane->partial_lsn, err);
    lane->partial = (unsigned)result_int(result, 0, 2);
    lane_passed_marker(lane, result_int(result, 0, 3));
    PQclear(result);
    if (ok) {
        atomic_store(&lane->progress, progress);
        atomic_store(&lane->reached, progress);
    }
    return ok && ghosts_load(&lane->applier.ghosts, shard, err);
}

/* ---- target transactions ---- */

static bool lane_begin(struct lane *lane, struct error *err)
{
    char epoch[24];
    const char *const values[] = {lane->stream_text, lane->number_text, epoch};
    snprintf(epoch, sizeof epoch, "%lld", (long long)lane->stream->epoch);
    lane->open = true;
    lane->open_changes = 0;
    lane->open_since_us = clock_monotonic_us();
    return pipeline_query(&lane->pipeline, "BEGIN", 0, NULL, EXPECT_OK, err) &&
           pipeline_execute(&lane->pipeline, "lane_lock",
                            &(struct parameters){.count = 3, .values = values},
                            &(struct expectation){.kind = EXPECT_OURS}, err);
}

static void lane_count_commit(struct lane *lane)
{
    struct lane_counts *open = &lane->open_counts;
    pthread_mutex_lock(&lane->counts_lock);
    lane->counts.applied += open->applied;
    lane->counts.discarded += open->discarded;
    lane->counts.skipped += open->skipped;
    lane->counts.transactions += open->transactions;
    if (open->transactions > 0) {
        int64_t lag_us = clock_wall_us() - pg_epoch_us - lane->open_oldest_time;
        unsigned slot = lag_us > 0 ? 63 - (unsigned)__builtin_clzll((uint64_t)lag_us) : 0;
        lane->counts.lag_histogram[slot] += open->transactions;
        if (lag_us > lane->counts.lag_us_max)
            lane->counts.lag_us_max = lag_us;
    }
    pthread_mutex_unlock(&lane->counts_lock);
    *open = (struct lane_counts){0};
}

static bool lane_send_progress(struct lane *lane, lsn_t progress, struct error *err)
{
    char position[LSN_TEXT_SIZE], partial_lsn[LSN_TEXT_SIZE], partial[12], changes[24], time_us[24];
    char marker[24];
    bool cut = lane->partial_lsn != 0 && progress <= lane->partial_lsn; /* perhaps before a crash */
    snprintf(partial, sizeof partial, "%u", cut ? lane->partial : 0);
    snprintf(changes, sizeof changes, "%llu", (unsigned long long)lane->open_counts.applied);
    snprintf(time_us, sizeof time_us, "%lld", (long long)lane->open_commit_time);
    snprintf(marker, sizeof marker, "%lld", (long long)lane->open_marker);
    const char *const values[] = {lane->stream_text,
                                  lane->number_text,
                                  lsn_text(progress, position),
                                  cut ? lsn_text(lane->partial_lsn, partial_lsn) : NULL,
                                  partial,
                                  changes,
                                  lane->open_commit_time != 0 ? time_us : NULL,
                                  marker};
    return pipeline_execute(&lane->pipeline, "lane_progress",
                            &(struct parameters){.count = 8, .values = values},
                            &(struct expectation){.kind = EXPECT_OURS}, err);
}

/* What a switch believes must outlive a crash of this server, however others commit. */
static bool lane_send_durable(struct lane *lane, struct error *err)
{
    return lane->open_marker == 0 ||
           pipeline_query(&lane->pipeline, "SET LOCAL synchronous_commit = on", 0, NULL, EXPECT_OK,
                          err);
}

static void lane_free_answered(struct lane *lane)
{
    while (lane->batches != NULL && lane->batches->answered_at <= lane->pipeline.answered &&
           lane->batches != lane->batches_last) {
        struct batch *next = lane->batches->next;
        batch_free(lane->batches);
        lane->batches = next;
    }
}

/*
 * Ends the target transaction, waits until it is durable, and believes it only then (step 4). COMMIT is
 * not sent before every answer is there: that a change touched no row, or that the epoch is another's,
 * is no error to the server, and it would commit.
 */
static bool lane_commit(struct lane *lane, struct error *err)
{
    lsn_t progress = lane->open_end > lane_progress(lane) ? lane->open_end : lane_progress(lane);
    bool ok = applier_flush(&lane->applier, err) && pipeline_flush(&lane->pipeline, err) &&
              pipeline_wait(&lane->pipeline, lane->pipeline.sent, err) &&
              lane_send_progress(lane, progress, err) && lane_send_durable(lane, err) &&
              pipeline_query(&lane->pipeline, "COMMIT", 0, NULL, EXPECT_OK, err) &&
              pipeline_sync(&lane->pipeline, err) &&
              pipeline_wait(&lane->pipeline, lane->pipeline.sent, err);
    if (!ok)
        return false;
    atomic_store(&lane->progress, progress);
    lane->open = false;
    lane_passed_marker(lane, lane->open_marker);
    lane->open_marker = 0;
    lane->progress_written_us = clock_monotonic_us();
    for (unsigned r = 0; r < lane->resets_count; r++)
        holds_reset_end(lane->stream->holds, lane->resets[r]);
    lane->resets_count = 0;
    lane_count_commit(lane);
    return true;
}

/* ---- applying ---- */

/* An emptied table whose copy is not over begins again, in the same transaction (R13). */
static bool lane_reset_table(struct lane *lane, const struct mapping *mapping, struct error *err)
{
    const char *const values[] = {mapping->name};
    return pipeline_query(&lane->pipeline,
                          "UPDATE portage.range SET cursor = NULL, done = false, rows = 0,"
                          " bytes = 0 WHERE mapping = $1",
                          1, values, EXPECT_OK, err) &&
           pipeline_query(&lane->pipeline, "DELETE FROM portage.chunk WHERE mapping = $1", 1,
                          values, EXPECT_OK, err);
}

static bool lane_apply(struct lane *lane, struct change *change, struct error *err)
{
    if (!lane->open && !lane_begin(lane, err))
        return false;
    lane->open_changes++;
    lane->open_counts.applied++;
    bool alone = change->lsn <= atomic_load(lane->stream->suspect);
    return applier_take(&lane->applier, change, &lane->batches_last->arena, alone, err);
}

static bool lane_apply_truncate(struct lane *lane, struct change *change, struct error *err)
{
    struct stream *stream = lane->stream;
    bool back = stream->config->reversed; /* nothing is copied */
    if (lane->number != stream_first_lane(stream, change->mapping, 0)) { /* that one does it */
        if (!(back && change->partial))
            ghosts_forget_table(&lane->applier.ghosts, change->mapping);
        return true;
    }
    if (back || (!change->partial && holds_steady_on(stream->holds, change->mapping, lane->shard)))
        return lane_apply(lane, change, err);
    CHECK(lane->resets_count < sizeof lane->resets / sizeof lane->resets[0]);
    while (!holds_reset_begin(stream->holds, change->mapping, lane->shard, change->xid,
                              change->lsn)) {
        if (stop_requested(stream->stop))
            return stop_error(err);
        holds_wait(stream->holds, STALL_WAIT_US);
    }
    lane->resets[lane->resets_count++] = change->mapping;
    return lane_apply(lane, change, err) && lane_reset_table(lane, change->mapping, err);
}

/* All that committed before `lsn` has been judged: the copier may be waiting for that (step 5). */
static void lane_reach(struct lane *lane, lsn_t lsn)
{
    if (lsn > lane_reached(lane))
        atomic_store(&lane->reached, lsn);
}

/*
 * Step 5: a change on hold stalls the whole lane. What came before is made durable meanwhile, also inside
 * a transaction: a source that waits for our confirmation would stand still otherwise.
 */
static bool lane_stall(struct lane *lane, const struct change *change, struct error *err)
{
    if (stop_requested(lane->stream->stop))
        return stop_error(err);
    if (!lane->inside && change->lsn > lane->open_end)
        lane->open_end = change->lsn;
    if (!lane->inside && !lane->open && lane->open_end > lane_progress(lane) &&
        !lane_begin(lane, err))
        return false;
    if (lane->open && !lane_commit(lane, err))
        return false;
    holds_wait(lane->stream->holds, STALL_WAIT_US);
    return true;
}

static void lane_enter(struct lane *lane, const struct change *change)
{
    lane->inside = true;
    lane->partial_lsn = change->lsn;
    lane->partial = change->ordinal;
}

static bool lane_row_change(struct lane *lane, struct change *change, struct error *err)
{
    for (;;) {
        enum verdict verdict = holds_judge(lane->stream->holds, lane->shard, change);
        if (verdict == VERDICT_STALL) {
            if (!lane_stall(lane, change, err))
                return false;
            continue;
        }
        lane_enter(lane, change);
        if (verdict == VERDICT_APPLY)
            return lane_apply(lane, change, err);
        if (verdict == VERDICT_DISCARD)
            lane->open_counts.discarded++;
        else
            lane->open_counts.skipped++;
        return true;
    }
}

static bool lane_end_transaction(struct lane *lane, const struct change *change, struct error *err)
{
    lane->inside = false;
    lane->partial_lsn = 0;
    lane->open_end = change->lsn;
    lane->open_commit_time = change->commit_time;
    if (lane->open_counts.transactions++ == 0)
        lane->open_oldest_time = change->commit_time;
    lane_reach(lane, change->lsn);
    if (!lane->open)
        return true; /* nothing applied: the progress waits for the next commit or for idleness */
    bool full = lane->open_changes >= TRANSACTION_CHANGES_MAX ||
                clock_monotonic_us() - lane->open_since_us >= TRANSACTION_US_MAX;
    return !full || lane_commit(lane, err);
}

/* Somebody waits for it, and for all that came before it: nothing is gathered any more. */
static bool lane_marker(struct lane *lane, const struct change *change, struct error *err)
{
    if (!lane->open && !lane_begin(lane, err))
        return false;
    lane->open_marker = change->marker;
    return lane_end_transaction(lane, change, err) && (!lane->open || lane_commit(lane, err));
}

static bool lane_barrier(struct lane *lane, struct error *err)
{
    if (lane->open && !lane_commit(lane, err))
        return false;
    atomic_fetch_add(&lane->barriers, 1);
    return true;
}

/* Step 2: what lies at or below the progress has been applied before. */
static bool lane_has_done(const struct lane *lane, const struct change *change, lsn_t progress)
{
    if (change->op == CHANGE_COMMIT || change->op == CHANGE_MARKER)
        return change->lsn <= progress;
    return change->lsn < progress ||
           (change->lsn == lane->partial_lsn && change->ordinal <= lane->partial);
}

static bool lane_take(struct lane *lane, struct change *change, struct error *err)
{
    if (change->op == CHANGE_BARRIER)
        return lane_barrier(lane, err);
    if (lane_has_done(lane, change, lane_progress(lane)))
        return true;
    if (change->op == CHANGE_COMMIT)
        return lane_end_transaction(lane, change, err);
    if (change->op == CHANGE_MARKER)
        return lane_marker(lane, change, err);
    lane_reach(lane, change->lsn);
    if (change->op != CHANGE_TRUNCATE)
        return lane_row_change(lane, change, err);
    lane_enter(lane, change);
    return lane_apply_truncate(lane, change, err);
}

/* Takes the batch over; keeps it until the server has answered for it (invariant 2). */
static bool lane_take_batch(struct lane *lane, struct batch *batch, struct error *err)
{
    uint64_t before = lane->pipeline.sent;
    if (lane->batches_last != NULL && lane->batches != NULL)
        lane->batches_last->next = batch;
    else
        lane->batches = batch;
    lane->batches_last = batch;
    for (struct change *change = batch->first; change != NULL; change = change->next) {
        if (!lane_take(lane, change, err))
            return false;
    }
    if (!applier_flush(&lane->applier, err)) /* what waits is of this batch only */
        return false;
    batch->answered_at = lane->pipeline.sent;
    /* One batch on its way while the next is made: the server has work, and memory a bound. */
    if (!pipeline_flush(&lane->pipeline, err) || !pipeline_wait(&lane->pipeline, before, err))
        return false;
    lane_free_answered(lane);
    return true;
}

/* The queue is empty: end what can end, and let the position follow the receiver's. */
static bool lane_idle(struct lane *lane, lsn_t dispatched, struct error *err)
{
    if (lane->inside)
        return true;
    if (lane->open && !lane_commit(lane, err))
        return false;
    if (dispatched > lane_reached(lane)) {
        lane_reach(lane, dispatched);
        lane->open_end = dispatched;
        lane->open_commit_time = atomic_load(&lane->stream->dispatched_time);
    }
    bool due = clock_monotonic_us() - lane->progress_written_us >= PROGRESS_EVERY_US;
    if (lane->open_end <= lane_progress(lane) || !due)
        return true;
    return lane_begin(lane, err) && lane_commit(lane, err);
}

/*
 * How long the open transaction waits for more, when nothing else is there: a commit for every batch
 * would cost the shard as much as the changes. Who commits seldom does not wait at all.
 */
static int64_t lane_rest_us(const struct lane *lane)
{
    int64_t since_us = clock_monotonic_us() - lane->progress_written_us;
    return lane->open && !lane->inside && since_us < COMMIT_EVERY_US ? COMMIT_EVERY_US - since_us
                                                                     : 0;
}

static bool lane_loop(struct lane *lane, struct error *err)
{
    while (!stop_requested(lane->stream->stop)) {
        struct batch *batch;
        /* Read before the backlog: whatever was dispatched up to here is in it, or was. */
        lsn_t dispatched = atomic_load(&lane->stream->dispatched);
        int64_t rest_us = lane_rest_us(lane);
        enum backlog_result got = backlog_pop(lane->backlog, &batch, rest_us, err);
        if (got == BACKLOG_TIMEOUT && rest_us == 0) {
            if (!lane_idle(lane, dispatched, err))
                return false;
            got = backlog_pop(lane->backlog, &batch, IDLE_WAIT_US, err);
        }
        if (got == BACKLOG_FAILED || (got == BACKLOG_OK && !lane_take_batch(lane, batch, err)))
            return false;
    }
    return true;
}

static bool lane_run(struct lane *lane, struct error *err)
{
    char purpose[32];
    snprintf(purpose, sizeof purpose, "lane %u", lane->number);
    lane->conn = conn_open(lane->conninfo, CONN_APPLY, purpose, err);
    if (lane->conn == NULL)
        return false;
    bool ok = conn_pin_plans(lane->conn, err) &&
           pipeline_init(&lane->pipeline, lane->conn, lane->stream->stop, err) &&
              pipeline_prepare(&lane->pipeline, "lane_lock", lock_sql, err) &&
              pipeline_prepare(&lane->pipeline, "lane_progress", progress_sql, err) &&
              lane_loop(lane, err);
    if (lane->pipeline.suspect > atomic_load(lane->stream->suspect))
        atomic_store(lane->stream->suspect, lane->pipeline.suspect);
    pipeline_release(&lane->pipeline);
    conn_close(lane->conn);
    lane->conn = NULL;
    return ok;
}

/*
 * On the way back a violation of a constraint may need what another shard's stream has still to bring:
 * it is no verdict yet. The other streams go on a while before all begin again.
 */
static void wait_for_others(struct lane *lane, struct error *err)
{
    bool constraint =
        strcmp(err->sqlstate, "23505") == 0 || strcmp(err->sqlstate, "23503") == 0;
    if (lane->stream->rivals == 0 || !constraint)
        return;
    err->class = ERROR_RETRY;
    stop_wait(lane->stream->stop, OTHERS_WAIT_US);
}

void *lane_main(void *argument)
{
    struct lane *lane = argument;
    struct error err = ERROR_INIT;
    char subject[32];
    snprintf(subject, sizeof subject, "shard %u lane %u", lane->shard, lane->number);
    log_set_subject(subject);
    if (!lane_run(lane, &err)) {
        wait_for_others(lane, &err);
        error_context(&err, "shard %u, lane %u", lane->shard, lane->number);
        stop_fail(lane->stream->stop, &err);
    }
    return NULL;
}
