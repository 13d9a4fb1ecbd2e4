/* `bank check`: proves that a side holds every acknowledged request once, and nothing else. */
#ifndef BANK_CHECK_H
#define BANK_CHECK_H

#include <stdint.h>

#include "shard.h"
#include "util/error.h"

enum { ACK_FILES_MAX = 64 };

struct check_options {
    unsigned acks_count;
    const char *acks[ACK_FILES_MAX];
    unsigned dsns_count; /* several: the shards, in their order; the side is their union */
    const char *dsns[SHARDS_MAX];
    const char *json; /* NULL if none */
};

/* False when it could not look. *differences is 0 when all holds. */
bool check_run(const struct check_options *options, uint64_t *differences,
               struct error *err) MUST_CHECK;

#endif
