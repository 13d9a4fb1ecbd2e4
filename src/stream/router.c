#include "stream/router.h"

#include <stdatomic.h>
#include <xxhash.h>

#include "util/clock.h"
#include "util/log.h"

enum {
    BATCH_BYTES_MAX = 1024 * 1024,
    QUEUED_BATCHES = 4,        /* full ones that fit into a lane's queue */
    FEED_CHANGES = 256,        /* that a lane with an empty queue gets at once; fewer … */
    FEED_APART_US = 10 * 1000, /* … so long after the last ones: small statements cost most */
    PUSH_WAIT_US = 100 * 1000,
    KEY_BYTES_MAX = 64 * 1024 * 1024,
    TELL_AFTER_US = 10 * 1000 * 1000, /* that a barrier waits … */
    TELL_EVERY_US = 60 * 1000 * 1000, /* … and so long after, again */
};

struct router_lane {
    struct batch *batch; /* NULL: nothing is waiting */
    unsigned ordinal;    /* changes of the current transaction so far */
    int64_t fed_us;      /* when it got its last batch */
};

/* A row's change, before it is placed: values by source column, pointing into the message. */
struct row_change {
    const struct mapping *mapping;
    enum change_op op;
    const struct tuple *old_row; /* NULL if unknown */
    const struct tuple *new_row; /* NULL for a delete */
};

void router_init(struct router *router, struct stream *stream)
{
    size_t share = (size_t)stream->config->queue_bytes_max / stream->lanes_count / QUEUED_BATCHES;
    *router = (struct router){.stream = stream};
    router->batch_bytes_max = share < BATCH_BYTES_MAX ? share : BATCH_BYTES_MAX;
    router->lanes = check_calloc(stream->lanes_count, sizeof *router->lanes);
    arena_init(&router->scratch, 64 * 1024);
    buffer_init(&router->key, KEY_BYTES_MAX);
    buffer_init(&router->lane_key, KEY_BYTES_MAX);
}

void router_release(struct router *router)
{
    for (unsigned l = 0; l < router->stream->lanes_count; l++) {
        if (router->lanes[l].batch != NULL)
            batch_free(router->lanes[l].batch);
    }
    free(router->lanes);
    arena_release(&router->scratch);
    buffer_release(&router->key);
    buffer_release(&router->lane_key);
}

/* ---- batches ---- */

static bool try_push(struct router *router, unsigned lane, int64_t wait_us)
{
    struct router_lane *to = &router->lanes[lane];
    struct backlog *backlog = lane_backlog(router->stream->lanes[lane]);
    if (backlog_push(backlog, to->batch, wait_us) != BACKLOG_OK)
        return false;
    to->batch = NULL;
    to->fed_us = clock_monotonic_us();
    return true;
}

/* Whether what waits is worth the lane's while: much, or the first after some quiet. */
static bool lane_is_due(const struct router_lane *lane, int64_t now_us)
{
    return lane->batch != NULL &&
           (lane->batch->count >= FEED_CHANGES || now_us - lane->fed_us >= FEED_APART_US);
}

void router_feed(struct router *router)
{
    int64_t now_us = clock_monotonic_us();
    for (unsigned l = 0; l < router->stream->lanes_count; l++) {
        if (lane_is_due(&router->lanes[l], now_us) &&
            backlog_is_empty(lane_backlog(router->stream->lanes[l])))
            (void)try_push(router, l, 0);
    }
}

static bool lane_push(struct router *router, unsigned lane, struct error *err)
{
    while (router->lanes[lane].batch != NULL && !try_push(router, lane, PUSH_WAIT_US)) {
        if (stop_requested(router->stream->stop))
            return stop_error(err);
        if (!router->wait(router->wait_context, err)) /* which may push it */
            return false;
    }
    return true;
}

bool router_flush(struct router *router, struct error *err)
{
    for (unsigned l = 0; l < router->stream->lanes_count; l++) {
        if (router->lanes[l].batch != NULL && !lane_push(router, l, err))
            return false;
    }
    return true;
}

lsn_t router_pushed(const struct router *router, lsn_t complete)
{
    for (unsigned l = 0; l < router->stream->lanes_count; l++) {
        const struct batch *batch = router->lanes[l].batch;
        if (batch != NULL && batch->since < complete)
            complete = batch->since;
    }
    return complete;
}

static struct change *lane_add(struct router *router, unsigned lane, enum change_op op)
{
    struct router_lane *to = &router->lanes[lane];
    if (to->batch == NULL) {
        to->batch = batch_new();
        to->batch->since = router->lsn;
    }
    struct change *change = batch_add(to->batch);
    change->op = op;
    change->xid = router->xid;
    change->lsn = router->lsn;
    change->commit_time = router->commit_time;
    return change;
}

static struct tuple tuple_copy(struct arena *arena, const struct tuple *tuple)
{
    struct tuple copy = {0};
    if (tuple == NULL)
        return copy;
    copy.count = tuple->count;
    copy.values = arena_memdup(arena, tuple->values, tuple->count * sizeof *tuple->values);
    for (unsigned v = 0; v < copy.count; v++) {
        struct value *value = &copy.values[v];
        if (value->kind == VALUE_TEXT)
            value->bytes = arena_strndup(arena, value->bytes, value->length);
    }
    return copy;
}

/* Adds a change of a row to one lane; pushes the batch when it is large. */
static bool lane_add_row(struct router *router, unsigned lane, const struct row_change *row,
                         bool may_miss, struct error *err)
{
    struct change *change = lane_add(router, lane, row->op);
    struct arena *arena = &router->lanes[lane].batch->arena;
    change->mapping = row->mapping;
    change->leaf = router->leaf;
    change->may_miss = may_miss;
    change->ordinal = ++router->lanes[lane].ordinal;
    change->old_row = tuple_copy(arena, row->old_row);
    change->new_row = tuple_copy(arena, row->new_row);
    change->key = arena_memdup(arena, buffer_text(&router->key), router->key.length);
    change->key_length = (uint32_t)router->key.length;
    change->key_hash = router->key_hash;
    return arena_bytes(arena) < router->batch_bytes_max || lane_push(router, lane, err);
}

void router_begin(struct router *router, const struct pgoutput_message *message)
{
    router->xid = message->begin.xid;
    router->lsn = message->begin.final_lsn;
    router->commit_time = message->begin.commit_time;
    for (unsigned l = 0; l < router->stream->lanes_count; l++)
        router->lanes[l].ordinal = 0;
}

void router_commit(struct router *router, lsn_t end, int64_t marker)
{
    for (unsigned l = 0; l < router->stream->lanes_count; l++) {
        if (router->lanes[l].ordinal == 0 && marker == 0)
            continue;
        struct change *change = lane_add(router, l, marker != 0 ? CHANGE_MARKER : CHANGE_COMMIT);
        change->lsn = end;
        change->marker = marker;
    }
}

/* ---- placing a row ---- */

static const struct tuple *row_of(const struct row_change *row)
{
    return row->op == CHANGE_DELETE ? row->old_row : row->new_row;
}

/* Encodes the row's key: range columns for the holds, all key columns for the lane's hash. */
static bool encode_key(struct router *router, const struct row_change *row, struct error *err)
{
    const struct mapping *mapping = row->mapping;
    const struct tuple *tuple = row_of(row);
    buffer_clear(&router->key);
    buffer_clear(&router->lane_key);
    for (unsigned k = 0; k < mapping->key_count; k++) {
        const struct value *value = &tuple->values[mapping->key[k].source];
        buffer_append(&router->lane_key, &value->length, sizeof value->length);
        buffer_append(&router->lane_key, value->bytes, value->length);
        if (k < mapping->range_count && mapping->copy_mode == COPY_RANGES &&
            !sortkey_append_text(&router->key, mapping->key[k].sort, value->bytes, value->length,
                                 err))
            return error_context(err, "key of %s", mapping->name);
    }
    router->key_hash = XXH3_64bits_withSeed(buffer_text(&router->lane_key), router->lane_key.length,
                                            mapping->target->oid);
    return !buffer_failed(&router->lane_key) || error_set(err, ERROR_LIMIT, "a key is too long");
}

static unsigned lane_of(const struct router *router, const struct mapping *mapping, unsigned shard)
{
    unsigned lanes = (unsigned)router->stream->config->lanes;
    bool by_table = mapping->serial_lane || !mapping->has_key || mapping->parts > 1;
    uint64_t hash = by_table ? mapping->target->oid : router->key_hash;
    return stream_first_lane(router->stream, mapping, shard) + (unsigned)(hash % lanes);
}

enum { EVERY_SHARD = -1 };

/* The shard of a row, EVERY_SHARD for reference tables. */
static bool shard_of(const struct router *router, const struct mapping *mapping,
                     const struct tuple *tuple, int *shard, struct error *err)
{
    uint64_t hash = parthash_null();
    *shard = EVERY_SHARD;
    if (mapping->everywhere)
        return true;
    *shard = 0;
    if (mapping->shard_item < 0 || router->stream->mappings->shards_count == 1)
        return true;
    const struct value *value = &tuple->values[mapping->shard_column];
    if (value->kind == VALUE_TEXT &&
        !parthash_text(mapping->shard_hash, value->bytes, value->length, &hash, err))
        return error_context(err, "shard key of %s", mapping->name);
    if (value->kind == VALUE_UNCHANGED)
        return error_set(err, ERROR_CONFIG,
                         "the shard key of %s is stored out of line and was not sent",
                         mapping->name);
    *shard = (int)parthash_shard(hash, router->stream->mappings->shards_count);
    return true;
}

static bool place(struct router *router, const struct row_change *row, int shard, bool may_miss,
                  struct error *err)
{
    if (!encode_key(router, row, err))
        return false;
    if (shard != EVERY_SHARD)
        return lane_add_row(router, lane_of(router, row->mapping, (unsigned)shard), row, may_miss,
                            err);
    for (unsigned s = 0; s < router->stream->mappings->shards_count; s++) {
        if (!lane_add_row(router, lane_of(router, row->mapping, s), row, may_miss, err))
            return false;
    }
    return true;
}

static bool place_insert(struct router *router, const struct mapping *mapping,
                         const struct tuple *new_row, struct error *err)
{
    int shard;
    struct row_change row = {.mapping = mapping, .op = CHANGE_INSERT, .new_row = new_row};
    return shard_of(router, mapping, new_row, &shard, err) &&
           place(router, &row, shard, false, err);
}

static bool place_delete(struct router *router, const struct mapping *mapping,
                         const struct tuple *old_row, int shard, bool may_miss, struct error *err)
{
    struct row_change row = {.mapping = mapping, .op = CHANGE_DELETE, .old_row = old_row};
    return place(router, &row, shard, may_miss, err);
}

/* A delete whose shard key is not in the replica identity goes to all shards. */
static bool route_delete(struct router *router, const struct mapping *mapping,
                         const struct tuple *old_row, struct error *err)
{
    int shard;
    bool unknown = !mapping->everywhere && !mapping->shard_key_in_identity &&
                   router->stream->mappings->shards_count > 1;
    if (unknown)
        return place_delete(router, mapping, old_row, EVERY_SHARD, true, err);
    return shard_of(router, mapping, old_row, &shard, err) &&
           place_delete(router, mapping, old_row, shard, false, err);
}

static bool route_update(struct router *router, const struct mapping *mapping,
                         const struct tuple *old_row, const struct tuple *new_row,
                         struct error *err)
{
    int new_shard, old_shard;
    struct row_change row = {.mapping = mapping, .op = CHANGE_UPDATE, .new_row = new_row};
    if (!shard_of(router, mapping, new_row, &new_shard, err))
        return false;
    if (old_row == NULL) /* the identity did not change */
        return place(router, &row, new_shard, false, err);
    old_shard = new_shard;
    if (mapping->shard_key_in_identity && !shard_of(router, mapping, old_row, &old_shard, err))
        return false;
    if (old_shard == new_shard && tuple_same_key(mapping, old_row, new_row))
        return place(router, &row, new_shard, false, err);
    return place_delete(router, mapping, old_row, old_shard, false, err) &&
           place_insert(router, mapping, new_row, err);
}

/* ---- from message to row ---- */

/* The tuple's values in the order of the source's columns; columns not sent are null. */
static struct tuple by_source_column(struct router *router, const struct stream_relation *relation,
                                     const struct tuple *sent)
{
    const struct relation *source = relation->mappings[0]->source;
    struct tuple tuple = {.count = source->columns_count};
    tuple.values = arena_alloc(&router->scratch, tuple.count * sizeof *tuple.values);
    for (unsigned c = 0; c < tuple.count; c++)
        tuple.values[c] = (struct value){.kind = VALUE_NULL};
    for (unsigned i = 0; i < sent->count && i < relation->columns_count; i++) {
        if (relation->columns[i] >= 0)
            tuple.values[relation->columns[i]] = sent->values[i];
    }
    return tuple;
}

/* With REPLICA IDENTITY FULL an unchanged TOAST value stands in the old row. */
static void fill_unchanged(struct tuple *new_row, const struct tuple *old_row)
{
    for (unsigned c = 0; c < new_row->count; c++) {
        if (new_row->values[c].kind == VALUE_UNCHANGED)
            new_row->values[c] = old_row->values[c];
    }
}

/* With only the key sent, the old row's other columns are not null but unknown: keep the key. An
 * unchanged key column that was TOASTed stands in the old key too. */
static void fill_from_key(const struct mapping *mapping, struct tuple *new_row,
                          const struct tuple *old_row)
{
    for (unsigned k = 0; k < mapping->key_count; k++) {
        unsigned column = (unsigned)mapping->key[k].source;
        if (new_row->values[column].kind == VALUE_UNCHANGED)
            new_row->values[column] = old_row->values[column];
    }
}

bool router_row(struct router *router, const struct stream_relation *relation,
                const struct pgoutput_message *message, struct error *err)
{
    struct tuple old_row, new_row;
    bool has_old = message->row.old_kind != OLD_NONE;
    bool ok = true;
    router->leaf = relation->oid;
    if (has_old)
        old_row = by_source_column(router, relation, &message->row.old_tuple);
    if (message->kind != PGOUTPUT_DELETE)
        new_row = by_source_column(router, relation, &message->row.new_tuple);
    if (message->kind == PGOUTPUT_UPDATE && message->row.old_kind == OLD_FULL)
        fill_unchanged(&new_row, &old_row);
    for (unsigned m = 0; ok && m < relation->mappings_count; m++) {
        const struct mapping *mapping = relation->mappings[m];
        if (message->kind == PGOUTPUT_UPDATE && has_old)
            fill_from_key(mapping, &new_row, &old_row);
        if (message->kind == PGOUTPUT_INSERT)
            ok = place_insert(router, mapping, &new_row, err);
        else if (message->kind == PGOUTPUT_UPDATE)
            ok = route_update(router, mapping, has_old ? &old_row : NULL, &new_row, err);
        else
            ok = route_delete(router, mapping, &old_row, err);
    }
    arena_clear(&router->scratch);
    return ok;
}

/* ---- barriers ---- */

/* The nth of all lanes that carry the mapping's changes. */
static unsigned carrier(const struct router *router, const struct mapping *mapping, unsigned n)
{
    unsigned lanes = (unsigned)router->stream->config->lanes;
    return stream_first_lane(router->stream, mapping, n / lanes) + n % lanes;
}

static unsigned carriers_count(const struct router *router)
{
    return router->stream->mappings->shards_count * (unsigned)router->stream->config->lanes;
}

static bool barrier_passed(const struct router *router, const struct mapping *mapping,
                           const uint64_t *before)
{
    for (unsigned n = 0; n < carriers_count(router); n++) {
        if (lane_barriers(router->stream->lanes[carrier(router, mapping, n)]) == before[n])
            return false;
    }
    return true;
}

static bool push_barrier(struct router *router, const struct mapping *mapping, uint64_t *before,
                         struct error *err)
{
    for (unsigned n = 0; n < carriers_count(router); n++) {
        unsigned lane = carrier(router, mapping, n);
        before[n] = lane_barriers(router->stream->lanes[lane]);
        lane_add(router, lane, CHANGE_BARRIER);
        if (!lane_push(router, lane, err))
            return false;
    }
    return true;
}

/* A table on hold whose changes go by the same kind of lanes; NULL: there is none. */
static const struct mapping *holding_up(const struct router *router, const struct mapping *mapping)
{
    const struct mapping_set *set = router->stream->mappings;
    for (unsigned m = 0; m < set->count; m++) {
        if (set->mappings[m].whole_lane == mapping->whole_lane &&
            holds_on_hold(router->stream->holds, &set->mappings[m]))
            return &set->mappings[m];
    }
    return NULL;
}

static void tell_barrier(const struct router *router, const struct mapping *mapping)
{
    const struct mapping *held = holding_up(router, mapping);
    if (held != NULL)
        log_warning("a TRUNCATE of %s.%s waits while %s is being copied, and what comes behind it in"
                    " the stream waits with it",
                    mapping->source->schema, mapping->source->name, held->name);
    else
        log_warning("a TRUNCATE of %s.%s waits until what came before it is applied to %s, and what"
                    " comes behind it in the stream waits with it",
                    mapping->source->schema, mapping->source->name, mapping->name);
}

/* Makes durable what the lanes that carry the mapping's changes have got, even inside a transaction. */
static bool barrier(struct router *router, const struct mapping *mapping, struct error *err)
{
    uint64_t *before = arena_alloc(&router->scratch, carriers_count(router) * sizeof *before);
    int64_t tell_us = clock_monotonic_us() + TELL_AFTER_US;
    if (!push_barrier(router, mapping, before, err))
        return false;
    while (!barrier_passed(router, mapping, before)) {
        if (clock_monotonic_us() >= tell_us) {
            tell_barrier(router, mapping);
            tell_us += TELL_EVERY_US;
        }
        if (stop_wait(router->stream->stop, 1000))
            return stop_error(err);
        if (!router->wait(router->wait_context, err))
            return false;
    }
    return true;
}

bool router_truncate(struct router *router, const struct mapping *mapping, bool partial,
                     struct error *err)
{
    if (!barrier(router, mapping, err))
        return false;
    for (unsigned n = 0; n < carriers_count(router); n++) {
        unsigned lane = carrier(router, mapping, n);
        struct change *change = lane_add(router, lane, CHANGE_TRUNCATE);
        change->mapping = mapping;
        change->partial = partial;
        change->ordinal = ++router->lanes[lane].ordinal;
    }
    return barrier(router, mapping, err);
}
