/*
 * Ranges, their cursors and the snapshots of chunks, as they stand in a shard's database.
 *
 * A key here is the mapping's range columns: as text for SQL, and encoded (pg/sortkey.h) for
 * comparing. A NULL key is the open end of an interval. Keys are owned by the arena they were made in.
 */
#ifndef STATE_RANGE_H
#define STATE_RANGE_H

#include <libpq-fe.h>

#include "mapping/mapping.h"
#include "pg/lsn.h"

struct key {
    const char *const *texts; /* mapping->range_count of them */
    const char *bytes;
    size_t length;
};

/* From the texts of a result's row, starting at `column`. */
bool key_from_result(const struct mapping *mapping, const PGresult *result, int row, int column,
                     struct arena *arena, const struct key **key, struct error *err) MUST_CHECK;

/* NULL lower counts as below, NULL upper as above everything. */
int key_compare(const struct key *a, const struct key *b); /* both not NULL */

struct range_row {
    const struct mapping *mapping;
    int range;
    uint32_t leaf; /* a late leaf's; 0: of all other leaves */
    const struct key *lower, *upper, *cursor;
    bool done;
    int64_t rows, bytes;
};

struct chunk_row {
    const struct mapping *mapping;
    int range;
    const struct key *lower, *upper;
    const char *snapshot;
    lsn_t lsn;
};

/* Of `row`, mapping, range, leaf and both ends. One that exists stays as it is. */
bool range_create(PGconn *shard, const struct range_row *row, int64_t epoch, struct error *err)
    MUST_CHECK;
/* The one range of a late leaf, with the next free number. */
bool range_create_late(PGconn *control, const struct mapping *mapping, uint32_t leaf,
                       int64_t epoch, struct error *err) MUST_CHECK;
bool range_load(PGconn *shard, const struct mapping_set *set, struct arena *arena,
                struct range_row **rows, unsigned *count, struct error *err) MUST_CHECK;
bool chunk_load(PGconn *shard, const struct mapping_set *set, struct arena *arena,
                struct chunk_row **rows, unsigned *count, struct error *err) MUST_CHECK;

/* First in a chunk's transaction: locks the range under our epoch; RETRY if another instance has it. */
bool range_claim(PGconn *shard, const struct mapping *mapping, int range, int64_t epoch,
                 struct error *err) MUST_CHECK;
/* Last in it: the new cursor (done if the chunk reached the range's end), and the chunk. */
bool range_advance(PGconn *shard, const struct chunk_row *chunk, bool done, int64_t rows,
                   int64_t bytes, struct error *err) MUST_CHECK;

/* Forgets chunks whose L lies at or below what every lane of their kind (mapping->whole_lane) has passed on
 * this shard. `whole_tables` are the names of those, as an array of texts. */
bool chunk_drop(PGconn *shard, const char *whole_tables, bool whole, lsn_t progress,
                struct error *err) MUST_CHECK;

#endif
