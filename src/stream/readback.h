/*
 * Reading single columns back from the source by key: for an unchanged TOAST value (R1) that an
 * expression needs beside a changed column, or that a new row needs.
 *
 * Only the columns marked unchanged are taken; everything else comes from the message, and later
 * changes of the row follow in the stream. The connection is opened at the first need. One thread.
 */
#ifndef STREAM_READBACK_H
#define STREAM_READBACK_H

#include <libpq-fe.h>

#include "stream/change.h"

struct readback {
    const char *conninfo;
    PGconn *conn;
};

void readback_init(struct readback *readback, const char *conninfo);
void readback_release(struct readback *readback);

/* Fills the missing values of the change's new row, from the arena. When the row is gone at the
 * source, an update leaves them missing (its delete follows); a new row, made by a change of the key,
 * cannot be completed: FATAL, naming the table and the remedy. */
bool readback_fill(struct readback *readback, struct change *change,
                   const struct column_set *missing, struct arena *arena,
                   struct error *err) MUST_CHECK;

#endif
