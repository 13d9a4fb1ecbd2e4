/* What the stream binds, and what it reads back. */
#include "mapping/statement_builder.h"

#include "pg/quote.h"

static bool is_set(const struct mapping *mapping, int attnum, const struct column_set *present)
{
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (mapping->items[i].target->attnum == attnum)
            return column_set_within(&mapping->items[i].select->uses, present);
    }
    return false;
}

/* Then two rows of one key would become equal in it, which it refuses. */
static bool sets_primary_key(const struct mapping *mapping, const struct column_set *present)
{
    for (unsigned u = 0; u < mapping->target->uniques_count; u++) {
        const struct unique_index *index = &mapping->target->uniques[u];
        bool all = index->primary;
        for (unsigned i = 0; all && i < index->count; i++)
            all = is_set(mapping, index->attnums[i], present);
        if (all)
            return true;
    }
    return false;
}

/*
 * How many rows were touched does not tell that each key was met once: of one there may be two and of
 * another none. Where the target does not exclude that, the keys are looked at.
 */
static void put_returning(struct builder *builder)
{
    const struct mapping *mapping = builder->mapping;
    const char *comma = " RETURNING ";
    if (!mapping->has_key || mapping->key_unique)
        return;
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (!mapping_item_is_key(mapping, i))
            continue;
        buffer_printf(&builder->sql, "%sm.", comma);
        quote_ident(&builder->sql, statement_column_name(mapping, i));
        comma = ", ";
    }
    builder->tells_keys = true;
}

bool statement_missing(const struct mapping *mapping, const struct column_set *present,
                       bool makes_row, struct column_set *missing)
{
    bool any = false;
    *missing = (struct column_set){{0}};
    for (unsigned i = 0; i < mapping->items_count; i++) {
        const struct column_set *uses = &mapping->items[i].select->uses;
        if (makes_row || mapping_updates_move_rows(mapping) || column_set_intersects(uses, present))
            column_set_join(missing, uses);
    }
    if (mapping->where != NULL)
        column_set_join(missing, &mapping->where_uses);
    for (size_t w = 0; w < sizeof missing->words / sizeof missing->words[0]; w++) {
        missing->words[w] &= ~present->words[w];
        any |= missing->words[w] != 0;
    }
    return any;
}

bool statement_takes_rows(const struct mapping *mapping, enum statement_op op)
{
    if (op != STATEMENT_INSERT)
        return mapping->has_key && !(op == STATEMENT_UPDATE && mapping_updates_move_rows(mapping));
    struct column_set uses = statement_row_uses(mapping), none = {{0}};
    return !column_set_within(&uses, &none); /* of constants only: there is nothing to bind */
}

void statement_insert(const struct mapping *mapping, bool many, struct arena *arena,
                      struct statement *statement)
{
    struct builder *builder = builder_new(mapping);
    builder->many = many;
    struct column_set uses = statement_row_uses(mapping);
    builder_put_insert_head(builder);
    buffer_puts(&builder->sql, "SELECT ");
    builder_put_items(builder, NULL);
    buffer_puts(&builder->sql, " FROM ");
    builder_put_rows(builder, &uses, PARAM_NEW);
    builder_put_where(builder);
    builder_finish(builder, arena, statement);
}

/*
 * With `where`: a row that passes is updated or else inserted, one that fails is deleted. One
 * statement; its parts see the same snapshot and only this lane writes this key.
 */
static void put_update_where(struct builder *builder, const struct column_set *uses)
{
    const struct mapping *mapping = builder->mapping;
    struct buffer *sql = &builder->sql;
    buffer_puts(sql, "WITH portage_source AS (SELECT * FROM ");
    builder_put_rows(builder, uses, PARAM_NEW);
    buffer_puts(sql, "), m AS (SELECT ");
    builder_put_items(builder, NULL);
    buffer_puts(sql, " FROM portage_source AS ");
    quote_ident(sql, mapping->source->name);
    buffer_printf(sql, " WHERE (%s)), portage_update AS (UPDATE ", mapping->where);
    relation_put_only(sql, mapping->target);
    buffer_puts(sql, " AS portage_row SET ");
    builder_put_assignments(builder, uses);
    buffer_puts(sql, " FROM m WHERE ");
    builder_put_match(builder);
    buffer_puts(sql, " RETURNING 1), portage_delete AS (DELETE FROM ");
    relation_put_only(sql, mapping->target);
    buffer_puts(sql, " AS portage_row USING (SELECT ");
    builder_put_items(builder, statement_identifies);
    buffer_puts(sql, " FROM portage_source AS ");
    quote_ident(sql, mapping->source->name);
    buffer_puts(sql, ") AS m WHERE ");
    builder_put_match(builder);
    buffer_printf(sql, " AND NOT EXISTS (SELECT FROM portage_source AS ");
    quote_ident(sql, mapping->source->name);
    buffer_printf(sql, " WHERE (%s))) ", mapping->where);
    builder_put_insert_head(builder);
    buffer_puts(sql, "SELECT ");
    statement_put_target_columns(sql, mapping);
    buffer_puts(sql, " FROM m WHERE NOT EXISTS (SELECT FROM portage_update)");
}

void statement_update(const struct mapping *mapping, const struct column_set *present, bool many,
                      struct arena *arena, struct statement *statement)
{
    CHECK(mapping->has_key); /* without one an update is a delete and an insert */
    CHECK(!many || statement_takes_rows(mapping, STATEMENT_UPDATE));
    struct builder *builder = builder_new(mapping);
    struct column_set uses = statement_row_uses(mapping);
    builder->many = many;
    if (mapping_updates_move_rows(mapping)) {
        put_update_where(builder, &uses);
        builder_finish(builder, arena, statement);
        return;
    }
    /* Columns that are not there are bound as null and not assigned. */
    buffer_puts(&builder->sql, "UPDATE ");
    relation_put_only(&builder->sql, mapping->target);
    buffer_puts(&builder->sql, " AS portage_row SET ");
    builder_put_assignments(builder, present);
    buffer_puts(&builder->sql, " FROM (SELECT ");
    builder_put_items(builder, NULL);
    buffer_puts(&builder->sql, " FROM ");
    builder_put_rows(builder, &uses, PARAM_NEW);
    builder_put_where(builder);
    buffer_puts(&builder->sql, ") AS m WHERE ");
    builder_put_match(builder);
    if (!sets_primary_key(mapping, present))
        put_returning(builder);
    builder_finish(builder, arena, statement);
}

void statement_delete(const struct mapping *mapping, bool many, struct arena *arena,
                      struct statement *statement)
{
    CHECK(!many || statement_takes_rows(mapping, STATEMENT_DELETE));
    struct builder *builder = builder_new(mapping);
    struct buffer *sql = &builder->sql;
    builder->many = many;
    struct column_set uses = {{0}};
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (statement_identifies(mapping, i))
            column_set_join(&uses, &mapping->items[i].select->uses);
    }
    /* Else not asked: what never passed is not there. A part of a merge turned round may be wrong in
     * that: another part's row may have its key in a table of its own. */
    if (mapping->where_by_key)
        column_set_join(&uses, &mapping->where_uses);
    buffer_puts(sql, "DELETE FROM ");
    relation_put_only(sql, mapping->target);
    buffer_puts(sql, " AS portage_row USING (SELECT ");
    builder_put_items(builder, statement_identifies);
    buffer_puts(sql, " FROM ");
    builder_put_rows(builder, &uses, PARAM_OLD);
    if (mapping->where_by_key)
        builder_put_where(builder);
    buffer_puts(sql, ") AS m WHERE ");
    builder_put_match(builder);
    put_returning(builder);
    builder_finish(builder, arena, statement);
}

/* A merge's part: what its constants tell. */
static const char *delete_part(struct builder *builder, struct arena *arena)
{
    const struct mapping *mapping = builder->mapping;
    struct buffer *sql = &builder->sql;
    const char *word = " WHERE ";
    buffer_puts(sql, "DELETE FROM ");
    relation_put_only(sql, mapping->target);
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (!statement_is_constant(mapping, i))
            continue;
        buffer_puts(sql, word);
        quote_ident(sql, statement_column_name(mapping, i));
        buffer_printf(sql, " IS NOT DISTINCT FROM (%s)", mapping->items[i].select->expr);
        word = " AND ";
    }
    return builder_finish(builder, arena, NULL);
}

/*
 * A table that a foreign key points to cannot be truncated alone, even if what points to it is empty
 * by then; nor with CASCADE, which would empty what the source left alone. Then its rows are deleted.
 */
const char *statement_truncate(const struct mapping *mapping, struct arena *arena)
{
    struct builder *builder = builder_new(mapping);
    struct buffer *sql = &builder->sql, name;
    if (mapping->merged)
        return delete_part(builder, arena);
    buffer_init(&name, 4096);
    relation_put_only(&name, mapping->target);
    buffer_printf(sql,
                  "DO $portage$ BEGIN TRUNCATE %s; EXCEPTION WHEN feature_not_supported THEN"
                  " DELETE FROM %s; END $portage$",
                  buffer_text(&name), buffer_text(&name));
    buffer_release(&name);
    return builder_finish(builder, arena, NULL);
}

const char *statement_read_back(const struct mapping *mapping, const struct column_set *wanted,
                                struct arena *arena)
{
    struct builder *builder = builder_new(mapping);
    struct buffer *sql = &builder->sql;
    const struct relation *source = mapping->source;
    buffer_puts(sql, "SELECT pg_catalog.txid_current_snapshot(), portage_row.*"
                     " FROM (SELECT) AS portage_one LEFT JOIN (SELECT true");
    for (unsigned c = 0; c < source->columns_count; c++) {
        if (!column_set_has(wanted, c))
            continue;
        buffer_puts(sql, ", ");
        quote_ident(sql, source->columns[c].name);
    }
    buffer_puts(sql, " FROM ");
    relation_put_only(sql, source);
    for (unsigned k = 0; k < mapping->key_count; k++) {
        const struct column *key = &source->columns[mapping->key[k].source];
        buffer_puts(sql, k > 0 ? " AND " : " WHERE ");
        quote_ident(sql, key->name);
        buffer_printf(sql, " = $%u::%s", k + 1, key->type);
    }
    buffer_puts(sql, ") AS portage_row ON true");
    return builder_finish(builder, arena, NULL);
}
