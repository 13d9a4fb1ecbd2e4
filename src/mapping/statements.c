#include "mapping/statements.h"

#include "pg/oid.h"
#include "pg/quote.h"

enum {
    STATEMENT_MAX = 1 << 20,
    SAMPLE_VALUE_BYTES = 8192, /* as stored: large values would all be in memory at once */
};

/* A statement under construction: its text, and the parameters it has bound so far. */
struct builder {
    const struct mapping *mapping;
    struct buffer sql;
    struct statement_param params[RELATION_COLUMNS_MAX];
    unsigned params_count;
    bool many; /* rows: a parameter is an array */
    bool tells_keys;
    bool at_source; /* parameters are bound there, under the source's own types */
};

static struct builder *builder_new(const struct mapping *mapping)
{
    struct builder *builder = check_calloc(1, sizeof *builder);
    builder->mapping = mapping;
    buffer_init(&builder->sql, STATEMENT_MAX);
    return builder;
}

/* Moves the text to the arena and frees the builder. */
static const char *builder_finish(struct builder *builder, struct arena *arena,
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

static const char *item_target_name(const struct mapping *mapping, unsigned item)
{
    return mapping->items[item].target->name;
}

static bool item_is_constant(const struct mapping *mapping, unsigned item)
{
    return mapping->items[item].select->kind == SELECT_CONSTANT;
}

/* ---- what the copy reads and writes ---- */

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
    if (interval.lower != NULL) {
        buffer_puts(sql, word);
        put_range_columns(sql, mapping);
        buffer_puts(sql, " > ");
        put_range_values(sql, mapping, interval.lower);
        word = " AND ";
    }
    if (interval.upper != NULL) {
        buffer_puts(sql, word);
        put_range_columns(sql, mapping);
        buffer_puts(sql, " <= ");
        put_range_values(sql, mapping, interval.upper);
    }
}

/*
 * Binary COPY makes no casts, so each expression is cast to the target's base type here, but without
 * length or scale: an explicit ::varchar(3) cuts silently, the receive function errors as INSERT does
 * (D18). A type that is not built in keeps the expression's own: its text, or an enum's label in
 * binary, is what the target's type reads.
 */
static void put_copy_item(struct buffer *sql, const struct mapping_item *item)
{
    if (item->target->builtin)
        buffer_printf(sql, "(%s)::%s", item->select->expr, item->target->base_type);
    else
        buffer_puts(sql, item->select->expr);
}

static void put_copy_items(struct buffer *sql, const struct mapping *mapping)
{
    for (unsigned i = 0; i < mapping->items_count; i++) {
        const struct mapping_item *item = &mapping->items[i];
        buffer_puts(sql, i > 0 ? ", " : "");
        if (item->jsonb_from_text) /* the source column itself: the cast is left to the target */
            quote_ident(sql, mapping->source->columns[item->select->column].name);
        else
            put_copy_item(sql, item);
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

static void put_target_columns(struct buffer *sql, const struct mapping *mapping)
{
    for (unsigned i = 0; i < mapping->items_count; i++) {
        buffer_puts(sql, i > 0 ? ", " : "");
        quote_ident(sql, item_target_name(mapping, i));
    }
}

const char *statement_copy_in(const struct mapping *mapping, struct arena *arena)
{
    struct builder *builder = builder_new(mapping);
    struct buffer *sql = &builder->sql;
    buffer_puts(sql, "COPY ");
    quote_name(sql, mapping->target->schema, mapping->target->name);
    buffer_puts(sql, " (");
    put_target_columns(sql, mapping);
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

/* ---- what the stream binds ---- */

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

static void bind_columns(struct builder *builder, const struct column_set *columns,
                         enum param_from from)
{
    builder->params_count = 0;
    for (unsigned c = 0; c < builder->mapping->source->columns_count; c++) {
        if (!column_set_has(columns, c))
            continue;
        CHECK(builder->params_count < RELATION_COLUMNS_MAX);
        builder->params[builder->params_count++] =
            (struct statement_param){.column = c, .from = from};
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

/* Whether an array of the type is read element by element as the type itself is: there are no arrays of
 * arrays, and who writes a box's array (or that of somebody's own type) puts no comma between two. */
static bool has_plain_array(const struct column *column)
{
    return column->builtin && !column->is_container && column->base_oid != OID_BOX;
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

static void put_rows(struct builder *builder, const struct column_set *columns,
                     enum param_from from)
{
    bind_columns(builder, columns, from);
    if (builder->many)
        put_many_rows(builder);
    else
        put_row(builder);
}

/* Which source columns the whole row needs. */
static struct column_set row_uses(const struct mapping *mapping)
{
    struct column_set uses = mapping->where_uses;
    for (unsigned i = 0; i < mapping->items_count; i++)
        column_set_join(&uses, &mapping->items[i].select->uses);
    return uses;
}

/* What tells a row of the target: the key's images, a merge's constants; all columns without a key. */
static bool item_identifies(const struct mapping *mapping, unsigned item)
{
    if (!mapping->has_key)
        return true;
    return mapping_item_is_key(mapping, item) ||
           (mapping->merged && item_is_constant(mapping, item));
}

/* <expr> AS "column", … of the items for which `wanted` says so. */
static struct column_set put_items(struct builder *builder,
                                   bool (*wanted)(const struct mapping *, unsigned))
{
    const struct mapping *mapping = builder->mapping;
    struct column_set uses = {{0}};
    const char *comma = "";
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (wanted != NULL && !wanted(mapping, i))
            continue;
        buffer_printf(&builder->sql, "%s%s AS ", comma, mapping->items[i].select->expr);
        quote_ident(&builder->sql, item_target_name(mapping, i));
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
        if (!item_identifies(mapping, i))
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
        quote_ident(sql, item_target_name(mapping, i));
        buffer_puts(sql, mapping->has_key ? equals : "::text IS NOT DISTINCT FROM (m.");
        quote_ident(sql, item_target_name(mapping, i));
        if (!mapping->has_key)
            buffer_printf(sql, "::%s)::text", mapping->items[i].target->base_type);
        word = " AND ";
    }
}

/* WHERE …: of rows that are alike in everything, exactly one. */
static void put_match_one(struct builder *builder)
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
        quote_ident(&builder->sql, item_target_name(mapping, i));
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
        return mapping->has_key &&
               !(op == STATEMENT_UPDATE && mapping_updates_move_rows(mapping));
    struct column_set uses = row_uses(mapping), none = {{0}};
    return !column_set_within(&uses, &none); /* of constants only: there is nothing to bind */
}

static void put_where(struct builder *builder)
{
    if (builder->mapping->where != NULL)
        buffer_printf(&builder->sql, " WHERE (%s)", builder->mapping->where);
}

static void put_insert_head(struct builder *builder)
{
    const struct mapping *mapping = builder->mapping;
    buffer_puts(&builder->sql, "INSERT INTO ");
    quote_name(&builder->sql, mapping->target->schema, mapping->target->name);
    buffer_puts(&builder->sql, " (");
    put_target_columns(&builder->sql, mapping);
    buffer_puts(&builder->sql, ") OVERRIDING SYSTEM VALUE ");
}

void statement_insert(const struct mapping *mapping, bool many, struct arena *arena,
                      struct statement *statement)
{
    struct builder *builder = builder_new(mapping);
    builder->many = many;
    struct column_set uses = row_uses(mapping);
    put_insert_head(builder);
    buffer_puts(&builder->sql, "SELECT ");
    put_items(builder, NULL);
    buffer_puts(&builder->sql, " FROM ");
    put_rows(builder, &uses, PARAM_NEW);
    put_where(builder);
    builder_finish(builder, arena, statement);
}

/* SET "a" = m."a", … for what may have changed and is there; the key to itself if that is nothing. */
static void put_assignments(struct builder *builder, const struct column_set *present)
{
    const struct mapping *mapping = builder->mapping;
    const char *comma = "";
    for (int pass = 0; pass < 2 && comma[0] == '\0'; pass++) {
        for (unsigned i = 0; i < mapping->items_count; i++) {
            bool settable = !mapping_item_is_key(mapping, i) && !item_is_constant(mapping, i);
            if ((pass == 0 && !settable) ||
                !column_set_within(&mapping->items[i].select->uses, present))
                continue;
            buffer_puts(&builder->sql, comma);
            quote_ident(&builder->sql, item_target_name(mapping, i));
            buffer_puts(&builder->sql, " = m.");
            quote_ident(&builder->sql, item_target_name(mapping, i));
            comma = ", ";
        }
    }
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
    put_rows(builder, uses, PARAM_NEW);
    buffer_puts(sql, "), m AS (SELECT ");
    put_items(builder, NULL);
    buffer_puts(sql, " FROM portage_source AS ");
    quote_ident(sql, mapping->source->name);
    buffer_printf(sql, " WHERE (%s)), portage_update AS (UPDATE ", mapping->where);
    relation_put_only(sql, mapping->target);
    buffer_puts(sql, " AS portage_row SET ");
    put_assignments(builder, uses);
    buffer_puts(sql, " FROM m WHERE ");
    put_match_one(builder);
    buffer_puts(sql, " RETURNING 1), portage_delete AS (DELETE FROM ");
    relation_put_only(sql, mapping->target);
    buffer_puts(sql, " AS portage_row USING (SELECT ");
    put_items(builder, item_identifies);
    buffer_puts(sql, " FROM portage_source AS ");
    quote_ident(sql, mapping->source->name);
    buffer_puts(sql, ") AS m WHERE ");
    put_match_one(builder);
    buffer_printf(sql, " AND NOT EXISTS (SELECT FROM portage_source AS ");
    quote_ident(sql, mapping->source->name);
    buffer_printf(sql, " WHERE (%s))) ", mapping->where);
    put_insert_head(builder);
    buffer_puts(sql, "SELECT ");
    put_target_columns(sql, mapping);
    buffer_puts(sql, " FROM m WHERE NOT EXISTS (SELECT FROM portage_update)");
}

void statement_update(const struct mapping *mapping, const struct column_set *present, bool many,
                      struct arena *arena, struct statement *statement)
{
    CHECK(mapping->has_key); /* without one an update is a delete and an insert */
    CHECK(!many || statement_takes_rows(mapping, STATEMENT_UPDATE));
    struct builder *builder = builder_new(mapping);
    struct column_set uses = row_uses(mapping);
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
    put_assignments(builder, present);
    buffer_puts(&builder->sql, " FROM (SELECT ");
    put_items(builder, NULL);
    buffer_puts(&builder->sql, " FROM ");
    put_rows(builder, &uses, PARAM_NEW);
    put_where(builder);
    buffer_puts(&builder->sql, ") AS m WHERE ");
    put_match_one(builder);
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
        if (item_identifies(mapping, i))
            column_set_join(&uses, &mapping->items[i].select->uses);
    }
    /* Else not asked: what never passed is not there. A part of a merge turned round may be wrong in
     * that: another part's row may have its key in a table of its own. */
    if (mapping->where_by_key)
        column_set_join(&uses, &mapping->where_uses);
    buffer_puts(sql, "DELETE FROM ");
    relation_put_only(sql, mapping->target);
    buffer_puts(sql, " AS portage_row USING (SELECT ");
    put_items(builder, item_identifies);
    buffer_puts(sql, " FROM ");
    put_rows(builder, &uses, PARAM_OLD);
    if (mapping->where_by_key)
        put_where(builder);
    buffer_puts(sql, ") AS m WHERE ");
    put_match_one(builder);
    put_returning(builder);
    builder_finish(builder, arena, statement);
}

/* ---- the way back ---- */

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
                          enum param_from from,
                          bool (*wanted)(const struct mapping *, unsigned), bool passing)
{
    buffer_puts(&builder->sql, "WITH m AS MATERIALIZED (SELECT ");
    put_items(builder, wanted);
    buffer_puts(&builder->sql, ", ");
    put_dirty_key(builder);
    buffer_puts(&builder->sql, " FROM ");
    put_rows(builder, uses, from);
    if (passing)
        put_where(builder);
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
    buffer_puts(&builder->sql, " FROM portage.dirty AS d WHERE d.key = m.portage_key AND d.mapping = ");
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
        quote_ident(&builder->sql, item_target_name(mapping, (unsigned)mapping->key[k].item));
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
    struct column_set uses = with_key(row_uses(mapping), mapping), all = uses;
    builder->many = many;
    put_back_rows(builder, &uses, PARAM_NEW, NULL, true);
    buffer_puts(sql, ", made AS (");
    put_insert_head(builder);
    buffer_puts(sql, "SELECT ");
    put_target_columns(sql, mapping);
    buffer_puts(sql, " FROM m ON CONFLICT (");
    put_key_images(builder, "");
    buffer_puts(sql, ") DO NOTHING RETURNING ");
    put_key_images(builder, "");
    buffer_puts(sql, "), met AS (UPDATE ");
    relation_put_only(sql, mapping->target);
    buffer_puts(sql, " AS portage_row SET ");
    put_assignments(builder, &all);
    buffer_puts(sql, " FROM m WHERE ");
    put_match_one(builder);
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
    struct column_set uses = with_key(row_uses(mapping), mapping);
    builder->many = many;
    put_back_rows(builder, &uses, PARAM_NEW, NULL, true);
    buffer_puts(sql, ", touched AS (UPDATE ");
    relation_put_only(sql, mapping->target);
    buffer_puts(sql, " AS portage_row SET ");
    put_assignments(builder, present);
    buffer_puts(sql, " FROM m WHERE ");
    put_match_one(builder);
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
    put_back_rows(builder, &uses, PARAM_OLD, item_identifies, mapping->where_by_key);
    buffer_puts(sql, ", kept AS MATERIALIZED (SELECT m.portage_key FROM m WHERE (SELECT d.owner");
    put_dirty_of_m(builder);
    buffer_printf(sql, " ORDER BY d.id DESC LIMIT 1) <> %u), gone AS (DELETE FROM ", stream);
    relation_put_only(sql, mapping->target);
    buffer_puts(sql, " AS portage_row USING m WHERE ");
    put_match_one(builder);
    buffer_puts(sql, " AND m.portage_key NOT IN (SELECT portage_key FROM kept)"
                     " RETURNING m.portage_key)");
    put_marks(builder, stream);
    buffer_puts(sql, "m.portage_key NOT IN (SELECT portage_key FROM kept)"
                     " AND m.portage_key NOT IN (SELECT portage_key FROM gone)");
    builder_finish(builder, arena, statement);
    statement->may_miss = true;
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
        if (!item_is_constant(mapping, i))
            continue;
        buffer_puts(sql, word);
        quote_ident(sql, item_target_name(mapping, i));
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

/* ---- what is asked before the start ---- */

/* (<expr>)::text, … as the copy and the stream would store them. */
static void put_sample_items(struct buffer *sql, const struct mapping *mapping)
{
    for (unsigned i = 0; i < mapping->items_count; i++) {
        buffer_puts(sql, i > 0 ? ", (" : "(");
        put_copy_item(sql, &mapping->items[i]);
        buffer_puts(sql, ")::text");
    }
}

struct column_set statement_sample_columns(const struct mapping *mapping,
                                           const struct inverses *inverses)
{
    struct column_set columns = row_uses(mapping);
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
    struct column_set uses = row_uses(mapping);
    buffer_puts(&builder->sql, "SELECT ");
    put_sample_items(&builder->sql, mapping);
    buffer_puts(&builder->sql, " FROM ");
    put_rows(builder, &uses, PARAM_NEW);
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
        quote_ident(sql, item_target_name(mapping, i));
        buffer_puts(sql, ", ");
    }
    for (unsigned i = 0; i < inverses->count; i++) {
        if (!inverse_is_proved(&inverses->items[i]))
            continue;
        quote_ident(sql, mapping->source->columns[inverses->items[i].column].name);
        buffer_printf(sql, " AS portage_was_%u, ", i);
    }
    buffer_puts(sql, "1 AS portage_one FROM ");
    put_rows(builder, &columns, PARAM_NEW);
    buffer_puts(sql, ") AS ");
    quote_ident(sql, mapping->target->name);
    builder_finish(builder, arena, statement);
}
