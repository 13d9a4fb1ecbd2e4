/*
 * Where the sequences of a switch stand now, and the largest values of the columns that they fill: of
 * all servers of both sides in one round trip.
 */
#ifndef SWITCHOVER_SEQUENCE_READ_H
#define SWITCHOVER_SEQUENCE_READ_H

#include "switchover/ask.h"
#include "switchover/sequence_look.h"

enum { SEQUENCES_AT_ONCE = 2000 }; /* a transaction holds a lock on each that it touches */

/* Columns that are read by one statement, prepared on every server of the to-side. */
struct column_read {
    char name[32];
    const char *sql;
    unsigned count;
    struct sequence_goal **goals; /* of each column */
};

struct sequence_reading {
    struct sequence_look *look;
    unsigned feeds_count; /* of the from-side, those that feed */
    unsigned *feeds;
    unsigned columns_count;
    struct column_read *columns;
    unsigned asks_count;
    struct ask *asks;
};

/* Outside the pause: reads what would take too long in it once and for all, and prepares the rest. */
bool sequence_reading_prepare(struct sequence_reading *reading, struct sequence_look *look,
                              struct error *err) MUST_CHECK;

/* Adds to what each goal knows: used values, and where the servers of the to-side stand. */
bool sequence_reading_now(struct sequence_reading *reading, struct error *err) MUST_CHECK;

/* `count` OIDs of a server's sequences as an array; NULL for what is not there. */
const char *sequence_oids(const struct sequence_server *server, const unsigned *sequences,
                          unsigned first, unsigned count, struct arena *arena);

#endif
