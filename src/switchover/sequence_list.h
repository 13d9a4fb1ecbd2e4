/*
 * The sequences of one server, as its catalog has them: shape, rights, where each stands, and which
 * columns it fills. Plain values of an arena, read once.
 */
#ifndef SWITCHOVER_SEQUENCE_LIST_H
#define SWITCHOVER_SEQUENCE_LIST_H

#include <libpq-fe.h>

#include "switchover/sequence_values.h"
#include "util/arena.h"
#include "util/error.h"

/* A column that the sequence owns, or whose default asks it; of a partition: that of its root. */
struct sequence_column {
    uint32_t relation;
    const char *schema, *table, *name;
    char kind;         /* pg_class.relkind */
    int integer_bytes; /* 2, 4, 8; 0: it is no integer, and its largest value is nothing to us */
    bool indexed;      /* an index gives its largest value at once … */
    int leaves;        /* … out of so many tables */
};

struct sequence {
    unsigned index; /* in the list */
    uint32_t oid;
    const char *schema, *name;
    const char *quoted;
    struct sequence_shape shape; /* as it is */
    struct sequence_shape own;   /* as it was before us: portage.sequence, else as it is */
    bool has_origin;             /* portage.sequence: it gives a block */
    int64_t origin;
    const char *owner;
    bool may_read, may_set, may_alter, may_use_schema;
    int64_t last; /* known when may_read */
    bool called;
    unsigned columns_count;
    struct sequence_column *columns;
};

struct sequence_list {
    unsigned count;
    struct sequence *items; /* ordered by schema and name */
};

/* All sequences of the application: none of an extension, of ours, or temporary. */
bool sequence_list_read(PGconn *conn, struct arena *arena, struct sequence_list *list,
                        struct error *err) MUST_CHECK;

/* NULL if there is none. */
struct sequence *sequence_list_find(const struct sequence_list *list, const char *schema,
                                    const char *name);

/* The last value that all of its columns can hold, or its own bound. */
int64_t sequence_end(const struct sequence *sequence);

#endif
