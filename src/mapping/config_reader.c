#include "mapping/config_reader.h"

#include <stdarg.h>

struct place {
    int line, column;
};

/* The first key or item of a collection; NULL if it is empty or none. */
static struct fy_node *first_within(struct fy_node *node)
{
    void *at = NULL;
    if (fy_node_is_sequence(node))
        return fy_node_sequence_iterate(node, &at);
    struct fy_node_pair *first =
        fy_node_is_mapping(node) ? fy_node_mapping_iterate(node, &at) : NULL;
    return first != NULL ? fy_node_pair_key(first) : NULL;
}

/* The key that a node stands under; NULL at the top. */
static struct fy_node *key_above(struct fy_node *node)
{
    void *at = NULL;
    struct fy_node_pair *pair;
    for (struct fy_node *above = fy_node_get_parent(node); above != NULL;
         node = above, above = fy_node_get_parent(above)) {
        while (fy_node_is_mapping(above) && (pair = fy_node_mapping_iterate(above, &at)) != NULL) {
            if (fy_node_pair_value(pair) == node)
                return fy_node_pair_key(pair);
        }
        at = NULL;
    }
    return NULL;
}

/* libfyaml knows no place of what is empty: then it is its key's. */
static struct place node_place(struct fy_node *node)
{
    struct fy_token *token = fy_node_get_scalar_token(node);
    const struct fy_mark *mark = token != NULL ? fy_token_start_mark(token) : NULL;
    if (mark != NULL)
        return (struct place){mark->line + 1, mark->column + 1};
    struct fy_node *near = first_within(node);
    if (near == NULL)
        near = key_above(node);
    return near != NULL ? node_place(near) : (struct place){1, 1};
}

bool reader_refuse(const struct reader *reader, struct fy_node *node, const char *hint,
                   const char *format, ...)
{
    char text[512];
    va_list arguments;
    struct place place = node_place(node);
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    error_set(reader->err, ERROR_CONFIG, "%s:%d:%d: %s", reader->path, place.line, place.column,
              text);
    return hint == NULL ? false : error_hint(reader->err, "%s", hint);
}

const char *reader_key_name(struct fy_node *key)
{
    const char *name = fy_node_get_scalar0(key);
    return name != NULL ? name : "";
}

bool reader_refuse_key(const struct reader *reader, struct fy_node *key, const char *where,
                       const char *known)
{
    return reader_refuse(reader, key, known, "unknown key \"%s\" %s", reader_key_name(key), where);
}

static int block_indentation(const struct reader *reader, struct fy_node *node)
{
    const struct fy_mark *mark = fy_token_start_mark(fy_node_get_scalar_token(node));
    return mark != NULL ? (int)strspn(reader->bytes + mark->input_pos, " ") : 0;
}

bool reader_is_null(struct fy_node *node)
{
    return node == NULL || fy_node_is_null(node);
}

bool reader_text(const struct reader *reader, struct fy_node *node, const char *name,
                 struct config_text *text)
{
    size_t length;
    const char *bytes = fy_node_is_scalar(node) ? fy_node_get_scalar(node, &length) : NULL;
    if (bytes == NULL || reader_is_null(node))
        return reader_refuse(reader, node, NULL, "\"%s\" must be a text", name);
    enum fy_node_style style = fy_node_get_style(node);
    struct place place = node_place(node);
    *text = (struct config_text){
        .text = arena_strndup(reader->arena, bytes, length),
        .line = place.line,
        .column = place.column,
        .block = style == FYNS_LITERAL || style == FYNS_FOLDED,
    };
    if (text->block) /* libfyaml gives the start of its first line */
        text->column += block_indentation(reader, node);
    if (text->text[strspn(text->text, " \t\n")] == '\0')
        return reader_refuse(reader, node, NULL, "\"%s\" is empty", name);
    return true;
}

bool reader_texts(const struct reader *reader, struct fy_node *node, const char *name,
                  struct config_text **texts, unsigned *count)
{
    void *at = NULL;
    struct fy_node *item;
    if (!fy_node_is_sequence(node)) {
        *count = 1;
        *texts = arena_zalloc(reader->arena, sizeof **texts);
        return reader_text(reader, node, name, *texts);
    }
    *texts = arena_zalloc(reader->arena,
                          ((size_t)fy_node_sequence_item_count(node) + 1) * sizeof **texts);
    for (*count = 0; (item = fy_node_sequence_iterate(node, &at)) != NULL; (*count)++) {
        if (!reader_text(reader, item, name, &(*texts)[*count]))
            return false;
    }
    return *count > 0 || reader_refuse(reader, node, NULL, "\"%s\" is empty", name);
}

bool reader_word(const struct reader *reader, struct fy_node *node, const char *name,
                 const char *yes, const char *no, bool *value)
{
    struct config_text text;
    char hint[128];
    if (!reader_text(reader, node, name, &text))
        return false;
    *value = strcmp(text.text, yes) == 0;
    if (*value || (no != NULL && strcmp(text.text, no) == 0))
        return true;
    snprintf(hint, sizeof hint, "%s: %s%s%s", name, yes, no != NULL ? ", or " : "",
             no != NULL ? no : "");
    return reader_refuse(reader, node, hint, "\"%s\" cannot be \"%s\"", name, text.text);
}

const char *reader_path(const struct reader *reader, const char *path)
{
    const char *slash = strrchr(reader->path, '/');
    if (path[0] == '/' || slash == NULL)
        return path;
    return arena_printf(reader->arena, "%.*s/%s", (int)(slash - reader->path), reader->path, path);
}
