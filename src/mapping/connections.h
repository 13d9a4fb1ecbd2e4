/*
 * How source_connections_max is shared out among those of `run` that connect to the source: it holds for
 * all of them together, as long as the source is live.
 *
 *     always            receiver, supervisor                                         2
 *     while copying     copy workers                                  copy_workers, or less
 *     once ready        the thread that makes the way back, a pass of verify      1, and 2 with verify.every
 *     at any time       sessions that read large values back, for all lanes       the rest, 1 at least
 *
 * Other commands have connections of their own. While the target is live the lanes apply to the source
 * instead: lanes x shards of them, and two; and for a moment one more a shard (stream/look.h).
 */
#ifndef MAPPING_CONNECTIONS_H
#define MAPPING_CONNECTIONS_H

#include "mapping/config.h"

enum {
    CONNECTIONS_LEAST = 4,
    CONNECTIONS_LEAST_VERIFYING = 6, /* with verify.every */
};

unsigned connections_copy_workers(const struct config *config);

/* For a stream with so many lanes; as many as these where nothing limits it, which is on the way back. */
unsigned connections_readback(const struct config *config, unsigned lanes);

#endif
