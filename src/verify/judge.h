/*
 * The judge: which suspects are real differences, while both sides take writes.
 *
 * A round reads the source's row (A), a position P behind that, waits until every lane of every shard has
 * durably passed P, reads the target's rows (T) and the source's row again (B). When the target is live
 * (after a cutover) the sides change places.
 *
 *   equal      T is A, or T is B: the row was on its way.
 *   different  T is neither, and nothing has touched the source's row from A to B. Either its header
 *              says so (same version, no xmax: whoever changes a row leaves his mark at once). Or, where
 *              there is no row to look at or its xmax is set, the same was seen in an earlier round,
 *              with the same versions on both sides, and every transaction of the source that ran then
 *              has ended since: what is in the log and not yet visible cannot be the reason.
 *   else       another round, until the patience is at its end: undecided.
 *
 * A row that changes faster than a round takes is never seen at rest. After a few rounds it is looked at
 * alone, and the source's row read again and again while the lanes come near: T may be any of these.
 *
 * Tables without a key are judged by the number of equal rows.
 */
#ifndef VERIFY_JUDGE_H
#define VERIFY_JUDGE_H

#include <jansson.h>

#include "verify/session.h"
#include "verify/suspects.h"

struct judgement {
    json_t *differences;    /* array; docs/reference.md describes its objects */
    struct suspect *guilty; /* those that differ, for repair */
    uint64_t equal, different, undecided;
    char why_undecided[256];
};

void judgement_init(struct judgement *judgement);
void judgement_release(struct judgement *judgement);

bool judge(struct session *session, struct suspects *suspects, struct judgement *judgement,
           struct error *err) MUST_CHECK;

#endif
