/*
 * The copier: `copy_workers` threads that take chunk after chunk until every range of every mapping
 * is done on every shard, by the protocol of DESIGN.md, "Copy while streaming".
 *
 * A worker fixes an interval, puts it on hold from position h on (step 5), waits until every lane that
 * carries the table's changes has judged all before h, takes a snapshot that sees every transaction skipped for the table, and copies
 * (chunk.h). Workers share nothing but the list of ranges; each has one connection to the source and
 * one to each shard.
 *
 * No deadlock: of all chunks on hold the one with the least h can always go on, because a lane that is
 * stalled by another one has judged everything up to that one's h.
 */
#ifndef COPY_COPIER_H
#define COPY_COPIER_H

#include "copy/inflight.h"
#include "stream/lane.h"

struct copier;

/* `stream` and `inflight` must outlive it. */
struct copier *copier_new(struct stream *stream, struct inflight *inflight);

void copier_start(struct copier *copier);

/* No chunk is begun while it is paused; those under way are finished. Any thread. */
void copier_pause(struct copier *copier, bool paused);

/* The workers end once there is nothing to copy, or a stop is requested; waits for them. */
void copier_finish(struct copier *copier);

/* Keys that it has put into the stream's holds are freed too: free the holds first. */
void copier_free(struct copier *copier);

#endif
