/*
 * Rows of portage.lane on the server that a stream ends on: `stream` is 0 forward, and on the way back
 * the number of the shard that the changes come from.
 */
#ifndef STATE_LANES_H
#define STATE_LANES_H

#include <libpq-fe.h>

#include "pg/lsn.h"
#include "util/error.h"

/* Those that are missing. */
bool lanes_create(PGconn *server, unsigned stream, unsigned lanes, lsn_t progress, int64_t epoch,
                  struct error *err) MUST_CHECK;

/* Up to `position` nothing of the stream is to be applied here: what came before it is there, or is
 * ours. No lane goes back. RETRY when the epoch is not ours any more. */
bool lanes_raise(PGconn *server, unsigned stream, lsn_t position, int64_t epoch,
                 struct error *err) MUST_CHECK;

/* The least progress; `known` is false when there are no lanes. */
bool lanes_least(PGconn *server, unsigned stream, lsn_t *least, bool *known, struct error *err)
    MUST_CHECK;

#endif
