/*
 * The backlog of a lane: batches that wait for it, in order. A bounded queue in memory; behind it, for
 * lanes whose tables are copied whole and may be on hold for hours, a spill on disk.
 *
 * Invariants
 *  1. What is in memory is older than what is spilled: nothing goes into memory while anything is
 *     spilled.
 *  2. Nothing is refused while the spill has room; then a push waits, as at a full queue.
 *
 * One thread pushes, one pops; the others may ask.
 */
#ifndef STREAM_BACKLOG_H
#define STREAM_BACKLOG_H

#include "stream/change.h"
#include "stream/spill.h"

struct backlog;

/* `space` is NULL: memory alone. Both must outlive it, and the set the batches that are popped. */
struct backlog *backlog_new(size_t weight_max, struct spill_space *space,
                            const struct mapping_set *set);
void backlog_free(struct backlog *backlog); /* with all that waits */

enum backlog_result {
    BACKLOG_OK,
    BACKLOG_TIMEOUT, /* full, or empty, for so long */
    BACKLOG_FAILED,  /* popping only: see err */
};

/* A batch that was taken is the backlog's. That there is no room on the disk is said in the log, at first
 * and then every minute while it lasts. */
enum backlog_result backlog_push(struct backlog *backlog, struct batch *batch, int64_t timeout_us)
    MUST_CHECK;
enum backlog_result backlog_pop(struct backlog *backlog, struct batch **batch, int64_t timeout_us,
                                struct error *err) MUST_CHECK;

/* Stale as soon as they are read. */
bool backlog_is_empty(struct backlog *backlog);
int64_t backlog_spilled(struct backlog *backlog); /* bytes on disk */

#endif
