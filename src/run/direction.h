/*
 * Which way the changes go. The setting `live` on control says which side takes the application's
 * writes; a switch changes it, together with the journal's entry `switched`. Everything else of a run
 * follows from it.
 */
#ifndef RUN_DIRECTION_H
#define RUN_DIRECTION_H

#include "mapping/sides.h"
#include "pg/lsn.h"
#include "run/migration.h"

/* Where the log of a publisher ("source", "shard 0", …) stood at the last switch that made its side
 * live: what precedes it there was brought by us, or lay behind the fence. 0 when there was none. */
bool direction_position(PGconn *control, enum which_side live, const char *publisher, lsn_t *position,
                        struct error *err) MUST_CHECK;

#endif
