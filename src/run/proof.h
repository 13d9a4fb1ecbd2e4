/*
 * Verify inside `run`: once everything is ready, pass after pass, `verify.every` apart, at
 * `verify.rate_max`. And where the last whole pass is kept, whoever made it: the setting `verify` and the
 * table portage.difference, on control.
 *
 * A pass that fails is no error of the run: it is logged and tried again.
 */
#ifndef RUN_PROOF_H
#define RUN_PROOF_H

#include "run/migration.h"
#include "util/stop.h"
#include "verify/pass.h"

struct proof;

/* Starts the thread. `migration` and `stop` must outlive it. */
struct proof *proof_start(const struct migration *migration, struct stop *stop);
void proof_end(struct proof *proof); /* joins it; after the stop is requested. NULL is fine */

/* Keeps the result of a pass over all tables, in place of the one before. */
bool proof_record(PGconn *control, const struct verification *verification,
                  struct error *err) MUST_CHECK;

#endif
