/*
 * A whole row of the old source, read from a shard and put to the source: for splits, whose reversed
 * mappings (parts > 1) each give only some of its columns, and for keys that have to be read again.
 *
 * A change on any part of a key: read the row on the shard as it is now; if there is one, put it to the
 * source, else remove it there. Done again it does the same, and any number of changes of the key may
 * be done at once; a change that is read too early is followed by its own.
 */
#ifndef MAPPING_REJOIN_H
#define MAPPING_REJOIN_H

#include "mapping/mapping.h"

struct rejoin {
    /* At the shard: one row of columns_count texts, or none. Parameters are the columns of the
     * mapping's key (mapping->key[k].source, all of them, in this order), as texts. */
    const char *read;
    unsigned columns_count;
    /* At the source: INSERT … ON CONFLICT (key) DO UPDATE. Parameters are what `read` gave. Columns
     * that are lost are not in it; those with a constant for an inverse are set in new rows only. */
    const char *put;
    /* At the source: DELETE. Parameters are those of `read`. */
    const char *remove;
    /* The same for many keys: each parameter is the array of a key column's texts (rejoin_keys()). `gone` is
     * at the shard, and gives the numbers, from 1, of those of which this part has no row. */
    const char *gone;
    const char *remove_many;
};

/* The parameters of many keys, of each its columns' texts. LIMIT when they are too long. */
bool rejoin_keys(const char *const *const *keys, unsigned count, unsigned columns,
                 struct arena *arena, const char **arrays, struct error *err) MUST_CHECK;

/* `mapping` is of `reversed`, a set bound from invert_config(), and has a key. */
void rejoin_make(const struct mapping_set *reversed, const struct mapping *mapping,
                 struct arena *arena, struct rejoin *rejoin);

#endif
