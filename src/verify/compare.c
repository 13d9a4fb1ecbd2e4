#include "verify/compare.h"

#include <uthash.h>
#include <xxhash.h>

#include "verify/digest.h"

enum {
    BUCKETS_MAX = 1 << 16,     /* of a table that is read whole; an interval is one bucket */
    ENTRIES_MAX = 1000000,     /* rows of which keys are kept at a time … */
    ENTRY_BYTES_MAX = 1 << 26, /* … and their bytes, where the whole row is the key */
    KEY_BYTES_MAX = 1 << 26,
};

/* What one side has in a bucket. */
struct tally {
    uint64_t rows;
    struct digest sum;
    uint64_t misplaced;
};

struct entry {
    UT_hash_handle hh;
    struct digest digest;
    uint64_t needed; /* a bit for each shard that must have the row; without a key: bit 0 */
    bool suspect;    /* whatever else comes */
    int64_t
        *counts; /* without a key: by shard that must have it, how many rows more the source has */
    unsigned key_length;
    char key[];
};

struct comparison {
    struct session *session;
    const struct mapping *mapping;
    const char *source_select;
    const char **target_selects; /* by shard */
    struct rows source;
    struct rows *targets;
    unsigned buckets;
    struct tally *tallies; /* the source's, then the target's: of each shard when `everywhere` */
    bool *wrong;           /* by bucket: differs, not looked at by keys yet */
    struct compared *compared;
    struct buffer key;
    struct entry *entries;
    struct arena entries_arena;
};

/* ---- setting up ---- */

static unsigned sides_of(const struct comparison *comparison)
{
    return 1 + (comparison->mapping->everywhere ? comparison->session->shards_count : 1);
}

static void comparison_buckets(struct comparison *comparison, unsigned buckets)
{
    comparison->buckets = buckets;
    comparison->tallies =
        check_calloc((size_t)sides_of(comparison) * buckets, sizeof *comparison->tallies);
    comparison->wrong = check_calloc(buckets, sizeof *comparison->wrong);
}

static void comparison_init(struct comparison *comparison, struct session *session,
                            const struct mapping *mapping, struct bounds bounds,
                            struct arena *arena)
{
    unsigned shards = session->shards_count;
    *comparison = (struct comparison){.session = session, .mapping = mapping};
    comparison->source_select = reading_source(mapping, bounds, arena);
    comparison->target_selects = arena_alloc(arena, shards * sizeof *comparison->target_selects);
    for (unsigned s = 0; s < shards; s++)
        comparison->target_selects[s] = reading_target(mapping, bounds, s, shards, arena);
    comparison->targets = arena_zalloc(arena, shards * sizeof *comparison->targets);
    comparison_buckets(comparison, reading_by_intervals(mapping) ? 1 : BUCKETS_MAX);
    buffer_init(&comparison->key, KEY_BYTES_MAX);
    arena_init(&comparison->entries_arena, 256 * 1024);
}

static void comparison_release(struct comparison *comparison)
{
    HASH_CLEAR(hh, comparison->entries);
    arena_release(&comparison->entries_arena);
    buffer_release(&comparison->key);
    free(comparison->tallies);
    free(comparison->wrong);
}

/* Asks both sides, so that all servers work at the same time. */
static bool begin_reading(struct comparison *comparison, struct error *err)
{
    struct session *session = comparison->session;
    bool strict = session->options->strict;
    if (!rows_begin(&comparison->source, session->source, comparison->mapping,
                    comparison->source_select, false, strict, err))
        return false;
    for (unsigned s = 0; s < session->shards_count; s++) {
        if (!rows_begin(&comparison->targets[s], session->shards[s], comparison->mapping,
                        comparison->target_selects[s], true, strict, err))
            return false;
    }
    return true;
}

static void end_reading(struct comparison *comparison)
{
    rows_end(&comparison->source);
    for (unsigned s = 0; s < comparison->session->shards_count; s++)
        rows_end(&comparison->targets[s]);
}

typedef bool take_row(struct comparison *comparison, const struct rows *rows, int shard,
                      struct error *err);

enum { SOURCE = -1 }; /* in place of a shard */

static bool read_side(struct comparison *comparison, struct rows *rows, int shard, take_row *take,
                      struct error *err)
{
    uint64_t paid = 0, seen = 0;
    for (;;) {
        enum rows_result result = rows_next(rows, err);
        if (result != ROWS_ROW)
            return result == ROWS_END;
        if (!take(comparison, rows, shard, err))
            return false;
        if (++seen % 1024 != 0)
            continue;
        if (session_stopped(comparison->session))
            return stop_error(err);
        if (shard == SOURCE)
            throttle_take(comparison->session->throttle, rows->bytes - paid,
                          comparison->session->outer);
        paid = rows->bytes;
    }
}

static bool read_sides(struct comparison *comparison, take_row *take, struct error *err)
{
    bool ok = begin_reading(comparison, err);
    if (ok && !read_side(comparison, &comparison->source, SOURCE, take, err))
        ok = error_context(err, "reading %s.%s at the source", comparison->mapping->source->schema,
                           comparison->mapping->source->name);
    for (unsigned s = 0; ok && s < comparison->session->shards_count; s++) {
        if (!read_side(comparison, &comparison->targets[s], (int)s, take, err))
            ok = error_context(err, "reading %s on shard %u", comparison->mapping->name, s);
    }
    comparison->compared->bytes += comparison->source.bytes;
    end_reading(comparison);
    return ok;
}

/* ---- by sums ---- */

static unsigned bucket_of(struct comparison *comparison, const struct rows *rows)
{
    if (comparison->buckets == 1)
        return 0;
    rows_key(rows, &comparison->key);
    uint64_t hash = XXH3_64bits(buffer_text(&comparison->key), comparison->key.length);
    return (unsigned)(hash % comparison->buckets);
}

static struct tally *tally_of(struct comparison *comparison, int shard, unsigned bucket)
{
    unsigned side = shard == SOURCE ? 0 : comparison->mapping->everywhere ? 1 + (unsigned)shard : 1;
    return &comparison->tallies[side * comparison->buckets + bucket];
}

static bool tally_row(struct comparison *comparison, const struct rows *rows, int shard,
                      struct error *err)
{
    struct tally *tally = tally_of(comparison, shard, bucket_of(comparison, rows));
    (void)err;
    tally->rows++;
    tally->sum.low += rows->digest.low;
    tally->sum.high += rows->digest.high;
    tally->misplaced += !rows->placed;
    return true;
}

static bool tally_differs(const struct tally *a, const struct tally *b)
{
    return a->rows != b->rows || !digest_equal(a->sum, b->sum) || b->misplaced > 0;
}

/* How many buckets differ. */
static unsigned mark_wrong(struct comparison *comparison)
{
    unsigned count = 0;
    for (unsigned b = 0; b < comparison->buckets; b++) {
        for (unsigned side = 1; side < sides_of(comparison); side++)
            comparison->wrong[b] |= tally_differs(
                &comparison->tallies[b], &comparison->tallies[side * comparison->buckets + b]);
        count += comparison->wrong[b];
    }
    return count;
}

static void count_rows(struct comparison *comparison)
{
    for (unsigned b = 0; b < comparison->buckets; b++) {
        comparison->compared->source_rows += comparison->tallies[b].rows;
        for (unsigned side = 1; side < sides_of(comparison); side++)
            comparison->compared->target_rows +=
                comparison->tallies[side * comparison->buckets + b].rows;
    }
}

/* ---- by sums of the server ---- */

static bool ask_servers(struct comparison *comparison, struct error *err)
{
    struct session *session = comparison->session;
    bool ok =
        digest_ask(session->source, comparison->mapping, comparison->source_select, false, err);
    for (unsigned s = 0; ok && s < session->shards_count; s++)
        ok = digest_ask(session->shards[s], comparison->mapping, comparison->target_selects[s],
                        true, err);
    return ok;
}

static bool take_answer(struct comparison *comparison, PGconn *conn, int shard, struct error *err)
{
    struct tally *tally = tally_of(comparison, shard, 0);
    struct server_digest digest;
    if (!digest_answer(conn, &digest, err))
        return false;
    tally->rows += digest.rows;
    tally->sum.low += digest.sum;
    tally->misplaced += !digest.placed;
    return true;
}

/* Nothing comes here by which one could tell what the source has read: about as much as its rows take. */
static void pay(const struct comparison *comparison)
{
    const struct relation *source = comparison->mapping->source;
    if (source->rows_estimate <= 0)
        return;
    uint64_t row_bytes = (uint64_t)(source->bytes / source->rows_estimate);
    throttle_take(comparison->session->throttle, comparison->tallies[0].rows * row_bytes,
                  comparison->session->outer);
}

/* All servers work at the same time. */
static bool tally_in_servers(struct comparison *comparison, struct error *err)
{
    struct session *session = comparison->session;
    bool ok = ask_servers(comparison, err) && take_answer(comparison, session->source, SOURCE, err);
    for (unsigned s = 0; ok && s < session->shards_count; s++)
        ok = take_answer(comparison, session->shards[s], (int)s, err);
    if (ok)
        pay(comparison);
    return ok;
}

/* ---- by keys ---- */

static uint64_t needed_by(const struct comparison *comparison)
{
    if (!comparison->mapping->everywhere)
        return 1;
    unsigned shards = comparison->session->shards_count;
    return shards == 64 ? UINT64_MAX : (UINT64_C(1) << shards) - 1;
}

static struct entry *entry_find(struct comparison *comparison)
{
    struct entry *found;
    HASH_FIND(hh, comparison->entries, buffer_text(&comparison->key), comparison->key.length,
              found);
    return found;
}

static struct entry *entry_add(struct comparison *comparison)
{
    size_t length = comparison->key.length;
    struct entry *entry = arena_zalloc(&comparison->entries_arena, sizeof *entry + length + 1);
    memcpy(entry->key, buffer_text(&comparison->key), length);
    entry->key_length = (unsigned)length;
    HASH_ADD_KEYPTR(hh, comparison->entries, entry->key, length, entry);
    return entry;
}

/* The source's row is expected; the target's meets the expectation or is left over. */
static void enter_keyed(struct comparison *comparison, const struct rows *rows, int shard)
{
    struct entry *entry = entry_find(comparison);
    uint64_t bit = comparison->mapping->everywhere && shard != SOURCE ? UINT64_C(1) << shard : 1;
    if (shard == SOURCE && entry == NULL) {
        entry = entry_add(comparison);
        entry->digest = rows->digest;
        entry->needed = needed_by(comparison);
        return;
    }
    if (entry == NULL)
        entry = entry_add(comparison); /* the source does not have it: a suspect */
    bool met = shard != SOURCE && (entry->needed & bit) != 0 && rows->placed &&
               digest_equal(entry->digest, rows->digest);
    if (met)
        entry->needed &= ~bit;
    else
        entry->suspect = true;
}

static void enter_unkeyed(struct comparison *comparison, const struct rows *rows, int shard)
{
    struct entry *entry = entry_find(comparison);
    unsigned owners = sides_of(comparison) - 1;
    if (entry == NULL) {
        entry = entry_add(comparison);
        entry->counts = arena_zalloc(&comparison->entries_arena, owners * sizeof *entry->counts);
    }
    entry->suspect |= !rows->placed;
    for (unsigned o = 0; shard == SOURCE && o < owners; o++)
        entry->counts[o]++;
    if (shard != SOURCE)
        entry->counts[owners == 1 ? 0 : shard]--;
}

static bool is_suspect(const struct comparison *comparison, const struct entry *entry)
{
    bool suspect = entry->suspect || entry->needed != 0;
    for (unsigned o = 0; entry->counts != NULL && o < sides_of(comparison) - 1; o++)
        suspect |= entry->counts[o] != 0;
    return suspect;
}

static bool enter_row(struct comparison *comparison, const struct rows *rows, int shard,
                      struct error *err)
{
    if (!comparison->wrong[bucket_of(comparison, rows)])
        return true;
    rows_key(rows, &comparison->key);
    if (buffer_failed(&comparison->key))
        return error_set(err, ERROR_LIMIT, "a key of %s is too long", comparison->mapping->name);
    if (comparison->mapping->has_key)
        enter_keyed(comparison, rows, shard);
    else
        enter_unkeyed(comparison, rows, shard);
    return true;
}

static void take_suspects(struct comparison *comparison, struct suspects *suspects)
{
    struct entry *entry, *next;
    HASH_ITER (hh, comparison->entries, entry, next) {
        if (is_suspect(comparison, entry))
            suspects_add(suspects, comparison->mapping, entry->key, entry->key_length);
    }
    HASH_CLEAR(hh, comparison->entries);
    arena_clear(&comparison->entries_arena);
}

static uint64_t rows_read(const struct comparison *comparison)
{
    uint64_t rows = 0;
    for (unsigned t = 0; t < sides_of(comparison) * comparison->buckets; t++)
        rows += comparison->tallies[t].rows;
    return rows;
}

/* How many rows may be kept at a time. */
static uint64_t entries_max(const struct comparison *comparison)
{
    uint64_t rows = rows_read(comparison);
    uint64_t row_bytes = rows > 0 ? 2 * comparison->compared->bytes / rows : 0;
    uint64_t fit = ENTRY_BYTES_MAX / (row_bytes + 1) + 1;
    return comparison->mapping->has_key || fit > ENTRIES_MAX ? ENTRIES_MAX : fit;
}

/* Of the wrong buckets, as many as fit; the others wait. Gives how many wait. */
static unsigned choose_buckets(struct comparison *comparison, bool *waiting)
{
    uint64_t rows = 0, most = entries_max(comparison);
    unsigned left = 0;
    for (unsigned b = 0; b < comparison->buckets; b++) {
        waiting[b] = comparison->wrong[b] && rows > most;
        if (waiting[b]) {
            comparison->wrong[b] = false;
            left++;
        } else if (comparison->wrong[b]) {
            for (unsigned side = 0; side < sides_of(comparison); side++)
                rows += comparison->tallies[side * comparison->buckets + b].rows;
        }
    }
    return left;
}

static bool compare_keys(struct comparison *comparison, struct suspects *suspects,
                         struct error *err)
{
    bool *waiting = check_calloc(comparison->buckets, sizeof *waiting);
    unsigned left = 1;
    bool ok = true;
    while (ok && left > 0) {
        left = choose_buckets(comparison, waiting);
        ok = read_sides(comparison, enter_row, err);
        if (ok)
            take_suspects(comparison, suspects);
        memcpy(comparison->wrong, waiting, comparison->buckets * sizeof *waiting);
    }
    free(waiting);
    return ok;
}

/* An interval with more rows than can be kept, on one side at least: into buckets first. */
static bool divide(struct comparison *comparison, struct error *err)
{
    if (comparison->buckets > 1 || rows_read(comparison) <= entries_max(comparison))
        return true;
    free(comparison->tallies);
    free(comparison->wrong);
    comparison_buckets(comparison, BUCKETS_MAX);
    if (!read_sides(comparison, tally_row, err))
        return false;
    mark_wrong(comparison);
    return true;
}

bool compare_interval(struct session *session, const struct mapping *mapping, struct bounds bounds,
                      struct suspects *suspects, struct compared *compared, struct error *err)
{
    struct arena arena;
    struct comparison comparison;
    arena_init(&arena, 64 * 1024);
    comparison_init(&comparison, session, mapping, bounds, &arena);
    comparison.compared = compared;
    bool in_servers = session->options->server_digest && comparison.buckets == 1;
    bool ok =
        in_servers ? tally_in_servers(&comparison, err) : read_sides(&comparison, tally_row, err);
    if (ok) {
        count_rows(&comparison);
        ok = mark_wrong(&comparison) == 0 ||
             (divide(&comparison, err) && compare_keys(&comparison, suspects, err));
    }
    comparison_release(&comparison);
    arena_release(&arena);
    return ok;
}
