#include "cli/show.h"

#include <stdio.h>

void show_json(const json_t *result)
{
    json_dumpf(result, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    putchar('\n');
}

static const char *text_or(const json_t *object, const char *key, const char *absent)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : absent;
}

const char *show_text(const json_t *object, const char *key)
{
    return text_or(object, key, "-");
}

const char *show_value(const json_t *object, const char *key)
{
    return text_or(object, key, "NULL");
}

long long show_int(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}
