#include "cli/command.h"
#include "cli/signals.h"
#include "run/run.h"
#include "util/log.h"

int cmd_run(const struct command_line *line)
{
    struct arena arena;
    struct config config;
    struct error err = ERROR_INIT;
    int code = command_no_arguments(line);
    if (code != EXIT_OK)
        return code;
    if (line->dry_run) /* that is what plan is */
        return cmd_plan(line);
    struct stop *stop = signals_start();
    arena_init(&arena, 64 * 1024);
    log_set_subject("run");
    if (config_read(line->config_path, &arena, &config, &err))
        run_migration(&config, stop, &err);
    code = command_failed(&err);
    arena_release(&arena);
    return code;
}
