/*
 * A client at work: a thread that makes requests one after the other, on a schedule that does not
 * wait for the answers (open loop: a request's latency counts from the moment it was due).
 */
#ifndef BANK_WRITER_H
#define BANK_WRITER_H

#include "ack.h"
#include "request.h"
#include "session.h"
#include "stats.h"

struct writer {
    struct client client;
    struct session sessions[SHARDS_MAX];
    double us_per_change;   /* 0: as fast as it can */
    int64_t large_every_us; /* more than 0: makes large transactions only, one in this time */
    int large_rows;
    struct ack *ack;
    struct stats *stats;
    struct stop *stop;
};

/* Until a stop is requested. `context` is a struct writer, which the thread owns meanwhile. */
void *writer_main(void *context);

#endif
