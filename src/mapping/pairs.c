#include "mapping/pairs.h"

#include <ctype.h>

struct cursor {
    const char *text;
    size_t at, length;
};

static bool at_space(const struct cursor *cursor)
{
    return cursor->at < cursor->length && isspace((unsigned char)cursor->text[cursor->at]);
}

static void skip_spaces(struct cursor *cursor)
{
    while (at_space(cursor))
        cursor->at++;
}

static bool at_char(const struct cursor *cursor, char c)
{
    return cursor->at < cursor->length && cursor->text[cursor->at] == c;
}

static const char *take_key(struct cursor *cursor, struct arena *arena)
{
    size_t start = cursor->at;
    while (cursor->at < cursor->length && !at_space(cursor) && !at_char(cursor, '='))
        cursor->at++;
    return arena_strndup(arena, cursor->text + start, cursor->at - start);
}

/* Behind the opening quote; NULL when it is not closed. */
static const char *take_quoted(struct cursor *cursor, struct arena *arena)
{
    char *value = arena_alloc(arena, cursor->length - cursor->at + 1);
    size_t length = 0;
    while (cursor->at < cursor->length) {
        char c = cursor->text[cursor->at++];
        if (c == '\'' && !at_char(cursor, '\'')) {
            value[length] = '\0';
            return value;
        }
        cursor->at += c == '\'';
        value[length++] = c;
    }
    return NULL;
}

static const char *take_value(struct cursor *cursor, struct arena *arena)
{
    size_t start = cursor->at;
    if (at_char(cursor, '\'')) {
        cursor->at++;
        return take_quoted(cursor, arena);
    }
    while (cursor->at < cursor->length && !at_space(cursor))
        cursor->at++;
    return arena_strndup(arena, cursor->text + start, cursor->at - start);
}

static bool take_pair(struct cursor *cursor, struct arena *arena, struct pair *pair)
{
    pair->key = take_key(cursor, arena);
    skip_spaces(cursor);
    if (pair->key[0] == '\0' || !at_char(cursor, '='))
        return false;
    cursor->at++;
    skip_spaces(cursor);
    pair->value = take_value(cursor, arena);
    return pair->value != NULL;
}

bool pairs_parse(const char *text, size_t length, struct arena *arena, struct pairs *pairs,
                 size_t *bad)
{
    struct cursor cursor = {.text = text, .length = length};
    pairs->count = 0;
    for (;;) {
        skip_spaces(&cursor);
        *bad = cursor.at;
        if (cursor.at == cursor.length)
            return true;
        if (pairs->count == PAIRS_MAX || !take_pair(&cursor, arena, &pairs->items[pairs->count++]))
            return false;
    }
}

const char *pairs_get(const struct pairs *pairs, const char *key)
{
    for (unsigned p = pairs->count; p > 0; p--) {
        if (strcmp(pairs->items[p - 1].key, key) == 0)
            return pairs->items[p - 1].value;
    }
    return NULL;
}

static bool needs_quotes(const char *value)
{
    return value[0] == '\0' || value[strcspn(value, " \t\r\n\f\v'")] != '\0';
}

void pairs_append(struct buffer *out, const struct pair *pair)
{
    if (out->length > 0)
        buffer_putc(out, ' ');
    buffer_printf(out, "%s=", pair->key);
    if (!needs_quotes(pair->value)) {
        buffer_puts(out, pair->value);
        return;
    }
    buffer_putc(out, '\'');
    for (const char *c = pair->value; *c != '\0'; c++) {
        if (*c == '\'')
            buffer_putc(out, '\'');
        buffer_putc(out, *c);
    }
    buffer_putc(out, '\'');
}
