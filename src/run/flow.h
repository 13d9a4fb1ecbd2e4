/*
 * A flow: one stream with its receiver, its lanes and their threads, from one server to others. Forward
 * there is one, from the source to all shards; backward one for each shard, all of them to the source.
 *
 * Life cycle: flow_init(), then the state is loaded (holds by the caller or flow_load_steady(), lanes by
 * flow_load_lanes()), then flow_start(); the stop that was given ends the threads, flow_join() waits for
 * them. Belongs to the engine's thread; what the flow's own threads share is in `stream`.
 */
#ifndef RUN_FLOW_H
#define RUN_FLOW_H

#include "run/migration.h"
#include "stream/receiver.h"

struct flow {
    struct migration *migration; /* source and shards as the flow sees them: from and to */
    struct stream stream;
    struct receiver receiver;
    pthread_t *lane_threads;
    pthread_t receiver_thread;
};

/* `number` tells apart the streams that end on the same servers. All pointers must outlive it. */
void flow_init(struct flow *flow, struct migration *migration, unsigned number, int64_t epoch,
               _Atomic lsn_t *suspect, struct stop *stop);
void flow_release(struct flow *flow);

/* Nothing is copied: every change is applied. */
void flow_load_steady(struct flow *flow);
/* Reads the progress of every lane; where the stream begins is the least of them. */
bool flow_load_lanes(struct flow *flow, struct error *err) MUST_CHECK;

void flow_start(struct flow *flow);
void flow_join(struct flow *flow);

/* What all lanes of this shard that carry the mapping's changes have durably applied. */
lsn_t flow_progress(const struct flow *flow, unsigned shard, const struct mapping *mapping);

/* Bytes that wait for a lane in files. */
int64_t flow_spilled(const struct flow *flow, unsigned shard, unsigned lane);

/* Whether this holds of every mapping. */
bool flow_all(const struct flow *flow, bool (*holds)(struct holds *, const struct mapping *));

#endif
