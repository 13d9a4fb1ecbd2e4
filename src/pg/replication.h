/*
 * The replication connection: a logical slot's stream of pgoutput messages. One thread owns it.
 *
 * Reads without blocking, so that its owner answers keepalives by the clock whatever the rest does.
 * Source of the protocol: PostgreSQL documentation, "Streaming Replication Protocol".
 */
#ifndef PG_REPLICATION_H
#define PG_REPLICATION_H

#include <libpq-fe.h>

#include "pg/lsn.h"
#include "util/error.h"

struct replication {
    PGconn *conn;          /* CONN_REPLICATION; owned by the caller of replication_start */
    char *message;         /* of libpq, freed by the next read */
    lsn_t server_end;      /* end of WAL at the server as of its last message … */
    int64_t server_time;   /* … and its clock then: microseconds since 2000-01-01 UTC */
    lsn_t confirmed;       /* what we last told */
    int64_t last_read_us;  /* monotonic */
    int64_t nap_us;        /* how long changes gather before the next read … */
    int64_t nap_us_most;   /* … and how long they may */
    int64_t last_reply_us; /* monotonic */
    bool reply_requested;
};

enum replication_event {
    REPLICATION_ERROR,
    REPLICATION_IDLE,      /* nothing there at the moment */
    REPLICATION_KEEPALIVE, /* server_end moved, perhaps a reply is wanted */
    REPLICATION_CHANGES,   /* *payload: one pgoutput message */
};

/* START_REPLICATION at `start` with protocol version 1 of pgoutput; `binary` needs source 14. */
bool replication_start(struct replication *stream, PGconn *conn, const char *slot,
                       const char *publication, lsn_t start, bool binary, struct error *err)
    MUST_CHECK;
void replication_release(struct replication *stream); /* not the connection */

/* One event. *payload is valid until the next call. */
enum replication_event replication_read(struct replication *stream, const char **payload,
                                        size_t *length, struct error *err);

/* Waits for input, at most timeout_us; when there is some, up to 4 ms more for what comes with it. */
bool replication_wait(struct replication *stream, int64_t timeout_us, struct error *err)
    MUST_CHECK;

/* Tells the server that everything before `durable` may be forgotten. */
bool replication_confirm(struct replication *stream, lsn_t durable, struct error *err) MUST_CHECK;

#endif
