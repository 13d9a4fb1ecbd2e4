#include "endpoint/command.h"

#include "endpoint/kind.h"
#include "endpoint/runner.h"
#include "pg/conn.h"

static char *redacted(struct arena *arena, const char *conninfo)
{
    char *text = conn_redact(conninfo), *kept = arena_strdup(arena, text);
    free(text);
    return kept;
}

/* All shards' addresses, a line each. */
static const char *target_lines(struct arena *arena, const struct config *config)
{
    const char *lines = "";
    for (unsigned s = 0; s < config->shards_count; s++)
        lines = arena_printf(arena, "%s%s%s", lines, s > 0 ? "\n" : "",
                             redacted(arena, config->shards[s].text));
    return lines;
}

static const char *const *environment(struct arena *arena, const struct config *config,
                                      const struct command_run *run)
{
    const char *source = redacted(arena, config->source.text);
    const char *target = target_lines(arena, config);
    const char **all = arena_zalloc(arena, 8 * sizeof *all);
    bool to_source = run->side == SIDE_SOURCE;
    all[0] = arena_printf(arena, "PGPORTAGE_PHASE=%s", run->phase);
    all[1] = arena_printf(arena, "PGPORTAGE_SIDE=%s", side_name(run->side));
    all[2] = arena_printf(arena, "PGPORTAGE_SOURCE=%s", source);
    all[3] = arena_printf(arena, "PGPORTAGE_TARGET=%s", target);
    all[4] = arena_printf(arena, "PGPORTAGE_ADDRESSES=%s", to_source ? source : target);
    all[5] = arena_printf(arena, "PGPORTAGE_CONFIG=%s", config->path);
    return all;
}

bool command_run(const struct config *config, const struct command_run *run, struct error *err)
{
    const char *argv[] = {"/bin/sh", "-c", run->command, NULL};
    struct arena arena;
    arena_init(&arena, 4096);
    const struct runner runner = {
        .what = run->what,
        .argv = argv,
        .environ = environment(&arena, config, run),
        .limit_s = run->limit_s,
        .stop = run->stop,
    };
    bool ok = runner_run(&runner, err);
    arena_release(&arena);
    return ok;
}
