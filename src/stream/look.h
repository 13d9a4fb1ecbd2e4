/*
 * Looking at the shard: a partition of its table was truncated by itself, on the way back. Which of the
 * source's rows that were is not told by their columns (docs/design/decisions.md), so all that are this
 * shard's are looked up there, a thousand at a time, and those that it has no more are removed. The
 * shard may have gone on since: what its stream has still to delete is removed early, so each key is
 * marked in portage.dirty. Rows that came again are left, and their inserts follow. One thread.
 */
#ifndef STREAM_LOOK_H
#define STREAM_LOOK_H

#include "mapping/erase.h"
#include "stream/parts.h"

struct look {
    const char *conninfo; /* of the lane's server, to read there beside the lane */
    struct erase_of of;
    struct parts *parts;  /* its session at the shard, and how a row is removed */
};

/* Within the lane's transaction, behind a barrier. */
bool look_take(const struct look *look, const struct change *change, struct error *err) MUST_CHECK;

#endif
