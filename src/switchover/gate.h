/*
 * The gate of one server: whether it takes the application's writes.
 *
 * A statement trigger `portage_gate`, ENABLE ALWAYS, on every root, partition and inheritance member of
 * what is migrated calls portage.gate(). The body of that function is the gate: to close it is to
 * replace it, whatever the number of tables, without a lock on any of them.
 *
 *     open ──fence──> fenced ──seal──> sealed ──┐
 *      ^                │ deadline              │ open
 *      └────────────────┴───────────────────────┘
 *
 *     open    returns
 *     fenced  raises 57P06, unless the session has portage.pass = on or the deadline is over
 *     sealed  raises 57P06, unless the session has portage.pass = on
 *
 * The row portage.gate says the same to us, and holds the switching epoch. Invariants:
 * 1. Row and function change in one transaction, which has locked the row under its epoch.
 * 2. A session that locks a table after the change was committed runs the new function, whatever its
 *    snapshot: taking the lock takes in changes of the catalog. Who holds such a lock already is waited
 *    for (gate_wait()).
 * 3. Only the fence that was waited for is sealed: each has a number of its own, given by the server.
 * 4. A fence does not replace a seal of its own epoch.
 *
 * It stops no DDL, no nextval(), no large objects, and no apply worker of a native subscription.
 */
#ifndef SWITCHOVER_GATE_H
#define SWITCHOVER_GATE_H

#include <libpq-fe.h>
#include <stdint.h>

#include "util/arena.h"
#include "util/error.h"
#include "util/stop.h"

#define GATE_SQLSTATE "57P06" /* class 57: what drivers and poolers try again */

/* What the application is told besides the table's name. */
struct gate_words {
    char detail[128];
    char hint[128];
};
struct gate_words gate_words_live(const char *live); /* the other side takes writes */
struct gate_words gate_words_moving(const char *from, const char *to); /* in the pause */

/* ---- laying it down ---- */

/* Makes portage.gate() where it is not: closed with these words, or open (NULL). In the caller's
 * transaction, or without one. Idempotent; a gate that is there stays as it is. */
bool gate_create(PGconn *conn, const struct gate_words *closed, struct error *err) MUST_CHECK;

/* `tables` is a JSON array of names as SQL writes them: those that mappings name. Their partitions,
 * members and ancestors are found here. All triggers at once, waiting for locks: for tables that nobody
 * writes to. */
bool gate_lay_all(PGconn *conn, const char *tables, struct error *err) MUST_CHECK;

struct gate_pace {
    int lock_timeout_ms; /* how long a writer may have to queue behind us */
    int64_t until_us;    /* of the monotonic clock */
};
/* … a table at a time, each in a transaction, until the time is over. *left counts what could not be
 * locked, or was not tried; `busy` names one of those, or is empty. */
bool gate_lay_some(PGconn *conn, const char *tables, const struct gate_pace *pace, unsigned *left,
                   char busy[256], struct error *err) MUST_CHECK;

/* Takes all away, a table at a time, then the function. RETRY when a table cannot be locked. */
bool gate_remove(PGconn *conn, struct error *err) MUST_CHECK;

/* What is behind it: tells whether a relation or a column came or went, or rows were rewritten. */
struct gate_census {
    unsigned relations;
    unsigned without; /* … a gate */
    char digest[33];
    char files[32];   /* where the rows are: TRUNCATE and VACUUM FULL change that too … */
    char columns[32]; /* … and not this, which costs some 10 us a table */
};
bool gate_census(PGconn *conn, const char *tables, struct gate_census *census,
                 struct error *err) MUST_CHECK;

/* All but `columns`, for who asks other things in the same round trip. $1: the tables; one row. */
extern const char gate_census_sql[];
void gate_census_read(const PGresult *result, struct gate_census *census);
/* `before` is whole, `now` as gate_census_read() fills it: asks for `columns` if it has to. */
bool gate_census_same(PGconn *conn, const char *tables, const struct gate_census *before,
                      const struct gate_census *now, bool *same, struct error *err) MUST_CHECK;

/* ---- closing and opening it ---- */

struct gate_state {
    bool exists;
    int64_t epoch;
    bool closed; /* a fence whose deadline is over counts as open */
    bool sealed;
};
bool gate_read(PGconn *conn, struct gate_state *state, struct error *err) MUST_CHECK;

/* One round trip each. Superseded (state/journal.h) when the server has another epoch. After any other
 * error it is not known whether it happened. */
bool gate_fence(PGconn *conn, int64_t epoch, const struct gate_words *words, int deadline_ms,
                int64_t *fence, struct error *err) MUST_CHECK;
/* LIMIT when the fence does not stand any more, or its deadline came before our COMMIT. */
bool gate_seal(PGconn *conn, int64_t epoch, int64_t fence, const struct gate_words *words,
               struct error *err) MUST_CHECK;
bool gate_open(PGconn *conn, int64_t epoch, struct error *err) MUST_CHECK;
/* Closes it whatever it is, without a deadline: the side that is not live. */
bool gate_shut(PGconn *conn, int64_t epoch, const struct gate_words *words,
               struct error *err) MUST_CHECK;

/* How many statements of others it has rejected here, ever. An upper bound: the server may skip up to 32
 * numbers when it crashes. 0 where there is no gate. */
bool gate_rejected(PGconn *conn, int64_t *count, struct error *err) MUST_CHECK;

struct gate_patience {
    const char *server;   /* for messages */
    int64_t until_us;     /* of the monotonic clock */
    int64_t terminate_us; /* when sessions that are still there are ended; 0: never */
    struct stop *stop;
};
/* Until every transaction that may have passed the gate before it closed has ended. LIMIT when time is
 * over, naming who is left; CONFIG when one is prepared, which no waiting ends. */
bool gate_wait(PGconn *conn, const struct gate_patience *patience, struct error *err) MUST_CHECK;

/* Closes and opens a table of ours in the same way, and tries it: what `--dry-run` does. */
bool gate_rehearse(PGconn *conn, int64_t *us, struct error *err) MUST_CHECK;

#endif
