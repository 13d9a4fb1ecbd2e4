#include "endpoint/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/log.h"

enum {
    OUTPUT_MAX = 1 << 20,
    LINE_MAX_BYTES = 1000,
    GRACE_MS = 1000, /* between asking a program to end and ending it */
    LOOK_MS = 20,    /* how often its end is looked for */
};

extern char **environ;

struct run {
    const struct runner *runner;
    pid_t pid;
    int output;         /* what it says, to be read without waiting */
    struct buffer line; /* the part of a line that has come */
    char last[LINE_MAX_BYTES + 1];
};

static void end_line(struct run *run)
{
    if (run->line.length == 0)
        return;
    snprintf(run->last, sizeof run->last, "%s", buffer_text(&run->line));
    if (run->runner->output == NULL)
        log_info("%s: %s", run->runner->what, run->last);
    buffer_clear(&run->line);
}

static void take_output(struct run *run, const char *bytes, size_t length)
{
    if (run->runner->output != NULL)
        buffer_append(run->runner->output, bytes, length);
    for (size_t at = 0; at < length; at++) {
        if (bytes[at] == '\n' || run->line.length == LINE_MAX_BYTES)
            end_line(run);
        if (bytes[at] != '\n' && bytes[at] != '\0')
            buffer_putc(&run->line, bytes[at]);
    }
}

static void read_output(struct run *run)
{
    char block[4096];
    ssize_t got;
    while ((got = read(run->output, block, sizeof block)) > 0)
        take_output(run, block, (size_t)got);
}

/* A file in memory, so that nobody has to feed a pipe. */
static int open_input(const char *text)
{
    if (text == NULL)
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    int file = memfd_create("input", MFD_CLOEXEC);
    size_t length = strlen(text);
    if (file >= 0 &&
        (write(file, text, length) != (ssize_t)length || lseek(file, 0, SEEK_SET) != 0)) {
        close(file);
        return -1;
    }
    return file;
}

static size_t count_words(const char *const *words)
{
    size_t count = 0;
    while (words != NULL && words[count] != NULL)
        count++;
    return count;
}

/* Ours with the additions behind; an addition wins by leaving out what it replaces. */
static const char **whole_environment(const char *const *added)
{
    size_t own = count_words((const char *const *)environ), more = count_words(added), count = 0;
    const char **all = check_calloc(own + more + 1, sizeof *all);
    for (size_t e = 0; e < own; e++) {
        if (strncmp(environ[e], "PGPORTAGE_", 10) != 0 || more == 0)
            all[count++] = environ[e];
    }
    for (size_t e = 0; e < more; e++)
        all[count++] = added[e];
    return all;
}

/* In a group of its own, with no signal blocked or ignored, whatever this thread has. */
static int spawn(const struct runner *runner, int input, int output, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, output, STDERR_FILENO);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    const char **environment = whole_environment(runner->environ);
    int failed =
        posix_spawnp(pid, runner->argv[0], &files, &attributes,
                     (char *const *)(uintptr_t)runner->argv, (char *const *)(uintptr_t)environment);
    free(environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return failed;
}

static bool start(struct run *run, struct error *err)
{
    int ends[2], input = open_input(run->runner->input);
    if (input < 0 || pipe2(ends, O_CLOEXEC) != 0) {
        error_set(err, ERROR_RETRY, "could not start %s: %s", run->runner->what, strerror(errno));
        if (input >= 0)
            close(input);
        return false;
    }
    int failed = spawn(run->runner, input, ends[1], &run->pid);
    close(input);
    close(ends[1]);
    run->output = ends[0];
    fcntl(run->output, F_SETFL, O_NONBLOCK);
    if (failed == 0)
        return true;
    close(run->output);
    return error_set(err, ERROR_CONFIG, "could not run \"%s\": %s", run->runner->argv[0],
                     strerror(failed));
}

/* Until it ends, the deadline, or a stop. Programs that it left behind may hold the pipe open: its own
 * end is what counts. */
static bool wait_for_end(struct run *run, int64_t deadline_us, struct stop *stop, int *status)
{
    struct pollfd output = {.fd = run->output, .events = POLLIN};
    for (;;) {
        bool ended = waitpid(run->pid, status, WNOHANG) == run->pid;
        read_output(run);
        if (ended)
            return true;
        if (clock_monotonic_us() >= deadline_us || (stop != NULL && stop_requested(stop)))
            return false;
        /* A pipe that nobody writes to any more is always ready. */
        if (output.revents & POLLHUP)
            usleep(LOOK_MS * 1000);
        else
            poll(&output, 1, LOOK_MS);
    }
}

/* Nobody is asked for a stop here: this is how one ends. */
static void end_group(struct run *run)
{
    int status;
    kill(-run->pid, SIGTERM);
    bool ended = wait_for_end(run, clock_monotonic_us() + GRACE_MS * 1000, NULL, &status);
    kill(-run->pid, SIGKILL);
    if (!ended)
        waitpid(run->pid, &status, 0);
}

static bool judge(const struct run *run, int status, struct error *err)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (WIFEXITED(status))
        error_set(err, ERROR_CONFIG, "%s ended with %d", run->runner->what, WEXITSTATUS(status));
    else
        error_set(err, ERROR_CONFIG, "%s was ended by signal %d", run->runner->what,
                  WTERMSIG(status));
    return error_detail(err, "%s", run->last);
}

bool runner_run(const struct runner *runner, struct error *err)
{
    struct run run = {.runner = runner};
    int status;
    if (!start(&run, err))
        return false;
    buffer_init(&run.line, LINE_MAX_BYTES);
    int64_t deadline_us = clock_monotonic_us() + runner->limit_s * 1000000;
    bool ended = wait_for_end(&run, deadline_us, runner->stop, &status), ok;
    if (!ended)
        end_group(&run);
    end_line(&run);
    if (ended)
        ok = judge(&run, status, err);
    else if (runner->stop != NULL && stop_requested(runner->stop))
        ok = stop_error(err);
    else {
        ok = error_set(err, ERROR_LIMIT, "%s took longer than %lld s", runner->what,
                       (long long)runner->limit_s);
        error_detail(err, "%s", run.last);
    }
    close(run.output);
    buffer_release(&run.line);
    return ok;
}
