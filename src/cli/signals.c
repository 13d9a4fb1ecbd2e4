#include "cli/signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "util/log.h"

enum { SHELL_SIGNALLED = 128 }; /* what a shell adds to a signal's number */

struct signals {
    sigset_t set;
    struct stop stop;
};

static void end_at_once(int number)
{
    _exit(SHELL_SIGNALLED + number);
}

/* A handler, not a second sigwait(): it also ends a process whose log nobody reads any more, and the
 * first process of a container, which the default action spares. */
static void arm(const sigset_t *set)
{
    struct sigaction action = {.sa_handler = end_at_once};
    sigfillset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    pthread_sigmask(SIG_UNBLOCK, set, NULL);
}

static void *signals_main(void *argument)
{
    struct signals *signals = argument;
    int number;
    CHECK(sigwait(&signals->set, &number) == 0);
    stop_request(&signals->stop);
    arm(&signals->set);
    log_info("stopping (%s); a second signal ends it at once", strsignal(number));
    for (;;)
        pause();
}

struct stop *signals_start(void)
{
    static struct signals signals; /* its thread may outlive the command */
    pthread_t thread;
    stop_init(&signals.stop);
    sigemptyset(&signals.set);
    sigaddset(&signals.set, SIGINT);
    sigaddset(&signals.set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals.set, NULL);
    signal(SIGPIPE, SIG_IGN);
    CHECK(pthread_create(&thread, NULL, signals_main, &signals) == 0);
    pthread_detach(thread);
    return &signals.stop;
}
