/*
 * Dirty keys: rows of the source that the streams of several shards have touched on the way back. Before
 * a rollback opens the source they are read again from the shards, which are fenced and drained, and
 * put to the source as the shards have them.
 *
 * A key stays dirty until the journal says `switched`: an abort lets the application change it again
 * (docs/model/README.md, DIRTY_UNTIL_JOURNAL). What is done here may be repeated.
 */
#ifndef SWITCHOVER_DIRTY_H
#define SWITCHOVER_DIRTY_H

#include "mapping/findings.h"
#include "mapping/mapping.h"
#include "util/stop.h"

struct dirty;

/* When to give up, which it asks after each page of keys. */
struct dirty_limit {
    int64_t until_us;
    struct stop *stop;
};

/* Outside the pause: the mappings turned round for each shard, and a session at the source that fires no
 * triggers, if it may. The connections, set and config outlive it. */
bool dirty_prepare(const struct config *config, const struct mapping_set *set,
                   PGconn *const *shards, unsigned shards_count, struct dirty **dirty,
                   struct error *err) MUST_CHECK;
void dirty_free(struct dirty *dirty); /* NULL is fine */

/* Before the pause, writing nothing: the finding `dirty-keys`, how many there are and how long they will
 * take, by a sample of them. It refuses when that is more than `timeout_s`. */
bool dirty_foresee(struct dirty *dirty, int timeout_s, struct findings *findings,
                   struct error *err) MUST_CHECK;

/* In the pause, in memory for a thousand keys. *count: keys. */
bool dirty_settle(struct dirty *dirty, int64_t epoch, const struct dirty_limit *limit,
                  unsigned *count, struct error *err) MUST_CHECK;

/* Once the source is live again. */
bool dirty_forget(PGconn *source, int64_t epoch, struct error *err) MUST_CHECK;

#endif
