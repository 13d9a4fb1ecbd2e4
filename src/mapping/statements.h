/*
 * The SQL that a mapping gives rise to: the same select list, read by the copy and bound by the
 * stream. All of it is made here, where it can be read.
 *
 * Column sets of an update: `present` are the source columns that the message carries (all but
 * unchanged TOAST). Parameters of a statement are source columns in the order given by
 * `struct statement.params`: each is bound from the new row, or from the old key.
 */
#ifndef MAPPING_STATEMENTS_H
#define MAPPING_STATEMENTS_H

#include "mapping/mapping.h"

enum param_from { PARAM_NEW, PARAM_OLD };

struct statement_param {
    unsigned column; /* index into source->columns */
    enum param_from from;
};

struct statement {
    const char *sql;
    unsigned params_count;
    struct statement_param *params;
};

/* COPY (SELECT … FROM source [WHERE …]) TO STDOUT. The interval is given as SQL literals of the
 * range columns; NULL lower is "from the start", NULL upper "to the end"; both exclusive/inclusive
 * as (lower, upper]. */
char *statement_copy_out(const struct mapping *mapping, struct arena *arena,
                         const char *const *lower, const char *const *upper);
char *statement_copy_in(const struct mapping *mapping, struct arena *arena);

/* The key of row number `offset` behind `lower` in key order, as text columns; no row: fewer remain. */
char *statement_key_after(const struct mapping *mapping, struct arena *arena,
                          const char *const *lower, const char *const *upper, int64_t offset);

bool statement_insert(const struct mapping *mapping, struct arena *arena,
                      struct statement *statement, struct error *err) MUST_CHECK;
bool statement_update(const struct mapping *mapping, struct arena *arena,
                      const struct column_set *present, struct statement *statement,
                      struct error *err) MUST_CHECK;
bool statement_delete(const struct mapping *mapping, struct arena *arena,
                      struct statement *statement, struct error *err) MUST_CHECK;

#endif
