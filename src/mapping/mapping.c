#include "mapping/mapping.h"

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
