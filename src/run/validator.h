/*
 * Validates the foreign keys that are NOT VALID yet (switchover/acting.h), on both sides, one after the
 * other. A thread beside the stream, with connections of its own that it opens for each look, because one
 * key may take hours, and nothing waits for it: not the slots at rest, not a switch. Its connection to the
 * source is one only if a switch has ever brought keys back there.
 *
 * On the side that is live a key that rows violate is tried once, and then only looked at: it needs
 * somebody, who validates it. On the other side it refuses the cutover, so it is tried again: every minute,
 * or so seldom that trying takes a tenth of the time.
 *
 * What it cannot do is said in log and journal (`not validated`), and tried again; it never ends a run.
 */
#ifndef RUN_VALIDATOR_H
#define RUN_VALIDATOR_H

#include "mapping/config.h"
#include "mapping/sides.h"
#include "util/stop.h"

struct validator;

/* Its thread ends with `stop`, which cancels what a server is at. */
struct validator *validator_start(const struct config *config, enum which_side live, int64_t epoch,
                                  struct stop *stop);
void validator_end(struct validator *validator); /* NULL is fine */

#endif
