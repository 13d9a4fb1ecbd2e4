/* `bank run`: clients at work until the time is up or a signal comes. */
#ifndef BANK_RUN_H
#define BANK_RUN_H

#include <stdint.h>

#include "util/error.h"

struct run_options {
    const char *source;       /* dsn; of all names when there is no template */
    const char *dsn_template; /* with {shard} for the number of the shard; NULL if none */
    unsigned shards;
    unsigned writers;
    double rate;        /* row changes a second, over all writers; 0: as fast as it can */
    double seconds;     /* 0: until a signal */
    double large_every; /* seconds between large transactions; 0: none */
    int large_rows;
    int64_t seed;
    const char *ack;
    const char *json; /* NULL if none */
    bool progress;
};

bool run_run(const struct run_options *options, struct error *err) MUST_CHECK;

#endif
