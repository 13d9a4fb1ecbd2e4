/*
 * A side of a migration, as a switch sees it: the servers that take the application's writes together,
 * or do not. The source is a side of one server, the target one of all shards. A switch goes from the
 * side that is live to the other one, and is the same code both ways.
 */
#ifndef SWITCHOVER_SIDE_H
#define SWITCHOVER_SIDE_H

#include <libpq-fe.h>

#include "mapping/mapping.h"

struct side {
    enum which_side which;
    const char *name; /* "source", "target": as in portage.setting and in messages */
    unsigned count;
    PGconn *const *conns;
    const char *tables; /* of this side, as the gate wants them: a JSON array */
};

/* "source", "shard 3" */
const char *side_server(const struct side *side, unsigned number, char text[24]);

/* The names of the mapped tables of one side, as SQL writes them, in a JSON array. */
const char *side_tables(const struct mapping_set *set, enum which_side which,
                        struct arena *arena);

#endif
