/* What the clients measured, all together. Thread-safe. */
#ifndef BANK_STATS_H
#define BANK_STATS_H

#include <pthread.h>

#include "gaps.h"
#include "histogram.h"
#include "util/error.h"

enum { STATS_STATES_MAX = 32 };

struct stats_counts {
    uint64_t acknowledged;
    uint64_t unknown;
    uint64_t errors; /* whatever the client saw fail, unknown ones too */
    uint64_t changes;
    uint64_t large_transactions; /* not in changes and latencies */
    uint64_t large_changes;
};

struct stats {
    pthread_mutex_t lock; /* guards all below */
    struct stats_counts counts;
    struct histogram total;
    struct histogram second; /* since stats_take_second() */
    struct gaps gaps;
    unsigned states_count;
    struct stats_state {
        char sqlstate[6];
        uint64_t count;
        char example[256]; /* the first message */
    } states[STATS_STATES_MAX];
};

struct stats *stats_new(void);
void stats_free(struct stats *stats);

void stats_acknowledged(struct stats *stats, int64_t changes, int64_t latency_us);
void stats_large(struct stats *stats, int64_t changes);
void stats_failed(struct stats *stats, const struct error *err, bool unknown);

/* The counts so far, and the latencies since the last call. */
void stats_take_second(struct stats *stats, struct stats_counts *counts,
                       struct histogram *latencies);

/* After the clients have ended: no lock is taken. */
void stats_print(const struct stats *stats, FILE *out, double seconds);
void stats_print_json(const struct stats *stats, FILE *out, double seconds);

#endif
