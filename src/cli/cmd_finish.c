#include "cli/command.h"
#include "run/cleanup.h"

int cmd_finish(const struct command_line *line)
{
    struct arena arena;
    struct config config;
    struct error err = ERROR_INIT;
    int code = command_no_arguments(line);
    if (code != EXIT_OK)
        return code;
    arena_init(&arena, 64 * 1024);
    bool ok = config_read(line->config_path, &arena, &config, &err) &&
              cleanup(&config, CLEANUP_FINISH, line->dry_run, &err);
    code = ok ? EXIT_OK : command_failed(&err);
    arena_release(&arena);
    return code;
}
