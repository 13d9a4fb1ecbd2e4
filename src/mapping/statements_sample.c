/* What is asked before the start: rows of a sample, there and back. */
#include "mapping/statement_builder.h"

#include "pg/quote.h"

enum { SAMPLE_VALUE_BYTES = 8192 /* as stored: large values would all be in memory at once */ };

/* (<expr>)::text, … as the copy and the stream would store them. */
static void put_sample_items(struct buffer *sql, const struct mapping *mapping)
{
    for (unsigned i = 0; i < mapping->items_count; i++) {
        buffer_puts(sql, i > 0 ? ", (" : "(");
        statement_put_item(sql, &mapping->items[i]);
        buffer_puts(sql, ")::text");
    }
}

struct column_set statement_sample_columns(const struct mapping *mapping,
                                           const struct inverses *inverses)
{
    struct column_set columns = statement_row_uses(mapping);
    for (unsigned i = 0; i < inverses->count; i++) {
        if (inverse_is_proved(&inverses->items[i]))
            column_set_add(&columns, (unsigned)inverses->items[i].column);
    }
    return columns;
}

const char *statement_sample_source(const struct mapping *mapping, const struct column_set *columns,
                                    int limit, struct arena *arena)
{
    struct builder *builder = builder_new(mapping);
    struct buffer *sql = &builder->sql;
    const struct relation *source = mapping->source;
    buffer_puts(sql, "SELECT ");
    put_sample_items(sql, mapping);
    for (unsigned c = 0; c < source->columns_count; c++) {
        if (!column_set_has(columns, c))
            continue;
        buffer_puts(sql, ", ");
        quote_ident(sql, source->columns[c].name);
        buffer_puts(sql, "::text");
    }
    buffer_puts(sql, " FROM ");
    relation_put_only(sql, source);
    buffer_puts(sql, " WHERE ");
    for (unsigned c = 0; c < source->columns_count; c++) {
        if (!column_set_has(columns, c) || !source->columns[c].toastable)
            continue;
        buffer_puts(sql, "COALESCE(pg_catalog.pg_column_size(");
        quote_ident(sql, source->columns[c].name);
        buffer_printf(sql, "), 0) < %d AND ", SAMPLE_VALUE_BYTES);
    }
    buffer_printf(sql, "(%s) LIMIT %d", mapping->where != NULL ? mapping->where : "true", limit);
    return builder_finish(builder, arena, NULL);
}

void statement_sample_target(const struct mapping *mapping, struct arena *arena,
                             struct statement *statement)
{
    struct builder *builder = builder_new(mapping);
    struct column_set uses = statement_row_uses(mapping);
    buffer_puts(&builder->sql, "SELECT ");
    put_sample_items(&builder->sql, mapping);
    buffer_puts(&builder->sql, " FROM ");
    builder_put_rows(builder, &uses, PARAM_NEW);
    builder_finish(builder, arena, statement);
}

/* As it would be stored: with the length and scale of its column. */
static void put_stored(struct buffer *sql, const char *expr, const struct column *column,
                       bool own_types)
{
    buffer_printf(sql, "(%s)", expr);
    if (column->builtin || own_types)
        buffer_printf(sql, "::%s", column->base_full_type);
}

/* (<inverse>)::text, <what it was>::text: a text that went into jsonb is compared as jsonb. */
static void put_proof(struct builder *builder, const struct inverse *inverse, unsigned n)
{
    struct buffer *sql = &builder->sql;
    const char *as = inverse->stored_as_jsonb ? "::text::jsonb::text" : "::text";
    put_stored(sql, inverse->expr, &builder->mapping->source->columns[inverse->column],
               builder->at_source);
    buffer_printf(sql, "%s, portage_was_%u%s", as, n, as);
}

void statement_sample_back(const struct mapping *mapping, const struct inverses *inverses,
                           bool at_source, struct arena *arena, struct statement *statement)
{
    struct builder *builder = builder_new(mapping);
    struct buffer *sql = &builder->sql;
    struct column_set columns = statement_sample_columns(mapping, inverses);
    const char *comma = "";
    builder->at_source = at_source;
    buffer_puts(sql, "SELECT ");
    for (unsigned i = 0; i < inverses->count; i++) {
        if (!inverse_is_proved(&inverses->items[i]))
            continue;
        buffer_puts(sql, comma);
        put_proof(builder, &inverses->items[i], i);
        comma = ", ";
    }
    buffer_puts(sql, " FROM (SELECT ");
    for (unsigned i = 0; i < mapping->items_count; i++) {
        put_stored(sql, mapping->items[i].select->expr, mapping->items[i].target, !at_source);
        buffer_puts(sql, " AS ");
        quote_ident(sql, statement_column_name(mapping, i));
        buffer_puts(sql, ", ");
    }
    for (unsigned i = 0; i < inverses->count; i++) {
        if (!inverse_is_proved(&inverses->items[i]))
            continue;
        quote_ident(sql, mapping->source->columns[inverses->items[i].column].name);
        buffer_printf(sql, " AS portage_was_%u, ", i);
    }
    buffer_puts(sql, "1 AS portage_one FROM ");
    builder_put_rows(builder, &columns, PARAM_NEW);
    buffer_puts(sql, ") AS ");
    quote_ident(sql, mapping->target->name);
    builder_finish(builder, arena, statement);
}
