/* The way back: rows of one key may come by the streams of several shards. */
#include "mapping/statement_builder.h"

#include "pg/quote.h"

/* "id"::text, … of the shard's key columns, as one array: what portage.dirty knows a row by. */
static void put_dirty_key(struct builder *builder)
{
    const struct mapping *mapping = builder->mapping;
    struct buffer *sql = &builder->sql;
    buffer_puts(sql, "ARRAY[");
    for (unsigned k = 0; k < mapping->key_count; k++) {
        buffer_puts(sql, k > 0 ? ", " : "");
        quote_ident(sql, mapping->source->columns[mapping->key[k].source].name);
        buffer_puts(sql, "::text");
    }
    buffer_puts(sql, "]::text AS portage_key");
}

/* WITH m AS (SELECT <items>, the dirty key FROM rows). Only rows that pass `where` when asked to. */
static void put_back_rows(struct builder *builder, const struct column_set *uses,
                          enum param_from from, bool (*wanted)(const struct mapping *, unsigned),
                          bool passing)
{
    buffer_puts(&builder->sql, "WITH m AS MATERIALIZED (SELECT ");
    builder_put_items(builder, wanted);
    buffer_puts(&builder->sql, ", ");
    put_dirty_key(builder);
    buffer_puts(&builder->sql, " FROM ");
    builder_put_rows(builder, uses, from);
    if (passing)
        builder_put_where(builder);
    buffer_puts(&builder->sql, ")");
}

/* Adds the shard's key columns to what must be bound. */
static struct column_set with_key(struct column_set uses, const struct mapping *mapping)
{
    for (unsigned k = 0; k < mapping->key_count; k++)
        column_set_add(&uses, (unsigned)mapping->key[k].source);
    return uses;
}

/* INSERT INTO portage.dirty of the keys in m for which what follows holds. */
static void put_marks(struct builder *builder, unsigned stream)
{
    struct buffer *sql = &builder->sql;
    buffer_puts(sql, " INSERT INTO portage.dirty (mapping, key, owner) SELECT ");
    quote_literal(sql, builder->mapping->name);
    buffer_printf(sql, ", m.portage_key, %u FROM m WHERE ", stream);
}

static void put_dirty_of_m(struct builder *builder)
{
    buffer_puts(&builder->sql,
                " FROM portage.dirty AS d WHERE d.key = m.portage_key AND d.mapping = ");
    quote_literal(&builder->sql, builder->mapping->name);
}

/* ("id", …): the key of the target; or, with a prefix, prefix."id", …. */
static void put_key_images(struct builder *builder, const char *prefix)
{
    const struct mapping *mapping = builder->mapping;
    const char *comma = "";
    for (unsigned k = 0; k < mapping->key_count; k++) {
        if (mapping->key[k].item < 0)
            continue;
        buffer_printf(&builder->sql, "%s%s", comma, prefix);
        quote_ident(&builder->sql, statement_column_name(mapping, (unsigned)mapping->key[k].item));
        comma = ", ";
    }
}

/* Whether m's row is one of a list of keys. */
static void put_among(struct builder *builder, const char *list)
{
    buffer_puts(&builder->sql, "(");
    put_key_images(builder, "m.");
    buffer_puts(&builder->sql, ") IN (SELECT ");
    put_key_images(builder, "");
    buffer_printf(&builder->sql, " FROM %s)", list);
}

/*
 * The row that is met is updated by a part of its own: only DO NOTHING tells, by what it does not
 * return, which rows were there; xmax would, but a partitioned table has none. A row that another
 * stream commits while this statement runs is met and not seen by the update: it is marked, which is
 * what counts.
 */
void statement_back_insert(const struct mapping *mapping, unsigned stream, bool many,
                           struct arena *arena, struct statement *statement)
{
    struct builder *builder = builder_new(mapping);
    struct buffer *sql = &builder->sql;
    struct column_set uses = with_key(statement_row_uses(mapping), mapping), all = uses;
    builder->many = many;
    put_back_rows(builder, &uses, PARAM_NEW, NULL, true);
    buffer_puts(sql, ", made AS (");
    builder_put_insert_head(builder);
    buffer_puts(sql, "SELECT ");
    statement_put_target_columns(sql, mapping);
    buffer_puts(sql, " FROM m ON CONFLICT (");
    put_key_images(builder, "");
    buffer_puts(sql, ") DO NOTHING RETURNING ");
    put_key_images(builder, "");
    buffer_puts(sql, "), met AS (UPDATE ");
    relation_put_only(sql, mapping->target);
    buffer_puts(sql, " AS portage_row SET ");
    builder_put_assignments(builder, &all);
    buffer_puts(sql, " FROM m WHERE ");
    builder_put_match(builder);
    buffer_puts(sql, " AND NOT ");
    put_among(builder, "made");
    buffer_puts(sql, ")");
    put_marks(builder, stream);
    buffer_puts(sql, "NOT ");
    put_among(builder, "made");
    buffer_puts(sql, " OR EXISTS (SELECT");
    put_dirty_of_m(builder);
    buffer_puts(sql, ")");
    builder_finish(builder, arena, statement);
    statement->may_miss = true;
}

void statement_back_update(const struct mapping *mapping, unsigned stream,
                           const struct column_set *present, bool many, struct arena *arena,
                           struct statement *statement)
{
    struct builder *builder = builder_new(mapping);
    struct buffer *sql = &builder->sql;
    struct column_set uses = with_key(statement_row_uses(mapping), mapping);
    builder->many = many;
    put_back_rows(builder, &uses, PARAM_NEW, NULL, true);
    buffer_puts(sql, ", touched AS (UPDATE ");
    relation_put_only(sql, mapping->target);
    buffer_puts(sql, " AS portage_row SET ");
    builder_put_assignments(builder, present);
    buffer_puts(sql, " FROM m WHERE ");
    builder_put_match(builder);
    buffer_puts(sql, " RETURNING m.portage_key)");
    put_marks(builder, stream);
    buffer_puts(sql, "m.portage_key NOT IN (SELECT portage_key FROM touched)");
    builder_finish(builder, arena, statement);
    statement->may_miss = true;
}

void statement_back_delete(const struct mapping *mapping, unsigned stream, bool many,
                           struct arena *arena, struct statement *statement)
{
    struct builder *builder = builder_new(mapping);
    struct buffer *sql = &builder->sql;
    struct column_set uses = with_key(mapping->where_uses, mapping);
    builder->many = many;
    put_back_rows(builder, &uses, PARAM_OLD, statement_identifies, mapping->where_by_key);
    buffer_puts(sql, ", kept AS MATERIALIZED (SELECT m.portage_key FROM m WHERE (SELECT d.owner");
    put_dirty_of_m(builder);
    buffer_printf(sql, " ORDER BY d.id DESC LIMIT 1) <> %u), gone AS (DELETE FROM ", stream);
    relation_put_only(sql, mapping->target);
    buffer_puts(sql, " AS portage_row USING m WHERE ");
    builder_put_match(builder);
    buffer_puts(sql, " AND m.portage_key NOT IN (SELECT portage_key FROM kept)"
                     " RETURNING m.portage_key)");
    put_marks(builder, stream);
    buffer_puts(sql, "m.portage_key NOT IN (SELECT portage_key FROM kept)"
                     " AND m.portage_key NOT IN (SELECT portage_key FROM gone)");
    builder_finish(builder, arena, statement);
    statement->may_miss = true;
}
