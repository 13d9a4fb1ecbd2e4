/*
 * The mapping model: how each target table is made from a source table, bound to both catalogs.
 * Everything that copy, stream, verify and the way back need to know of a table is here, once.
 *
 * Built by bind.h, owned by an arena, read-only afterwards and shared between all threads.
 */
#ifndef MAPPING_MAPPING_H
#define MAPPING_MAPPING_H

#include "mapping/config.h"
#include "mapping/select.h"
#include "pg/catalog.h"
#include "pg/copycodec.h"
#include "pg/parthash.h"
#include "pg/sortkey.h"

enum copy_mode {
    COPY_RANGES, /* by intervals of the key, bytewise comparable */
    COPY_WHOLE,  /* one chunk */
};

/* How a target column is carried by COPY. */
struct mapping_item {
    const struct select_item *select;
    const struct column *target;
    /* `text::jsonb` by itself: the source sends the text, we put jsonb's version byte before it, and
     * the cast costs the source nothing (ANCHORS.md). Binary format only. */
    bool jsonb_from_text;
};

/*
 * One column of the source's key and its image in the target.
 *
 * Of a mapping that was turned round (invert.h) these are the columns whose images are the key of its
 * target, which may be fewer than the source's own key has: (id) where that is (id, created_at). They
 * lie within the replica identity, so each old row tells them. Behind them, with item -1, follow the
 * columns of `where` that tell the parts of a merge apart: a change of these is a change of the key.
 */
struct key_column {
    int source;  /* index into source->columns */
    int item;    /* index into items: the column or a widening cast of it; -1: key is not mapped */
    enum sortkey_type sort;
};

struct mapping {
    unsigned index;    /* its place in mapping_set */
    const char *name;  /* unique and stable over restarts: target, and "<-source" in a merge */
    const struct config_mapping *config;
    const struct relation *source;
    const struct relation *target;

    unsigned items_count;
    struct mapping_item *items; /* in the order of the select list */
    const char *where;          /* NULL if all rows move */
    struct column_set where_uses;
    /* `where` reads columns of the key alone: no row begins or ceases to pass while its key stays, and
     * each old row tells whether it passed. Only of mappings that were turned round. */
    bool where_by_key;
    struct select_calls calls, where_calls; /* functions: the servers say what they are */

    bool has_key;            /* false: no unique key; rows are told apart by all columns (FULL) */
    unsigned key_count;
    struct key_column *key;  /* in index order */
    unsigned range_count;    /* leading key columns that are bytewise comparable */
    enum copy_mode copy_mode;
    enum copy_format copy_format;

    bool everywhere;         /* a reference table */
    int shard_item;          /* index into items: the shard key; -1 if everywhere or one shard */
    int shard_column;        /* its source column */
    enum parthash_type shard_hash;
    /* Which shard an old row belongs to is known from the replica identity; else deletes go to all
     * shards (declared by shard_key: immutable). */
    bool shard_key_in_identity;
    struct column_set identity; /* source columns that updates and deletes carry */

    bool serial_lane;        /* the target has unique or exclusion constraints besides the key, or
                                equal keys may differ as texts: the order within the table is the
                                source's */
    bool whole_lane;         /* it, or another mapping into its target table, is copied whole: its
                                changes have lanes of their own (lane.h) */
    bool key_unique;         /* the target itself keeps rows of one key apart: its primary key has no
                                column besides (R15) */
    bool merged;             /* several mappings feed this target table */
    /* Turned round: so many mappings together give one row of the target (a split), which is then read
     * and written as a whole (rejoin.h). 1 of all others. */
    unsigned parts;
    const struct mapping *origin; /* of what it was turned round; NULL if it was not */
    int partition_item;      /* index into items of partition_by's column; -1 */
};

/* Whether it maps this column of the target. */
static inline bool mapping_has_item(const struct mapping *mapping, const struct column *column)
{
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (mapping->items[i].target == column)
            return true;
    }
    return false;
}

/* Whether an item is the image of a key column. */
static inline bool mapping_item_is_key(const struct mapping *mapping, unsigned item)
{
    for (unsigned k = 0; k < mapping->key_count; k++) {
        if (mapping->key[k].item == (int)item)
            return true;
    }
    return false;
}

/* Whether an update may begin or end a row's passing of `where`: it then inserts or deletes. */
static inline bool mapping_updates_move_rows(const struct mapping *mapping)
{
    return mapping->where != NULL && !mapping->where_by_key;
}

struct mapping_set {
    unsigned shards_count;
    unsigned count;
    struct mapping *mappings;
    const struct catalog *source;
    const struct catalog *target; /* of the first shard; the others agree (bind checks) */
    const char *publisher; /* for messages, where that is not the source: "shard 3" */
};

/* The mappings that a relation of the source feeds: by the OID of a leaf or root. Appends to `found`
 * (room for `max`), returns how many there are. */
unsigned mapping_set_find(const struct mapping_set *set, uint32_t source_oid,
                          const struct mapping **found, unsigned max);

/* The mapping of this name, owned by the set; NULL if there is none. */
struct mapping *mapping_set_named(const struct mapping_set *set, const char *name);

/* Whether any mapping needs this column of the source. */
bool mapping_set_uses(const struct mapping_set *set, const struct relation *source,
                      unsigned column);

#endif
