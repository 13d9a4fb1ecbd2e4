#include "run/backward.h"

#include "mapping/invert.h"

/* The same rows on all shards: here they are all of the table. */
static void keep_everywhere(struct migration *way, const struct migration *forward)
{
    for (unsigned w = 0; w < way->set.count; w++) {
        struct mapping *back = &way->set.mappings[w];
        for (unsigned m = 0; m < forward->set.count; m++) {
            const struct mapping *there = &forward->set.mappings[m];
            if (there->target->oid == back->source->oid || /* of another shard: by name */
                (strcmp(there->target->schema, back->source->schema) == 0 &&
                 strcmp(there->target->name, back->source->name) == 0))
                back->everywhere |= there->everywhere;
        }
    }
}

/* By the arena of the way, which lives as long as its configuration. */
static bool bind_way(struct migration *way, struct config *config, struct migration *forward,
                     unsigned shard, struct error *err)
{
    *way = (struct migration){
        .config = config,
        .control = forward->control,
        .source = forward->shards[shard],
        .shards = &forward->source,
        .shards_count = 1,
        .source_catalog = forward->target_catalogs[shard],
        .target_catalogs = &forward->source_catalog,
    };
    arena_init(&way->arena, 256 * 1024);
    way->suffix = arena_printf(&way->arena, "_back_%u", shard);
    findings_init(&way->findings, &way->arena);
    invert_config(&forward->set, forward->config, shard, &way->arena, config);
    if (!bind_mappings(config, &way->source_catalog, way->target_catalogs, 1, &way->arena,
                       &way->set, &way->findings, err))
        return false;
    keep_everywhere(way, forward);
    way->set.publisher = arena_printf(&way->arena, "shard %u", shard);
    return way->findings.refused == 0 || migration_refused(way, err);
}

bool backward_bind(struct backward *backward, struct migration *forward, struct error *err)
{
    *backward = (struct backward){0};
    backward->configs = check_calloc(forward->shards_count, sizeof *backward->configs);
    backward->ways = check_calloc(forward->shards_count, sizeof *backward->ways);
    for (unsigned s = 0; s < forward->shards_count; s++) {
        backward->count++;
        if (!bind_way(&backward->ways[s], &backward->configs[s], forward, s, err)) {
            error_context(err, "the way back from shard %u", s);
            backward_release(backward);
            return false;
        }
    }
    return true;
}

void backward_release(struct backward *backward)
{
    for (unsigned s = 0; s < backward->count; s++)
        arena_release(&backward->ways[s].arena);
    free(backward->ways);
    free(backward->configs);
    *backward = (struct backward){0};
}
