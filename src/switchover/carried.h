/*
 * Whether all that the source has is carried: what `run` may learn of later than a switch that follows at
 * once. A cutover asks before the pause, and again inside it, behind the drain: then nothing is written
 * any more, and what is said holds (docs/design/cutover.md).
 */
#ifndef SWITCHOVER_CARRIED_H
#define SWITCHOVER_CARRIED_H

#include <libpq-fe.h>

#include "util/error.h"

/* A partition of these tables of the source (side_tables()) whose changes do not all come with the
 * stream; an empty text when there is none. */
bool carried_find_missing(PGconn *source, PGconn *control, const char *tables, char missing[256],
                          struct error *err) MUST_CHECK;

/* To be asked of each shard: one row, NULL or what is being copied or built there. Rows of a table that is
 * copied again are missing although a marker has come through: the stream skips what the copy will bring. */
extern const char carried_unfinished_sql[];

#endif
