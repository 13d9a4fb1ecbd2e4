/*
 * A snapshot of the source as txid_current_snapshot() gives it: which top-level transactions it sees.
 * The stream's 32-bit transaction ids are widened against it before they are compared.
 */
#ifndef STATE_SNAPSHOT_H
#define STATE_SNAPSHOT_H

#include <stdint.h>

#include "util/error.h"

struct snapshot {
    uint64_t xmin;
    uint64_t xmax;
    unsigned count;
    uint64_t *xip; /* ascending; in progress between xmin and xmax */
    char *text;    /* as it was read */
};

bool snapshot_parse(const char *text, struct snapshot *snapshot, struct error *err) MUST_CHECK;
void snapshot_release(struct snapshot *snapshot);

/* Whether a transaction that has committed is visible. */
bool snapshot_sees(const struct snapshot *snapshot, uint64_t xid);

/* The 64-bit id nearest to `near` with these lower 32 bits. */
uint64_t snapshot_widen(uint32_t xid, uint64_t near);

#endif
