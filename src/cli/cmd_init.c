#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cli/command.h"
#include "run/propose.h"

struct init_options {
    const char *source;
    const char *shards[CONFIG_SHARDS_MAX];
    unsigned shards_count;
};

static bool read_options(const struct command_line *line, struct init_options *options)
{
    for (int i = 1; i + 1 < line->argc; i += 2) {
        if (strcmp(line->argv[i], "--source") == 0)
            options->source = line->argv[i + 1];
        else if (strcmp(line->argv[i], "--shard") == 0 && options->shards_count < CONFIG_SHARDS_MAX)
            options->shards[options->shards_count++] = line->argv[i + 1];
        else
            return false;
    }
    return line->argc % 2 == 1 && options->source != NULL && options->shards_count > 0;
}

/* Never over a file that is there. */
static bool write_file(const char *path, const struct buffer *text, struct error *err)
{
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (file < 0) {
        error_set(err, ERROR_CONFIG, "cannot create \"%s\": %s", path, strerror(errno));
        return error_hint(err, "Name another file with --config, or look at the proposal with"
                               " --dry-run.");
    }
    bool ok = write(file, text->bytes, text->length) == (ssize_t)text->length;
    ok = close(file) == 0 && ok;
    if (ok)
        printf("Wrote %s. Look at what it marks with DECIDE, then run \"pgportage plan\".\n", path);
    return ok || error_set(err, ERROR_RETRY, "cannot write \"%s\": %s", path, strerror(errno));
}

int cmd_init(const struct command_line *line)
{
    struct init_options options = {0};
    struct buffer yaml;
    struct error err = ERROR_INIT;
    if (!read_options(line, &options)) {
        fprintf(stderr, "Usage: pgportage init --source CONNINFO --shard CONNINFO [--shard …]\n");
        return EXIT_USAGE;
    }
    buffer_init(&yaml, 16 << 20);
    bool ok = propose(options.source, options.shards, options.shards_count, &yaml, &err);
    if (ok && line->dry_run)
        fputs(buffer_text(&yaml), stdout);
    else if (ok)
        ok = write_file(line->config_path, &yaml, &err);
    buffer_release(&yaml);
    return ok ? EXIT_OK : command_failed(&err);
}
