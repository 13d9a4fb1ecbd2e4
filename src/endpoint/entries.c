#include "endpoint/entries.h"

#include <ctype.h>

/* A look at one line after the other. */
struct scan {
    const char *at, *end;
    bool databases; /* within [databases], or before any section */
};

/* `key = value` of a line; spaces around the value, and the line's end, are not part of it. */
struct entry {
    const char *key, *value;
    const char *line; /* … which it stands in */
    size_t key_length, value_length;
};

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && isspace((unsigned char)*at))
        at++;
    return at;
}

static bool is_key_char(char c)
{
    return isalnum((unsigned char)c) || (c != '\0' && strchr("_.-*", c) != NULL);
}

/* A name in single quotes, or a bare one. NULL when a quote is not closed. */
static const char *read_key(const char *at, const char *end, struct entry *entry)
{
    bool quoted = at < end && *at == '\'';
    entry->key = at += quoted;
    while (at < end && (quoted ? *at != '\'' : is_key_char(*at)))
        at++;
    entry->key_length = (size_t)(at - entry->key);
    if (quoted && at == end)
        return NULL;
    return at + quoted;
}

static bool read_entry(const char *at, const char *end, struct entry *entry)
{
    at = read_key(at, end, entry);
    if (at == NULL)
        return false;
    at = skip_blanks(at, end);
    if (at == end || *at != '=')
        return false;
    at = skip_blanks(at + 1, end);
    while (end > at && isspace((unsigned char)end[-1]))
        end--;
    entry->value = at;
    entry->value_length = (size_t)(end - at);
    return true;
}

/* PgBouncer takes what follows the ] on the same line as the next thing: so do we. */
static const char *read_section(struct scan *scan, const char *at, const char *end)
{
    static const char name[] = "[databases]";
    const char *close = memchr(at, ']', (size_t)(end - at));
    if (close == NULL)
        return end;
    scan->databases =
        (size_t)(close + 1 - at) == sizeof name - 1 && memcmp(at, name, sizeof name - 1) == 0;
    return skip_blanks(close + 1, end);
}

/* The next entry of [databases]; false at the end. */
static bool next_entry(struct scan *scan, struct entry *entry)
{
    while (scan->at < scan->end) {
        const char *line = scan->at;
        const char *end = memchr(line, '\n', (size_t)(scan->end - line));
        end = end != NULL ? end : scan->end;
        scan->at = end < scan->end ? end + 1 : end;
        line = skip_blanks(line, end);
        while (line < end && *line == '[')
            line = read_section(scan, line, end);
        if (line == end || *line == '#' || *line == ';' || *line == '%' || !scan->databases)
            continue;
        entry->line = line;
        if (read_entry(line, end, entry))
            return true;
    }
    return false;
}

static bool entry_is(const struct entry *entry, const char *name)
{
    return entry->key_length == strlen(name) && memcmp(entry->key, name, entry->key_length) == 0;
}

static struct scan scan_of(const struct buffer *text)
{
    const char *bytes = buffer_text(text);
    return (struct scan){.at = bytes, .end = bytes + text->length, .databases = true};
}

bool entries_find(const struct buffer *text, const char *name, struct arena *arena,
                  struct pairs *pairs, bool *found)
{
    struct scan scan = scan_of(text);
    struct entry entry, last = {0};
    size_t bad;
    while (next_entry(&scan, &entry)) {
        if (entry_is(&entry, name))
            last = entry;
    }
    *found = last.key != NULL;
    return !*found || pairs_parse(last.value, last.value_length, arena, pairs, &bad);
}

bool entries_merge(const struct pairs *entry, const struct pairs *side, const struct pairs *other,
                   struct pairs *merged)
{
    *merged = *side;
    for (unsigned p = 0; p < entry->count; p++) {
        const char *key = entry->items[p].key;
        if (pairs_get(side, key) != NULL || pairs_get(other, key) != NULL)
            continue;
        if (merged->count == PAIRS_MAX)
            return false;
        merged->items[merged->count++] = entry->items[p];
    }
    return true;
}

static void append_pairs(struct buffer *out, const struct pairs *pairs)
{
    struct buffer value;
    buffer_init(&value, out->max);
    for (unsigned p = 0; p < pairs->count; p++)
        pairs_append(&value, &pairs->items[p]);
    buffer_append(out, buffer_text(&value), value.length);
    out->failed |= buffer_failed(&value);
    buffer_release(&value);
}

void entries_rewrite(const struct buffer *text, const char *name, const struct pairs *pairs,
                     struct buffer *out)
{
    struct scan scan = scan_of(text);
    struct entry entry;
    const char *kept = scan.at; /* up to here the text has been taken over */
    while (next_entry(&scan, &entry)) {
        if (!entry_is(&entry, name))
            continue;
        buffer_append(out, kept, (size_t)(entry.value - kept));
        append_pairs(out, pairs);
        kept = entry.value + entry.value_length;
    }
    buffer_append(out, kept, (size_t)(scan.end - kept));
}

void entries_add(const struct buffer *text, const char *name, const char *added,
                 const struct pairs *pairs, struct buffer *out)
{
    struct scan scan = scan_of(text);
    struct entry entry;
    const char *behind = NULL;
    while (next_entry(&scan, &entry)) {
        if (entry_is(&entry, name))
            behind = scan.at;
    }
    CHECK(behind != NULL);
    const char *begin = buffer_text(text);
    buffer_append(out, begin, (size_t)(behind - begin));
    if (behind[-1] != '\n')
        buffer_putc(out, '\n');
    buffer_printf(out, "%s = ", added);
    append_pairs(out, pairs);
    buffer_putc(out, '\n');
    buffer_append(out, behind, (size_t)(scan.end - behind));
}

static bool entry_begins(const struct entry *entry, const char *prefix)
{
    size_t length = strlen(prefix);
    return entry->key_length >= length && memcmp(entry->key, prefix, length) == 0;
}

void entries_without(const struct buffer *text, const char *prefix, struct buffer *out)
{
    struct scan scan = scan_of(text);
    struct entry entry;
    const char *kept = scan.at;
    while (next_entry(&scan, &entry)) {
        if (!entry_begins(&entry, prefix))
            continue;
        buffer_append(out, kept, (size_t)(entry.line - kept));
        kept = scan.at;
    }
    buffer_append(out, kept, (size_t)(scan.end - kept));
}
