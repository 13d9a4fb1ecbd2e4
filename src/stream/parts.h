/*
 * Parts: a table that was split, on its way back. A change of any part is not applied; the row is read as
 * it stands on the shard now, from all its parts, and put to the source, or removed there
 * (mapping/rejoin.h). What is removed may be a row that another shard has by now: its key is marked in
 * portage.dirty. All changes of such a table go through one lane. One thread.
 */
#ifndef STREAM_PARTS_H
#define STREAM_PARTS_H

#include "stream/pipeline.h"
#include "stream/readback.h"

struct parts {
    const struct mapping_set *mappings;
    unsigned stream;
    struct readback *readback;
    struct pipeline *pipeline;
    struct rejoin **rejoins; /* by mapping, made at first use */
    struct arena arena;
};

/* All pointers must outlive it. */
void parts_init(struct parts *parts, const struct mapping_set *mappings, unsigned stream,
                struct readback *readback, struct pipeline *pipeline);
void parts_release(struct parts *parts);

/* Within the lane's transaction. `arena` is that of the change's batch. */
bool parts_take(struct parts *parts, const struct change *change, struct arena *arena,
                struct error *err) MUST_CHECK;

/* Of any table with a key: which of these keys the shard has no row of, as it stands now, is asked there;
 * they are removed and marked. When it returns the server has answered. */
bool parts_remove_gone(struct parts *parts, const struct change *change,
                       const char *const *const *keys, unsigned count, struct arena *arena,
                       struct error *err) MUST_CHECK;

#endif
