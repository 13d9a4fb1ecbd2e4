/*
 * Repair: brings single keys to what the mapping says, in the order of the stream.
 *
 * The source's row is read (A), the lanes pass that position, then all lanes of all shards are held by a
 * lock on their rows of portage.lane, each for a moment between two of its transactions. When the
 * source's row is still the same (B), whatever the stream has yet to bring for this key comes after it:
 * so A is what the target must hold now. It is written there, and the lanes go on.
 *
 * Not for tables without a key. One thread.
 */
#ifndef VERIFY_REPAIR_H
#define VERIFY_REPAIR_H

#include "verify/judge.h"

/* Repairs those that the judge found guilty; they are suspects again afterwards, for the judge to look
 * at once more. `session` must have been opened for writing. */
bool repair(struct session *session, struct judgement *judgement, struct suspects *suspects,
            uint64_t *repaired, struct error *err) MUST_CHECK;

#endif
