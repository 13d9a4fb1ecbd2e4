#include "util/check.h"

void check_failed(const char *condition, const char *file, int line, const char *function)
{
    fprintf(stderr, "pgportage: bug: \"%s\" does not hold in %s() at %s:%d\n", condition, function,
            file, line);
    abort();
}

void *check_malloc(size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);
    CHECK(memory != NULL);
    return memory;
}

void *check_calloc(size_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size > 0 ? size : 1);
    CHECK(memory != NULL);
    return memory;
}

void *check_realloc(void *memory, size_t size)
{
    void *grown = realloc(memory, size > 0 ? size : 1);
    CHECK(grown != NULL);
    return grown;
}

char *check_strdup(const char *text)
{
    char *copy = strdup(text);
    CHECK(copy != NULL);
    return copy;
}
