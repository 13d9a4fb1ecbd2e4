#include "stream/holds.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>

#include "util/clock.h"

enum { SHARDS_MAX = 64 };

struct kept_chunk {
    struct kept_chunk *next;
    const struct key *lower, *upper;
    struct snapshot snapshot;
    lsn_t lsn;
};

/* A range as one shard has it. */
struct cursor {
    const struct key *at; /* NULL: nothing is done yet, unless `done` */
    bool done;
    bool on_hold; /* the range's hold has not ended on this shard */
    struct kept_chunk *chunks;
};

struct range {
    int number;
    uint32_t leaf; /* a late leaf's own range, open on both ends; 0: of all other leaves */
    const struct key *lower, *upper;
    const struct key *hold_upper; /* NULL: to the range's end */
    lsn_t hold_from;              /* h */
    struct cursor *cursors;       /* one a shard */
};

struct skipped {
    uint64_t xid;
    lsn_t lsn; /* of its commit record */
    UT_hash_handle hh;
};

struct table {
    pthread_mutex_t lock; /* guards all below */
    unsigned ranges_count;
    struct range *ranges; /* by lower end; then those of late leaves … */
    unsigned late_first;  /* … from this one on */
    struct skipped *skipped;
    uint64_t last_skipped;
    lsn_t skipped_max; /* the furthest that was ever skipped */
    unsigned resets;    /* how many there were */
    unsigned resetting; /* how many have not committed yet: no chunk begins */
    atomic_bool *steady; /* one a shard; read without the lock: it only ever turns true, but for reset */
};

struct holds {
    const struct mapping_set *set;
    struct table *tables; /* one a mapping */
    _Atomic uint64_t xmax;
    pthread_mutex_t lock; /* for the condition only */
    pthread_cond_t ended;
};

struct holds *holds_new(const struct mapping_set *set)
{
    struct holds *holds = check_calloc(1, sizeof *holds);
    CHECK(set->shards_count <= SHARDS_MAX);
    holds->set = set;
    holds->tables = check_calloc(set->count, sizeof *holds->tables);
    for (unsigned m = 0; m < set->count; m++) {
        pthread_mutex_init(&holds->tables[m].lock, NULL);
        holds->tables[m].steady = check_calloc(set->shards_count, sizeof(atomic_bool));
    }
    pthread_mutex_init(&holds->lock, NULL);
    pthread_cond_init(&holds->ended, NULL);
    return holds;
}

static void chunks_free(struct kept_chunk **chunks)
{
    while (*chunks != NULL) {
        struct kept_chunk *chunk = *chunks;
        *chunks = chunk->next;
        snapshot_release(&chunk->snapshot);
        free(chunk);
    }
}

static void table_free(struct table *table, unsigned shards)
{
    for (unsigned r = 0; r < table->ranges_count; r++) {
        for (unsigned s = 0; s < shards; s++)
            chunks_free(&table->ranges[r].cursors[s].chunks);
        free(table->ranges[r].cursors);
    }
    struct skipped *skipped, *next;
    HASH_ITER (hh, table->skipped, skipped, next) {
        HASH_DEL(table->skipped, skipped);
        free(skipped);
    }
    free(table->ranges);
    free(table->steady);
    pthread_mutex_destroy(&table->lock);
}

void holds_free(struct holds *holds)
{
    if (holds == NULL)
        return;
    for (unsigned m = 0; m < holds->set->count; m++)
        table_free(&holds->tables[m], holds->set->shards_count);
    pthread_cond_destroy(&holds->ended);
    pthread_mutex_destroy(&holds->lock);
    free(holds->tables);
    free(holds);
}

static struct table *table_of(struct holds *holds, const struct mapping *mapping)
{
    return &holds->tables[mapping->index];
}

static struct range *table_range(struct table *table, int number)
{
    for (unsigned r = 0; r < table->ranges_count; r++) {
        if (table->ranges[r].number == number)
            return &table->ranges[r];
    }
    return NULL;
}

/* Whether the shard's part of the table needs no judging any more. Called with the lock held. */
static void table_update_steady(struct table *table, unsigned shard)
{
    bool steady = table->ranges_count > 0;
    for (unsigned r = 0; steady && r < table->ranges_count; r++) {
        const struct cursor *cursor = &table->ranges[r].cursors[shard];
        steady = cursor->done && !cursor->on_hold && cursor->chunks == NULL;
    }
    atomic_store(&table->steady[shard], steady);
}

void holds_load_range(struct holds *holds, unsigned shard, const struct range_row *row)
{
    struct table *table = table_of(holds, row->mapping);
    struct range *range = table_range(table, row->range);
    if (range == NULL) {
        table->ranges =
            check_realloc(table->ranges, (table->ranges_count + 1) * sizeof *table->ranges);
        range = &table->ranges[table->ranges_count++];
        *range = (struct range){.number = row->range, .leaf = row->leaf, .lower = row->lower,
                                .upper = row->upper};
        table->late_first += row->leaf == 0;
        range->cursors = check_calloc(holds->set->shards_count, sizeof *range->cursors);
    }
    range->cursors[shard].at = row->cursor;
    range->cursors[shard].done = row->done;
    table_update_steady(table, shard);
}

static struct kept_chunk *chunk_new(const struct chunk_row *row, struct error *err)
{
    struct kept_chunk *chunk = check_calloc(1, sizeof *chunk);
    *chunk = (struct kept_chunk){.lower = row->lower, .upper = row->upper, .lsn = row->lsn};
    if (snapshot_parse(row->snapshot, &chunk->snapshot, err))
        return chunk;
    free(chunk);
    return NULL;
}

static void cursor_keep(struct cursor *cursor, struct kept_chunk *chunk)
{
    chunk->next = cursor->chunks;
    cursor->chunks = chunk;
}

bool holds_load_chunk(struct holds *holds, unsigned shard, const struct chunk_row *row,
                      struct error *err)
{
    struct table *table = table_of(holds, row->mapping);
    struct range *range = table_range(table, row->range);
    CHECK(range != NULL);
    struct kept_chunk *chunk = chunk_new(row, err);
    if (chunk == NULL)
        return false;
    cursor_keep(&range->cursors[shard], chunk);
    table_update_steady(table, shard);
    return true;
}

/* ---- judging ---- */

struct change_key {
    const char *bytes;
    size_t length;
};

struct judged {
    uint32_t leaf;
    struct change_key key;
    lsn_t lsn;
    uint64_t xid;
};

/* Whether key <= end; an open end is above everything. */
static bool key_within(struct change_key key, const struct key *end)
{
    return end == NULL || sortkey_compare(key.bytes, key.length, end->bytes, end->length) <= 0;
}

/* Whether key > start; an open start is below everything. */
static bool key_behind(struct change_key key, const struct key *start)
{
    return start == NULL || sortkey_compare(key.bytes, key.length, start->bytes, start->length) > 0;
}

static struct range *range_of_key(struct table *table, uint32_t leaf, struct change_key key)
{
    unsigned low = 0, high = table->late_first;
    for (unsigned r = table->late_first; r < table->ranges_count; r++) {
        if (table->ranges[r].leaf == leaf)
            return &table->ranges[r];
    }
    while (low < high) { /* the first range whose upper end is not below the key */
        unsigned middle = low + (high - low) / 2;
        if (key_within(key, table->ranges[middle].upper))
            high = middle;
        else
            low = middle + 1;
    }
    CHECK(low < table->late_first); /* the last range has an open end */
    return &table->ranges[low];
}

static bool key_is_done(const struct cursor *cursor, struct change_key key)
{
    return cursor->done || (cursor->at != NULL && key_within(key, cursor->at));
}

static bool chunk_saw(const struct cursor *cursor, struct change_key key, uint64_t xid)
{
    for (const struct kept_chunk *chunk = cursor->chunks; chunk != NULL; chunk = chunk->next) {
        if (key_behind(key, chunk->lower) && key_within(key, chunk->upper))
            return snapshot_sees(&chunk->snapshot, xid);
    }
    return false; /* the chunk was dropped: progress has passed its L (step 8) */
}

static void table_skip(struct table *table, uint64_t xid, lsn_t lsn)
{
    struct skipped *found;
    if (table->last_skipped == xid)
        return;
    HASH_FIND(hh, table->skipped, &xid, sizeof xid, found);
    if (found == NULL) {
        found = check_calloc(1, sizeof *found);
        found->xid = xid;
        found->lsn = lsn;
        HASH_ADD(hh, table->skipped, xid, sizeof found->xid, found);
    }
    table->last_skipped = xid;
    table->skipped_max = lsn > table->skipped_max ? lsn : table->skipped_max;
}

static enum verdict table_judge(struct table *table, unsigned shard, struct judged change)
{
    const struct range *range = range_of_key(table, change.leaf, change.key);
    const struct cursor *cursor = &range->cursors[shard];
    if (key_is_done(cursor, change.key))
        return chunk_saw(cursor, change.key, change.xid) ? VERDICT_DISCARD : VERDICT_APPLY;
    if (cursor->on_hold && change.lsn >= range->hold_from &&
        key_within(change.key, range->hold_upper != NULL ? range->hold_upper : range->upper))
        return VERDICT_STALL;
    table_skip(table, change.xid, change.lsn);
    return VERDICT_SKIP;
}

enum verdict holds_judge(struct holds *holds, unsigned shard, const struct change *change)
{
    struct table *table = table_of(holds, change->mapping);
    if (atomic_load(&table->steady[shard]))
        return VERDICT_APPLY;
    struct judged judged = {.leaf = change->leaf,
                            .key = {change->key, change->key_length},
                            .lsn = change->lsn,
                            .xid = holds_widen(holds, change->xid)};
    pthread_mutex_lock(&table->lock);
    enum verdict verdict = table_judge(table, shard, judged);
    pthread_mutex_unlock(&table->lock);
    return verdict;
}

void holds_wait(struct holds *holds, int64_t timeout_us)
{
    struct timespec deadline = clock_deadline(timeout_us);
    pthread_mutex_lock(&holds->lock);
    pthread_cond_clockwait(&holds->ended, &holds->lock, CLOCK_MONOTONIC, &deadline);
    pthread_mutex_unlock(&holds->lock);
}

static bool table_on_hold(const struct table *table, unsigned shard)
{
    for (unsigned r = 0; r < table->ranges_count; r++) {
        if (table->ranges[r].cursors[shard].on_hold)
            return true;
    }
    return false;
}

static void table_reset(struct table *table, unsigned shard)
{
    for (unsigned r = 0; r < table->ranges_count; r++) {
        struct cursor *cursor = &table->ranges[r].cursors[shard];
        chunks_free(&cursor->chunks);
        cursor->at = NULL;
        cursor->done = false;
    }
    table_update_steady(table, shard);
}

bool holds_reset_begin(struct holds *holds, const struct mapping *mapping, unsigned shard,
                       uint32_t xid, lsn_t lsn)
{
    struct table *table = table_of(holds, mapping);
    uint64_t wide = holds_widen(holds, xid);
    pthread_mutex_lock(&table->lock);
    bool free_to_reset = !table_on_hold(table, shard);
    if (free_to_reset) {
        table_reset(table, shard);
        table_skip(table, wide, lsn);
        table->resets++;
        table->resetting++;
    }
    pthread_mutex_unlock(&table->lock);
    return free_to_reset;
}

void holds_reset_end(struct holds *holds, const struct mapping *mapping)
{
    struct table *table = table_of(holds, mapping);
    pthread_mutex_lock(&table->lock);
    CHECK(table->resetting > 0);
    table->resetting--;
    pthread_mutex_unlock(&table->lock);
}

bool holds_on_hold(struct holds *holds, const struct mapping *mapping)
{
    struct table *table = table_of(holds, mapping);
    bool on_hold = false;
    pthread_mutex_lock(&table->lock);
    for (unsigned s = 0; !on_hold && s < holds->set->shards_count; s++)
        on_hold = table_on_hold(table, s);
    pthread_mutex_unlock(&table->lock);
    return on_hold;
}

bool holds_steady_on(struct holds *holds, const struct mapping *mapping, unsigned shard)
{
    return atomic_load(&table_of(holds, mapping)->steady[shard]);
}

/* ---- the copier's side ---- */

unsigned holds_ranges(struct holds *holds, const struct mapping *mapping)
{
    return table_of(holds, mapping)->ranges_count; /* fixed once loaded */
}

/* -1, 0, 1: how far one shard's cursor is against another's. */
static int cursor_compare(const struct cursor *a, const struct cursor *b)
{
    if (a->done || b->done)
        return (int)a->done - (int)b->done;
    if (a->at == NULL || b->at == NULL)
        return (a->at != NULL) - (b->at != NULL);
    return key_compare(a->at, b->at);
}

static bool range_pending(const struct range *range, unsigned shards, struct pending *pending)
{
    const struct cursor *least = &range->cursors[0], *furthest = &range->cursors[0];
    for (unsigned s = 1; s < shards; s++) {
        if (cursor_compare(&range->cursors[s], least) < 0)
            least = &range->cursors[s];
        if (cursor_compare(&range->cursors[s], furthest) > 0)
            furthest = &range->cursors[s];
    }
    if (least->done)
        return false;
    *pending = (struct pending){.range = range->number,
                                .leaf = range->leaf,
                                .cursor = least->at != NULL ? least->at : range->lower,
                                .upper = range->upper};
    for (unsigned s = 0; s < shards; s++) {
        if (cursor_compare(&range->cursors[s], least) == 0)
            pending->behind |= UINT64_C(1) << s;
    }
    if (cursor_compare(least, furthest) != 0) {
        pending->fixed = true;
        pending->fixed_upper = furthest->done ? range->upper : furthest->at;
        for (unsigned s = 0; s < shards; s++) { /* with three shards the middle one is the next end */
            const struct cursor *cursor = &range->cursors[s];
            if (cursor_compare(cursor, least) > 0 && cursor_compare(cursor, furthest) < 0)
                pending->fixed_upper = cursor->at, furthest = cursor;
        }
    }
    return true;
}

bool holds_pending(struct holds *holds, const struct mapping *mapping, unsigned range,
                   struct pending *pending)
{
    struct table *table = table_of(holds, mapping);
    CHECK(range < table->ranges_count);
    pthread_mutex_lock(&table->lock);
    bool any = range_pending(&table->ranges[range], holds->set->shards_count, pending);
    pending->resets = table->resets;
    pthread_mutex_unlock(&table->lock);
    return any;
}

bool holds_copied(struct holds *holds, const struct mapping *mapping)
{
    struct pending pending;
    for (unsigned r = 0; r < holds_ranges(holds, mapping); r++) {
        if (holds_pending(holds, mapping, r, &pending))
            return false;
    }
    return true;
}

bool holds_steady(struct holds *holds, const struct mapping *mapping)
{
    struct table *table = table_of(holds, mapping);
    for (unsigned s = 0; s < holds->set->shards_count; s++) {
        if (!atomic_load(&table->steady[s]))
            return false;
    }
    return true;
}

bool holds_begin(struct holds *holds, const struct mapping *mapping, const struct pending *pending,
                 const struct key *upper, lsn_t *h)
{
    struct table *table = table_of(holds, mapping);
    pthread_mutex_lock(&table->lock);
    if (table->resetting > 0 || table->resets != pending->resets) {
        pthread_mutex_unlock(&table->lock);
        return false;
    }
    struct range *range = table_range(table, pending->range);
    if (*h <= table->skipped_max)
        *h = table->skipped_max + 1;
    range->hold_upper = upper;
    range->hold_from = *h;
    for (unsigned s = 0; s < holds->set->shards_count; s++)
        range->cursors[s].on_hold = (pending->behind >> s) & 1;
    pthread_mutex_unlock(&table->lock);
    return true;
}

static void wake_stalled(struct holds *holds)
{
    pthread_mutex_lock(&holds->lock);
    pthread_cond_broadcast(&holds->ended);
    pthread_mutex_unlock(&holds->lock);
}

void holds_cancel(struct holds *holds, const struct mapping *mapping, int range)
{
    struct table *table = table_of(holds, mapping);
    pthread_mutex_lock(&table->lock);
    for (unsigned s = 0; s < holds->set->shards_count; s++)
        table_range(table, range)->cursors[s].on_hold = false;
    pthread_mutex_unlock(&table->lock);
    wake_stalled(holds);
}

bool holds_commit(struct holds *holds, unsigned shard, const struct chunk_row *row, bool done,
                  struct error *err)
{
    struct table *table = table_of(holds, row->mapping);
    struct kept_chunk *chunk = chunk_new(row, err);
    if (chunk == NULL)
        return false;
    pthread_mutex_lock(&table->lock);
    struct cursor *cursor = &table_range(table, row->range)->cursors[shard];
    cursor_keep(cursor, chunk);
    cursor->at = row->upper;
    cursor->done = done;
    cursor->on_hold = false;
    table_update_steady(table, shard);
    pthread_mutex_unlock(&table->lock);
    wake_stalled(holds);
    return true;
}

bool holds_skipped_seen(struct holds *holds, const struct mapping *mapping,
                        const struct snapshot *snapshot, lsn_t h)
{
    struct table *table = table_of(holds, mapping);
    struct skipped *skipped, *next;
    bool all_seen = true;
    pthread_mutex_lock(&table->lock);
    HASH_ITER (hh, table->skipped, skipped, next) {
        if (!snapshot_sees(snapshot, skipped->xid)) {
            all_seen &= skipped->lsn >= h;
            continue;
        }
        if (table->last_skipped == skipped->xid)
            table->last_skipped = 0;
        HASH_DEL(table->skipped, skipped);
        free(skipped);
    }
    pthread_mutex_unlock(&table->lock);
    return all_seen;
}

static void cursor_drop_chunks(struct cursor *cursor, lsn_t progress)
{
    struct kept_chunk **link = &cursor->chunks;
    while (*link != NULL) {
        struct kept_chunk *chunk = *link;
        if (chunk->lsn > progress) {
            link = &chunk->next;
            continue;
        }
        *link = chunk->next;
        snapshot_release(&chunk->snapshot);
        free(chunk);
    }
}

void holds_drop_chunks(struct holds *holds, const struct mapping *mapping, unsigned shard,
                       lsn_t progress)
{
    struct table *table = table_of(holds, mapping);
    if (atomic_load(&table->steady[shard]))
        return;
    pthread_mutex_lock(&table->lock);
    for (unsigned r = 0; r < table->ranges_count; r++)
        cursor_drop_chunks(&table->ranges[r].cursors[shard], progress);
    table_update_steady(table, shard);
    pthread_mutex_unlock(&table->lock);
}

void holds_set_xmax(struct holds *holds, uint64_t xmax)
{
    atomic_store(&holds->xmax, xmax);
}

uint64_t holds_widen(struct holds *holds, uint32_t xid)
{
    return snapshot_widen(xid, atomic_load(&holds->xmax));
}
