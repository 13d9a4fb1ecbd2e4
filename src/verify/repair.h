/*
 * Repair: brings single keys of the side that follows to what the live one makes of them: the target by
 * the mapping, or while the target is live the source by the way back.
 *
 * The live row is read (A), the lanes pass that position, then all lanes that write to the other side are
 * held by a lock on their rows of portage.lane, each for a moment between two of its transactions. When
 * the live row is still the same (B), whatever the streams have yet to bring for this key comes after it:
 * so what A makes is what the other side must hold now. It is written there, and the lanes go on.
 *
 * A switch cannot happen in between: it waits for a lock that is held until the end. One thread.
 */
#ifndef VERIFY_REPAIR_H
#define VERIFY_REPAIR_H

#include "verify/judge.h"

/* Repairs those that the judge found guilty; they are suspects again afterwards, for the judge to look
 * at once more. `session` must have been opened for writing. */
bool repair(struct session *session, struct judgement *judgement, struct suspects *suspects,
            uint64_t *repaired, struct error *err) MUST_CHECK;

/* How many that would be tried with; nothing is changed. */
bool repair_dry(struct session *session, const struct judgement *judgement, uint64_t *count,
                struct error *err) MUST_CHECK;

#endif
