#include <errno.h>

#include "cli/command.h"
#include "run/coordinator.h"

enum { DDL_MAX = 64 << 20 };

static bool read_options(const struct command_line *line, const char **output)
{
    bool ddl = false;
    *output = NULL;
    for (int i = 1; i < line->argc; i++) {
        if (strcmp(line->argv[i], "--ddl") == 0)
            ddl = true;
        else if (strcmp(line->argv[i], "--output") == 0 && i + 1 < line->argc)
            *output = line->argv[++i];
        else
            return false;
    }
    return ddl;
}

static bool write_text(const char *path, const struct buffer *text, struct error *err)
{
    FILE *file = path != NULL ? fopen(path, "w") : stdout;
    if (file == NULL)
        return error_set(err, ERROR_CONFIG, "cannot create \"%s\": %s", path, strerror(errno));
    bool ok = fwrite(text->bytes, 1, text->length, file) == text->length;
    ok = (path != NULL ? fclose(file) : fflush(file)) == 0 && ok;
    return ok || error_set(err, ERROR_RETRY, "cannot write \"%s\": %s",
                           path != NULL ? path : "the standard output", strerror(errno));
}

static bool write_ddl(const struct command_line *line, const char *output, struct arena *arena,
                      struct error *err)
{
    struct config config;
    struct migration migration;
    struct buffer sql;
    if (!config_read(line->config_path, arena, &config, err) ||
        !migration_open(&migration, &config, "coordinator", err))
        return false;
    buffer_init(&sql, DDL_MAX);
    bool ok = coordinator_ddl(&migration, &sql, err);
    migration_close(&migration);
    ok = ok && write_text(line->dry_run ? NULL : output, &sql, err);
    buffer_release(&sql);
    return ok;
}

int cmd_coordinator(const struct command_line *line)
{
    struct arena arena;
    struct error err = ERROR_INIT;
    const char *output;
    if (!read_options(line, &output)) {
        fprintf(stderr, "Usage: pgportage coordinator --ddl [--output FILE]\n");
        return EXIT_USAGE;
    }
    arena_init(&arena, 64 * 1024);
    bool ok = write_ddl(line, output, &arena, &err);
    arena_release(&arena);
    return ok ? EXIT_OK : command_failed(&err);
}
