/*
 * W: the transactions that were in progress at the source when we started (DESIGN.md, "Copy while
 * streaming", step 1). An earlier incarnation of ours may have skipped changes of theirs that no
 * snapshot showed yet, and that memory is gone with it. Until all of W has ended no snapshot is used
 * for a chunk; streaming goes on meanwhile.
 *
 * That the stream brings one of W again does not end it: a lane that was past it before ignores it now, and
 * with it that it was skipped (docs/model, W_UNTIL_ENDED). Nothing is on hold meanwhile, so a source that
 * waits for our confirmation gets it.
 *
 * A transaction without an id has written nothing. One that is idle in transaction has not begun to
 * commit, so the stream cannot have delivered it before.
 *
 * Any thread may ask; one mutex inside.
 */
#ifndef COPY_INFLIGHT_H
#define COPY_INFLIGHT_H

#include <libpq-fe.h>

#include "state/snapshot.h"

struct inflight;

struct inflight *inflight_new(void);
void inflight_free(struct inflight *inflight);

/* Takes W. *xmax is the source's next transaction id, for widening those of the stream. */
bool inflight_take(struct inflight *inflight, PGconn *source, uint64_t *xmax, struct error *err)
    MUST_CHECK;

/* Whether all of W has ended, as of a snapshot taken just now on `source`, which may be inside a
 * transaction. One that is seen idle in transaction after the snapshot was taken leaves W too: it had not
 * begun to commit. Names those that are waited for after ten seconds, and every minute. */
bool inflight_ended(struct inflight *inflight, PGconn *source, const struct snapshot *snapshot,
                    bool *ended, struct error *err) MUST_CHECK;

#endif
