#include "run/engine.h"

#include <stdatomic.h>

#include "copy/copier.h"
#include "pg/conn.h"
#include "run/deferred.h"
#include "run/gates.h"
#include "run/prepare.h"
#include "run/proof.h"
#include "run/report.h"
#include "run/watch.h"
#include "stream/receiver.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    TICK_US = 100 * 1000,
    LOCK_CHECK_US = 1000 * 1000,
};

enum stage { STAGE_COPYING, STAGE_INDEXING, STAGE_READY };

static const char *const stage_names[] = {"copying", "indexing", "ready"};

struct builder {
    struct engine *engine;
    unsigned shard;
    pthread_t thread;
    atomic_bool done;
};

struct engine {
    struct migration *migration;
    PGconn *lock;
    int64_t epoch;
    struct stop *outer;
    struct stop stop; /* of this incarnation */
    struct arena arena; /* keys of the loaded state */
    struct stream stream;
    struct inflight *inflight;
    struct receiver receiver;
    pthread_t *lane_threads;
    pthread_t receiver_thread;
    struct copier *copier;
    bool copier_runs;
    struct builder *builders; /* one a shard */
    bool builders_run;
    struct proof *proof; /* verify, when it is ready and asked for */
    enum stage stage;
    bool indexing_known; /* what waits has been asked for */
    struct watch watch;
    struct gates gates;
    struct report report;
    int64_t lock_checked_us;
};

/* ---- loading what is durable ---- */

static bool load_holds(struct engine *engine, unsigned shard, struct error *err)
{
    const struct mapping_set *set = &engine->migration->set;
    PGconn *conn = engine->migration->shards[shard];
    struct range_row *ranges;
    struct chunk_row *chunks;
    unsigned ranges_count, chunks_count;
    if (!range_load(conn, set, &engine->arena, &ranges, &ranges_count, err) ||
        !chunk_load(conn, set, &engine->arena, &chunks, &chunks_count, err))
        return false;
    for (unsigned r = 0; r < ranges_count; r++)
        holds_load_range(engine->stream.holds, shard, &ranges[r]);
    for (unsigned c = 0; c < chunks_count; c++) {
        if (!holds_load_chunk(engine->stream.holds, shard, &chunks[c], err))
            return false;
    }
    return true;
}

static bool load_lanes(struct engine *engine, unsigned shard, struct error *err)
{
    const struct config *config = engine->migration->config;
    for (unsigned l = 0; l < (unsigned)config->lanes; l++) {
        struct lane *lane = lane_new(&engine->stream, shard, l, config->shards[shard].text);
        engine->stream.lanes[shard * (unsigned)config->lanes + l] = lane;
        if (!lane_load(lane, engine->migration->shards[shard], err))
            return false;
    }
    return true;
}

static lsn_t least_progress(const struct stream *stream, unsigned first, unsigned count)
{
    lsn_t least = lane_progress(stream->lanes[first]);
    for (unsigned l = first + 1; l < first + count; l++) {
        lsn_t progress = lane_progress(stream->lanes[l]);
        least = progress < least ? progress : least;
    }
    return least;
}

static bool load(struct engine *engine, struct error *err)
{
    struct migration *migration = engine->migration;
    struct stream *stream = &engine->stream;
    uint64_t xmax;
    for (unsigned s = 0; s < migration->shards_count; s++) {
        if (!load_holds(engine, s, err) || !load_lanes(engine, s, err))
            return error_context(err, "reading the state of shard %u", s);
    }
    if (!inflight_take(engine->inflight, migration->source, &xmax, err))
        return false;
    holds_set_xmax(stream->holds, xmax);
    engine->receiver = (struct receiver){
        .stream = stream,
        .conninfo = migration->config->source.text,
        .slot = migration->config->slot,
        .publication = migration->config->publication,
        .start = least_progress(stream, 0, stream->lanes_count),
    };
    atomic_store(&stream->dispatched, engine->receiver.start);
    return true;
}

static void engine_init(struct engine *engine)
{
    struct migration *migration = engine->migration;
    const struct config *config = migration->config;
    stop_init(&engine->stop);
    arena_init(&engine->arena, 64 * 1024);
    engine->inflight = inflight_new();
    engine->stream = (struct stream){
        .config = config,
        .mappings = &migration->set,
        .holds = holds_new(&migration->set),
        .stop = &engine->stop,
        .epoch = engine->epoch,
        .lanes_count = migration->shards_count * (unsigned)config->lanes,
    };
    engine->stream.lanes = check_calloc(engine->stream.lanes_count, sizeof(struct lane *));
    engine->lane_threads = check_calloc(engine->stream.lanes_count, sizeof(pthread_t));
    engine->builders = check_calloc(migration->shards_count, sizeof *engine->builders);
}

static void engine_release(struct engine *engine)
{
    for (unsigned l = 0; l < engine->stream.lanes_count; l++)
        lane_free(engine->stream.lanes[l]);
    holds_free(engine->stream.holds);
    copier_free(engine->copier);
    inflight_free(engine->inflight);
    free(engine->stream.lanes);
    free(engine->lane_threads);
    free(engine->builders);
    arena_release(&engine->arena);
    stop_release(&engine->stop);
}

/* ---- threads ---- */

static void thread_start(pthread_t *thread, void *(*main)(void *), void *argument)
{
    CHECK(pthread_create(thread, NULL, main, argument) == 0);
}

static bool all_mappings(const struct engine *engine,
                         bool (*holds)(struct holds *, const struct mapping *))
{
    const struct mapping_set *set = &engine->migration->set;
    for (unsigned m = 0; m < set->count; m++) {
        if (!holds(engine->stream.holds, &set->mappings[m]))
            return false;
    }
    return true;
}

static void start_threads(struct engine *engine)
{
    for (unsigned l = 0; l < engine->stream.lanes_count; l++)
        thread_start(&engine->lane_threads[l], lane_main, engine->stream.lanes[l]);
    thread_start(&engine->receiver_thread, receiver_main, &engine->receiver);
    engine->stage = all_mappings(engine, holds_steady) ? STAGE_INDEXING : STAGE_COPYING;
    if (engine->stage == STAGE_COPYING) {
        engine->copier = copier_new(&engine->stream, engine->inflight);
        copier_start(engine->copier);
        engine->copier_runs = true;
    }
}

static void end_copier(struct engine *engine)
{
    if (engine->copier_runs)
        copier_finish(engine->copier);
    engine->copier_runs = false;
}

static void end_builders(struct engine *engine)
{
    for (unsigned s = 0; engine->builders_run && s < engine->migration->shards_count; s++)
        pthread_join(engine->builders[s].thread, NULL);
    engine->builders_run = false;
}

static void end_threads(struct engine *engine)
{
    stop_request(&engine->stop);
    end_copier(engine);
    end_builders(engine);
    proof_end(engine->proof);
    pthread_join(engine->receiver_thread, NULL);
    for (unsigned l = 0; l < engine->stream.lanes_count; l++)
        pthread_join(engine->lane_threads[l], NULL);
}

static void *builder_main(void *argument)
{
    struct builder *builder = argument;
    struct engine *engine = builder->engine;
    struct error err = ERROR_INIT;
    char subject[32];
    snprintf(subject, sizeof subject, "shard %u indexes", builder->shard);
    log_set_subject(subject);
    /* as the lanes do, so that it shows what they may */
    PGconn *conn = conn_open(engine->migration->config->shards[builder->shard].text, CONN_APPLY,
                             "indexes", &err);
    bool keys = conn != NULL && conn_is_replica_role(conn);
    if (conn != NULL && !keys)
        log_warning("foreign keys and triggers wait for the cutover: GRANT SET ON PARAMETER"
                    " session_replication_role TO \"%s\" would let them be built now",
                    PQuser(conn));
    if (conn == NULL || !deferred_build(conn, keys, &engine->stop, &err)) {
        error_context(&err, "shard %u", builder->shard);
        stop_fail(&engine->stop, &err);
    }
    conn_close(conn);
    atomic_store(&builder->done, true);
    return NULL;
}

static void start_builders(struct engine *engine)
{
    for (unsigned s = 0; s < engine->migration->shards_count; s++) {
        engine->builders[s] = (struct builder){.engine = engine, .shard = s};
        thread_start(&engine->builders[s].thread, builder_main, &engine->builders[s]);
    }
    engine->builders_run = true;
}

/* ---- supervision ---- */

/* Step 8. */
static bool drop_chunks(struct engine *engine, struct error *err)
{
    unsigned lanes = (unsigned)engine->migration->config->lanes;
    for (unsigned s = 0; s < engine->migration->shards_count; s++) {
        lsn_t progress = least_progress(&engine->stream, s * lanes, lanes);
        if (!chunk_drop(engine->migration->shards[s], progress, err))
            return false;
        holds_drop_chunks(engine->stream.holds, s, progress);
    }
    return true;
}

static bool supervise_copy(struct engine *engine, struct error *err)
{
    if (!drop_chunks(engine, err))
        return false;
    if (!all_mappings(engine, holds_steady))
        return true;
    if (!watch_look(&engine->watch, true, err)) /* before indexes, what has appeared meanwhile */
        return false;
    end_copier(engine);
    engine->stage = STAGE_INDEXING;
    return phase_set(engine->migration->shards[0], engine->epoch, "indexing", err);
}

static bool builders_done(const struct engine *engine)
{
    for (unsigned s = 0; s < engine->migration->shards_count; s++) {
        if (!atomic_load(&engine->builders[s].done))
            return false;
    }
    return true;
}

static bool supervise_indexing(struct engine *engine, struct error *err)
{
    if (!engine->builders_run)
        start_builders(engine);
    if (!builders_done(engine) || stop_requested(&engine->stop))
        return true;
    end_builders(engine);
    engine->stage = STAGE_READY;
    if (!phase_set(engine->migration->shards[0], engine->epoch, "ready", err))
        return false;
    if (engine->migration->config->verify_every_s > 0)
        engine->proof = proof_start(engine->migration, &engine->stop);
    return true;
}

/* A session that is gone took the lock with it. */
static bool check_lock(struct engine *engine, struct error *err)
{
    int64_t now_us = clock_monotonic_us();
    if (now_us - engine->lock_checked_us < LOCK_CHECK_US)
        return true;
    engine->lock_checked_us = now_us;
    return conn_exec(engine->lock, "SELECT 1", err) ||
           error_context(err, "keeping the instance lock");
}

/* A TRUNCATE may set a table back to its beginning at the very moment when its copy was over. */
static bool check_steady(struct engine *engine, struct error *err)
{
    return engine->stage == STAGE_COPYING || all_mappings(engine, holds_steady) ||
           error_set(err, ERROR_RETRY, "a table was emptied and is to be copied again");
}

static bool supervise(struct engine *engine, struct error *err)
{
    while (!stop_wait(&engine->stop, TICK_US)) {
        if (stop_requested(engine->outer))
            return stop_error(err);
        bool quiet = engine->stage == STAGE_READY;
        if (!check_lock(engine, err) || !watch_source(&engine->watch, quiet, err) ||
            !report_tell(&engine->report, stage_names[engine->stage],
                         engine->stage == STAGE_COPYING, err) ||
            !check_steady(engine, err))
            return false;
        if (engine->stage == STAGE_COPYING && !supervise_copy(engine, err))
            return false;
        if (engine->stage == STAGE_INDEXING && !supervise_indexing(engine, err))
            return false;
        if (engine->stage == STAGE_READY && !gates_tend(&engine->gates, err))
            return false;
    }
    *err = engine->stop.err;
    return false;
}

bool engine_run(struct migration *migration, PGconn *lock, int64_t epoch, _Atomic lsn_t *suspect,
                struct stop *outer, struct error *err)
{
    struct engine engine = {
        .migration = migration, .lock = lock, .epoch = epoch, .outer = outer};
    engine_init(&engine);
    engine.stream.suspect = suspect;
    watch_init(&engine.watch, migration);
    gates_init(&engine.gates, migration);
    bool ok = load(&engine, err);
    if (ok) {
        report_init(&engine.report, migration, &engine.stream);
        start_threads(&engine);
        ok = supervise(&engine, err);
        end_threads(&engine);
        report_release(&engine.report);
    }
    gates_release(&engine.gates);
    watch_release(&engine.watch);
    engine_release(&engine);
    return ok;
}
