#include "run/migration.h"

#include "pg/conn.h"
#include "state/schema.h"
#include "state/setting.h"

static bool open_all(struct migration *migration, const char *purpose, struct error *err)
{
    const struct config *config = migration->config;
    migration->source = conn_open(config->source.text, CONN_SESSION, purpose, err);
    if (migration->source == NULL)
        return error_context(err, "the source (%s:%d)", config->path, config->source.line);
    for (unsigned s = 0; s < migration->shards_count; s++) {
        migration->shards[s] = conn_open(config->shards[s].text, CONN_SESSION, purpose, err);
        if (migration->shards[s] == NULL)
            return error_context(err, "shard %u (%s:%d)", s, config->path, config->shards[s].line);
    }
    migration->control = migration->shards[0];
    return true;
}

static bool check_schemas(const struct migration *migration, struct error *err)
{
    if (!schema_check(migration->source, err))
        return error_context(err, "the source");
    for (unsigned s = 0; s < migration->shards_count; s++) {
        if (!schema_check(migration->shards[s], err))
            return error_context(err, "shard %u", s);
    }
    return true;
}

bool migration_open(struct migration *migration, const struct config *config, const char *purpose,
                    struct error *err)
{
    *migration = (struct migration){
        .config = config, .suffix = "", .shards_count = config->shards_count};
    arena_init(&migration->arena, 256 * 1024);
    findings_init(&migration->findings, &migration->arena);
    migration->shards =
        arena_zalloc(&migration->arena, config->shards_count * sizeof *migration->shards);
    migration->there_before =
        arena_zalloc(&migration->arena, config->shards_count * sizeof *migration->there_before);
    if (open_all(migration, purpose, err) && check_schemas(migration, err))
        return true;
    migration_close(migration);
    return false;
}

void migration_close(struct migration *migration)
{
    conn_close(migration->source);
    for (unsigned s = 0; s < migration->shards_count; s++)
        conn_close(migration->shards[s]);
    arena_release(&migration->arena);
    *migration = (struct migration){0};
}

bool migration_bind(struct migration *migration, struct error *err)
{
    struct arena *arena = &migration->arena;
    migration->target_catalogs =
        arena_zalloc(arena, migration->shards_count * sizeof *migration->target_catalogs);
    if (!catalog_read(migration->source, arena, &migration->source_catalog, err))
        return error_context(err, "reading the source's catalog");
    for (unsigned s = 0; s < migration->shards_count; s++) {
        if (!catalog_read(migration->shards[s], arena, &migration->target_catalogs[s], err))
            return error_context(err, "reading the catalog of shard %u", s);
    }
    return bind_mappings(migration->config, &migration->source_catalog, migration->target_catalogs,
                         migration->shards_count, arena, &migration->set, &migration->findings,
                         err);
}

/* Calls back with each mapping that the setting names; one a line. */
static bool for_each_named(struct migration *migration, const char *setting,
                           void (*mark)(struct mapping *), struct error *err)
{
    char *names, *rest, *name;
    if (!setting_get(migration->shards[0], setting, &names, err))
        return false;
    rest = names;
    while (rest != NULL && (name = strsep(&rest, "\n")) != NULL) {
        struct mapping *mapping = mapping_set_named(&migration->set, name);
        if (mapping != NULL)
            mark(mapping);
    }
    free(names);
    return true;
}

static void mark_serial(struct mapping *mapping)
{
    mapping->serial_lane = true;
}

static void mark_whole(struct mapping *mapping)
{
    mapping->whole_lane = true;
}

bool migration_restore_lanes(struct migration *migration, struct error *err)
{
    for (unsigned m = 0; m < migration->set.count; m++)
        migration->set.mappings[m].serial_lane = migration->set.mappings[m].whole_lane = false;
    return for_each_named(migration, "serial_tables", mark_serial, err) &&
           for_each_named(migration, "whole_tables", mark_whole, err);
}

unsigned migration_lanes(const struct migration *migration)
{
    unsigned lanes = (unsigned)migration->config->lanes;
    for (unsigned m = 0; m < migration->set.count; m++) {
        if (migration->set.mappings[m].whole_lane)
            return 2 * lanes;
    }
    return lanes;
}

bool migration_refused(const struct migration *migration, struct error *err)
{
    const struct findings *findings = &migration->findings;
    for (unsigned f = 0; f < findings->count; f++) {
        const struct finding *finding = &findings->items[f];
        if (finding->severity != SEVERITY_REFUSE)
            continue;
        error_set(err, ERROR_CONFIG, "%s: %s", finding->object, finding->reason);
        if (finding->line > 0)
            error_context(err, "%s:%d:%d", migration->config->path, finding->line, finding->column);
        if (findings->refused > 1)
            error_detail(err, "%u more reasons stand in the way; \"pgportage plan\" shows all.",
                         findings->refused - 1);
        return finding->fix != NULL ? error_hint(err, "%s", finding->fix) : false;
    }
    return error_set(err, ERROR_CONFIG, "the mapping is refused");
}
