/*
 * Where the source is, in its log and in its transactions, and when the lanes have passed that.
 */
#ifndef VERIFY_POSITION_H
#define VERIFY_POSITION_H

#include "pg/lsn.h"
#include "verify/session.h"

/* Behind everything that can be seen at the source now. */
bool position_now(struct session *session, lsn_t *position, struct error *err) MUST_CHECK;

/* Transactions with an id below `oldest` have ended, visibly; all that have begun are below `newest`. A
 * transaction whose commit is in the log may take long to become visible (a synchronous standby). */
bool position_oldest(struct session *session, uint64_t *oldest, struct error *err) MUST_CHECK;
bool position_newest(struct session *session, uint64_t *newest, struct error *err) MUST_CHECK;

/* Whether they have; does not wait. */
bool position_passed(struct session *session, lsn_t position, bool *passed,
                     struct error *err) MUST_CHECK;

/* Waits until all lanes of all shards have durably passed the position. *passed is false, and `why`
 * says so, when they stand still. */
bool position_wait(struct session *session, lsn_t position, bool *passed, char *why,
                   size_t why_size, struct error *err) MUST_CHECK;

#endif
