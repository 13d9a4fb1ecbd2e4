#include "mapping/mapping.h"

#include <string.h>

static bool feeds(const struct relation *source, uint32_t oid)
{
    return source->oid == oid || relation_leaf(source, oid) != NULL;
}

unsigned mapping_set_find(const struct mapping_set *set, uint32_t source_oid,
                          const struct mapping **found, unsigned max)
{
    unsigned count = 0;
    for (unsigned m = 0; m < set->count; m++) {
        if (!feeds(set->mappings[m].source, source_oid))
            continue;
        if (count < max)
            found[count] = &set->mappings[m];
        count++;
    }
    return count;
}

struct mapping *mapping_set_named(const struct mapping_set *set, const char *name)
{
    for (unsigned m = 0; m < set->count; m++) {
        if (strcmp(set->mappings[m].name, name) == 0)
            return &set->mappings[m];
    }
    return NULL;
}

static bool mapping_uses(const struct mapping *mapping, unsigned column)
{
    bool used = column_set_has(&mapping->where_uses, column) ||
                (mapping->shard_item >= 0 && mapping->shard_column == (int)column);
    for (unsigned i = 0; !used && i < mapping->items_count; i++)
        used = column_set_has(&mapping->items[i].select->uses, column);
    for (unsigned k = 0; !used && k < mapping->key_count; k++)
        used = mapping->key[k].source == (int)column;
    return used;
}

bool mapping_set_uses(const struct mapping_set *set, const struct relation *source,
                      unsigned column)
{
    for (unsigned m = 0; m < set->count; m++) {
        if (set->mappings[m].source == source && mapping_uses(&set->mappings[m], column))
            return true;
    }
    return false;
}
