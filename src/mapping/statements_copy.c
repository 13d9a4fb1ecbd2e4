/* What the copy reads and writes. */
#include "mapping/statement_builder.h"

#include "pg/quote.h"

/* Under the name of the whole table: expressions may say table.column. */
static void put_leaf(struct buffer *sql, const struct relation *source, uint32_t oid)
{
    const struct leaf *leaf = relation_leaf(source, oid);
    CHECK(leaf != NULL);
    buffer_printf(sql, "ONLY %s AS ", leaf->name);
    quote_ident(sql, source->name);
}

/* What the copy reads: a partition that is not known yet is no part of it. */
static void put_copied(struct buffer *sql, const struct mapping *mapping,
                       struct key_interval interval)
{
    const struct relation *source = mapping->source;
    if (interval.leaf != 0)
        put_leaf(sql, source, interval.leaf);
    else
        relation_put_only(sql, source);
}

static void put_known_leaves(struct buffer *sql, const struct relation *source)
{
    const char *comma = "";
    quote_name(sql, source->schema, source->name);
    buffer_puts(sql, ".tableoid = ANY ('{");
    for (unsigned l = 0; l < source->leaves_count; l++) {
        if (source->leaves[l].late)
            continue;
        buffer_printf(sql, "%s%u", comma, source->leaves[l].oid);
        comma = ",";
    }
    buffer_puts(sql, "}'::oid[])");
}

static void put_range_columns(struct buffer *sql, const struct mapping *mapping)
{
    buffer_putc(sql, '(');
    for (unsigned k = 0; k < mapping->range_count; k++) {
        buffer_puts(sql, k > 0 ? ", " : "");
        quote_ident(sql, mapping->source->columns[mapping->key[k].source].name);
    }
    buffer_putc(sql, ')');
}

static void put_range_values(struct buffer *sql, const struct mapping *mapping,
                             const char *const *values)
{
    buffer_putc(sql, '(');
    for (unsigned k = 0; k < mapping->range_count; k++) {
        buffer_puts(sql, k > 0 ? ", " : "");
        quote_literal(sql, values[k]);
        buffer_printf(sql, "::%s", mapping->source->columns[mapping->key[k].source].base_type);
    }
    buffer_putc(sql, ')');
}

/* One end of the interval; gives what a further condition begins with. */
static const char *put_end(struct buffer *sql, const struct mapping *mapping, const char *word,
                           const char *operator, const char *const *values)
{
    if (values == NULL)
        return word;
    buffer_puts(sql, word);
    put_range_columns(sql, mapping);
    buffer_puts(sql, operator);
    put_range_values(sql, mapping, values);
    return " AND ";
}

/* WHERE …, when there is anything to say. */
static void put_interval(struct buffer *sql, const struct mapping *mapping,
                         struct key_interval interval, const char *where)
{
    const char *word = " WHERE ";
    if (where != NULL) {
        buffer_printf(sql, "%s(%s)", word, where);
        word = " AND ";
    }
    if (mapping->source->kind == 'p' && interval.leaf == 0) {
        buffer_puts(sql, word);
        put_known_leaves(sql, mapping->source);
        word = " AND ";
    }
    word = put_end(sql, mapping, word, " > ", interval.lower);
    put_end(sql, mapping, word, " <= ", interval.upper);
}

static void put_copy_items(struct buffer *sql, const struct mapping *mapping)
{
    for (unsigned i = 0; i < mapping->items_count; i++) {
        const struct mapping_item *item = &mapping->items[i];
        buffer_puts(sql, i > 0 ? ", " : "");
        if (item->jsonb_from_text) /* the source column itself: the cast is left to the target */
            quote_ident(sql, mapping->source->columns[item->select->column].name);
        else
            statement_put_item(sql, item);
    }
}

const char *statement_copy_out(const struct mapping *mapping, struct key_interval interval,
                               struct arena *arena)
{
    struct builder *builder = builder_new(mapping);
    struct buffer *sql = &builder->sql;
    buffer_puts(sql, "COPY (SELECT ");
    put_copy_items(sql, mapping);
    buffer_puts(sql, " FROM ");
    put_copied(sql, mapping, interval);
    put_interval(sql, mapping, interval, mapping->where);
    buffer_printf(sql, ") TO STDOUT (FORMAT %s)",
                  mapping->copy_format == COPY_BINARY ? "binary" : "text");
    return builder_finish(builder, arena, NULL);
}

const char *statement_lock(const struct mapping *mapping, uint32_t leaf, struct arena *arena)
{
    struct builder *builder = builder_new(mapping);
    struct buffer *sql = &builder->sql;
    buffer_puts(sql, "LOCK TABLE ");
    if (leaf != 0)
        buffer_printf(sql, "ONLY %s", relation_leaf(mapping->source, leaf)->name);
    else
        relation_put_only(sql, mapping->source);
    buffer_puts(sql, " IN ACCESS SHARE MODE");
    return builder_finish(builder, arena, NULL);
}

const char *statement_copy_in(const struct mapping *mapping, struct arena *arena)
{
    struct builder *builder = builder_new(mapping);
    struct buffer *sql = &builder->sql;
    buffer_puts(sql, "COPY ");
    quote_name(sql, mapping->target->schema, mapping->target->name);
    buffer_puts(sql, " (");
    statement_put_target_columns(sql, mapping);
    buffer_printf(sql, ") FROM STDIN (FORMAT %s)",
                  mapping->copy_format == COPY_BINARY ? "binary" : "text");
    return builder_finish(builder, arena, NULL);
}

const char *statement_key_at(const struct mapping *mapping, struct key_interval interval,
                             int64_t offset, struct arena *arena)
{
    struct builder *builder = builder_new(mapping);
    struct buffer *sql = &builder->sql;
    buffer_puts(sql, "SELECT ");
    for (unsigned k = 0; k < mapping->range_count; k++) {
        buffer_puts(sql, k > 0 ? ", " : "");
        quote_ident(sql, mapping->source->columns[mapping->key[k].source].name);
        /* named otherwise than the column: ORDER BY would mean the text */
        buffer_printf(sql, "::text AS portage_key_%u", k);
    }
    buffer_puts(sql, " FROM ");
    put_copied(sql, mapping, interval);
    put_interval(sql, mapping, interval, NULL);
    buffer_puts(sql, " ORDER BY ");
    for (unsigned k = 0; k < mapping->range_count; k++) {
        buffer_puts(sql, k > 0 ? ", " : "");
        quote_ident(sql, mapping->source->columns[mapping->key[k].source].name);
        buffer_puts(sql, offset < 0 ? " DESC" : "");
    }
    buffer_printf(sql, " OFFSET %lld LIMIT 1", (long long)(offset < 0 ? 0 : offset));
    return builder_finish(builder, arena, NULL);
}
