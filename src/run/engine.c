#include "run/engine.h"

#include "copy/copier.h"
#include "pg/conn.h"
#include "pg/quote.h"
#include "run/builders.h"
#include "run/gates.h"
#include "run/load.h"
#include "run/prepare.h"
#include "run/proof.h"
#include "run/rejected.h"
#include "run/report.h"
#include "run/rest.h"
#include "run/spilled.h"
#include "run/validator.h"
#include "run/wal_watch.h"
#include "run/watch.h"
#include "state/journal.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    TICK_US = 50 * 1000, /* how soon a switch is noticed, too */
    LOCK_CHECK_US = 1000 * 1000,
};

enum stage { STAGE_COPYING, STAGE_INDEXING, STAGE_READY, STAGE_BACKWARD };

static const char *const stage_names[] = {"copying", "indexing", "ready", "backward"};

struct engine {
    struct migration *migration;
    PGconn *lock;
    int64_t epoch;
    struct stop *outer;
    struct stop stop; /* of this incarnation */
    struct arena arena; /* keys of the loaded state */
    const char *whole_tables; /* names of those with whole_lane, as an array of texts */
    struct flow *flows; /* forward one, backward one a shard */
    unsigned flows_count;
    struct backward *backward; /* NULL forward */
    struct rest *rest;
    struct validator *validator;
    struct inflight *inflight;
    struct copier *copier;
    bool copier_runs;
    struct builders *builders; /* NULL but in STAGE_INDEXING */
    struct proof *proof; /* verify, when it is ready and asked for */
    enum stage stage;
    struct load load;
    struct watch *watches; /* one a flow: of what it comes from */
    struct gates gates;
    struct wal_watch wal;
    struct rejected rejected;
    struct report report;
    struct spilled spilled;
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

static const char *name_whole_tables(const struct mapping_set *set, struct arena *arena)
{
    struct buffer names;
    buffer_init(&names, 4 << 20);
    buffer_putc(&names, '{');
    for (unsigned m = 0; m < set->count; m++) {
        const struct mapping *mapping = &set->mappings[m];
        if (!mapping->whole_lane)
            continue;
        if (names.length > 1)
            buffer_putc(&names, ',');
        quote_element(&names, mapping->name, strlen(mapping->name));
    }
    buffer_putc(&names, '}');
    return arena_take(arena, &names);
}

static void engine_init(struct engine *engine, _Atomic lsn_t *suspects)
{
    struct migration *migration = engine->migration;
    struct backward *backward = engine->backward;
    stop_init(&engine->stop);
    arena_init(&engine->arena, 64 * 1024);
    engine->whole_tables = name_whole_tables(&migration->set, &engine->arena);
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
    arena_release(&engine->arena);
    stop_release(&engine->stop);
}

/* ---- threads ---- */

/* Whichever side is live: both are there. */
static void start_proof(struct engine *engine)
{
    if (engine->migration->config->verify_every_s > 0)
        engine->proof = proof_start(engine->migration, &engine->stop);
}

/* What looks after both sides once all rows are there. */
static void start_keepers(struct engine *engine, enum which_side live)
{
    const struct config *config = engine->migration->config;
    engine->rest = rest_start(config, live, engine->epoch, &engine->stop);
    engine->validator = validator_start(config, live, engine->epoch, &engine->stop);
    start_proof(engine);
}

static void start_threads(struct engine *engine)
{
    for (unsigned f = 0; f < engine->flows_count; f++)
        flow_start(&engine->flows[f]);
    if (engine->backward != NULL) {
        engine->stage = STAGE_BACKWARD;
        start_keepers(engine, SIDE_TARGET);
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

static void end_threads(struct engine *engine)
{
    stop_request(&engine->stop);
    end_copier(engine);
    builders_end(engine->builders);
    proof_end(engine->proof);
    rest_end(engine->rest);
    validator_end(engine->validator);
    for (unsigned f = 0; f < engine->flows_count; f++)
        flow_join(&engine->flows[f]);
}

/* ---- supervision ---- */

/* Step 8, of the tables of one kind: each kind has lanes of its own. */
static bool drop_chunks_of(struct engine *engine, unsigned shard, bool whole, struct error *err)
{
    const struct mapping_set *set = &engine->migration->set;
    const struct flow *flow = &engine->flows[0];
    lsn_t progress = 0;
    bool any = false;
    for (unsigned m = 0; m < set->count && !any; m++) {
        any = set->mappings[m].whole_lane == whole;
        if (any)
            progress = flow_progress(flow, shard, &set->mappings[m]);
    }
    if (any && !chunk_drop(engine->migration->shards[shard], engine->whole_tables, whole, progress,
                           err))
        return false;
    for (unsigned m = 0; m < set->count; m++) {
        if (set->mappings[m].whole_lane == whole)
            holds_drop_chunks(flow->stream.holds, &set->mappings[m], shard, progress);
    }
    return true;
}

static bool drop_chunks(struct engine *engine, struct error *err)
{
    for (unsigned s = 0; s < engine->migration->shards_count; s++) {
        if (!drop_chunks_of(engine, s, false, err) || !drop_chunks_of(engine, s, true, err))
            return false;
    }
    return true;
}

static bool supervise_copy(struct engine *engine, struct error *err)
{
    if (!drop_chunks(engine, err) || !load_watch(&engine->load, engine->copier, err))
        return false;
    if (!flow_all(&engine->flows[0], holds_steady))
        return true;
    if (!watch_look(&engine->watches[0], true, err)) /* before indexes, what has appeared meanwhile */
        return false;
    end_copier(engine);
    engine->stage = STAGE_INDEXING;
    /* Once more: of a chunk that committed between the two halves of a drop, the servers still have the row. */
    return load_end(&engine->load, err) && drop_chunks(engine, err) &&
           phase_set(engine->migration->shards[0], engine->epoch, "indexing", err);
}

static bool supervise_indexing(struct engine *engine, struct error *err)
{
    if (engine->builders == NULL)
        engine->builders = builders_start(engine->migration->config, &engine->stop);
    if (!builders_done(engine->builders) || stop_requested(&engine->stop))
        return true;
    builders_end(engine->builders);
    engine->builders = NULL;
    engine->stage = STAGE_READY;
    if (!phase_set(engine->migration->shards[0], engine->epoch, "ready", err))
        return false;
    start_keepers(engine, SIDE_SOURCE);
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
    return error_set(err, ERROR_RETRY, "the %s is live now", side_name(live));
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
    int64_t marker = atomic_load(&engine->flows[0].stream.marker);
    if (!watch_source(&engine->watches[0], quiet, marker, err) || !check_steady(engine, err))
        return false;
    if (engine->stage == STAGE_COPYING && !supervise_copy(engine, err))
        return false;
    return engine->stage != STAGE_INDEXING || supervise_indexing(engine, err);
}

static bool supervise_backward(struct engine *engine, struct error *err)
{
    for (unsigned f = 0; f < engine->flows_count; f++) {
        int64_t marker = atomic_load(&engine->flows[f].stream.marker);
        if (!watch_source(&engine->watches[f], true, marker, err))
            return error_context(err, "the way back from shard %u", f);
    }
    return true;
}

static enum telling telling(enum stage stage)
{
    return stage == STAGE_COPYING ? TELL_COPY : stage == STAGE_INDEXING ? TELL_INDEXES : TELL_STREAM;
}

static bool supervise(struct engine *engine, struct error *err)
{
    while (!stop_wait(&engine->stop, TICK_US)) {
        if (stop_requested(engine->outer))
            return stop_error(err);
        if (!check_lock(engine, err) || !check_direction(engine, err) ||
            !wal_watch_look(&engine->wal, err) ||
            !report_tell(&engine->report, stage_names[engine->stage], telling(engine->stage), err))
            return false;
        if (engine->backward != NULL && !supervise_backward(engine, err))
            return false;
        if (engine->backward == NULL &&
            (!supervise_forward(engine, err) || !spilled_tell(&engine->spilled, err)))
            return false;
        if ((engine->backward != NULL || engine->stage == STAGE_READY) &&
            (!gates_tend(&engine->gates, err) ||
             !rejected_tend(&engine->rejected, err)))
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
    load_init(&engine.load, migration);
    gates_init(&engine.gates, migration);
    engine.wal = (struct wal_watch){.migration = migration,
                                    .live = backward != NULL ? SIDE_TARGET : SIDE_SOURCE,
                                    .epoch = epoch};
    rejected_init(&engine.rejected, migration, epoch);
    bool ok = backward != NULL ? load_backward(&engine, err) : load_forward(&engine, err);
    if (ok) {
        report_init(&engine.report, migration, engine.flows, engine.flows_count);
        spilled_init(&engine.spilled, migration->control, &engine.flows[0]);
        engine.report.waits_for = engine.load.waits_for;
        start_threads(&engine);
        ok = supervise(&engine, err);
        end_threads(&engine);
        report_release(&engine.report);
        spilled_release(&engine.spilled);
    }
    gates_release(&engine.gates);
    rejected_release(&engine.rejected);
    *turned = engine.turned;
    engine_release(&engine);
    return ok;
}
