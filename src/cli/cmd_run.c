#include <pthread.h>
#include <signal.h>

#include "cli/command.h"
#include "run/run.h"
#include "util/log.h"

/* Signals are taken by a thread of their own; all others have them blocked. */
struct signals {
    sigset_t set;
    struct stop stop;
};

static void *signals_main(void *argument)
{
    struct signals *signals = argument;
    int number;
    if (sigwait(&signals->set, &number) == 0) {
        log_info("stopping (%s)", strsignal(number));
        stop_request(&signals->stop);
    }
    /* The second one is final: everything durable is in the databases. */
    pthread_sigmask(SIG_UNBLOCK, &signals->set, NULL);
    return NULL;
}

static void signals_start(struct signals *signals)
{
    pthread_t thread;
    stop_init(&signals->stop);
    sigemptyset(&signals->set);
    sigaddset(&signals->set, SIGINT);
    sigaddset(&signals->set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals->set, NULL);
    signal(SIGPIPE, SIG_IGN);
    CHECK(pthread_create(&thread, NULL, signals_main, signals) == 0);
    pthread_detach(thread);
}

int cmd_run(const struct command_line *line)
{
    static struct signals signals; /* its thread may outlive us */
    struct arena arena;
    struct config config;
    struct error err = ERROR_INIT;
    int code = command_no_arguments(line);
    if (code != EXIT_OK)
        return code;
    if (line->dry_run) /* that is what plan is */
        return cmd_plan(line);
    signals_start(&signals);
    arena_init(&arena, 64 * 1024);
    log_set_subject("run");
    if (config_read(line->config_path, &arena, &config, &err))
        run_migration(&config, &signals.stop, &err);
    code = command_failed(&err);
    arena_release(&arena);
    return code;
}
