/*
 * What the parts of reading portage.yaml share: nodes and their places, refusals that name the place,
 * texts, paths, and the settings that are single values. Private to config*.c.
 */
#ifndef MAPPING_CONFIG_READER_H
#define MAPPING_CONFIG_READER_H

#include <libfyaml.h>

#include "mapping/config.h"

struct reader {
    const char *path;
    const char *bytes; /* the file */
    struct arena *arena;
    struct config *config;
    struct error *err;
};

/* Sets the error, with the node's place in front; always false. `hint` may be NULL. */
bool reader_refuse(const struct reader *reader, struct fy_node *node, const char *hint,
                   const char *format, ...) PRINTF_LIKE(4, 5);

/* A key that nobody knows is an error that lists those known. */
bool reader_refuse_key(const struct reader *reader, struct fy_node *key, const char *where,
                       const char *known);

/* Nodes are taken apart by name. What is no text, as keys may be in YAML, has the empty name. */
const char *reader_key_name(struct fy_node *key);

bool reader_is_null(struct fy_node *node);

bool reader_text(const struct reader *reader, struct fy_node *node, const char *name,
                 struct config_text *text) MUST_CHECK;

/* One text, or a list of them. */
bool reader_texts(const struct reader *reader, struct fy_node *node, const char *name,
                  struct config_text **texts, unsigned *count) MUST_CHECK;

/* One of two words; with `no` NULL, that one word. */
bool reader_word(const struct reader *reader, struct fy_node *node, const char *name,
                 const char *yes, const char *no, bool *value) MUST_CHECK;

/* A path in the file is relative to the file. */
const char *reader_path(const struct reader *reader, const char *path);

/* The setting "section.key", if there is one of this name: else *found is false, and nothing is
 * wrong. */
bool reader_setting(const struct reader *reader, const char *section, const char *key,
                    struct fy_node *value, bool *found) MUST_CHECK;

/* config_endpoint.c */
bool read_endpoint(const struct reader *reader, struct fy_node *key,
                   struct fy_node *node) MUST_CHECK;
bool read_hooks(const struct reader *reader, struct fy_node *node) MUST_CHECK;

#endif
