/* What every unit test includes: cmocka, speaking TAP. */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define run_unit_tests(name, tests)                                                                \
    (cmocka_set_message_output(CM_OUTPUT_TAP), cmocka_run_group_tests_name(name, tests, NULL, NULL))

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* For the rows of a table: says which of them it was. */
#define assert_row(condition, row)                                                                 \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("%s: %s", row, #condition);                                                   \
    } while (0)

#endif
