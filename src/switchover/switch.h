/*
 * A switch: the application's writes go from the side that is live to the other one. `cutover` goes from
 * the source to the target, `rollback` back; the steps are the same (docs/design/cutover.md).
 *
 *     ready  pause  fence  seal  drain  check │ switched │ open  lead  done
 *     └──── an abort restores, at any time ───┘          └─ only forward ─┘
 *
 * Who dies leaves it to the next one: another run of the same command, `--abort`, or `pgportage run`. All
 * of them take a lock, raise the epoch, and then go by `live`, which only `switched` changes.
 *
 * Tests end the process at a step: PGPORTAGE_CRASH_AT=STEP:begun, right before it is done, or STEP:done,
 * right after it and before the journal says so; PGPORTAGE_HALT_AT stops it there (SIGSTOP). STEP is one of the names above, `done` excepted.
 */
#ifndef SWITCHOVER_SWITCH_H
#define SWITCHOVER_SWITCH_H

#include <jansson.h>

#include "mapping/findings.h"
#include "switchover/side.h"
#include "util/stop.h"

struct switch_options {
    int max_lag_s;         /* how far behind the stream may be when we begin */
    int timeout_s;         /* the from-side is closed no longer than this before `switched` */
    int kill_after_s;      /* end writers that are still there; negative: never */
    int verify_age_s;      /* the last proof may be so old */
    bool without_way_back; /* do it even if it cannot be undone */
    bool dry_run;
};

struct switching {
    const struct config *config;
    const struct mapping_set *set; /* from source to target */
    PGconn *source;
    PGconn *const *shards; /* shards[0] is control */
    unsigned shards_count;
    enum which_side goal; /* which side is to be live */
    struct switch_options options;
    struct stop *stop;
    struct findings *findings; /* filled: why it is refused, and what to know */
};

enum switch_outcome {
    SWITCH_DONE,
    SWITCH_ALREADY,  /* the goal was live: what was missing of an earlier run is done now */
    SWITCH_READY,    /* dry run: it would go */
    SWITCH_REFUSED,  /* the findings say why; nothing was touched */
    SWITCH_RESTORED, /* --abort: the from-side is live and open */
};

struct switch_result {
    enum switch_outcome outcome;
    bool unsettled; /* with an error: switch_settle() has to look, on new connections */
    int64_t epoch;
    int64_t closed_us; /* from the fence to the open gates: how long no database took writes */
    int64_t paused_us; /* from PAUSE to RESUME: how long requests waited; 0: the endpoint paused nothing */
    json_t *steps;     /* list of {step, ms}; dry run: of {step, does, expected_ms, from}; the caller's */
};

/* All of it. An error: it was given up, and the from-side is as it was, unless result->unsettled. */
bool switch_run(const struct switching *switching, struct switch_result *result,
                struct error *err) MUST_CHECK;

/* What was left half done: back where `live` was not changed (RESTORED), forward where it was
 * (ALREADY). May be repeated. */
bool switch_settle(const struct switching *switching, struct switch_result *result,
                   struct error *err) MUST_CHECK;

/* The same, when the journal still says under the lock that it was left and nobody is at work (else
 * nothing, and DONE): what `run` does for a process that died. `goal` is that of the switch which was left. */
bool switch_settle_abandoned(const struct switching *switching, struct switch_result *result,
                             struct error *err) MUST_CHECK;

const char *switch_verb(enum which_side goal); /* cutover, rollback */

#endif
