#include "unit.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/signals.h"

enum { NOTICED_US = 30 * 1000 * 1000 };

/* A process that has noticed the first signal, says so, and then waits for something that never comes. */
static pid_t start(int told)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    struct stop *stop = signals_start();
    if (write(told, "s", 1) != 1 || !stop_wait(stop, NOTICED_US) || write(told, "n", 1) != 1)
        _exit(1);
    for (;;)
        pause();
}

static void expect(int told, char wanted)
{
    char got = 0;
    assert_int_equal(read(told, &got, 1), 1);
    assert_int_equal(got, wanted);
}

static void end_twice(int first, int second)
{
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = start(ends[1]);
    expect(ends[0], 's');
    assert_int_equal(kill(pid, first), 0);
    expect(ends[0], 'n');
    assert_int_equal(waitpid(pid, &status, WNOHANG), 0); /* the first one only asks */
    assert_int_equal(kill(pid, second), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 128 + second);
    close(ends[0]);
    close(ends[1]);
}

static void test_the_second_one_ends_it(void **state)
{
    (void)state;
    end_twice(SIGTERM, SIGTERM);
    end_twice(SIGINT, SIGINT);
    end_twice(SIGTERM, SIGINT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_second_one_ends_it)};
    return run_unit_tests("signals", tests);
}
