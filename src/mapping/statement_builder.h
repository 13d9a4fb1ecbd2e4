/*
 * What statements*.c share: a statement under construction, and the pieces that more than one kind of
 * statement has. Private to them. In all of these statements `m` are the mapped rows, and `portage_row` is
 * the target's.
 */
#ifndef MAPPING_STATEMENT_BUILDER_H
#define MAPPING_STATEMENT_BUILDER_H

#include "mapping/statements.h"

/* Its text, and the parameters it has bound so far. */
struct builder {
    const struct mapping *mapping;
    struct buffer sql;
    struct statement_param params[RELATION_COLUMNS_MAX];
    unsigned params_count;
    bool many; /* rows: a parameter is an array */
    bool tells_keys;
    bool at_source; /* parameters are bound there, under the source's own types */
};

struct builder *builder_new(const struct mapping *mapping);

/* Moves the text to the arena and frees the builder. `statement` may be NULL. */
const char *builder_finish(struct builder *builder, struct arena *arena,
                           struct statement *statement);

/* The rows of the source, with these columns bound as parameters, under the name of its table. */
void builder_put_rows(struct builder *builder, const struct column_set *columns,
                      enum param_from from);

/* <expr> AS "column", … of the items for which `wanted` says so (NULL: of all). Gives what they use. */
struct column_set builder_put_items(struct builder *builder,
                                    bool (*wanted)(const struct mapping *, unsigned));

/* Which row of the target is meant; of rows that are alike in everything, exactly one. */
void builder_put_match(struct builder *builder);

/* WHERE of the mapping, if it has one. */
void builder_put_where(struct builder *builder);

/* INSERT INTO target (…) */
void builder_put_insert_head(struct builder *builder);

/* SET "a" = m."a", … for what may have changed and is there; the key to itself if that is nothing. */
void builder_put_assignments(struct builder *builder, const struct column_set *present);

/* An item as the copy writes it: with its cast, without length or scale. */
void statement_put_item(struct buffer *sql, const struct mapping_item *item);
void statement_put_target_columns(struct buffer *sql, const struct mapping *mapping);

const char *statement_column_name(const struct mapping *mapping, unsigned item);
bool statement_is_constant(const struct mapping *mapping, unsigned item);

/* Whether the item tells a row of the target: the key's images, a merge's constants; all columns without
 * a key. */
bool statement_identifies(const struct mapping *mapping, unsigned item);

/* Which source columns the whole row needs. */
struct column_set statement_row_uses(const struct mapping *mapping);

#endif
