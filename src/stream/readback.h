/*
 * Reading single columns back from the source by key: for an unchanged TOAST value (R1) that an
 * expression needs beside a changed column, or that a new row needs.
 *
 * Only the columns marked unchanged are taken; everything else comes from the message, and later
 * changes of the row follow in the stream. For that, what is read must not be older than the change:
 * the stream can deliver a transaction that snapshots do not see yet (S5), and then it is read again.
 *
 * All lanes of a stream share its sessions, at most so many, because what connects to the source is
 * limited for all of us together (mapping/connections.h). Each is opened at the first need. Who finds
 * none free waits: it has one for a statement, not while it waits for the source to show a transaction.
 * So nobody who has a session waits for another one. Any thread.
 */
#ifndef STREAM_READBACK_H
#define STREAM_READBACK_H

#include <libpq-fe.h>

#include "stream/change.h"
#include "util/stop.h"

struct readback;

/* `conninfo` and `stop` outlive it. */
struct readback *readback_new(const char *conninfo, unsigned sessions_max, struct stop *stop);
void readback_free(struct readback *readback); /* nobody uses it any more; NULL is fine */

/* The answer to a statement that sees the transaction `xid`; NULL on error. */
PGresult *readback_query(struct readback *readback, uint32_t xid, const char *sql, int count,
                         const char *const *values, struct error *err) MUST_CHECK;

/* Fills the missing values of the change's new row, from the arena. Not *found: the row is gone at
 * the source, by a change that follows in the stream. RETRY when the source does not show the
 * change's transaction for long. */
bool readback_fill(struct readback *readback, struct change *change,
                   const struct column_set *missing, struct arena *arena, bool *found,
                   struct error *err) MUST_CHECK;

#endif
