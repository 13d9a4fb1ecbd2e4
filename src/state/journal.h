/*
 * The journal of switches, and the switching epoch: which run of cutover or rollback may change gates,
 * sequences and the journal. Rules (docs/model/cutover.pml):
 *
 * 1. One at a time: a session lock on control. Who has lost it without knowing is kept out by the epoch.
 * 2. A run raises the epoch of control first, then those of the other servers, one by one and only
 *    upward; then it reads the journal, never before.
 * 3. Every transaction of a switch checks, and locks, the row portage.gate of its server.
 * 4. `live` decides alone: it changes with the entry `switched`, in one transaction, when it is still
 *    what the run has read.
 *
 * Entries of steps are for people. Connections hold no open transaction here.
 */
#ifndef STATE_JOURNAL_H
#define STATE_JOURNAL_H

#include <libpq-fe.h>
#include <stdint.h>

#include "mapping/sides.h"
#include "util/error.h"

#define JOURNAL_SUPERSEDED "PT001"

/* Another run has raised the epoch, or changed `live`: nothing more may be done by this one. An error of
 * class RETRY with that SQLSTATE; always false. */
bool journal_superseded(PGconn *conn, struct error *err);
bool journal_is_superseded(const struct error *err);

/* Who holds it, as a text for a message, when it is not taken. */
bool journal_try_lock(PGconn *control, bool *taken, char holder[256], struct error *err) MUST_CHECK;
bool journal_unlock(PGconn *control, struct error *err) MUST_CHECK;

/* servers[0] is control. Superseded when one has a higher epoch already. */
bool journal_raise_epoch(PGconn *const *servers, unsigned count, int64_t *epoch,
                         struct error *err) MUST_CHECK;

/* A switch that was left half done, by nobody who is at work now. One that died before its pause has touched
 * nothing, and is none. */
struct journal_abandoned {
    char verb[16];     /* empty: there is none */
    char endpoint[16]; /* which kind it was begun with */
};
bool journal_abandoned(PGconn *control, struct journal_abandoned *abandoned,
                       struct error *err) MUST_CHECK;

/* The switching epoch of a server, as it is: for who changes nothing. */
bool journal_epoch(PGconn *conn, int64_t *epoch, struct error *err) MUST_CHECK;

/* Which side takes the application's writes: the setting `live`; the source while there is none. */
bool journal_live(PGconn *control, enum which_side *live, struct error *err) MUST_CHECK;

struct journal_entry {
    const char *which; /* cutover, rollback */
    const char *step;
    const char *state;  /* begun, done, failed */
    const char *detail; /* a JSON object, or NULL */
    int64_t us;         /* how long it took; negative: not known */
};
/* All of them in one transaction. Superseded when the epoch is another one. */
bool journal_steps(PGconn *control, int64_t epoch, const struct journal_entry *entries,
                   unsigned count, struct error *err) MUST_CHECK;

/* What was not brought to its end, by the verbs of those switches; empty texts: nothing. Of one that was
 * left in `ready` nothing remains. */
struct journal_left {
    char begun[16];      /* the last one, somewhere between `pause` and its end */
    char unfinished[16]; /* the last one that has switched: the rest of it was never done */
    bool ever;           /* one has switched */
};
bool journal_left(PGconn *control, struct journal_left *left, struct error *err) MUST_CHECK;

/* The point of no return. Superseded when the epoch or `live` is another one. After any other error it
 * is not known whether it happened. */
bool journal_switch(PGconn *control, int64_t epoch, const char *which, const char *from,
                    const char *to, const char *detail, struct error *err) MUST_CHECK;

#endif
