/*
 * What verify asks the servers: the SQL of its reading path, which shares nothing with copy and stream
 * but the user's select list.
 *
 * Both sides of a mapping give the same columns in the same form, item by item: the source its
 * expression cast to the target column's type, the target the column. Types whose binary form is the
 * same on every server and says all (numbers, texts, times, uuid, bytea, jsonb …) come in binary; all
 * others, and tables without a key, as text. Texts live in the arena given.
 */
#ifndef VERIFY_READING_H
#define VERIFY_READING_H

#include "mapping/mapping.h"

/* (lower, upper] of the range columns, as texts of the source; NULL is the open end. */
struct bounds {
    const char *const *lower;
    const char *const *upper;
};

bool reading_is_binary(const struct mapping *mapping, unsigned item);

/* Whether both sides can be read by intervals of the key: same order on both. */
bool reading_by_intervals(const struct mapping *mapping);

/* Whether rows have a shard of their own (not one target, not everywhere). */
bool reading_is_placed(const struct mapping *mapping, unsigned shards);

/* A table that satisfies_hash_partition() can be asked about; made once in a session. */
const char *reading_place_table(const struct mapping *mapping, struct arena *arena);

/* SELECT <items> of the source; SELECT <placed>, <items> of a shard: `placed` is whether the row
 * belongs there by the server's own hash function. */
const char *reading_source(const struct mapping *mapping, struct bounds bounds,
                           struct arena *arena);
const char *reading_target(const struct mapping *mapping, struct bounds bounds, unsigned shard,
                           unsigned shards, struct arena *arena);

/* The same of at most `rows` random rows out of about `percent` of the pages. */
const char *reading_source_sample(const struct mapping *mapping, double percent, int64_t rows,
                                  struct arena *arena);
const char *reading_target_sample(const struct mapping *mapping, double percent, int64_t rows,
                                  unsigned shard, unsigned shards, struct arena *arena);

/* SELECT count of the mapping's rows. */
const char *reading_count(const struct mapping *mapping, bool target, struct arena *arena);

/* The key `rows` rows behind `lower`, as texts; no row when there are fewer. */
const char *reading_key_at(const struct mapping *mapping, const char *const *lower, int64_t rows,
                           struct arena *arena);

/* One row by its key, bound as in the rows that were read (parameters: key columns in order):
 * version (what changes whenever the row is written), whether somebody has written or locked it
 * since, and each item as text; on a shard also `placed`, in place of the second. */
const char *reading_source_row(const struct mapping *mapping, struct arena *arena);
const char *reading_target_row(const struct mapping *mapping, unsigned shard, unsigned shards,
                               struct arena *arena);

/* The condition that a row is the one of a version ($1, as above), still in its place. */
#define READING_AT_VERSION                                                                         \
    "tableoid = pg_catalog.split_part($1, '/', 1)::oid"                                            \
    " AND ctid = pg_catalog.split_part($1, '/', 2)::tid"                                           \
    " AND xmin::text = pg_catalog.split_part($1, '/', 3)"

/* FROM-less WHERE of a shard's rows of a key: " WHERE … = $1 AND …", for what repair deletes. */
const char *reading_target_match(const struct mapping *mapping, struct arena *arena);

/* Rows of a merge's target that are of none of its `parts`, as an array of texts, or of those in $1. */
const char *reading_strays(const struct mapping *const *parts, unsigned parts_count,
                           struct arena *arena);

/* Whether a row whose shard key is $1 belongs on the shard. */
const char *reading_place(const struct mapping *mapping, unsigned shard, unsigned shards,
                          struct arena *arena);

#endif
