/*
 * CHECK(): what must hold unless we have a bug. Always on. It aborts: every durable state is in
 * PostgreSQL and a crash resumes from it, a wrong row does not.
 *
 * check_malloc() and kin abort when there is no memory, for the same reason.
 */
#ifndef UTIL_CHECK_H
#define UTIL_CHECK_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(text_at, first_at) __attribute__((format(printf, text_at, first_at)))

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0))                                                     \
            check_failed(#condition, __FILE__, __LINE__, __func__);                                \
    } while (0)

_Noreturn void check_failed(const char *condition, const char *file, int line,
                            const char *function);

void *check_malloc(size_t size);
void *check_calloc(size_t count, size_t size);
void *check_realloc(void *memory, size_t size);
char *check_strdup(const char *text);

#include "util/banned.h"

#endif
