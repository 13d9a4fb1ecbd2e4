/*
 * Commands: one file each, cmd_NAME.c, named in the table of main.c. main() reads the options that
 * all commands share and hands the rest over unread.
 *
 * A command prints its result on stdout and everything else on stderr, and returns an exit code.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "mapping/bind.h"
#include "util/error.h"

/* Documented in docs/reference.md; scripts rely on them. */
enum exit_code {
    EXIT_OK = 0,
    EXIT_REFUSED = 1, /* looked, and the answer is no: plan refuses, a comparison differs */
    EXIT_USAGE = 2,   /* the command line is wrong */
    EXIT_CONFIG = 3,  /* portage.yaml or a server needs a change; the message says which */
    EXIT_FAILED = 4,  /* gave up; what is done is kept, and run again continues it */
    EXIT_STOPPED = 5, /* was asked to stop (SIGTERM, SIGINT) before it was done */
};

struct command_line {
    const char *config_path; /* --config FILE, portage.yaml unless given */
    bool json;               /* --json */
    bool dry_run;            /* --dry-run */
    bool verbose;            /* --verbose */
    int argc;                /* what is left: argv[0] is the command's name */
    char **argv;
};

struct command {
    const char *name;
    const char *summary; /* one line, for the list of commands */
    const char *usage;   /* options and arguments of its own, for --help; ends with a newline */
    int (*main)(const struct command_line *line);
};

int cmd_init(const struct command_line *line);
int cmd_plan(const struct command_line *line);
int cmd_run(const struct command_line *line);
int cmd_status(const struct command_line *line);
int cmd_verify(const struct command_line *line);
int cmd_coordinator(const struct command_line *line);
int cmd_cutover(const struct command_line *line);
int cmd_rollback(const struct command_line *line);
int cmd_journal(const struct command_line *line);
int cmd_finish(const struct command_line *line);
int cmd_abort(const struct command_line *line);

/* Logs it (with its hint) and gives the exit code of its class. */
int command_failed(const struct error *err);

/* True if argv[i] is the flag. */
bool command_flag(const struct command_line *line, const char *flag);

/* For commands that know no options of their own: complains of any, returns EXIT_OK or EXIT_USAGE. */
int command_no_arguments(const struct command_line *line);

#endif
