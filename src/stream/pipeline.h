/*
 * A libpq connection in pipeline mode: statements go out without waiting, answers come back in order.
 *
 * Each statement sent is an expectation: what must be said of its result, and whose it is. The first
 * one that is not met is the error; what follows it in the pipeline is of no interest. One thread.
 */
#ifndef STREAM_PIPELINE_H
#define STREAM_PIPELINE_H

#include <libpq-fe.h>

#include "stream/change.h"
#include "util/stop.h"

enum expect_kind {
    EXPECT_OK,   /* any success */
    EXPECT_ROWS, /* touched exactly `rows` rows */
    EXPECT_OURS, /* touched exactly one row: the epoch is still ours */
    EXPECT_SYNC, /* the pipeline's sync point */
};

struct expectation {
    enum expect_kind kind;
    bool answered;
    bool tells_keys;             /* the rows that come back are keys, each of which may come once */
    unsigned rows;               /* how many changes the statement carries */
    const struct change *change; /* the first of them; NULL for our own statements */
    lsn_t last;                  /* the greatest position of them */
};

struct pipeline {
    PGconn *conn;
    struct stop *stop;
    int64_t stopped_us; /* since when a wait has known of the stop; 0: it does not */
    struct expectation *ring;
    unsigned ring_size; /* a power of two */
    uint64_t sent;      /* statements so far */
    uint64_t answered;
    /* A statement of several changes failed on its data: one at or before this position is to blame,
     * and the error is of class RETRY. 0: none did. */
    lsn_t suspect;
};

/* Of a statement, as libpq takes them: without lengths and formats all are texts. */
struct parameters {
    int count;
    const char *const *values;
    const int *lengths;
    const int *formats;
};

/* Puts the connection into pipeline mode; keeps no ownership of it. `stop` outlives it. */
bool pipeline_init(struct pipeline *pipeline, PGconn *conn, struct stop *stop,
                   struct error *err) MUST_CHECK;
void pipeline_release(struct pipeline *pipeline);

bool pipeline_prepare(struct pipeline *pipeline, const char *name, const char *sql,
                      struct error *err) MUST_CHECK;
bool pipeline_execute(struct pipeline *pipeline, const char *name,
                      const struct parameters *parameters, const struct expectation *expected,
                      struct error *err) MUST_CHECK;
bool pipeline_query(struct pipeline *pipeline, const char *sql, int count,
                    const char *const *values, enum expect_kind kind, struct error *err) MUST_CHECK;
bool pipeline_sync(struct pipeline *pipeline, struct error *err) MUST_CHECK;

/* Reads answers until those of all statements up to number `upto` are there. When a stop is requested it
 * waits a second more; then what the server does, perhaps waiting for somebody's lock, is cancelled, and
 * so is the transaction. */
bool pipeline_wait(struct pipeline *pipeline, uint64_t upto, struct error *err) MUST_CHECK;

/* Asks the server to send what it has; for waiting without a sync. */
bool pipeline_flush(struct pipeline *pipeline, struct error *err) MUST_CHECK;

#endif
