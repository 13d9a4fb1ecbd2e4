#include "cli/command.h"
#include "run/cleanup.h"

static const char keep_target[] = "--keep-target";

int cmd_abort(const struct command_line *line)
{
    struct arena arena;
    struct config config;
    struct error err = ERROR_INIT;
    bool keeps = command_flag(line, keep_target);
    int code = keeps && line->argc == 2 ? EXIT_OK : command_no_arguments(line);
    if (code != EXIT_OK)
        return code;
    arena_init(&arena, 64 * 1024);
    enum cleanup_kind kind = keeps ? CLEANUP_ABORT_KEEP_TARGET : CLEANUP_ABORT;
    bool ok = config_read(line->config_path, &arena, &config, &err) &&
              cleanup(&config, kind, line->dry_run, &err);
    code = ok ? EXIT_OK : command_failed(&err);
    arena_release(&arena);
    return code;
}
