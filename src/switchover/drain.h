/*
 * Draining: everything that was written to the from-side is durable on the to-side. A new marker is
 * written to each from-server, and has to come out at every lane of every to-server
 * (portage.lane.marker). A marker that was there before says nothing of writes behind it.
 */
#ifndef SWITCHOVER_DRAIN_H
#define SWITCHOVER_DRAIN_H

#include "switchover/side.h"
#include "util/stop.h"

struct drain {
    const struct side *from, *to;
    int lanes;        /* of each stream on each to-server */
    int64_t *markers; /* of each from-server; room for from->count */
};

/* One marker on each from-server, under `epoch`, or whoever's epoch it is (a dry run: a marker that is not
 * waited for by the switch at work does it no harm). */
enum { DRAIN_ANY_EPOCH = -1 };
bool drain_mark(struct drain *drain, int64_t epoch, struct error *err) MUST_CHECK;

/* Until all lanes have passed them. LIMIT at `until_us` of the monotonic clock, naming lanes that lag. */
bool drain_wait(const struct drain *drain, int64_t until_us, struct stop *stop,
                struct error *err) MUST_CHECK;

#endif
