#include "cli/command.h"
#include "run/cleanup.h"

static const char open_source[] = "--open-source";

int cmd_finish(const struct command_line *line)
{
    struct arena arena;
    struct config config;
    struct error err = ERROR_INIT;
    bool opens = command_flag(line, open_source);
    int code = opens && line->argc == 2 ? EXIT_OK : command_no_arguments(line);
    if (code != EXIT_OK)
        return code;
    arena_init(&arena, 64 * 1024);
    enum cleanup_kind kind = opens ? CLEANUP_FINISH_OPEN_SOURCE : CLEANUP_FINISH;
    bool ok = config_read(line->config_path, &arena, &config, &err) &&
              cleanup(&config, kind, line->dry_run, &err);
    code = ok ? EXIT_OK : command_failed(&err);
    arena_release(&arena);
    return code;
}
