/*
 * Ghosts: rows that the stream has made and the target cannot have, because what is missing of them
 * is nowhere any more (R1).
 *
 * A change of the key makes a new row. Its unchanged large values are not in the message; they are
 * read back from the source by the new key. When the row is gone there by now, a later change of the
 * stream says so: it is deleted, or has another key. Until that comes, the row is a ghost: an update
 * tries to complete it once more, and inserts it if it can; a delete touches nothing.
 *
 * Invariants
 *  1. A ghost's row is not in the target.
 *  2. What is known here stands in portage.ghost, by the transaction that writes the progress.
 *  3. A key that is no ghost costs a lane without ghosts one comparison with NULL.
 *
 * A lane knows the ghosts of its own keys. One thread.
 */
#ifndef STREAM_GHOSTS_H
#define STREAM_GHOSTS_H

#include "stream/pipeline.h"

struct ghosts {
    unsigned stream, lane;
    struct ghost *known;
    struct buffer id; /* of the change asked about */
};

void ghosts_init(struct ghosts *ghosts, unsigned stream, unsigned lane);
void ghosts_release(struct ghosts *ghosts);

/* Reads those of this lane, before anything is applied. */
bool ghosts_load(struct ghosts *ghosts, PGconn *shard, struct error *err) MUST_CHECK;

/* Whether the change is one of a ghost. */
bool ghosts_know(struct ghosts *ghosts, const struct change *change);

/* Within the lane's transaction: the change's row becomes a ghost; is none any more. */
bool ghosts_add(struct ghosts *ghosts, struct pipeline *pipeline, const struct change *change,
                struct error *err) MUST_CHECK;
bool ghosts_forget(struct ghosts *ghosts, struct pipeline *pipeline, const struct change *change,
                   struct error *err) MUST_CHECK;

/* A table was emptied: its ghosts are void. One lane of the shard removes those of all lanes from the
 * database, at a barrier; each forgets its own. */
void ghosts_forget_table(struct ghosts *ghosts, const struct mapping *mapping);
bool ghosts_remove_table(struct pipeline *pipeline, const struct mapping *mapping,
                         struct error *err) MUST_CHECK;

#endif
