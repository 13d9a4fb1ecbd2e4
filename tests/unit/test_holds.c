/* The steps and invariants are DESIGN.md's, "Copy while streaming". */
#include "unit.h"

#include <pthread.h>

#include "stream/holds.h"

enum { SHARDS = 2 };

/* Keys are texts of one column; their bytes are the texts themselves. */
#define KEY(text) (&(const struct key){.texts = NULL, .bytes = (text), .length = sizeof(text) - 1})

struct scene {
    struct mapping mapping;
    struct mapping_set set;
    struct holds *holds;
};

/* One table of one open range, on `shards` shards; nothing is copied yet. */
static void scene_init(struct scene *scene, unsigned shards)
{
    *scene = (struct scene){.mapping = {.index = 0, .name = "public.orders"}};
    scene->set = (struct mapping_set){
        .shards_count = shards, .count = 1, .mappings = &scene->mapping};
    scene->holds = holds_new(&scene->set);
    const struct range_row row = {.mapping = &scene->mapping, .range = 7};
    for (unsigned s = 0; s < shards; s++)
        holds_load_range(scene->holds, s, &row);
}

static void scene_release(struct scene *scene)
{
    holds_free(scene->holds);
}

static enum verdict judge_leaf(struct scene *scene, uint32_t leaf, const char *key, lsn_t lsn,
                               uint32_t xid)
{
    const struct change change = {.mapping = &scene->mapping, .leaf = leaf, .lsn = lsn, .xid = xid,
                                  .key = key, .key_length = (uint32_t)strlen(key)};
    return holds_judge(scene->holds, 0, &change);
}

static enum verdict judge(struct scene *scene, unsigned shard, const char *key, lsn_t lsn,
                          uint32_t xid)
{
    const struct change change = {.mapping = &scene->mapping, .lsn = lsn, .xid = xid, .key = key,
                                  .key_length = (uint32_t)strlen(key)};
    return holds_judge(scene->holds, shard, &change);
}

static struct pending pending_of(struct scene *scene)
{
    struct pending pending;
    assert_true(holds_pending(scene->holds, &scene->mapping, 0, &pending));
    return pending;
}

static void begin(struct scene *scene, const struct key *upper, lsn_t h)
{
    struct pending pending = pending_of(scene);
    assert_true(holds_begin(scene->holds, &scene->mapping, &pending, upper, &h));
}

static void commit(struct scene *scene, unsigned shard, const struct key *lower,
                   const struct key *upper, const char *snapshot, lsn_t lsn, bool done)
{
    struct error err = ERROR_INIT;
    const struct chunk_row chunk = {.mapping = &scene->mapping, .range = 7, .lower = lower,
                                    .upper = upper, .snapshot = snapshot, .lsn = lsn};
    assert_true(holds_commit(scene->holds, shard, &chunk, done, &err));
}

static bool skipped_seen_before(struct scene *scene, const char *text, lsn_t h)
{
    struct error err = ERROR_INIT;
    struct snapshot snapshot;
    assert_true(snapshot_parse(text, &snapshot, &err));
    bool seen = holds_skipped_seen(scene->holds, &scene->mapping, &snapshot, h);
    snapshot_release(&snapshot);
    return seen;
}

static bool skipped_seen(struct scene *scene, const char *text)
{
    return skipped_seen_before(scene, text, UINT64_MAX);
}

/* Step 3: pending keys are skipped, on every shard, and nothing is done. */
static void test_pending_is_skipped(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene, SHARDS);
    assert_int_equal(judge(&scene, 0, "a", 100, 10), VERDICT_SKIP);
    assert_int_equal(judge(&scene, 1, "z", 100, 10), VERDICT_SKIP);
    assert_int_equal(judge(&scene, 0, "", 100, 10), VERDICT_SKIP);
    assert_int_equal(holds_ranges(scene.holds, &scene.mapping), 1);
    assert_false(holds_copied(scene.holds, &scene.mapping));
    assert_false(holds_steady(scene.holds, &scene.mapping));
    assert_false(holds_steady_on(scene.holds, &scene.mapping, 0));
    scene_release(&scene);
}

/* Step 5: a snapshot must show what was skipped before h; what comes behind it is the next chunk's. */
static void test_skipped_behind_h(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene, SHARDS);
    assert_int_equal(judge(&scene, 0, "z", 500, 50), VERDICT_SKIP);
    struct pending pending = pending_of(&scene);
    lsn_t h = 400;
    assert_true(holds_begin(scene.holds, &scene.mapping, &pending, KEY("m"), &h));
    assert_int_equal(h, 501); /* behind what was skipped */
    assert_int_equal(judge(&scene, 1, "z", 600, 60), VERDICT_SKIP);
    assert_false(skipped_seen_before(&scene, "50:70:50,60", h));
    assert_true(skipped_seen_before(&scene, "60:70:60", h));
    assert_false(skipped_seen_before(&scene, "60:70:60", 601));
    scene_release(&scene);
}

/* Step 5: the interval is on hold from h on, its upper end within; all else is skipped. */
static void test_hold(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene, SHARDS);
    begin(&scene, KEY("m"), 1000);
    for (unsigned s = 0; s < SHARDS; s++) {
        assert_int_equal(judge(&scene, s, "a", 999, 10), VERDICT_SKIP);
        assert_int_equal(judge(&scene, s, "a", 1000, 10), VERDICT_STALL);
        assert_int_equal(judge(&scene, s, "m", 1001, 10), VERDICT_STALL);
        assert_int_equal(judge(&scene, s, "ma", 1001, 10), VERDICT_SKIP);
        assert_int_equal(judge(&scene, s, "z", 5000, 10), VERDICT_SKIP);
    }
    holds_cancel(scene.holds, &scene.mapping, 7);
    for (unsigned s = 0; s < SHARDS; s++)
        assert_int_equal(judge(&scene, s, "a", 1000, 10), VERDICT_SKIP);
    struct pending pending = pending_of(&scene);
    assert_null(pending.cursor);
    assert_int_equal(pending.behind, 3);
    scene_release(&scene);
}

/* Steps 6 and 7: the chunk's snapshot decides for its keys, one shard after the other. */
static void test_commit(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene, SHARDS);
    begin(&scene, KEY("m"), 1000);
    commit(&scene, 0, NULL, KEY("m"), "200:210:203", 1500, false);
    assert_int_equal(judge(&scene, 0, "a", 1000, 199), VERDICT_DISCARD);
    assert_int_equal(judge(&scene, 0, "m", 1000, 204), VERDICT_DISCARD);
    assert_int_equal(judge(&scene, 0, "a", 1000, 203), VERDICT_APPLY);
    assert_int_equal(judge(&scene, 0, "a", 1600, 210), VERDICT_APPLY);
    assert_int_equal(judge(&scene, 0, "ma", 1600, 210), VERDICT_SKIP);
    assert_int_equal(judge(&scene, 1, "a", 1600, 199), VERDICT_STALL);
    commit(&scene, 1, NULL, KEY("m"), "200:210:203", 1500, false);
    assert_int_equal(judge(&scene, 1, "a", 1600, 199), VERDICT_DISCARD);
    assert_int_equal(judge(&scene, 1, "a", 1600, 203), VERDICT_APPLY);
    scene_release(&scene);
}

/* Each chunk is judged by its own snapshot, and the boundary belongs to the chunk below it. */
static void test_chunks_have_snapshots_of_their_own(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene, 1);
    begin(&scene, KEY("m"), 1000);
    commit(&scene, 0, NULL, KEY("m"), "200:200:", 1500, false);
    begin(&scene, NULL, 2000);
    assert_int_equal(judge(&scene, 0, "n", 2000, 250), VERDICT_STALL);
    assert_int_equal(judge(&scene, 0, "zz", 2000, 250), VERDICT_STALL);
    assert_int_equal(judge(&scene, 0, "m", 2000, 250), VERDICT_APPLY);
    commit(&scene, 0, KEY("m"), NULL, "300:300:", 2500, true);
    assert_int_equal(judge(&scene, 0, "m", 2000, 250), VERDICT_APPLY);
    assert_int_equal(judge(&scene, 0, "m\x01", 2000, 250), VERDICT_DISCARD);
    assert_int_equal(judge(&scene, 0, "zz", 2000, 299), VERDICT_DISCARD);
    assert_int_equal(judge(&scene, 0, "zz", 2000, 300), VERDICT_APPLY);
    assert_true(holds_copied(scene.holds, &scene.mapping));
    scene_release(&scene);
}

/* Step 8: once progress has passed a chunk's L its snapshot goes, and at last nothing is judged. */
static void test_drop_chunks(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene, SHARDS);
    begin(&scene, NULL, 1000);
    for (unsigned s = 0; s < SHARDS; s++)
        commit(&scene, s, NULL, NULL, "200:200:", 1500, true);
    assert_true(holds_copied(scene.holds, &scene.mapping));
    assert_false(holds_steady(scene.holds, &scene.mapping));
    holds_drop_chunks(scene.holds, &scene.mapping, 0, 1499);
    assert_int_equal(judge(&scene, 0, "a", 1000, 199), VERDICT_DISCARD);
    holds_drop_chunks(scene.holds, &scene.mapping, 0, 1500);
    assert_true(holds_steady_on(scene.holds, &scene.mapping, 0));
    assert_false(holds_steady_on(scene.holds, &scene.mapping, 1));
    assert_false(holds_steady(scene.holds, &scene.mapping));
    assert_int_equal(judge(&scene, 0, "a", 1600, 199), VERDICT_APPLY);
    assert_int_equal(judge(&scene, 1, "a", 1000, 199), VERDICT_DISCARD);
    holds_drop_chunks(scene.holds, &scene.mapping, 1, 9999);
    assert_true(holds_steady(scene.holds, &scene.mapping));
    scene_release(&scene);
}

/* A snapshot that is no longer needed for one chunk is for another. */
static void test_drop_some_chunks(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene, 1);
    begin(&scene, KEY("m"), 1000);
    commit(&scene, 0, NULL, KEY("m"), "200:200:", 1500, false);
    begin(&scene, NULL, 2000);
    commit(&scene, 0, KEY("m"), NULL, "200:200:", 2500, true);
    holds_drop_chunks(scene.holds, &scene.mapping, 0, 2000);
    assert_int_equal(judge(&scene, 0, "a", 1600, 199), VERDICT_APPLY);
    assert_int_equal(judge(&scene, 0, "n", 1600, 199), VERDICT_DISCARD);
    assert_false(holds_steady(scene.holds, &scene.mapping));
    scene_release(&scene);
}

/* Invariant 2: a snapshot serves only if it sees all that was skipped; what it saw is forgotten. */
static void test_skipped_seen(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene, SHARDS);
    assert_true(skipped_seen(&scene, "1:1:"));
    assert_int_equal(judge(&scene, 0, "a", 100, 10), VERDICT_SKIP);
    assert_int_equal(judge(&scene, 1, "b", 110, 11), VERDICT_SKIP);
    assert_int_equal(judge(&scene, 1, "b", 110, 11), VERDICT_SKIP);
    assert_int_equal(judge(&scene, 0, "a", 100, 10), VERDICT_SKIP);
    assert_false(skipped_seen(&scene, "10:12:10"));
    assert_false(skipped_seen(&scene, "10:12:10")); /* 11 is forgotten, 10 is not */
    assert_true(skipped_seen(&scene, "12:12:"));
    assert_true(skipped_seen(&scene, "1:1:"));
    assert_int_equal(judge(&scene, 0, "a", 100, 11), VERDICT_SKIP); /* remembered anew */
    assert_false(skipped_seen(&scene, "11:12:11"));
    assert_true(skipped_seen(&scene, "12:12:"));
    scene_release(&scene);
}

/* Only skipping is remembered: who stalls has not passed, who is applied or discarded is done. */
static void test_only_skips_are_remembered(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene, 1);
    begin(&scene, KEY("m"), 1000);
    assert_int_equal(judge(&scene, 0, "a", 1000, 50), VERDICT_STALL);
    commit(&scene, 0, NULL, KEY("m"), "40:40:", 1500, false);
    assert_int_equal(judge(&scene, 0, "a", 1000, 50), VERDICT_APPLY);
    assert_int_equal(judge(&scene, 0, "a", 900, 30), VERDICT_DISCARD);
    assert_true(skipped_seen(&scene, "1:1:"));
    scene_release(&scene);
}

/* Step 6: after a crash between the shards' commits the next chunk ends where one shard is already,
 * and that shard takes no part in it. */
static void test_half_committed_chunk(void **state)
{
    struct scene scene;
    const struct key *m = KEY("m");
    (void)state;
    scene_init(&scene, SHARDS);
    begin(&scene, m, 1000);
    commit(&scene, 0, NULL, m, "200:200:", 1500, false);
    holds_cancel(scene.holds, &scene.mapping, 7);
    struct pending pending = pending_of(&scene);
    assert_int_equal(pending.range, 7);
    assert_null(pending.cursor);
    assert_null(pending.upper);
    assert_true(pending.fixed);
    assert_ptr_equal(pending.fixed_upper, m);
    assert_int_equal(pending.behind, 2);
    begin(&scene, m, 2000);
    assert_int_equal(judge(&scene, 0, "a", 2000, 300), VERDICT_APPLY);
    assert_int_equal(judge(&scene, 0, "n", 2000, 300), VERDICT_SKIP);
    assert_int_equal(judge(&scene, 1, "a", 2000, 300), VERDICT_STALL);
    commit(&scene, 1, NULL, m, "290:290:", 2500, false);
    pending = pending_of(&scene);
    assert_ptr_equal(pending.cursor, m);
    assert_false(pending.fixed);
    assert_int_equal(pending.behind, 3);
    scene_release(&scene);
}

static void load(struct scene *scene, unsigned shard, const struct key *cursor, bool done)
{
    const struct range_row row = {.mapping = &scene->mapping, .range = 7, .cursor = cursor,
                                  .done = done};
    holds_load_range(scene->holds, shard, &row);
}

/* With three shards at three places the next chunk ends at the middle one. */
static void test_three_shards_apart(void **state)
{
    struct scene scene;
    const struct key *c = KEY("c"), *f = KEY("f");
    (void)state;
    scene_init(&scene, 3);
    load(&scene, 0, f, false);
    load(&scene, 2, c, false);
    struct pending pending = pending_of(&scene);
    assert_int_equal(pending.behind, 2);
    assert_true(pending.fixed);
    assert_ptr_equal(pending.fixed_upper, c);
    load(&scene, 1, KEY("c"), false);
    pending = pending_of(&scene);
    assert_int_equal(pending.behind, 6);
    assert_int_equal(pending.cursor->bytes[0], 'c');
    assert_true(pending.fixed);
    assert_ptr_equal(pending.fixed_upper, f);
    load(&scene, 0, NULL, true); /* done: the next chunk goes to the range's open end */
    pending = pending_of(&scene);
    assert_int_equal(pending.behind, 6);
    assert_true(pending.fixed);
    assert_null(pending.fixed_upper);
    scene_release(&scene);
}

/* What a restart reads: cursors and the chunks that are still needed. */
static void test_load(void **state)
{
    struct scene scene;
    struct error err = ERROR_INIT;
    (void)state;
    scene_init(&scene, 1);
    struct chunk_row chunk = {.mapping = &scene.mapping, .range = 7, .upper = KEY("m"),
                              .snapshot = "200:200:", .lsn = 1500};
    load(&scene, 0, KEY("m"), false);
    assert_true(holds_load_chunk(scene.holds, 0, &chunk, &err));
    assert_int_equal(judge(&scene, 0, "a", 1000, 199), VERDICT_DISCARD);
    assert_int_equal(judge(&scene, 0, "a", 1000, 200), VERDICT_APPLY);
    assert_int_equal(judge(&scene, 0, "n", 1000, 199), VERDICT_SKIP);
    chunk.snapshot = "nonsense";
    assert_false(holds_load_chunk(scene.holds, 0, &chunk, &err));
    assert_int_equal(err.class, ERROR_FATAL);
    assert_false(holds_commit(scene.holds, 0, &chunk, false, &err));
    assert_int_equal(judge(&scene, 0, "n", 1000, 199), VERDICT_SKIP);
    scene_release(&scene);
}

/* A late leaf has a range of its own: its keys, and no others, are judged by it. */
static void test_late_leaf(void **state)
{
    enum { EARLY = 16400, LATE = 16500 };
    struct scene scene;
    struct pending pending;
    struct error err = ERROR_INIT;
    (void)state;
    scene_init(&scene, 1);
    load(&scene, 0, NULL, true);
    const struct range_row late = {.mapping = &scene.mapping, .range = 8, .leaf = LATE};
    holds_load_range(scene.holds, 0, &late);
    assert_false(holds_steady(scene.holds, &scene.mapping));
    assert_false(holds_pending(scene.holds, &scene.mapping, 0, &pending));
    assert_true(holds_pending(scene.holds, &scene.mapping, 1, &pending));
    assert_int_equal(pending.leaf, LATE);
    assert_int_equal(judge_leaf(&scene, EARLY, "k", 1000, 100), VERDICT_APPLY);
    assert_int_equal(judge_leaf(&scene, LATE, "k", 1000, 100), VERDICT_SKIP);
    assert_true(holds_begin(scene.holds, &scene.mapping, &pending, NULL, &(lsn_t){2000}));
    assert_int_equal(judge_leaf(&scene, EARLY, "k", 2000, 101), VERDICT_APPLY);
    assert_int_equal(judge_leaf(&scene, LATE, "k", 2000, 101), VERDICT_STALL);
    const struct chunk_row chunk = {.mapping = &scene.mapping, .range = 8, .snapshot = "102:102:",
                                    .lsn = 3000};
    assert_true(holds_commit(scene.holds, 0, &chunk, true, &err));
    assert_int_equal(judge_leaf(&scene, EARLY, "k", 2000, 101), VERDICT_APPLY);
    assert_int_equal(judge_leaf(&scene, LATE, "k", 2000, 101), VERDICT_DISCARD);
    assert_int_equal(judge_leaf(&scene, LATE, "k", 2000, 102), VERDICT_APPLY);
    holds_drop_chunks(scene.holds, &scene.mapping, 0, 3000);
    assert_true(holds_steady(scene.holds, &scene.mapping));
    scene_release(&scene);
}

/* Two ranges: keys go by the ranges' upper ends, holds and cursors are each range's own. */
static void test_ranges(void **state)
{
    struct scene scene = {.mapping = {.name = "public.orders"}};
    const struct key *k = KEY("k");
    struct error err = ERROR_INIT;
    struct pending first, second;
    (void)state;
    scene.set = (struct mapping_set){.shards_count = 1, .count = 1, .mappings = &scene.mapping};
    scene.holds = holds_new(&scene.set);
    const struct range_row low = {.mapping = &scene.mapping, .range = 1, .upper = k};
    const struct range_row high = {.mapping = &scene.mapping, .range = 2, .lower = k};
    holds_load_range(scene.holds, 0, &low);
    holds_load_range(scene.holds, 0, &high);
    assert_int_equal(holds_ranges(scene.holds, &scene.mapping), 2);
    assert_true(holds_pending(scene.holds, &scene.mapping, 0, &first));
    assert_true(holds_pending(scene.holds, &scene.mapping, 1, &second));
    assert_null(first.cursor);
    assert_ptr_equal(first.upper, k);
    assert_ptr_equal(second.cursor, k);
    assert_null(second.upper);

    assert_true(holds_begin(scene.holds, &scene.mapping, &first, k, &(lsn_t){1000}));
    assert_int_equal(judge(&scene, 0, "k", 1000, 50), VERDICT_STALL);
    assert_int_equal(judge(&scene, 0, "ka", 1000, 50), VERDICT_SKIP);
    const struct chunk_row chunk = {.mapping = &scene.mapping, .range = 1, .upper = k,
                                    .snapshot = "40:40:", .lsn = 1500};
    assert_true(holds_commit(scene.holds, 0, &chunk, true, &err));
    assert_false(holds_pending(scene.holds, &scene.mapping, 0, &first));
    assert_false(holds_copied(scene.holds, &scene.mapping));
    assert_int_equal(judge(&scene, 0, "k", 1000, 39), VERDICT_DISCARD);
    assert_int_equal(judge(&scene, 0, "ka", 1000, 39), VERDICT_SKIP);
    scene_release(&scene);
}

/* A TRUNCATE: all is pending again on its shard, no chunk begins before its commit, and the
 * copier's next snapshot must see it. */
static void test_reset(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene, 1);
    begin(&scene, NULL, 1000);
    struct pending before = pending_of(&scene);
    assert_false(holds_reset_begin(scene.holds, &scene.mapping, 0, 60, 600)); /* a chunk is under way */
    assert_int_equal(judge(&scene, 0, "a", 1000, 50), VERDICT_STALL);
    commit(&scene, 0, NULL, NULL, "40:40:", 1500, true);
    holds_drop_chunks(scene.holds, &scene.mapping, 0, 1500);
    assert_true(holds_steady(scene.holds, &scene.mapping));

    assert_true(holds_reset_begin(scene.holds, &scene.mapping, 0, 60, 600));
    assert_false(holds_steady(scene.holds, &scene.mapping));
    assert_false(holds_copied(scene.holds, &scene.mapping));
    assert_int_equal(judge(&scene, 0, "a", 2000, 61), VERDICT_SKIP);
    struct pending after = pending_of(&scene);
    assert_null(after.cursor);
    assert_int_equal(after.resets, before.resets + 1);
    assert_false(holds_begin(scene.holds, &scene.mapping, &after, NULL, &(lsn_t){3000}));
    holds_reset_end(scene.holds, &scene.mapping);
    assert_false(holds_begin(scene.holds, &scene.mapping, &before, NULL, &(lsn_t){3000})); /* of before */
    assert_true(holds_begin(scene.holds, &scene.mapping, &after, NULL, &(lsn_t){3000}));
    assert_false(skipped_seen(&scene, "60:62:60"));
    assert_true(skipped_seen(&scene, "62:62:"));
    scene_release(&scene);
}

/* The other shard may not have come to the TRUNCATE yet: it keeps what it has. */
static void test_reset_of_one_shard(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene, SHARDS);
    begin(&scene, NULL, 1000);
    for (unsigned s = 0; s < SHARDS; s++)
        commit(&scene, s, NULL, NULL, "40:40:", 1500, true);
    assert_true(holds_reset_begin(scene.holds, &scene.mapping, 1, 60, 600));
    holds_reset_end(scene.holds, &scene.mapping);
    assert_int_equal(judge(&scene, 0, "a", 1000, 39), VERDICT_DISCARD);
    assert_int_equal(judge(&scene, 1, "a", 1000, 39), VERDICT_SKIP);
    struct pending pending = pending_of(&scene);
    assert_int_equal(pending.behind, 2);
    assert_true(pending.fixed);
    assert_null(pending.fixed_upper);
    scene_release(&scene);
}

/* The stream's ids on both sides of the wrap, the snapshot's are whole. */
static void test_wrap(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene, 1);
    holds_set_xmax(scene.holds, UINT64_C(4294967296) + 50);
    assert_true(holds_widen(scene.holds, 10) == UINT64_C(4294967306));
    assert_true(holds_widen(scene.holds, 4294967290) == 4294967290);
    begin(&scene, KEY("m"), 1000);
    commit(&scene, 0, NULL, KEY("m"), "4294967300:4294967310:4294967306", 1500, false);
    assert_int_equal(judge(&scene, 0, "a", 1000, 4294967290), VERDICT_DISCARD);
    assert_int_equal(judge(&scene, 0, "a", 1000, 3), VERDICT_DISCARD);
    assert_int_equal(judge(&scene, 0, "a", 1000, 10), VERDICT_APPLY);
    assert_int_equal(judge(&scene, 0, "a", 1000, 12), VERDICT_DISCARD);
    assert_int_equal(judge(&scene, 0, "a", 1000, 14), VERDICT_APPLY);
    assert_int_equal(judge(&scene, 0, "z", 1000, 4294967290), VERDICT_SKIP);
    assert_int_equal(judge(&scene, 0, "z", 1000, 20), VERDICT_SKIP);
    assert_false(skipped_seen(&scene, "4294967310:4294967310:"));
    assert_true(skipped_seen(&scene, "4294967317:4294967317:"));
    scene_release(&scene);
}

/* ---- with threads ---- */

struct lane {
    struct scene *scene;
    unsigned shard;
    enum verdict verdict;
};

static void *stall_until_judged(void *argument)
{
    struct lane *lane = argument;
    while ((lane->verdict = judge(lane->scene, lane->shard, "a", 2000, 300)) == VERDICT_STALL)
        holds_wait(lane->scene->holds, 1000);
    return NULL;
}

/* Lanes that stall go on under the new state, each after its own shard's commit. */
static void test_stalled_lanes_go_on(void **state)
{
    static const enum verdict verdicts[SHARDS] = {VERDICT_APPLY, VERDICT_DISCARD};
    struct scene scene;
    struct lane lanes[SHARDS];
    pthread_t threads[SHARDS];
    (void)state;
    scene_init(&scene, SHARDS);
    begin(&scene, KEY("m"), 1000);
    for (unsigned s = 0; s < SHARDS; s++) {
        lanes[s] = (struct lane){.scene = &scene, .shard = s};
        assert_int_equal(pthread_create(&threads[s], NULL, stall_until_judged, &lanes[s]), 0);
    }
    commit(&scene, 0, NULL, KEY("m"), "300:300:", 1500, false);
    pthread_join(threads[0], NULL);
    assert_int_equal(judge(&scene, 1, "a", 2000, 300), VERDICT_STALL);
    commit(&scene, 1, NULL, KEY("m"), "301:301:", 1500, false);
    pthread_join(threads[1], NULL);
    for (unsigned s = 0; s < SHARDS; s++)
        assert_int_equal(lanes[s].verdict, verdicts[s]);
    scene_release(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pending_is_skipped),
        cmocka_unit_test(test_hold),
        cmocka_unit_test(test_skipped_behind_h),
        cmocka_unit_test(test_commit),
        cmocka_unit_test(test_chunks_have_snapshots_of_their_own),
        cmocka_unit_test(test_drop_chunks),
        cmocka_unit_test(test_drop_some_chunks),
        cmocka_unit_test(test_skipped_seen),
        cmocka_unit_test(test_only_skips_are_remembered),
        cmocka_unit_test(test_half_committed_chunk),
        cmocka_unit_test(test_three_shards_apart),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_late_leaf),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_reset_of_one_shard),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_stalled_lanes_go_on),
    };
    return run_unit_tests("holds", tests);
}
