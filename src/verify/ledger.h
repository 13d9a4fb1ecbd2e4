/*
 * The intervals of one table in a pass: which are given out, which are compared. They are given out in
 * the key's order and end in any order; all that lies up to the *cursor* is compared, and what is
 * counted as *settled* is of these alone, so both may be kept and gone on from.
 *
 * Invariant: the cursor passes no interval before it was ended. Plain memory; the pass's lock guards it.
 */
#ifndef VERIFY_LEDGER_H
#define VERIFY_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

struct compared {
    uint64_t source_rows, target_rows, bytes;
};

void compared_add(struct compared *sum, const struct compared *more);

struct ledger_interval {
    struct ledger_interval *next;
    const char *const *upper; /* NULL: the end of the table */
    bool ended;
    struct compared compared;
};

struct ledger {
    const char *const *cursor; /* NULL: nothing is settled yet, or all */
    bool complete;             /* the whole table is settled */
    struct compared settled;
    struct ledger_interval *first, **last; /* given out, not settled */
};

/* As an earlier run of the pass left it; a new one has NULL, false and zeros. */
void ledger_init(struct ledger *ledger, const char *const *cursor, bool complete,
                 const struct compared *settled);
void ledger_release(struct ledger *ledger);

/* Gives out the next one. `upper` outlives the ledger. */
struct ledger_interval *ledger_give(struct ledger *ledger, const char *const *upper);

/* It was compared, and what it left to be judged is known. Not to be used afterwards. */
void ledger_end(struct ledger *ledger, struct ledger_interval *interval,
                const struct compared *compared);

#endif
