/*
 * Programs that are run for the user: in a process group of their own, with a time limit, their output
 * in the log. Given up, when a stop is requested or time is over, the whole group is ended.
 */
#ifndef ENDPOINT_RUNNER_H
#define ENDPOINT_RUNNER_H

#include "util/buffer.h"
#include "util/stop.h"

struct runner {
    const char *what;           /* names it in the log and in errors: "hook paused" */
    const char *const *argv;    /* ends with NULL; the program is looked for in PATH */
    const char *const *environ; /* "NAME=value", added to ours; ends with NULL; may be NULL */
    const char *input;          /* its standard input; NULL: none */
    struct buffer *output;      /* where its output goes instead of the log; may be NULL */
    int64_t limit_s;
    struct stop *stop; /* NULL: nothing but the limit ends it */
};

/* False unless it ended with 0: the detail is the last of what it said. */
bool runner_run(const struct runner *runner, struct error *err) MUST_CHECK;

#endif
