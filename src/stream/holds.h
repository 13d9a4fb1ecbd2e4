/*
 * Copy beside stream: what a lane does with a change while its table is being copied.
 *
 * DESIGN.md, "Copy while streaming", numbers the protocol's steps; the numbers are used here. In
 * memory, per mapping and shard: the ranges with their cursors (done keys, pending keys), the
 * snapshots of chunks that the stream may still need, the interval that is on hold, and per mapping
 * the transactions of which a change was skipped on a pending key. It mirrors portage.range and
 * portage.chunk; the copier changes both, first there.
 *
 * Invariants
 *  1. A change on a done key is applied unless the snapshot of the chunk that holds the key sees its
 *     transaction (step 3).
 *  2. A change is skipped only on a pending key that is not on hold, and its transaction is remembered
 *     before the verdict is given (step 3); no chunk's snapshot is used that does not see it (step 5).
 *  3. Between holds_begin() and holds_commit() no change at or behind h on a key of the interval
 *     passes, on any shard (step 5).
 *
 * Threads: all functions may be called by any; one mutex a mapping, one condition for who is stalled.
 */
#ifndef STREAM_HOLDS_H
#define STREAM_HOLDS_H

#include "state/range.h"
#include "state/snapshot.h"
#include "stream/change.h"

struct holds;

enum verdict {
    VERDICT_APPLY,
    VERDICT_DISCARD, /* the copied row has it already */
    VERDICT_SKIP,    /* the copy will bring it */
    VERDICT_STALL,   /* on hold: wait, do not overtake */
};

struct holds *holds_new(const struct mapping_set *set);
void holds_free(struct holds *holds);

/* Filling it from a shard's state, before any thread starts. */
void holds_load_range(struct holds *holds, unsigned shard, const struct range_row *row);
bool holds_load_chunk(struct holds *holds, unsigned shard, const struct chunk_row *row,
                      struct error *err) MUST_CHECK;

/* ---- lanes ---- */

/* A change of a row: by its leaf, key, commit record and transaction. */
enum verdict holds_judge(struct holds *holds, unsigned shard, const struct change *change);
/* Until some hold ends, at most timeout_us. */
void holds_wait(struct holds *holds, int64_t timeout_us);

/*
 * A TRUNCATE while the table is being copied: everything is pending again, on this shard. False, and
 * nothing done, while a chunk of the table is under way: wait and ask again. Until holds_reset_end(),
 * to be called after the shard's commit, no chunk of the table begins.
 */
bool holds_reset_begin(struct holds *holds, const struct mapping *mapping, unsigned shard,
                       uint32_t xid, lsn_t lsn) MUST_CHECK;
void holds_reset_end(struct holds *holds, const struct mapping *mapping);

/* Some chunk of it is under way, on some shard. */
bool holds_on_hold(struct holds *holds, const struct mapping *mapping);

bool holds_steady_on(struct holds *holds, const struct mapping *mapping, unsigned shard);

/* ---- copier ---- */

/* What is still to be copied of a range: from the least cursor on; where the shards' cursors differ
 * (a crash between their commits), only up to the furthest. */
struct pending {
    int range;
    uint32_t leaf;              /* the late leaf whose range it is; 0: of all others */
    const struct key *cursor;   /* least over the shards; NULL: the range's lower end */
    const struct key *upper;    /* the range's upper end; NULL: open */
    bool fixed;                 /* the next chunk must end at `fixed_upper`: some shard is there already */
    const struct key *fixed_upper;
    uint64_t behind;            /* bit per shard: takes part in the next chunk */
    unsigned resets;            /* of the table so far */
};

unsigned holds_ranges(struct holds *holds, const struct mapping *mapping);
/* False when the range is done on every shard. */
bool holds_pending(struct holds *holds, const struct mapping *mapping, unsigned range,
                   struct pending *pending);
/* Every range is done on every shard. */
bool holds_copied(struct holds *holds, const struct mapping *mapping);
/* … and no chunk's snapshot is needed any more: from here on changes simply apply. */
bool holds_steady(struct holds *holds, const struct mapping *mapping);

/* Step 5: (cursor, upper] goes on hold for changes at or behind *h, which is moved behind all that was
 * skipped so far. Keys must outlive the struct. False when the table was reset since `pending` was
 * asked for: plan again. */
bool holds_begin(struct holds *holds, const struct mapping *mapping, const struct pending *pending,
                 const struct key *upper, lsn_t *h) MUST_CHECK;
/* The chunk is not made after all: nothing is on hold any more, everything is as before. */
void holds_cancel(struct holds *holds, const struct mapping *mapping, int range);
/* Steps 6 and 7, after the shard's commit: the cursor moves, the snapshot is kept, the hold ends. */
bool holds_commit(struct holds *holds, unsigned shard, const struct chunk_row *chunk, bool done,
                  struct error *err) MUST_CHECK;
/* Step 5: whether a snapshot sees every transaction before h that was skipped for this mapping; forgets
 * those seen. What was skipped at or behind h is behind the interval, and the next chunk's: a source that
 * waits for us to confirm would not show it before the hold ends. */
bool holds_skipped_seen(struct holds *holds, const struct mapping *mapping,
                        const struct snapshot *snapshot, lsn_t h);
/* Step 8: chunks with L at or below what every lane of the shard that carries the mapping's changes has
 * durably passed. */
void holds_drop_chunks(struct holds *holds, const struct mapping *mapping, unsigned shard,
                       lsn_t progress);

/* Against what the stream's transaction ids are widened: the source's last known xmax. */
void holds_set_xmax(struct holds *holds, uint64_t xmax);
uint64_t holds_widen(struct holds *holds, uint32_t xid);

#endif
