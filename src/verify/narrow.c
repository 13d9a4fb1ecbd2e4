#include "verify/narrow.h"

static bool is_left_out(const struct mapping *mapping, unsigned item)
{
    return mapping->items[item].select->kind == SELECT_CONSTANT && !mapping->merged &&
           !mapping_item_is_key(mapping, item) && (int)item != mapping->shard_item;
}

const struct mapping *narrow(const struct mapping *mapping, struct arena *arena)
{
    int *places = arena_alloc(arena, (mapping->items_count + 1) * sizeof *places);
    struct mapping *copy = arena_memdup(arena, mapping, sizeof *mapping);
    copy->items = arena_alloc(arena, (mapping->items_count + 1) * sizeof *copy->items);
    copy->key = arena_alloc(arena, (mapping->key_count + 1) * sizeof *copy->key);
    copy->items_count = 0;
    for (unsigned i = 0; i < mapping->items_count; i++) {
        places[i] = -1;
        if (is_left_out(mapping, i))
            continue;
        places[i] = (int)copy->items_count;
        copy->items[copy->items_count++] = mapping->items[i];
    }
    if (copy->items_count == mapping->items_count)
        return mapping;
    for (unsigned k = 0; k < mapping->key_count; k++) {
        copy->key[k] = mapping->key[k];
        copy->key[k].item = mapping->key[k].item >= 0 ? places[mapping->key[k].item] : -1;
    }
    copy->shard_item = mapping->shard_item >= 0 ? places[mapping->shard_item] : -1;
    copy->partition_item = mapping->partition_item >= 0 ? places[mapping->partition_item] : -1;
    return copy;
}
