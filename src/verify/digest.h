/*
 * Digests that the servers make themselves (`--digest server`): one query a server and interval, and
 * no row travels.
 *
 * Each column is hashed to 64 bits with a seed of its own, so that values that change places differ;
 * a row's hashes are joined by XOR and mixed once more, so that a sum over rows tells which values
 * stood together. The rows' digests are added up modulo 2^64, and so add up over shards.
 *
 * Two sets of rows that differ, in whatever way, have the same count and the same sum in one of about
 * 2^64 cases; not against somebody who looks for such rows: these are no cryptographic hashes. The
 * other way round nothing is lost: where equal rows have different sums (1.0 and 1.00, servers of
 * different byte order), they are read and compared.
 */
#ifndef VERIFY_DIGEST_H
#define VERIFY_DIGEST_H

#include <libpq-fe.h>

#include "mapping/mapping.h"

struct server_digest {
    uint64_t rows, sum;
    bool placed; /* every row belongs where it is */
};

/* Sends the question and does not wait. `select` is reading_source()'s or reading_target()'s. */
bool digest_ask(PGconn *conn, const struct mapping *mapping, const char *select, bool target,
                struct error *err) MUST_CHECK;

/* Waits for the answer; the connection is idle then, unless there was an error. */
bool digest_answer(PGconn *conn, struct server_digest *digest, struct error *err) MUST_CHECK;

#endif
