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

#include "mapping/mapping.h"

struct dirty;

/* Outside the pause: the mappings turned round for each shard, and a session at the source that fires no
 * triggers, if it may. The connections, set and config outlive it. */
bool dirty_prepare(const struct config *config, const struct mapping_set *set,
                   PGconn *const *shards, unsigned shards_count, struct dirty **dirty,
                   struct error *err) MUST_CHECK;
void dirty_free(struct dirty *dirty); /* NULL is fine */

/* In the pause. *count: keys. */
bool dirty_settle(struct dirty *dirty, int64_t epoch, unsigned *count,
                  struct error *err) MUST_CHECK;

/* Once the source is live again. */
bool dirty_forget(PGconn *source, int64_t epoch, struct error *err) MUST_CHECK;

#endif
