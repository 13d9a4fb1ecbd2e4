/*
 * Reading single columns back from the source by key: for an unchanged TOAST value (R1) that an
 * expression needs beside a changed column, or that a new row needs.
 *
 * Only the columns marked unchanged are taken; everything else comes from the message, and later
 * changes of the row follow in the stream. For that, what is read must not be older than the change:
 * the stream can deliver a transaction that snapshots do not see yet (S5), and then it is read again.
 * The connection is opened at the first need. One thread.
 */
#ifndef STREAM_READBACK_H
#define STREAM_READBACK_H

#include <libpq-fe.h>

#include "stream/change.h"
#include "util/stop.h"

struct readback {
    const char *conninfo;
    struct stop *stop;
    PGconn *conn;
};

void readback_init(struct readback *readback, const char *conninfo, struct stop *stop);
void readback_release(struct readback *readback);

/* Opens its session if need be, and waits until that sees the transaction `xid`. */
bool readback_see(struct readback *readback, uint32_t xid, struct error *err) MUST_CHECK;

/* Fills the missing values of the change's new row, from the arena. Not *found: the row is gone at
 * the source, by a change that follows in the stream. RETRY when the source does not show the
 * change's transaction for long. */
bool readback_fill(struct readback *readback, struct change *change,
                   const struct column_set *missing, struct arena *arena, bool *found,
                   struct error *err) MUST_CHECK;

#endif
