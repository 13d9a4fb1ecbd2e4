#include "switchover/side.h"

#include <jansson.h>

#include "pg/quote.h"

const char *side_server(const struct side *side, unsigned number, char text[24])
{
    if (side->which == SIDE_SOURCE)
        return side->name;
    snprintf(text, 24, "shard %u", number);
    return text;
}

const char *side_tables(const struct mapping_set *set, enum which_side which,
                        struct arena *arena)
{
    json_t *names = json_array();
    for (unsigned m = 0; m < set->count; m++) {
        const struct relation *relation =
            which == SIDE_SOURCE ? set->mappings[m].source : set->mappings[m].target;
        json_array_append_new(names,
                              json_string(quote_name_dup(arena, relation->schema, relation->name)));
    }
    char *text = json_dumps(names, 0);
    CHECK(text != NULL);
    const char *tables = arena_strdup(arena, text);
    free(text);
    json_decref(names);
    return tables;
}
