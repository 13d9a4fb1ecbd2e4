#include "run/engine.h"

#include <pthread.h>
#include <stdatomic.h>

#include "copy/copier.h"
#include "pg/conn.h"
#include "run/deferred.h"
#include "run/direction.h"
#include "run/gates.h"
#include "run/prepare.h"
#include "run/proof.h"
#include "run/report.h"
#include "run/rest.h"
#include "run/wal_watch.h"
#include "run/watch.h"
#include "state/journal.h"
#include "switchover/acting.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    TICK_US = 50 * 1000, /* how soon a switch is noticed, too */
    LOCK_CHECK_US = 1000 * 1000,
};

enum stage { STAGE_COPYING, STAGE_INDEXING, STAGE_READY, STAGE_BACKWARD };

static const char *const stage_names[] = {"copying", "indexing", "ready", "backward"};

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
    struct flow *flows; /* forward one, backward one a shard */
    unsigned flows_count;
    struct backward *backward; /* NULL forward */
    struct rest *rest;
    struct inflight *inflight;
    struct copier *copier;
    bool copier_runs;
    struct builder *builders; /* one a shard */
    bool builders_run;
    struct proof *proof; /* verify, when it is ready and asked for */
    enum stage stage;
    bool indexing_known; /* what waits has been asked for */
    struct watch *watches; /* one a flow: of what it comes from */
    struct gates gates;
    struct wal_watch wal;
    struct report report;
    int64_t lock_checked_us;
    bool turned; /* it ended because the other side is live now */
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
        holds_load_range(engine->flows[0].stream.holds, shard, &ranges[r]);
    for (unsigned c = 0; c < chunks_count; c++) {
        if (!holds_load_chunk(engine->flows[0].stream.holds, shard, &chunks[c], err))
            return false;
    }
    return true;
}

static bool load_forward(struct engine *engine, struct error *err)
{
    struct migration *migration = engine->migration;
    uint64_t xmax;
    for (unsigned s = 0; s < migration->shards_count; s++) {
        if (!load_holds(engine, s, err))
            return error_context(err, "reading the state of shard %u", s);
    }
    if (!flow_load_lanes(&engine->flows[0], err) ||
        !inflight_take(engine->inflight, migration->source, &xmax, err))
        return false;
    holds_set_xmax(engine->flows[0].stream.holds, xmax);
    return true;
}

static bool load_backward(struct engine *engine, struct error *err)
{
    for (unsigned f = 0; f < engine->flows_count; f++) {
        flow_load_steady(&engine->flows[f]);
        if (!flow_load_lanes(&engine->flows[f], err))
            return error_context(err, "the way back from shard %u", f);
    }
    return true;
}

static void engine_init(struct engine *engine, _Atomic lsn_t *suspects)
{
    struct migration *migration = engine->migration;
    struct backward *backward = engine->backward;
    stop_init(&engine->stop);
    arena_init(&engine->arena, 64 * 1024);
    engine->inflight = inflight_new();
    engine->flows_count = backward != NULL ? backward->count : 1;
    engine->flows = check_calloc(engine->flows_count, sizeof *engine->flows);
    engine->watches = check_calloc(engine->flows_count, sizeof *engine->watches);
    for (unsigned f = 0; f < engine->flows_count; f++) {
        flow_init(&engine->flows[f], backward != NULL ? &backward->ways[f] : migration, f,
                  engine->epoch, &suspects[f], &engine->stop);
        engine->flows[f].stream.rivals = engine->flows_count - 1;
        watch_init(&engine->watches[f], engine->flows[f].migration);
    }
    engine->builders = check_calloc(migration->shards_count, sizeof *engine->builders);
}

static void engine_release(struct engine *engine)
{
    copier_free(engine->copier);
    for (unsigned f = 0; f < engine->flows_count; f++) {
        watch_release(&engine->watches[f]);
        flow_release(&engine->flows[f]);
    }
    free(engine->watches);
    inflight_free(engine->inflight);
    free(engine->flows);
    free(engine->builders);
    arena_release(&engine->arena);
    stop_release(&engine->stop);
}

/* ---- threads ---- */

static void thread_start(pthread_t *thread, void *(*main)(void *), void *argument)
{
    CHECK(pthread_create(thread, NULL, main, argument) == 0);
}

static void start_threads(struct engine *engine)
{
    for (unsigned f = 0; f < engine->flows_count; f++)
        flow_start(&engine->flows[f]);
    if (engine->backward != NULL) {
        engine->stage = STAGE_BACKWARD;
        engine->rest = rest_start(engine->migration->config, SIDE_TARGET, engine->epoch,
                                  &engine->stop);
        return;
    }
    engine->stage = flow_all(&engine->flows[0], holds_steady) ? STAGE_INDEXING : STAGE_COPYING;
    if (engine->stage == STAGE_COPYING) {
        engine->copier = copier_new(&engine->flows[0].stream, engine->inflight);
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
    rest_end(engine->rest);
    for (unsigned f = 0; f < engine->flows_count; f++)
        flow_join(&engine->flows[f]);
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
        log_info("foreign keys and triggers come with the cutover: they would act on what is applied, as"
                 " \"%s\" may not set session_replication_role",
                 PQuser(conn));
    if (conn == NULL || !deferred_build(conn, &engine->stop, &err) ||
        (keys && !acting_build(conn, &engine->stop, &err))) {
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
    for (unsigned s = 0; s < engine->migration->shards_count; s++) {
        lsn_t progress = flow_progress(&engine->flows[0], s);
        if (!chunk_drop(engine->migration->shards[s], progress, err))
            return false;
        holds_drop_chunks(engine->flows[0].stream.holds, s, progress);
    }
    return true;
}

static bool supervise_copy(struct engine *engine, struct error *err)
{
    if (!drop_chunks(engine, err))
        return false;
    if (!flow_all(&engine->flows[0], holds_steady))
        return true;
    if (!watch_look(&engine->watches[0], true, err)) /* before indexes, what has appeared meanwhile */
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
    engine->rest =
        rest_start(engine->migration->config, SIDE_SOURCE, engine->epoch, &engine->stop);
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

/* A switch has changed it: what goes the other way begins anew. */
static bool check_direction(struct engine *engine, struct error *err)
{
    enum which_side live, ours = engine->backward != NULL ? SIDE_TARGET : SIDE_SOURCE;
    if (!journal_live(engine->migration->control, &live, err))
        return false;
    if (live == ours)
        return true;
    engine->turned = true;
    return error_set(err, ERROR_RETRY, "the %s is live now",
                     side_name(live));
}

/* A TRUNCATE may set a table back to its beginning at the very moment when its copy was over. */
static bool check_steady(struct engine *engine, struct error *err)
{
    return engine->stage == STAGE_COPYING || flow_all(&engine->flows[0], holds_steady) ||
           error_set(err, ERROR_RETRY, "a table was emptied and is to be copied again");
}

static bool supervise_forward(struct engine *engine, struct error *err)
{
    bool quiet = engine->stage == STAGE_READY;
    if (!watch_source(&engine->watches[0], quiet, err) || !check_steady(engine, err))
        return false;
    if (engine->stage == STAGE_COPYING && !supervise_copy(engine, err))
        return false;
    return engine->stage != STAGE_INDEXING || supervise_indexing(engine, err);
}

static bool supervise_backward(struct engine *engine, struct error *err)
{
    for (unsigned f = 0; f < engine->flows_count; f++) {
        if (!watch_source(&engine->watches[f], true, err))
            return error_context(err, "the way back from shard %u", f);
    }
    return true;
}

static bool supervise(struct engine *engine, struct error *err)
{
    while (!stop_wait(&engine->stop, TICK_US)) {
        if (stop_requested(engine->outer))
            return stop_error(err);
        if (!check_lock(engine, err) || !check_direction(engine, err) ||
            !wal_watch_look(&engine->wal, err) ||
            !report_tell(&engine->report, stage_names[engine->stage],
                         engine->stage == STAGE_COPYING, err))
            return false;
        if (!(engine->backward != NULL ? supervise_backward(engine, err)
                                       : supervise_forward(engine, err)))
            return false;
        if ((engine->backward != NULL || engine->stage == STAGE_READY) &&
            !gates_tend(&engine->gates, err))
            return false;
    }
    *err = engine->stop.err;
    return false;
}

bool engine_run(struct migration *migration, struct backward *backward, PGconn *lock, int64_t epoch,
                _Atomic lsn_t *suspects, struct stop *outer, bool *turned, struct error *err)
{
    struct engine engine = {.migration = migration,
                            .backward = backward,
                            .lock = lock,
                            .epoch = epoch,
                            .outer = outer};
    engine_init(&engine, suspects);
    gates_init(&engine.gates, migration);
    engine.wal = (struct wal_watch){.migration = migration,
                                    .live = backward != NULL ? SIDE_TARGET : SIDE_SOURCE,
                                    .epoch = epoch};
    bool ok = backward != NULL ? load_backward(&engine, err) : load_forward(&engine, err);
    if (ok) {
        report_init(&engine.report, migration, engine.flows, engine.flows_count);
        start_threads(&engine);
        ok = supervise(&engine, err);
        end_threads(&engine);
        report_release(&engine.report);
    }
    gates_release(&engine.gates);
    *turned = engine.turned;
    engine_release(&engine);
    return ok;
}
