/*
 * One chunk: the rows of (lower, upper] under one snapshot of the source, into every shard that has
 * not got them yet (DESIGN.md, "Copy while streaming", step 6). Per shard one transaction holds the
 * rows, the new cursor, the snapshot and L.
 *
 * Whoever calls has put the interval on hold and taken the snapshot, which is the open transaction on
 * `source`. One thread; the connections are its own.
 */
#ifndef COPY_CHUNK_H
#define COPY_CHUNK_H

#include "util/throttle.h"
#include "stream/holds.h"

struct chunk {
    const struct mapping *mapping;
    struct pending pending;
    const struct key *upper; /* NULL: no end */
    bool done;               /* reaches the end of its range */
    const char *snapshot;
    lsn_t lsn;               /* L */
    /* what became of it */
    int64_t rows, bytes;
};

struct chunk_copy {
    struct holds *holds;
    const struct config *config;
    struct throttle *throttle;
    struct stop *stop;
    int64_t epoch;
    PGconn *source;
    PGconn **shards;
    unsigned shards_count;
};

/* On success the source's transaction is over and the holds of all shards have ended. On error the
 * connections may be in the middle of anything: close them. DATA: some row was refused. */
bool chunk_run(struct chunk_copy *copy, struct chunk *chunk, struct error *err) MUST_CHECK;

#endif
