/*
 * The SQL that a mapping gives rise to: the same select list, read by the copy and bound by the
 * stream. All of it is made here, where it can be read. Texts live in the arena given.
 */
#ifndef MAPPING_STATEMENTS_H
#define MAPPING_STATEMENTS_H

#include "mapping/invert.h"
#include "mapping/mapping.h"

/* (lower, upper] of the range columns, as text values; NULL is the open end. Of the rows of one
 * late leaf, or, when `leaf` is 0, of all leaves that are not late. */
struct key_interval {
    const char *const *lower;
    const char *const *upper;
    uint32_t leaf;
};

/* COPY (SELECT <list> FROM source [WHERE …]) TO STDOUT, and COPY target FROM STDIN. */
const char *statement_copy_out(const struct mapping *mapping, struct key_interval interval,
                               struct arena *arena);
const char *statement_copy_in(const struct mapping *mapping, struct arena *arena);

/* LOCK TABLE of what a chunk of the leaf, or of all that are not late (0), is going to read. */
const char *statement_lock(const struct mapping *mapping, uint32_t leaf, struct arena *arena);

/* The key at `offset` rows behind the interval's lower end, in key order; the largest of the
 * interval when offset is negative. Range columns as text; no row when there is none. */
const char *statement_key_at(const struct mapping *mapping, struct key_interval interval,
                             int64_t offset, struct arena *arena);

enum param_from { PARAM_NEW, PARAM_OLD };

struct statement_param {
    unsigned column; /* index into source->columns */
    enum param_from from;
    uint32_t array_type; /* of many rows: OID of the elements' type */
};

struct statement {
    const char *sql;
    unsigned params_count;
    struct statement_param *params;
    bool may_miss; /* touching no row is no conflict (`where`) */
    bool tells_keys; /* returns the key of each row that it touched: no two may have the same */
};

/*
 * Statements of the stream. `present` are the source columns that the message carries (all but
 * unchanged TOAST). statement_missing() tells which absent columns must be read back from the source
 * before the change can be applied; statement_update() sets those target columns whose inputs are
 * all present and leaves the others alone.
 *
 * A statement is of one row, whose parameters are its values; or, with `many`, of any number of rows of
 * the same kind: then each parameter is an array, a value a row. Many need a key to tell them by, each
 * key at most once; an update with `where` that may move rows is of one row (statement_takes_rows()).
 */
enum statement_op { STATEMENT_INSERT, STATEMENT_UPDATE, STATEMENT_DELETE };
bool statement_takes_rows(const struct mapping *mapping, enum statement_op op);
bool statement_missing(const struct mapping *mapping, const struct column_set *present,
                       bool makes_row, struct column_set *missing);

void statement_insert(const struct mapping *mapping, bool many, struct arena *arena,
                      struct statement *statement);
void statement_update(const struct mapping *mapping, const struct column_set *present, bool many,
                      struct arena *arena, struct statement *statement);
void statement_delete(const struct mapping *mapping, bool many, struct arena *arena,
                      struct statement *statement);

/*
 * The same on the way back, where rows of one key may come by the streams of several shards: `stream`
 * is the one at hand. An insert that meets a row takes its place. What cannot tell whose row stands
 * there in the end marks its key in portage.dirty, in the same statement: an insert that meets a row, or
 * a key that is marked; an update and a delete that touch none. A delete whose key was marked last by
 * another stream leaves the row. Touching no row is no conflict. All need a key.
 */
void statement_back_insert(const struct mapping *mapping, unsigned stream, bool many,
                           struct arena *arena, struct statement *statement);
void statement_back_update(const struct mapping *mapping, unsigned stream,
                           const struct column_set *present, bool many, struct arena *arena,
                           struct statement *statement);
void statement_back_delete(const struct mapping *mapping, unsigned stream, bool many,
                           struct arena *arena, struct statement *statement);

/* What a TRUNCATE of the source table does to the target: all of it, or a merge's part of it. */
const char *statement_truncate(const struct mapping *mapping, struct arena *arena);

/* SELECT of a source row by key, as text: the snapshot it is read under, whether it is there, then
 * the columns in `wanted`. Always one row; parameters are the key columns in key order. */
const char *statement_read_back(const struct mapping *mapping, const struct column_set *wanted,
                                struct arena *arena);

/* The source columns of a sample: what the mapping needs, and what its inverses give back. */
struct column_set statement_sample_columns(const struct mapping *mapping,
                                           const struct inverses *inverses);

/* Up to `limit` rows of the source without large values: each item as text, computed there, then
 * `columns` as text, from which statement_sample_target() computes the items on the target. */
const char *statement_sample_source(const struct mapping *mapping, const struct column_set *columns,
                                    int limit, struct arena *arena);
void statement_sample_target(const struct mapping *mapping, struct arena *arena,
                             struct statement *statement);

/* There and back: of one row, for each inverse that can be proved, in their order, what it gives for
 * the mapped row, and what the column was, as texts. */
void statement_sample_back(const struct mapping *mapping, const struct inverses *inverses,
                           bool at_source, struct arena *arena, struct statement *statement);

#endif
