#include "verify/ways.h"

#include "mapping/bind.h"
#include "mapping/invert.h"

bool ways_bind(struct ways *ways, const struct config *config, const struct mapping_set *set,
               struct error *err)
{
    *ways = (struct ways){.count = config->shards_count};
    arena_init(&ways->arena, 256 * 1024);
    ways->items = arena_zalloc(&ways->arena, ways->count * sizeof *ways->items);
    for (unsigned s = 0; s < ways->count; s++) {
        struct way *way = &ways->items[s];
        struct findings findings;
        findings_init(&findings, &ways->arena);
        invert_config(set, config, s, &ways->arena, &way->config);
        if (!bind_mappings(&way->config, set->target, set->source, 1, &ways->arena, &way->set,
                           &findings, err)) {
            ways_release(ways);
            return error_context(err, "the way back from shard %u", s);
        }
    }
    return true;
}

void ways_release(struct ways *ways)
{
    if (ways->items != NULL)
        arena_release(&ways->arena);
    *ways = (struct ways){0};
}

const struct mapping *ways_find(const struct ways *ways, unsigned shard,
                                const struct mapping *mapping)
{
    const struct mapping_set *set = &ways->items[shard].set;
    for (unsigned m = 0; m < set->count; m++) {
        if (set->mappings[m].source == mapping->target &&
            set->mappings[m].target == mapping->source)
            return &set->mappings[m];
    }
    return NULL;
}
