#include "pg/quote.h"

void quote_ident(struct buffer *out, const char *name)
{
    buffer_putc(out, '"');
    for (const char *c = name; *c != '\0'; c++) {
        if (*c == '"')
            buffer_putc(out, '"');
        buffer_putc(out, *c);
    }
    buffer_putc(out, '"');
}

void quote_name(struct buffer *out, const char *schema, const char *name)
{
    quote_ident(out, schema);
    buffer_putc(out, '.');
    quote_ident(out, name);
}

void quote_literal(struct buffer *out, const char *text)
{
    if (strchr(text, '\\') != NULL)
        buffer_putc(out, 'E');
    buffer_putc(out, '\'');
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '\'' || *c == '\\')
            buffer_putc(out, *c);
        buffer_putc(out, *c);
    }
    buffer_putc(out, '\'');
}

/* Up to the next byte that must be escaped. */
static size_t plain_bytes(const char *bytes, size_t length)
{
    size_t plain = 0;
    while (plain < length && bytes[plain] != '"' && bytes[plain] != '\\')
        plain++;
    return plain;
}

void quote_element(struct buffer *out, const char *bytes, size_t length)
{
    if (bytes == NULL) {
        buffer_puts(out, "NULL");
        return;
    }
    buffer_putc(out, '"');
    for (size_t plain; (plain = plain_bytes(bytes, length)) < length;) {
        buffer_append(out, bytes, plain);
        buffer_putc(out, '\\');
        buffer_putc(out, bytes[plain]);
        bytes += plain + 1;
        length -= plain + 1;
    }
    buffer_append(out, bytes, length);
    buffer_putc(out, '"');
}

void quote_array(struct buffer *out, const char *const *texts, unsigned count)
{
    buffer_putc(out, '{');
    for (unsigned i = 0; i < count; i++) {
        buffer_puts(out, i > 0 ? "," : "");
        quote_element(out, texts[i], strlen(texts[i]));
    }
    buffer_putc(out, '}');
}

char *name_join(struct arena *arena, const char *prefix, const char *suffix)
{
    size_t length = strlen(prefix), room = NAME_MAX_BYTES - strlen(suffix);
    CHECK(strlen(suffix) < NAME_MAX_BYTES);
    if (length > room)
        length = room;
    while (length > 0 && ((unsigned char)prefix[length] & 0xC0) == 0x80)
        length--;
    return arena_printf(arena, "%.*s%s", (int)length, prefix, suffix);
}

const char *sql_find(const char *sql, const char *word)
{
    char quote = '\0';
    for (; *sql != '\0'; sql++) {
        if (quote == '\0' && strncmp(sql, word, strlen(word)) == 0)
            return sql;
        if (quote != '\0' ? *sql == quote : *sql == '"' || *sql == '\'')
            quote = quote != '\0' ? '\0' : *sql;
    }
    return NULL;
}

char *quote_ident_dup(struct arena *arena, const char *name)
{
    struct buffer text;
    buffer_init(&text, strlen(name) * 2 + 2);
    quote_ident(&text, name);
    return arena_take(arena, &text);
}

char *quote_name_dup(struct arena *arena, const char *schema, const char *name)
{
    struct buffer text;
    buffer_init(&text, (strlen(schema) + strlen(name)) * 2 + 5);
    quote_name(&text, schema, name);
    return arena_take(arena, &text);
}
