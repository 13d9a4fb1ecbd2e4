/*
 * The progress of a pass, kept on control: a pass that was killed or lost a connection goes on where it
 * was when the same is asked for again. Kept are, of each table, the cursor and what is settled up to it
 * (ledger.h), and the suspects. Verdicts are not: they are about now, and judging takes seconds.
 *
 * Invariant: a suspect is durable before a cursor that passes its interval. So suspects are written
 * first; one too many is judged equal.
 *
 * One run at a time keeps the progress of a request: a session lock on control. Who lost it without
 * knowing writes no more: each run has a `turn`, and writes only under its own.
 *
 * Any thread may write; one at a time does.
 */
#ifndef VERIFY_KEPT_H
#define VERIFY_KEPT_H

#include <libpq-fe.h>

#include "verify/ledger.h"
#include "verify/suspects.h"

struct kept_table {
    const struct mapping *mapping;
    struct ledger *ledger;
    struct compared before; /* settled by earlier runs */
    bool complete_before;
    const char *const *written_cursor; /* as it stands on control */
    bool written_complete;
};

struct kept {
    bool on;        /* false: nothing is kept, for the reason in `why` */
    bool continued; /* it goes on from an earlier run */
    const char *why;
    char id[24], turn[24], begun_at[64];
    pthread_mutex_t lock; /* guards what follows, and the writing */
    struct kept_table *tables;
    unsigned tables_count;
    uint64_t not_kept; /* suspects beyond the limits, in earlier runs */
    int64_t written_us;
    const struct suspect *last_suspect; /* the last one that is written */
};

void kept_init(struct kept *kept, unsigned tables_count);
void kept_release(struct kept *kept);

/* Takes up what an earlier run of this request has left, unless it is `fresh` or too old: fills the
 * tables' ledgers (cursors by the arena) and the suspects. kept->tables[].mapping and .ledger are set. */
bool kept_begin(struct kept *kept, PGconn *control, const char *request, bool fresh,
                struct arena *arena, struct suspects *suspects, struct error *err) MUST_CHECK;

/* At most once a second. `lock` guards the ledgers. */
bool kept_write_if_due(struct kept *kept, PGconn *control, pthread_mutex_t *lock,
                       struct suspects *suspects, struct error *err) MUST_CHECK;
bool kept_write(struct kept *kept, PGconn *control, pthread_mutex_t *lock,
                struct suspects *suspects, struct error *err) MUST_CHECK;

/* The pass has an outcome: its progress is of no more use. */
bool kept_end(struct kept *kept, PGconn *control, struct error *err) MUST_CHECK;

#endif
