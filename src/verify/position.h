/*
 * Where the side that is live stands, in its logs and in its transactions, and when the lanes that carry
 * its changes have passed that. The source is one server; the target, when it is live, one a shard.
 */
#ifndef VERIFY_POSITION_H
#define VERIFY_POSITION_H

#include "pg/lsn.h"
#include "verify/session.h"

/* Of each server of the live side; the others are 0. */
struct position {
    lsn_t at[CONFIG_SHARDS_MAX];
    /* Nothing that has lanes of its own is asked for: those lanes, mostly idle, tell where they are some
     * times a second, and are not waited for. */
    bool ordinary;
};
struct horizon {
    uint64_t xid[CONFIG_SHARDS_MAX];
};

/* Behind everything that can be seen there now. */
bool position_now(struct session *session, struct position *position, struct error *err) MUST_CHECK;

/* Transactions with an id below `oldest` have ended, visibly; all that have begun are below `newest`. A
 * transaction whose commit is in the log may take long to become visible (a synchronous standby). */
bool horizon_oldest(struct session *session, struct horizon *oldest, struct error *err) MUST_CHECK;
bool horizon_newest(struct session *session, struct horizon *newest, struct error *err) MUST_CHECK;

/* Whether all that had begun at `newest` had ended at `oldest`. */
bool horizon_passed(const struct horizon *oldest, const struct horizon *newest);

/* Whether they have; does not wait. */
bool position_passed(struct session *session, const struct position *position, bool *passed,
                     struct error *err) MUST_CHECK;

/* Waits until all lanes of all streams have durably passed the position. *passed is false, and `why`
 * says so, when they stand still. */
bool position_wait(struct session *session, const struct position *position, bool *passed,
                   char *why, size_t why_size, struct error *err) MUST_CHECK;

#endif
