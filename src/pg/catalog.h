/*
 * What a server says of its relations: read once into an arena, plain values afterwards, shared
 * between threads unchanged.
 */
#ifndef PG_CATALOG_H
#define PG_CATALOG_H

#include <libpq-fe.h>
#include <stdint.h>

#include "pg/parthash.h"
#include "pg/sortkey.h"
#include "util/arena.h"
#include "util/error.h"

enum { RELATION_COLUMNS_MAX = 1600 };

struct column {
    const char *name;
    int attnum;
    uint32_t type_oid;      /* of the column; base_oid below a domain */
    uint32_t base_oid;      /* the base type of a domain, else type_oid */
    const char *type;       /* format_type(oid, -1): no length (bpchar, not character): for casts */
    const char *full_type;  /* with it, to show */
    const char *base_type;  /* the same of base_oid */
    const char *base_full_type; /* base_oid with the length or scale of the column or its domain */
    char type_kind;         /* pg_type.typtype of base_oid: b e c r m, array elements below */
    bool builtin;           /* base_oid < 16384, and so is its element type */
    bool is_container;      /* array, composite, range, multirange, record */
    bool not_null;
    bool has_default;
    bool generated;         /* stored generated (attgenerated <> '') */
    bool identity_always;
    bool is_identity;
    bool toastable;         /* attstorage x or e or m: may arrive as unchanged TOAST */
    bool bytewise;          /* collation is C or POSIX, or the type has none */
    bool collation_deterministic;
    const char *default_expr; /* NULL if none */
};

struct unique_index {
    const char *name;
    unsigned count;
    int *attnums;       /* 0 is an expression */
    bool primary;
    bool partial;
    bool immediate;     /* false: deferrable constraint */
    bool exclusion;     /* exclusion constraint: conflicts between rows, but not on equality */
    bool replica_identity; /* indisreplident */
};

/* The names of the columns of the table `c`, by their numbers, as a JSON array; null is one that was dropped. A
 * number is never used again, and a rename leaves it: so it tells whose values a name stands for. */
#define LEAF_COLUMNS_SQL                                                                           \
    "COALESCE((SELECT pg_catalog.jsonb_agg(CASE WHEN NOT a.attisdropped THEN a.attname::text END"  \
    "                                      ORDER BY a.attnum)"                                     \
    "            FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0), '[]')"

/* An ordinary table that holds rows: a leaf partition, or a table that is not partitioned. */
struct leaf {
    uint32_t oid;
    const char *name; /* schema and name, quoted where they must be */
    uint32_t file;    /* where its rows are: pg_relation_filenode() */
    const char *columns; /* by LEAF_COLUMNS_SQL */
    /* Of a source (run/leaves.h): it came after the copy began, and has ranges of its own … */
    bool late;
    bool published; /* … which may be copied once all its changes are in the stream */
};

struct relation {
    uint32_t oid;
    const char *schema;
    const char *name;
    char kind;             /* pg_class.relkind: r or p */
    bool is_partition;     /* has a parent: mapped through its root */
    char replica_identity; /* d n f i */
    bool row_security;     /* enabled, and forced or not: our session turns it off and errors */
    bool has_triggers;     /* user triggers */
    unsigned columns_count;
    struct column *columns; /* in attnum order, dropped ones left out */
    unsigned uniques_count;
    struct unique_index *uniques;
    /* Leaves: for a partitioned table all leaf partitions, for an ordinary one itself. */
    unsigned leaves_count;
    struct leaf *leaves;
    int64_t rows_estimate;  /* reltuples over the leaves, -1 when never analyzed */
    int64_t bytes;          /* pg_table_size over the leaves: heap and TOAST */
    double key_correlation; /* |correlation| of the first primary key column, 1 when unknown */
};

struct catalog {
    int version;            /* PQserverVersion(): 120022, 150018, … */
    const char *database;
    unsigned relations_count;
    struct relation *relations; /* user tables and partitioned roots; partitions only as leaves */
};

/* Reads all user tables, without those of the schema portage. The arena owns everything. */
bool catalog_read(PGconn *conn, struct arena *arena, struct catalog *catalog, struct error *err)
    MUST_CHECK;

const struct relation *catalog_find(const struct catalog *catalog, const char *schema,
                                    const char *name);
/* NULL when it is no leaf of this relation. */
const struct leaf *relation_leaf(const struct relation *relation, uint32_t oid);
/* Its name in a statement, with ONLY: tables that inherit from it are tables of their own to us. Not for a
 * partitioned table, whose rows are in others. */
void relation_put_only(struct buffer *sql, const struct relation *relation);
/* Index into relation->columns, -1 if there is none. */
int relation_column(const struct relation *relation, const char *name);
int relation_column_by_attnum(const struct relation *relation, int attnum);

/* The length, or precision and scale, that a column's type declares: varchar(20), numeric(12,2).
 * None of a domain: those of its base type are not known here. */
struct modifiers {
    unsigned count;
    int values[2];
};
struct modifiers column_modifiers(const struct column *column);

/* An INSERT may say nothing of it. */
bool column_may_be_left_out(const struct column *column);

/* How many digits a number may have behind the point; -1: any, not known, or no number. */
int column_digits(const struct column *column);
/* 2, 4 or 8; 0 for what is no integer. */
int column_integer_bytes(const struct column *column);

#endif
