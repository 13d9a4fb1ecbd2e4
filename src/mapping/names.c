#include "mapping/names.h"

#include <ctype.h>

/* One part; *text moves behind it. */
static const char *parse_part(const char **text, struct arena *arena)
{
    char *part = arena_alloc(arena, strlen(*text) + 1);
    size_t length = 0;
    const char *at = *text;
    bool quoted = *at == '"';
    if (quoted) {
        for (at++; *at != '\0' && (*at != '"' || at[1] == '"'); at++) {
            part[length++] = *at;
            at += *at == '"';
        }
        if (*at++ != '"')
            return NULL;
    } else {
        for (; *at != '\0' && *at != '.'; at++)
            part[length++] = (char)tolower((unsigned char)*at);
    }
    part[length] = '\0';
    *text = at;
    return length > 0 ? part : NULL;
}

bool name_parse(const char *text, struct arena *arena, struct table_name *name)
{
    name->schema = "public";
    name->name = parse_part(&text, arena);
    if (name->name != NULL && *text == '.') {
        text++;
        name->schema = name->name;
        name->name = parse_part(&text, arena);
    }
    return name->name != NULL && *text == '\0';
}

static bool glob(const char *pattern, const char *text)
{
    while (*pattern != '\0' && *pattern != '*') {
        if (*pattern++ != *text++)
            return false;
    }
    if (*pattern == '\0')
        return *text == '\0';
    do {
        if (glob(pattern + 1, text))
            return true;
    } while (*text++ != '\0');
    return false;
}

bool name_matches(const char *pattern, const char *schema, const char *name)
{
    char full[256];
    snprintf(full, sizeof full, "%s.%s", schema, name);
    return glob(strchr(pattern, '.') != NULL ? pattern : "", full) ||
           (strchr(pattern, '.') == NULL && strcmp(schema, "public") == 0 && glob(pattern, name));
}
