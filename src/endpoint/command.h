/* A command of the user's, run by /bin/sh with what it has to know in its environment. */
#ifndef ENDPOINT_COMMAND_H
#define ENDPOINT_COMMAND_H

#include "mapping/config.h"
#include "util/stop.h"

struct command_run {
    const char *what; /* names it in the log */
    const char *command;
    const char *phase;       /* PGPORTAGE_PHASE */
    enum which_side side; /* PGPORTAGE_SIDE */
    int64_t limit_s;
    struct stop *stop; /* NULL: it is not cut short */
};

/* docs/reference.md has the names. Addresses go without passwords. */
bool command_run(const struct config *config, const struct command_run *run,
                 struct error *err) MUST_CHECK;

#endif
