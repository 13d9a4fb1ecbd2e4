/* A switch at work: what its steps share. Private to switch.c, switch_steps.c, switch_look.c and forecast.c. */
#ifndef SWITCHOVER_SWITCH_WORK_H
#define SWITCHOVER_SWITCH_WORK_H

#include "endpoint/endpoint.h"
#include "state/journal.h"
#include "switchover/dirty.h"
#include "switchover/drain.h"
#include "switchover/gate.h"
#include "switchover/readiness.h"
#include "switchover/sequences.h"
#include "switchover/switch.h"

struct work {
    const struct switching *switching;
    struct arena arena;
    struct side source, target;
    const struct side *from, *to;
    PGconn *control;
    PGconn **servers; /* control first: the order in which epochs are raised */
    unsigned servers_count;
    int64_t epoch;
    struct endpoint *endpoint;
    struct sequences *sequences;
    struct dirty *dirty;          /* rollback */
    struct gate_census *censuses; /* of each from-server, when it was ready */
    int64_t *fences;              /* of each from-server */
    const char *subscriptions_sql;
    struct drain drain;
    const char *guard; /* SELECT that locks our epoch on a server */
    int64_t began_us;  /* the fence */
    int64_t until_us;  /* when we give up, if not switched by then */
    int64_t closed_us;
    int64_t paused_us;
    const char *positions; /* JSON of the entry `switched` */
    json_t *detail;        /* of the step at hand, for the journal; NULL: none */
    json_t *steps;
    bool unsettled;
    bool locked;
};

struct step {
    const char *name;
    bool (*run)(struct work *work, struct error *err);
};

/* In their order. `switched` and what follows is only forward. */
bool step_ready(struct work *work, struct error *err) MUST_CHECK;
bool step_pause(struct work *work, struct error *err) MUST_CHECK;
bool step_fence(struct work *work, struct error *err) MUST_CHECK;
bool step_seal(struct work *work, struct error *err) MUST_CHECK;
bool step_drain(struct work *work, struct error *err) MUST_CHECK;
bool step_check(struct work *work, struct error *err) MUST_CHECK;
bool step_switched(struct work *work, struct error *err) MUST_CHECK;
bool step_open(struct work *work, struct error *err) MUST_CHECK;
bool step_lead(struct work *work, struct error *err) MUST_CHECK;

/* What a dry run has measured. */
struct rehearsal {
    int64_t gates_us; /* fence and open, of all from-servers */
    int64_t drain_us; /* a marker */
};
/* Fills work->steps: what each step would do, and how long it is expected to take, by the rehearsal or by
 * the journal's last entry of that step. */
bool work_forecast(struct work *work, const struct rehearsal *rehearsal, struct error *err) MUST_CHECK;

/* The endpoint has resumed: how long requests had to wait. */
void work_note_resumed(struct work *work);

/* Lays gates that are missing, on both sides; a finding when one cannot be laid. */
bool work_lay_gates(struct work *work, struct error *err) MUST_CHECK;

/* Behind the drain, in a round trip: no transaction is prepared, no subscription writes, the from-side has
 * the form that was looked at before the pause, and all rows are on the to-side. */
bool work_look_again(struct work *work, struct error *err) MUST_CHECK;

/* Before it: whether the role may look for subscriptions at all. */
bool work_look_for_subscriptions(struct work *work, struct error *err) MUST_CHECK;

#endif
