/*
 * What the gates have rejected, told by `run`: a rejected statement is rolled back and can tell nothing
 * itself. Each gate counts (switchover/gate.h); here it is looked at now and then, and what is new goes to
 * the log and the journal, at most once a minute a server. What was told before is in the journal, so nothing
 * is told twice and nothing is lost while `run` does not run. One thread.
 */
#ifndef RUN_REJECTED_H
#define RUN_REJECTED_H

#include "run/migration.h"

struct rejected {
    struct migration *migration;
    int64_t epoch;
    int64_t look_again_us;
    int64_t *told;          /* by server, the source last; -1: not read yet */
    int64_t *tell_again_us; /* when more of it may be told */
};

void rejected_init(struct rejected *rejected, struct migration *migration, int64_t epoch);
void rejected_release(struct rejected *rejected);
bool rejected_tend(struct rejected *rejected, struct error *err) MUST_CHECK;

#endif
