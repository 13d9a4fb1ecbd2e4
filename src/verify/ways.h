/*
 * The mappings turned round, of each shard: what the source must hold while the target is live. The set
 * they are made of, and its configuration, outlive it. Read-only once bound.
 */
#ifndef VERIFY_WAYS_H
#define VERIFY_WAYS_H

#include "mapping/mapping.h"

struct ways {
    struct arena arena;
    unsigned count; /* of shards */
    struct way {
        struct config config;
        struct mapping_set set;
    } * items;
};

bool ways_bind(struct ways *ways, const struct config *config, const struct mapping_set *set,
               struct error *err) MUST_CHECK;
void ways_release(struct ways *ways);

/* The way back of a mapping from a shard; NULL when there is none. Of a table that is the same everywhere
 * there is one from shard 0 alone. */
const struct mapping *ways_find(const struct ways *ways, unsigned shard,
                                const struct mapping *mapping);

#endif
