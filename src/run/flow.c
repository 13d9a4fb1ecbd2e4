#include "run/flow.h"

#include <stdatomic.h>

#include "mapping/connections.h"
#include "pg/conn.h"

void flow_init(struct flow *flow, struct migration *migration, unsigned number, int64_t epoch,
               _Atomic lsn_t *suspect, struct stop *stop)
{
    const struct config *config = migration->config;
    unsigned lanes = migration_lanes(migration);
    *flow = (struct flow){.migration = migration};
    flow->stream = (struct stream){
        .config = config,
        .mappings = &migration->set,
        .holds = holds_new(&migration->set),
        .stop = stop,
        .number = number,
        .epoch = epoch,
        .suspect = suspect,
        .lanes_count = migration->shards_count * lanes,
        .lanes_per_shard = lanes,
        .spill = {.folder = config->spill_folder, .bytes_max = config->spill_bytes_max},
    };
    flow->stream.readback =
        readback_new(config->source.text, connections_readback(config, flow->stream.lanes_count), stop);
    flow->stream.lanes = check_calloc(flow->stream.lanes_count, sizeof(struct lane *));
    flow->lane_threads = check_calloc(flow->stream.lanes_count, sizeof(pthread_t));
}

void flow_release(struct flow *flow)
{
    for (unsigned l = 0; l < flow->stream.lanes_count; l++)
        lane_free(flow->stream.lanes[l]);
    readback_free(flow->stream.readback);
    holds_free(flow->stream.holds);
    free(flow->stream.lanes);
    free(flow->lane_threads);
}

void flow_load_steady(struct flow *flow)
{
    const struct migration *migration = flow->migration;
    for (unsigned m = 0; m < migration->set.count; m++) {
        struct range_row all = {.mapping = &migration->set.mappings[m], .done = true};
        for (unsigned s = 0; s < migration->shards_count; s++)
            holds_load_range(flow->stream.holds, s, &all);
    }
}

static bool load_shard(struct flow *flow, unsigned shard, struct error *err)
{
    const char *conninfo = flow->migration->config->shards[shard].text;
    for (unsigned l = 0; l < flow->stream.lanes_per_shard; l++) {
        struct lane *lane = lane_new(&flow->stream, shard, l, conninfo);
        flow->stream.lanes[shard * flow->stream.lanes_per_shard + l] = lane;
        if (!lane_load(lane, flow->migration->shards[shard], err))
            return error_context(err, "reading the state of shard %u", shard);
    }
    return true;
}

static lsn_t least_progress(const struct flow *flow, unsigned shard, unsigned from, unsigned to)
{
    struct lane *const *lanes = &flow->stream.lanes[shard * flow->stream.lanes_per_shard];
    lsn_t least = UINT64_MAX;
    for (unsigned l = from; l < to; l++) {
        lsn_t progress = lane_progress(lanes[l]);
        least = progress < least ? progress : least;
    }
    return least;
}

/* Whether a table that is copied whole may go on hold. */
static bool may_spill(const struct flow *flow)
{
    const struct mapping_set *set = &flow->migration->set;
    for (unsigned m = 0; m < set->count; m++) {
        if (set->mappings[m].whole_lane && !holds_steady(flow->stream.holds, &set->mappings[m]))
            return flow->stream.spill.bytes_max > 0;
    }
    return false;
}

bool flow_load_lanes(struct flow *flow, struct error *err)
{
    const struct migration *migration = flow->migration;
    lsn_t start = UINT64_MAX;
    if (may_spill(flow) && !spill_space_check(&flow->stream.spill, err))
        return false;
    for (unsigned s = 0; s < migration->shards_count; s++) {
        if (!load_shard(flow, s, err))
            return false;
        lsn_t progress = least_progress(flow, s, 0, flow->stream.lanes_per_shard);
        start = progress < start ? progress : start;
    }
    flow->receiver = (struct receiver){
        .stream = &flow->stream,
        .conninfo = migration->config->source.text,
        .slot = migration->config->slot,
        .publication = migration->config->publication,
        .start = start,
    };
    atomic_store(&flow->stream.dispatched, start);
    return true;
}

static void thread_start(pthread_t *thread, void *(*main)(void *), void *argument)
{
    CHECK(pthread_create(thread, NULL, main, argument) == 0);
}

void flow_start(struct flow *flow)
{
    for (unsigned l = 0; l < flow->stream.lanes_count; l++)
        thread_start(&flow->lane_threads[l], lane_main, flow->stream.lanes[l]);
    thread_start(&flow->receiver_thread, receiver_main, &flow->receiver);
}

void flow_join(struct flow *flow)
{
    pthread_join(flow->receiver_thread, NULL);
    for (unsigned l = 0; l < flow->stream.lanes_count; l++)
        pthread_join(flow->lane_threads[l], NULL);
}

lsn_t flow_progress(const struct flow *flow, unsigned shard, const struct mapping *mapping)
{
    unsigned first = stream_first_lane(&flow->stream, mapping, 0);
    return least_progress(flow, shard, first, first + (unsigned)flow->stream.config->lanes);
}

int64_t flow_spilled(const struct flow *flow, unsigned shard, unsigned lane)
{
    const struct stream *stream = &flow->stream;
    return backlog_spilled(lane_backlog(stream->lanes[shard * stream->lanes_per_shard + lane]));
}

bool flow_all(const struct flow *flow, bool (*holds)(struct holds *, const struct mapping *))
{
    const struct mapping_set *set = &flow->migration->set;
    for (unsigned m = 0; m < set->count; m++) {
        if (!holds(flow->stream.holds, &set->mappings[m]))
            return false;
    }
    return true;
}
