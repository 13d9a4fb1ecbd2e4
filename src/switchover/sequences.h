/*
 * Sequences at a switch: on the side that is to be live, every one lies above all values that were ever
 * used, and gives each shard values of its own.
 *
 * From which sequences of the from-side one takes its value:
 *   1. portage.yaml, `sequences`: target sequence: source sequence
 *   2. the mapping: the column that it fills is the image of a column that the other one fills (or the
 *      other way round in a rollback); a split or merge gives several
 *   3. its own name
 * and the largest value of each column that it fills, where an index gives it at once.
 *
 * Invariants:
 *   1. What any shard gives after the switch is above (of descending ones: below) all that was used by
 *      `sequence_margin` at least. nextval() is not stopped by the fence: the margin is also for what is
 *      drawn on the from-side after we looked.
 *   2. No two shards ever give the same value: interleave (steps of N, each shard with a remainder of
 *      its own) or ranges (a block for each, with MAXVALUE at its end). Of a sequence that cycles this
 *      holds too; 1 does not.
 *   3. Sequences of the source keep their increments. What those of a shard were is in portage.sequence
 *      there, written by the transaction that changes them: a second switch changes nothing.
 *   4. Each transaction of ours on a to-server holds `guard`.
 *
 * One thread. The connections are the caller's, outlive the plan, and hold no transaction open during
 * sequences_plan(), _set() and _check(). A connection that was lost needs a new plan.
 */
#ifndef SWITCHOVER_SEQUENCES_H
#define SWITCHOVER_SEQUENCES_H

#include "mapping/findings.h"
#include "mapping/mapping.h"

struct sequences_sides {
    const struct config *config;
    const struct mapping_set *set; /* from source to target, whichever way the switch goes */
    PGconn *source;
    PGconn *const *shards;
    unsigned shards_count;
    bool back; /* to the source */
    /* A SELECT that gives a row on a to-server as long as we may change it, and keeps it so until the
     * transaction ends: SELECT FROM portage.gate WHERE epoch = 7 FOR UPDATE. NULL: no question. */
    const char *guard;
};

/* Only looks, also in an open transaction: rights that are missing, ends that are near, sequences that
 * have no other. `hindrance` is the severity of what a switch would be refused for. */
bool sequences_assess(const struct sequences_sides *sides, enum severity hindrance,
                      struct findings *findings, struct error *err) MUST_CHECK;

struct sequences;

/*
 * Outside the pause: looks, gives shards their increments, and prepares the statements of the pause.
 * False with class CONFIG when refused: the first reason is in `err`, all are in `findings`; then
 * nothing was changed. The caller frees *sequences.
 */
bool sequences_plan(const struct sequences_sides *sides, struct findings *findings,
                    struct sequences **sequences, struct error *err) MUST_CHECK;

/* In the pause, when the from-side is fenced and drained: one round trip to all servers side by side
 * reads, one sets. May be repeated. */
bool sequences_set(struct sequences *sequences, struct error *err) MUST_CHECK;

/* In the pause, after sequences_set(): reads everything again and proves the invariants 1 and 2 by what
 * the servers say. *checked counts sequences, each on each server. FATAL names the one that is wrong. */
bool sequences_check(struct sequences *sequences, unsigned *checked, struct error *err) MUST_CHECK;

void sequences_free(struct sequences *sequences); /* NULL is fine */

#endif
