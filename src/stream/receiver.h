/*
 * The receiver: owns the replication connection, decodes, routes to the lanes.
 *
 * It answers the server by the clock whatever the rest does, and waits only on the lanes' bounded
 * queues. What it confirms is the least durable progress of all lanes (invariant 2 of DESIGN.md): a
 * keepalive moves a position only when nothing of any transaction is buffered.
 *
 * A transaction whose first change is one of a table of ours is of our own making, and is dropped: what
 * we apply on one side must not come back from the other. A switch waits for its marker: it goes to
 * all lanes at once.
 */
#ifndef STREAM_RECEIVER_H
#define STREAM_RECEIVER_H

#include "stream/lane.h"

struct receiver {
    struct stream *stream;
    const char *conninfo;
    const char *slot;
    const char *publication;
    lsn_t start; /* least progress of the lanes */
};

/* pthread start routine; fails the stream's stop on error. */
void *receiver_main(void *receiver);

#endif
