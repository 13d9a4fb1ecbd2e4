/*
 * Changes on their way from the receiver to a lane, in batches.
 *
 * A batch owns an arena with its changes and all bytes they point to. The receiver fills it; a
 * successful push onto the lane's queue hands it over; the lane frees it once the server has answered
 * for every change in it. Values are NUL-terminated text, in the order of the source relation's
 * columns (mapping->source->columns).
 */
#ifndef STREAM_CHANGE_H
#define STREAM_CHANGE_H

#include "mapping/mapping.h"
#include "pg/lsn.h"
#include "pg/pgoutput.h"

enum change_op {
    CHANGE_INSERT,
    CHANGE_UPDATE, /* the key and the shard stay the same */
    CHANGE_DELETE,
    CHANGE_TRUNCATE,
    CHANGE_COMMIT,  /* the source transaction ends; no mapping */
    CHANGE_MARKER,  /* the same, and it wrote a marker that must be durable at once; no mapping */
    CHANGE_BARRIER, /* make durable what came before, even inside a transaction; no mapping */
};

struct change {
    struct change *next;
    const struct mapping *mapping;
    enum change_op op;
    uint32_t leaf;       /* the source's table that holds the row */
    bool may_miss;       /* touching no row is no conflict: the shard is unknown */
    bool partial;        /* CHANGE_TRUNCATE: of a partition by itself */
    uint32_t xid;
    lsn_t lsn;           /* of the transaction's commit record; COMMIT and MARKER: its end */
    int64_t marker;      /* CHANGE_MARKER: its id */
    int64_t commit_time; /* microseconds since 2000-01-01 UTC */
    unsigned ordinal;    /* its number among the transaction's changes for this lane, from 1 */
    struct tuple old_row;
    struct tuple new_row;
    const char *key; /* encoded range columns of the row's key; NULL if the mapping has none */
    uint32_t key_length;
    uint64_t key_hash; /* of all key columns; equal keys, equal hashes */
};

struct batch {
    struct batch *next;
    struct arena arena;
    struct change *first;
    struct change *last;
    unsigned count;
    lsn_t since;          /* commit record of the transaction that its first change is of */
    uint64_t answered_at; /* the lane's: number of the statement whose answer frees it */
};

struct batch *batch_new(void);
void batch_free(struct batch *batch);
struct change *batch_add(struct batch *batch); /* zeroed, linked in */

/* The row that tells the key: the old one of a delete, else the new one. */
const struct tuple *change_row(const struct change *change);
/* Whether two rows have the same key, to the byte; false without a key. */
bool tuple_same_key(const struct mapping *mapping, const struct tuple *a, const struct tuple *b);

const char *change_op_name(enum change_op op);

#endif
