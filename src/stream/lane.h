/*
 * A lane: one thread, one connection in pipeline mode, one shard; applies changes in the order of
 * their commits at the source.
 *
 * Several source transactions share a target transaction, which begins by locking the lane's row of
 * portage.lane under our epoch and ends by writing the progress into it: changes and progress commit
 * together (step 4). A lane ignores what lies at or below its progress (step 2): exactly once.
 *
 * Invariants
 *  1. progress <= reached; reached is what has been judged, progress what is durable.
 *  2. A batch is freed only after the server has answered for all of its changes.
 *  3. A target transaction ends between source transactions, except at a barrier or a hold, where `partial`
 *     tells how many of the transaction's changes for this lane are done.
 *  4. Tables that are copied whole (mapping->whole_lane) have lanes of their own, for good: as many as
 *     the others, and only where there are such tables. So a hold that lasts as long as a table's copy
 *     stalls no lane of another table, and what waits behind it may be spilled.
 */
#ifndef STREAM_LANE_H
#define STREAM_LANE_H

#include "stream/backlog.h"
#include "stream/holds.h"
#include "stream/readback.h"
#include "util/stop.h"

/* What receiver, lanes and copier share. Plain fields are set before the threads start. */
struct stream {
    const struct config *config;
    const struct mapping_set *mappings;
    struct holds *holds;
    struct readback *readback; /* all lanes share its sessions */
    struct stop *stop;
    unsigned number; /* which of those that end on the same servers … */
    unsigned rivals; /* … and how many others there are (the way back from several shards) */
    int64_t epoch;
    struct lane **lanes; /* shard by shard: config->lanes, and as many of tables copied whole */
    unsigned lanes_count, lanes_per_shard;
    struct spill_space spill;
    _Atomic lsn_t dispatched; /* all that committed before it has been pushed to the lanes */
    _Atomic int64_t dispatched_time; /* when the publisher's log was there, or later: its clock */
    _Atomic uint64_t changes; /* received, since the start */
    _Atomic int64_t marker;   /* the last one of a switch that a lane has durably passed */
    _Atomic lsn_t *suspect;   /* up to here each change is applied alone (apply.h); outlives the
                                 incarnation */
};

/* config->lanes of them, from this one on, carry a mapping's changes on a shard. */
static inline unsigned stream_first_lane(const struct stream *stream,
                                         const struct mapping *mapping, unsigned shard)
{
    return shard * stream->lanes_per_shard +
           (mapping->whole_lane ? (unsigned)stream->config->lanes : 0);
}

/* Whether every lane that carries a mapping's changes has judged all that committed before. */
bool stream_reached(const struct stream *stream, const struct mapping *mapping, lsn_t position);

struct lane;

/* `conninfo` must outlive the lane. */
struct lane *lane_new(struct stream *stream, unsigned shard, unsigned number, const char *conninfo);
void lane_free(struct lane *lane);

/* Reads its progress and its ghosts; the row must exist. Before the thread starts. */
bool lane_load(struct lane *lane, PGconn *shard, struct error *err) MUST_CHECK;

/* pthread start routine; fails the stream's stop on error. */
void *lane_main(void *lane);

struct backlog *lane_backlog(struct lane *lane);
lsn_t lane_progress(struct lane *lane);      /* durable; any thread */
uint64_t lane_barriers(struct lane *lane);   /* barriers passed so far; any thread */

struct lane_counts {
    uint64_t applied, discarded, skipped, transactions;
    int64_t lag_us_max; /* the worst since the last call */
    uint64_t
        lag_histogram[64]; /* source transactions by log2 of microseconds from commit to durable */
};
void lane_read_counts(struct lane *lane, struct lane_counts *counts);

#endif
