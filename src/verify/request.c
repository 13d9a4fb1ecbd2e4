#include "verify/request.h"

#include <xxhash.h>

#include "verify/reading.h"

static void hash_text(XXH3_state_t *state, const char *text)
{
    CHECK(XXH3_128bits_update(state, text, strlen(text) + 1) == XXH_OK);
}

static void hash_table(XXH3_state_t *state, const struct session *session,
                       const struct mapping *mapping)
{
    struct arena arena;
    const struct bounds whole = {0};
    arena_init(&arena, 16 * 1024);
    hash_text(state, mapping->name);
    hash_text(state, reading_source(mapping, whole, &arena));
    hash_text(state, reading_target(mapping, whole, 0, session->shards_count, &arena));
    hash_text(state, arena_printf(&arena, "%d %u %u", reading_by_intervals(mapping),
                                  mapping->key_count, mapping->range_count));
    arena_release(&arena);
}

const char *request_of(const struct session *session, const struct mapping *const *tables,
                       unsigned tables_count, struct arena *arena)
{
    const struct verify_options *options = session->options;
    XXH3_state_t *state = XXH3_createState();
    CHECK(state != NULL && XXH3_128bits_reset(state) == XXH_OK);
    const char *how = arena_printf(arena, "%d %d %d %u %u", session->backward, options->strict,
                                   options->server_digest, session->switches,
                                   session->shards_count);
    hash_text(state, how);
    for (unsigned t = 0; t < tables_count; t++)
        hash_table(state, session, tables[t]);
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    return arena_printf(arena, "%s/%016llx%016llx", options->kept_as,
                        (unsigned long long)hash.high64, (unsigned long long)hash.low64);
}
