/*
 * The router: which shard and which lane a row's change belongs to, and the batches it goes into.
 *
 * An update that moves the row to another key or another shard is a delete and an insert, each with
 * the key it has there (step 3). Without a key every update is. The lane is chosen by hash(table,
 * key), or by hash(table) where a unique or exclusion constraint besides the key makes the order
 * between rows matter, or the key's text does not tell the key (1.0 = 1.00); among those of tables
 * copied whole, or among the others (lane.h). Belongs to the receiver's thread.
 */
#ifndef STREAM_ROUTER_H
#define STREAM_ROUTER_H

#include "stream/lane.h"
#include "stream/relations.h"

struct router {
    struct stream *stream;
    struct router_lane *lanes; /* the batch being filled for each lane */
    struct arena scratch;      /* of one change */
    struct buffer key;         /* encoded key under construction */
    struct buffer lane_key;
    uint64_t key_hash;
    size_t batch_bytes_max; /* a larger batch is pushed */
    uint32_t leaf;          /* of the row being routed */
    /* of the transaction being routed */
    uint32_t xid;
    lsn_t lsn;
    int64_t commit_time;
    bool (*wait)(void *context, struct error *err); /* called while a queue is full, or a barrier not
                                                       passed: feeds the others meanwhile */
    void *wait_context;
};

void router_init(struct router *router, struct stream *stream);
void router_release(struct router *router);

void router_begin(struct router *router, const struct pgoutput_message *message);
bool router_row(struct router *router, const struct stream_relation *relation,
                const struct pgoutput_message *message, struct error *err) MUST_CHECK;
/* Every lane that got a change of this transaction is told its end; every lane, when it wrote the
 * marker of this id (0: none). */
void router_commit(struct router *router, lsn_t end, int64_t marker);

/* Pushes batches onto their lanes' queues: all of them; or those whose lane has nothing waiting, and
 * not every few changes by themselves, so that batches grow while there is much to do. A full batch is
 * pushed by itself. */
bool router_flush(struct router *router, struct error *err) MUST_CHECK;
void router_feed(struct router *router); /* never waits */

/* Up to where everything has been pushed: `complete`, or less while a batch is kept. */
lsn_t router_pushed(const struct router *router, lsn_t complete);

/* Between two barriers, of all lanes that carry the mapping's changes: empties the target table on every
 * shard. With `partial` only a partition was truncated: all of the table is copied again, whatever is
 * steady; on the way back what the shard has no more is removed. The first of these lanes of each shard
 * does it, the others forget what they know of its rows. Waits, as long as the hold of a table copied whole
 * that shares these lanes, and tells of it in the log. */
bool router_truncate(struct router *router, const struct mapping *mapping, bool partial,
                     struct error *err) MUST_CHECK;

#endif
