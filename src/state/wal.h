/*
 * The WAL that a slot of ours makes its server keep: how much, at what rate that grows, and when it
 * reaches what it may be. That is the budget of portage.yaml (wal_budget), which is ours and only warns,
 * or the server's max_slot_wal_keep_size, behind which the slot is lost, whichever is less.
 *
 * The rate is told from what was seen some minutes ago, which `run` leaves in the setting `wal_seen`: two
 * looks a slot, so that one is always old enough. While nobody runs the last of them stays, and growth
 * is what has come since. Times are of the slot's own server.
 */
#ifndef STATE_WAL_H
#define STATE_WAL_H

#include <jansson.h>
#include <libpq-fe.h>

#include "pg/lsn.h"
#include "util/error.h"

struct wal_slot {
    bool exists, active;
    lsn_t position;   /* where the server's log stands */
    int64_t at_ms;    /* of the server's clock */
    int64_t retained; /* bytes; -1: no slot, or it has lost its WAL */
    int64_t limit;    /* max_slot_wal_keep_size in bytes; -1: none */
};
bool wal_read(PGconn *server, const char *slot, struct wal_slot *state,
              struct error *err) MUST_CHECK;

/* What is less of the two, and what it is called; -1 when there is none. */
int64_t wal_most(const struct wal_slot *state, int64_t budget, const char **what);

/* ---- what was seen: a JSON object, by slot ---- */

/* Of the setting; an empty one when there is none. The caller's. NULL on error. */
json_t *wal_seen_load(PGconn *control, struct error *err);
bool wal_seen_store(PGconn *control, const json_t *seen, struct error *err) MUST_CHECK;

/* Adds this look where it is time to. */
void wal_seen_add(json_t *seen, const char *slot, const struct wal_slot *state);

/* Bytes a second since the older look; 0 when it did not grow. False when it cannot be told. */
bool wal_growth(const json_t *seen, const char *slot, const struct wal_slot *state, double *rate);

/* Seconds until `most`, 0 when it is reached; -1 when it never will be. */
int64_t wal_seconds_left(const struct wal_slot *state, int64_t most, double rate);

/* The percentage to warn of now: 80 or 100 once each, until it was well below; 0: none. Remembered. */
int wal_seen_warn(json_t *seen, const char *slot, const struct wal_slot *state, int64_t most);

#endif
