#include "mapping/statement_builder.h"

#include "pg/oid.h"
#include "pg/quote.h"

enum { STATEMENT_MAX = 1 << 20 };

struct builder *builder_new(const struct mapping *mapping)
{
    struct builder *builder = check_calloc(1, sizeof *builder);
    builder->mapping = mapping;
    buffer_init(&builder->sql, STATEMENT_MAX);
    return builder;
}

const char *builder_finish(struct builder *builder, struct arena *arena,
                           struct statement *statement)
{
    CHECK(!buffer_failed(&builder->sql)); /* 1600 columns and a file of 1 MiB fit */
    const char *sql = arena_strdup(arena, buffer_text(&builder->sql));
    if (statement != NULL) {
        *statement = (struct statement){
            .sql = sql,
            .params_count = builder->params_count,
            .tells_keys = builder->tells_keys,
            .params = arena_memdup(arena, builder->params,
                                   builder->params_count * sizeof builder->params[0]),
            .may_miss = builder->mapping->where != NULL,
        };
    }
    buffer_release(&builder->sql);
    free(builder);
    return sql;
}

const char *statement_column_name(const struct mapping *mapping, unsigned item)
{
    return mapping->items[item].target->name;
}

bool statement_is_constant(const struct mapping *mapping, unsigned item)
{
    return mapping->items[item].select->kind == SELECT_CONSTANT;
}

/*
 * Binary COPY makes no casts, so each expression is cast to the target's base type here, but without
 * length or scale: an explicit ::varchar(3) cuts silently, the receive function errors as INSERT does
 * (D18). A type that is not built in keeps the expression's own: its text, or an enum's label in
 * binary, is what the target's type reads.
 */
void statement_put_item(struct buffer *sql, const struct mapping_item *item)
{
    if (item->target->builtin)
        buffer_printf(sql, "(%s)::%s", item->select->expr, item->target->base_type);
    else
        buffer_puts(sql, item->select->expr);
}

void statement_put_target_columns(struct buffer *sql, const struct mapping *mapping)
{
    for (unsigned i = 0; i < mapping->items_count; i++) {
        buffer_puts(sql, i > 0 ? ", " : "");
        quote_ident(sql, statement_column_name(mapping, i));
    }
}

/*
 * The type under which a source column's text is bound on the target. Built-in types are the same
 * everywhere (a domain is bound as its base). Others need not exist there: where the column is mapped
 * as it is, the target column's own type; else text, on which an explicit cast works alike.
 */
static const char *param_type(const struct builder *builder, unsigned column)
{
    const struct mapping *mapping = builder->mapping;
    const struct column *source = &mapping->source->columns[column];
    if (source->builtin || builder->at_source)
        return source->base_type;
    for (unsigned i = 0; i < mapping->items_count; i++) {
        const struct select_item *select = mapping->items[i].select;
        if (select->kind == SELECT_COLUMN && select->column == (int)column)
            return mapping->items[i].target->base_type;
    }
    return "text";
}

/* Whether an array of the type is read element by element as the type itself is: there are no arrays of
 * arrays, and who writes a box's array (or that of somebody's own type) puts no comma between two. */
static bool has_plain_array(const struct column *column)
{
    return column->builtin && !column->is_container && column->base_oid != OID_BOX;
}

/* See put_unnest(). */
static uint32_t array_type(const struct column *column)
{
    return has_plain_array(column) ? column->base_oid : OID_TEXT;
}

static void bind_columns(struct builder *builder, const struct column_set *columns,
                         enum param_from from)
{
    builder->params_count = 0;
    for (unsigned c = 0; c < builder->mapping->source->columns_count; c++) {
        if (!column_set_has(columns, c))
            continue;
        CHECK(builder->params_count < RELATION_COLUMNS_MAX);
        builder->params[builder->params_count++] =
            (struct statement_param){.column = c,
                                     .from = from,
                                     .array_type = array_type(&builder->mapping->source->columns[c])};
    }
}

/* (VALUES ($1::bigint, …)) AS "transactions" ("id", …): one row as the select list sees it. */
static void put_row(struct builder *builder)
{
    const struct relation *source = builder->mapping->source;
    struct buffer *sql = &builder->sql;
    buffer_puts(sql, "(VALUES (");
    for (unsigned p = 0; p < builder->params_count; p++)
        buffer_printf(sql, "%s$%u::%s", p > 0 ? ", " : "", p + 1,
                      param_type(builder, builder->params[p].column));
    buffer_puts(sql, builder->params_count > 0 ? ")) AS " : "null)) AS ");
    quote_ident(sql, source->name);
    for (unsigned p = 0; p < builder->params_count; p++) {
        buffer_puts(sql, p > 0 ? ", " : " (");
        quote_ident(sql, source->columns[builder->params[p].column].name);
    }
    buffer_puts(sql, builder->params_count > 0 ? ")" : "");
}

/* unnest($1::bigint[]) AS "id"; or unnest($1::text[])::box: the cast reads it as the type's input does. */
static void put_unnest(struct builder *builder, unsigned param)
{
    const struct mapping *mapping = builder->mapping;
    unsigned column = builder->params[param].column;
    const char *type = param_type(builder, column);
    if (has_plain_array(&mapping->source->columns[column]))
        buffer_printf(&builder->sql, "pg_catalog.unnest($%u::%s[]) AS ", param + 1, type);
    else
        buffer_printf(&builder->sql, "pg_catalog.unnest($%u::text[])::%s AS ", param + 1, type);
    quote_ident(&builder->sql, mapping->source->columns[column].name);
}

/*
 * (SELECT unnest($1::bigint[]) AS "id", …) AS "transactions": the rows likewise. Side by side in a
 * select list the arrays are walked together and nothing is stored; in FROM each one would fill a
 * tuplestore of its own.
 */
static void put_many_rows(struct builder *builder)
{
    struct buffer *sql = &builder->sql;
    CHECK(builder->params_count > 0); /* else how many rows there are would be told by nothing */
    for (unsigned p = 0; p < builder->params_count; p++) {
        buffer_puts(sql, p > 0 ? ", " : "(SELECT ");
        put_unnest(builder, p);
    }
    buffer_puts(sql, ") AS ");
    quote_ident(sql, builder->mapping->source->name);
}

void builder_put_rows(struct builder *builder, const struct column_set *columns,
                      enum param_from from)
{
    bind_columns(builder, columns, from);
    if (builder->many)
        put_many_rows(builder);
    else
        put_row(builder);
}

struct column_set statement_row_uses(const struct mapping *mapping)
{
    struct column_set uses = mapping->where_uses;
    for (unsigned i = 0; i < mapping->items_count; i++)
        column_set_join(&uses, &mapping->items[i].select->uses);
    return uses;
}

bool statement_identifies(const struct mapping *mapping, unsigned item)
{
    if (!mapping->has_key)
        return true;
    return mapping_item_is_key(mapping, item) ||
           (mapping->merged && statement_is_constant(mapping, item));
}

struct column_set builder_put_items(struct builder *builder,
                                    bool (*wanted)(const struct mapping *, unsigned))
{
    const struct mapping *mapping = builder->mapping;
    struct column_set uses = {{0}};
    const char *comma = "";
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (wanted != NULL && !wanted(mapping, i))
            continue;
        buffer_printf(&builder->sql, "%s%s AS ", comma, mapping->items[i].select->expr);
        quote_ident(&builder->sql, statement_column_name(mapping, i));
        column_set_join(&uses, &mapping->items[i].select->uses);
        comma = ", ";
    }
    return uses;
}

/* Whether what is equal as text is found by `=` too, which an index may serve. */
static bool is_found_by_equality(const struct column *column)
{
    switch (column->base_oid) {
    case OID_INT2: case OID_INT4: case OID_INT8: case OID_OID: case OID_TEXT: case OID_VARCHAR:
    case OID_UUID: case OID_DATE: case OID_TIMESTAMP: case OID_TIMESTAMPTZ: case OID_NUMERIC:
        return column->not_null;
    default:
        return false;
    }
}

/*
 * portage_row."id" = m."id" AND …. Without a key all columns are compared, as text, because not every
 * type has an equality (json), and nulls are equal; an index on some of them is used where it can be.
 */
static void put_match(struct builder *builder, const char *row)
{
    const struct mapping *mapping = builder->mapping;
    const char *word = "";
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (!statement_identifies(mapping, i))
            continue;
        struct buffer *sql = &builder->sql;
        const struct column *column = mapping->items[i].target;
        if (!mapping->has_key && is_found_by_equality(column)) {
            buffer_printf(sql, "%s%s.", word, row);
            quote_ident(sql, column->name);
            buffer_puts(sql, " = m.");
            quote_ident(sql, column->name);
            buffer_printf(sql, "::%s", column->type);
            word = " AND ";
        }
        const char *equals = mapping_item_is_key(mapping, i) ? " = m." : " IS NOT DISTINCT FROM m.";
        buffer_printf(sql, "%s%s.", word, row);
        quote_ident(sql, statement_column_name(mapping, i));
        buffer_puts(sql, mapping->has_key ? equals : "::text IS NOT DISTINCT FROM (m.");
        quote_ident(sql, statement_column_name(mapping, i));
        if (!mapping->has_key)
            buffer_printf(sql, "::%s)::text", mapping->items[i].target->base_type);
        word = " AND ";
    }
}

void builder_put_match(struct builder *builder)
{
    struct buffer *sql = &builder->sql;
    if (builder->mapping->has_key) {
        put_match(builder, "portage_row");
        return;
    }
    buffer_puts(sql, "(portage_row.tableoid, portage_row.ctid) = (SELECT twin.tableoid, twin.ctid"
                     " FROM ");
    relation_put_only(sql, builder->mapping->target);
    buffer_puts(sql, " AS twin WHERE ");
    put_match(builder, "twin");
    buffer_puts(sql, " LIMIT 1)");
}

void builder_put_where(struct builder *builder)
{
    if (builder->mapping->where != NULL)
        buffer_printf(&builder->sql, " WHERE (%s)", builder->mapping->where);
}

void builder_put_insert_head(struct builder *builder)
{
    const struct mapping *mapping = builder->mapping;
    buffer_puts(&builder->sql, "INSERT INTO ");
    quote_name(&builder->sql, mapping->target->schema, mapping->target->name);
    buffer_puts(&builder->sql, " (");
    statement_put_target_columns(&builder->sql, mapping);
    buffer_puts(&builder->sql, ") OVERRIDING SYSTEM VALUE ");
}

void builder_put_assignments(struct builder *builder, const struct column_set *present)
{
    const struct mapping *mapping = builder->mapping;
    const char *comma = "";
    for (int pass = 0; pass < 2 && comma[0] == '\0'; pass++) {
        for (unsigned i = 0; i < mapping->items_count; i++) {
            bool settable = !mapping_item_is_key(mapping, i) && !statement_is_constant(mapping, i);
            if ((pass == 0 && !settable) ||
                !column_set_within(&mapping->items[i].select->uses, present))
                continue;
            buffer_puts(&builder->sql, comma);
            quote_ident(&builder->sql, statement_column_name(mapping, i));
            buffer_puts(&builder->sql, " = m.");
            quote_ident(&builder->sql, statement_column_name(mapping, i));
            comma = ", ";
        }
    }
}
