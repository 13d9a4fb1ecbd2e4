/*
 * Making the gates agree with the journal, whoever left them as they are: the side that is live is open,
 * the other one closed. What an abort does, what a switch does first, and what `run` does when the
 * process of a switch has died. Without the endpoint.
 */
#ifndef SWITCHOVER_RESTORE_H
#define SWITCHOVER_RESTORE_H

#include <libpq-fe.h>
#include <stdint.h>

#include "switchover/side.h"
#include "util/error.h"

/* Under `epoch`, which the caller has raised. First all servers that must be closed. */
bool switch_restore_gates(const struct side *live, const struct side *other, int64_t epoch,
                          struct error *err) MUST_CHECK;

/* Only if the gates do not agree and nobody is switching; raises the epoch then. shards[0] is control. */
bool switch_restore_abandoned(PGconn *source, PGconn *const *shards, unsigned shards_count,
                              struct error *err) MUST_CHECK;

#endif
