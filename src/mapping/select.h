/*
 * A select list, taken apart with libpg_query: which source columns each item uses, what it is
 * (plain column, cast, arithmetic with a constant, constant, other), what is refused (subqueries,
 * aggregates, window and set-returning functions, parameters, *), and the inverse where it can be
 * derived. Purely syntactic: the servers type it (bind.h), and are asked what the functions are that it
 * calls.
 *
 * Expression texts are slices of what the user wrote, so that both servers see the user's own words.
 */
#ifndef MAPPING_SELECT_H
#define MAPPING_SELECT_H

#include "mapping/config.h"
#include "pg/catalog.h"

/* A set of columns, by index into relation->columns. */
struct column_set {
    uint64_t words[RELATION_COLUMNS_MAX / 64];
};

static inline void column_set_add(struct column_set *set, unsigned column)
{
    set->words[column / 64] |= UINT64_C(1) << (column % 64);
}

static inline bool column_set_has(const struct column_set *set, unsigned column)
{
    return (set->words[column / 64] >> (column % 64)) & 1;
}

bool column_set_intersects(const struct column_set *a, const struct column_set *b);
bool column_set_within(const struct column_set *inner, const struct column_set *outer);
void column_set_join(struct column_set *into, const struct column_set *from);

enum select_kind {
    SELECT_COLUMN,     /* a source column as it is */
    SELECT_CAST,       /* one column, through one cast */
    SELECT_ARITHMETIC, /* one column, + - * / with constants, casts: invertible */
    SELECT_CONSTANT,   /* no column */
    SELECT_OTHER,
};

struct select_item {
    const char *name;        /* target column */
    const char *expr;        /* SQL over the source columns */
    enum select_kind kind;
    int column;              /* the one source column used, -1 if none or several */
    struct column_set uses;
    const char *cast_type;   /* SELECT_CAST: the type's name, without schema and length */
    bool cast_cuts;          /* … which has a length or scale */
    int digits;              /* of a number, how many at most behind the point, when all of the column
                                is kept; -1: not known */
    const char *inverse;     /* SQL over target columns giving `column` back, but for its
                                length and scale; NULL if not derivable */
    int line, place;         /* in the file: line and column */
};

/* A function that is called, and where. */
struct select_call {
    const char *name; /* without schema */
    int line, place;
};

struct select_calls {
    unsigned count;
    struct select_call *items;
};

struct select_list {
    unsigned count;
    struct select_item *items;
    struct select_calls calls;
};

/* Errors name file:line:column and what to write instead. */
bool select_parse(const struct config *config, const struct config_text *text,
                  const struct relation *source, struct arena *arena, struct select_list *list,
                  struct error *err) MUST_CHECK;

/* A condition (where): checks it alike, and gives its columns. */
bool select_parse_condition(const struct config *config, const struct config_text *text,
                            const struct relation *source, struct arena *arena,
                            struct column_set *uses, struct select_calls *calls,
                            struct error *err) MUST_CHECK;

#endif
