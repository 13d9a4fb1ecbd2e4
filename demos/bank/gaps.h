/* When no request of any client was acknowledged for a while: the pauses that the application sees.
 * A plain value; one thread at a time. */
#ifndef BANK_GAPS_H
#define BANK_GAPS_H

#include <stdint.h>
#include <stdio.h>

enum {
    GAP_LEAST_US = 20 * 1000, /* shorter ones are not kept */
    GAPS_MAX = 4096,          /* and of more than these the longest */
};

struct gap {
    int64_t begun_us; /* of the epoch of Unix: when the last request before it was acknowledged */
    int64_t us;
};

struct gaps {
    int64_t last_us; /* monotonic; 0: none yet */
    unsigned count;
    struct gap gaps[GAPS_MAX];
};

/* A request was acknowledged. */
void gaps_acknowledged(struct gaps *gaps);

/* [[seconds of the epoch, milliseconds], ...] in no order. */
void gaps_print_json(const struct gaps *gaps, FILE *out);

#endif
