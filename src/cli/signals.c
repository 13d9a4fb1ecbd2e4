#include "cli/signals.h"

#include <pthread.h>
#include <signal.h>

#include "util/log.h"

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
    pthread_sigmask(SIG_UNBLOCK, &signals->set, NULL);
    return NULL;
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
