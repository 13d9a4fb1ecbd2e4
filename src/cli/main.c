/* The commands, the options that all of them share, and what errors mean to a shell. */
#include <stdio.h>

#include "cli/command.h"
#include "util/log.h"

/* Of both directions. */
#define SWITCH_USAGE                                                                               \
    "  --max-lag S              refuse when the stream is more than S seconds behind (10)\n"       \
    "  --timeout S              give up when it has not switched S seconds after the fence (30)\n" \
    "  --kill-blockers-after S  end sessions that still write S seconds after the fence (never)\n" \
    "  --verified-within S      how old the last proof by verify may be (3600)\n"                  \
    "  --verify                 make one now, before anything is touched\n"                        \
    "  --no-way-back            go even if it could not be undone without loss\n"                  \
    "  --abort                  restore what an interrupted switch left, if it had not switched\n" \
    "With --dry-run it looks whether it would go, and rehearses. What stands in the way is refused\n" \
    "with exit code 1 and nothing is touched. When it fails half-way it restores the side that was\n" \
    "live; run again it begins anew, or finishes what it had switched.\n"

static const struct command commands[] = {
    {"init", "writes a first portage.yaml from what both sides hold",
     "  --source CONNINFO   the source\n"
     "  --shard CONNINFO    a target; once for each shard, with its tables already there\n"
     "Writes the file that --config names (portage.yaml); never over one that is there.\n",
     cmd_init},
    {"plan", "shows what a run would do, and what stands in the way",
     "Changes nothing. Exits with 1 when something is refused.\n", cmd_plan},
    {"run", "carries the database across and keeps both sides equal",
     "Runs until it is stopped (SIGTERM, SIGINT: exit code 5). Run again at any time, it goes on\n"
     "where it was. A second instance waits and takes over when the first one goes.\n",
     cmd_run},
    {"status", "tells where the migration stands",
     "  --watch    again every second\n", cmd_status},
    {"verify", "proves that both sides are equal, row by row, while they are written to",
     "  TABLE…             only these target tables (schema.table)\n"
     "  --digest WHERE     stream: hash here (the default); server: hash in SQL, where the\n"
     "                     network is the limit\n"
     "  --rate-max RATE    read at most so many bytes a second from the source (64MiB)\n"
     "  --workers N        intervals that are compared side by side (4)\n"
     "  --patience S       seconds to follow keys that differ before giving up on them (120)\n"
     "  --repair           bring the keys that differ to what the mapping says, and look again;\n"
     "                     while the target is live, the source to what the inverses say;\n"
     "                     with --dry-run only names them\n"
     "  --fresh            do not go on with a pass that was interrupted\n"
     "  --sample N         only N random rows of each table, on both sides: an answer in seconds\n"
     "  --counts           only counts the rows, at the source and on each shard\n"
     "  --strict           a numeric's display scale counts: 1.0 is not 1.00\n"
     "Exits with 0 when equal, 1 when different, 2 when it could not decide.\n",
     cmd_verify},
    {"coordinator", "writes the SQL of a database in which the shards are one (postgres_fdw)",
     "  --ddl           needed: what to write\n"
     "  --output FILE   there, not on the standard output\n"
     "Changes nothing. Works before the first run as well as later.\n",
     cmd_coordinator},
    {"cutover", "leads the application's writes from the source to the target", SWITCH_USAGE,
     cmd_cutover},
    {"rollback", "leads them back to the source, with all that was written to the target",
     SWITCH_USAGE, cmd_rollback},
    {"journal", "what has happened, step by step, and how long it took", "", cmd_journal},
    {"finish", "removes what is ours from all databases, when the migration is over",
     "  --open-source   also what keeps the old source closed, when the target is live\n"
     "While the target is live the old source stays closed to writes, and the gate that does it stays\n"
     "there. Refuses before the migration is ready, and while an instance runs.\n",
     cmd_finish},
    {"abort", "gives the migration up and removes what is ours from all databases",
     "  --keep-target   leave what target.schema has made on the target\n"
     "Drops what target.schema and partition_by have made on the target, with its rows. Tables that\n"
     "were there before stay, with the rows that came. --dry-run lists all of it.\n",
     cmd_abort},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static const char shared_options[] =
    "Options of all commands:\n"
    "  --config FILE   the configuration (portage.yaml)\n"
    "  --json          the result as JSON\n"
    "  --dry-run       show what would be done, change nothing\n"
    "  --verbose       log what is done in detail\n"
    "  --help          this text; after a command, the command's\n"
    "  --version       the version\n";

static void print_help(FILE *to)
{
    fprintf(to, "pgportage " PGPORTAGE_VERSION
                ": carries a live PostgreSQL database into a new cluster\n\n"
                "Usage: pgportage [OPTION]… COMMAND\n\nCommands:\n");
    for (size_t c = 0; c < COMMANDS; c++)
        fprintf(to, "  %-11s %s\n", commands[c].name, commands[c].summary);
    fprintf(to, "\n%s\nExit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 something must be"
                " changed first,\n4 gave up (run again continues), 5 stopped on request.\n",
            shared_options);
}

static void print_command_help(const struct command *command)
{
    printf("pgportage %s: %s\n\nUsage: pgportage [OPTION]… %s\n\n%s\n%s", command->name,
           command->summary, command->name, command->usage, shared_options);
}

int command_failed(const struct error *err)
{
    if (err->class == ERROR_CANCELLED)
        return EXIT_STOPPED;
    log_error(err);
    return err->class == ERROR_CONFIG || err->class == ERROR_LIMIT ? EXIT_CONFIG : EXIT_FAILED;
}

bool command_flag(const struct command_line *line, const char *flag)
{
    for (int i = 1; i < line->argc; i++) {
        if (strcmp(line->argv[i], flag) == 0)
            return true;
    }
    return false;
}

int command_no_arguments(const struct command_line *line)
{
    if (line->argc == 1)
        return EXIT_OK;
    fprintf(stderr, "pgportage %s: unknown argument \"%s\"; see pgportage %s --help\n",
            line->argv[0], line->argv[1], line->argv[0]);
    return EXIT_USAGE;
}

static const struct command *find_command(const char *name)
{
    for (size_t c = 0; c < COMMANDS; c++) {
        if (strcmp(commands[c].name, name) == 0)
            return &commands[c];
    }
    return NULL;
}

struct parsed {
    struct command_line line;
    const struct command *command;
    bool help, version;
};

/* Shared options may stand anywhere; what is not one of them is the command and what belongs to it. */
static bool parse(int argc, char **argv, struct parsed *parsed)
{
    int kept = 0;
    *parsed = (struct parsed){.line = {.config_path = "portage.yaml", .argv = argv}};
    for (int i = 1; i < argc; i++) {
        struct command_line *line = &parsed->line;
        if (strcmp(argv[i], "--json") == 0)
            line->json = true;
        else if (strcmp(argv[i], "--dry-run") == 0)
            line->dry_run = true;
        else if (strcmp(argv[i], "--verbose") == 0)
            line->verbose = true;
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            parsed->help = true;
        else if (strcmp(argv[i], "--version") == 0)
            parsed->version = true;
        else if (strncmp(argv[i], "--config=", 9) == 0)
            line->config_path = argv[i] + 9;
        else if (strcmp(argv[i], "--config") == 0 && i + 1 < argc)
            line->config_path = argv[++i];
        else
            argv[kept++] = argv[i];
    }
    parsed->line.argc = kept;
    if (kept > 0)
        parsed->command = find_command(argv[0]);
    if (kept == 0 || parsed->command != NULL)
        return true;
    fprintf(stderr, "pgportage: unknown command or option \"%s\"; see pgportage --help\n", argv[0]);
    return false;
}

int main(int argc, char **argv)
{
    struct parsed parsed;
    if (!parse(argc, argv, &parsed))
        return EXIT_USAGE;
    if (parsed.version) {
        puts("pgportage " PGPORTAGE_VERSION);
        return EXIT_OK;
    }
    if (parsed.help && parsed.command != NULL) {
        print_command_help(parsed.command);
        return EXIT_OK;
    }
    if (parsed.command == NULL) {
        print_help(parsed.help ? stdout : stderr);
        return parsed.help ? EXIT_OK : EXIT_USAGE;
    }
    if (parsed.line.verbose)
        log_set_level(LOG_DEBUG);
    return parsed.command->main(&parsed.line);
}
