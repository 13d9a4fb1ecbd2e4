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

/* The first `c` that is not quoted; NULL if there is none. */
static const char *find_unquoted(const char *text, char c)
{
    bool quoted = false;
    for (; *text != '\0'; text++) {
        if (*text == '"')
            quoted = !quoted; /* a doubled one ends and begins a quoted piece */
        else if (*text == c && !quoted)
            return text;
    }
    return NULL;
}

bool column_name_parse(const char *text, struct arena *arena, struct table_name *table,
                       const char **column)
{
    const char *parts[3];
    int count = 0;
    for (;; text++) {
        if (count == 3 || (parts[count++] = parse_part(&text, arena)) == NULL)
            return false;
        if (*text != '.')
            break;
    }
    if (*text != '\0' || count < 3)
        return false;
    *table = (struct table_name){.schema = parts[0], .name = parts[1]};
    *column = parts[2];
    return true;
}

bool name_is_pattern(const char *text)
{
    return find_unquoted(text, '*') != NULL;
}

/* One part of a pattern, up to a dot or the end, against a whole name. */
static bool glob(const char *pattern, bool quoted, const char *text)
{
    for (;; pattern++) {
        if (*pattern == '\0' || (*pattern == '.' && !quoted))
            return *text == '\0';
        if (*pattern == '*' && !quoted)
            break;
        if (*pattern == '"' && !(quoted && pattern[1] == '"')) {
            quoted = !quoted;
            continue;
        }
        pattern += *pattern == '"'; /* of a pair */
        if (*pattern != *text++)
            return false;
    }
    do {
        if (glob(pattern + 1, false, text))
            return true;
    } while (*text++ != '\0');
    return false;
}

bool name_matches(const char *pattern, const char *schema, const char *name)
{
    const char *dot = find_unquoted(pattern, '.');
    if (dot == NULL)
        return strcmp(schema, "public") == 0 && glob(pattern, false, name);
    return find_unquoted(dot + 1, '.') == NULL && glob(pattern, false, schema) &&
           glob(dot + 1, false, name);
}
