#include "mapping/rejoin.h"

#include "pg/quote.h"

enum { STATEMENT_MAX = 1 << 20, PARTS_MAX = 64, KEYS_BYTES_MAX = 64 * 1024 * 1024 };

struct parts {
    unsigned count;
    const struct mapping *items[PARTS_MAX]; /* the one that the parameters are of comes first */
};

static struct parts find_parts(const struct mapping_set *reversed, const struct mapping *mapping)
{
    struct parts parts = {.count = 1, .items = {mapping}};
    for (unsigned m = 0; mapping->parts > 1 && m < reversed->count; m++) {
        const struct mapping *other = &reversed->mappings[m];
        if (other->target != mapping->target || other == mapping)
            continue;
        CHECK(parts.count < PARTS_MAX);
        parts.items[parts.count++] = other;
    }
    return parts;
}

static bool is_constant(const struct mapping_item *item)
{
    return item->select->kind == SELECT_CONSTANT;
}

/* Of two parts that give a column: the one that does not merely make it up, else the first of the file,
 * from whichever part one looks. */
static bool gives_better(const struct parts *parts, int p, const struct mapping_item *item,
                         int giver, const struct mapping_item *given)
{
    if (giver < 0 || is_constant(item) != is_constant(given))
        return giver < 0 || is_constant(given);
    return parts->items[p]->index < parts->items[giver]->index;
}

/* Which part gives a column of the target, -1 if none does. */
static int giver_of(const struct parts *parts, const struct column *column,
                    const struct mapping_item **given)
{
    int giver = -1;
    for (unsigned p = 0; p < parts->count; p++) {
        const struct mapping *part = parts->items[p];
        for (unsigned i = 0; i < part->items_count; i++) {
            const struct mapping_item *item = &part->items[i];
            if (item->target == column && gives_better(parts, (int)p, item, giver, *given)) {
                giver = (int)p;
                *given = item;
            }
        }
    }
    return giver;
}

/* ---- reading ---- */

/* The part's columns that make the key, as the parts of one shard can compare them by an index; the
 * inverse where the types have no equality in common. */
static bool keys_compare(const struct parts *parts, unsigned k)
{
    const struct mapping *first = parts->items[0];
    const struct column *a = &first->source->columns[first->key[k].source];
    for (unsigned p = 1; p < parts->count; p++) {
        const struct mapping *part = parts->items[p];
        const struct column *b = &part->source->columns[part->key[k].source];
        bool integers = column_integer_bytes(a) > 0 && column_integer_bytes(b) > 0;
        if (!integers && a->base_oid != b->base_oid)
            return false;
    }
    return true;
}

static void put_value(struct buffer *sql, const struct mapping_item *item)
{
    if (item->target->builtin)
        buffer_printf(sql, "(%s)::%s", item->select->expr, item->target->base_type);
    else
        buffer_puts(sql, item->select->expr);
}

static void put_key_conditions(struct buffer *sql, const struct mapping *mapping)
{
    for (unsigned k = 0; k < mapping->key_count; k++) {
        const struct column *column = &mapping->source->columns[mapping->key[k].source];
        buffer_puts(sql, k > 0 ? " AND " : " WHERE ");
        quote_ident(sql, column->name);
        buffer_printf(sql, " = $%u::%s", k + 1, column->type);
    }
}

/* (SELECT <key> AS portage_key_0, …, <value> AS "column", … FROM part WHERE …) AS portage_part_0 */
static void put_part(struct buffer *sql, const struct parts *parts, unsigned p)
{
    const struct mapping *part = parts->items[p];
    buffer_puts(sql, "(SELECT ");
    for (unsigned k = 0; k < part->key_count && part->key[k].item >= 0; k++) {
        if (keys_compare(parts, k))
            quote_ident(sql, part->source->columns[part->key[k].source].name);
        else
            put_value(sql, &part->items[part->key[k].item]);
        buffer_printf(sql, " AS portage_key_%u, ", k);
    }
    for (unsigned i = 0; i < part->items_count; i++) {
        buffer_puts(sql, i > 0 ? ", " : "");
        put_value(sql, &part->items[i]);
        buffer_puts(sql, " AS ");
        quote_ident(sql, part->items[i].target->name);
    }
    buffer_puts(sql, " FROM ");
    relation_put_only(sql, part->source);
    if (p == 0)
        put_key_conditions(sql, part);
    if (part->where != NULL)
        buffer_printf(sql, "%s(%s)", p == 0 ? " AND " : " WHERE ", part->where);
    buffer_printf(sql, ") AS portage_part_%u", p);
}

static void put_join(struct buffer *sql, const struct parts *parts, unsigned p)
{
    const struct mapping *part = parts->items[p];
    buffer_puts(sql, " JOIN ");
    put_part(sql, parts, p);
    for (unsigned k = 0; k < part->key_count && part->key[k].item >= 0; k++)
        buffer_printf(sql, "%sportage_part_%u.portage_key_%u = portage_part_0.portage_key_%u",
                      k > 0 ? " AND " : " ON ", p, k, k);
}

static const char *make_read(const struct parts *parts, struct arena *arena, unsigned *columns)
{
    struct buffer sql;
    const struct relation *target = parts->items[0]->target;
    const struct mapping_item *item;
    buffer_init(&sql, STATEMENT_MAX);
    *columns = 0;
    buffer_puts(&sql, "SELECT ");
    for (unsigned c = 0; c < target->columns_count; c++) {
        int giver = giver_of(parts, &target->columns[c], &item);
        if (giver < 0)
            continue;
        buffer_printf(&sql, "%sportage_part_%d.", (*columns)++ > 0 ? ", " : "", giver);
        quote_ident(&sql, item->target->name);
    }
    buffer_puts(&sql, " FROM ");
    put_part(&sql, parts, 0);
    for (unsigned p = 1; p < parts->count; p++)
        put_join(&sql, parts, p);
    return arena_take(arena, &sql);
}

/* ---- writing ---- */

static bool is_key(const struct mapping *mapping, const struct column *column)
{
    for (unsigned k = 0; k < mapping->key_count; k++) {
        if (mapping->key[k].item >= 0 && mapping->items[mapping->key[k].item].target == column)
            return true;
    }
    return false;
}

static void put_conflict(struct buffer *sql, const struct parts *parts)
{
    const struct mapping *mapping = parts->items[0];
    const struct relation *target = mapping->target;
    const struct mapping_item *item;
    const char *comma = "";
    buffer_puts(sql, " ON CONFLICT (");
    for (unsigned k = 0; k < mapping->key_count && mapping->key[k].item >= 0; k++) {
        buffer_puts(sql, k > 0 ? ", " : "");
        quote_ident(sql, mapping->items[mapping->key[k].item].target->name);
    }
    buffer_puts(sql, ") DO ");
    for (unsigned c = 0; c < target->columns_count; c++) {
        const struct column *column = &target->columns[c];
        /* an identity column that is always generated takes no other value in an update */
        if (giver_of(parts, column, &item) < 0 || is_key(mapping, column) || is_constant(item) ||
            column->identity_always)
            continue;
        buffer_puts(sql, comma[0] == '\0' ? "UPDATE SET " : comma);
        quote_ident(sql, column->name);
        buffer_puts(sql, " = EXCLUDED.");
        quote_ident(sql, column->name);
        comma = ", ";
    }
    buffer_puts(sql, comma[0] == '\0' ? "NOTHING" : "");
}

/* The parameters have the types of the columns, by assignment: what is too long is an error. */
static const char *make_put(const struct parts *parts, struct arena *arena)
{
    struct buffer sql;
    const struct relation *target = parts->items[0]->target;
    const struct mapping_item *item;
    unsigned count = 0;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "INSERT INTO ");
    quote_name(&sql, target->schema, target->name);
    for (unsigned c = 0; c < target->columns_count; c++) {
        if (giver_of(parts, &target->columns[c], &item) < 0)
            continue;
        buffer_puts(&sql, count++ > 0 ? ", " : " (");
        quote_ident(&sql, target->columns[c].name);
    }
    buffer_puts(&sql, ") OVERRIDING SYSTEM VALUE VALUES (");
    for (unsigned n = 1; n <= count; n++)
        buffer_printf(&sql, "%s$%u", n > 1 ? ", " : "", n);
    buffer_putc(&sql, ')');
    put_conflict(&sql, parts);
    return arena_take(arena, &sql);
}

/* A type of the shard's own need not be at the source: there the text is read as what it becomes. */
static const char *key_type(const struct mapping *mapping, const struct key_column *key)
{
    const struct column *column = &mapping->source->columns[key->source];
    if (column->builtin)
        return column->base_type;
    return key->item < 0 ? "text" : mapping->items[key->item].target->base_type;
}

static void put_key_row(struct buffer *sql, const struct mapping *mapping)
{
    buffer_puts(sql, "(VALUES (");
    for (unsigned k = 0; k < mapping->key_count; k++)
        buffer_printf(sql, "%s$%u::%s", k > 0 ? ", " : "", k + 1,
                      key_type(mapping, &mapping->key[k]));
    buffer_puts(sql, ")) AS ");
    quote_ident(sql, mapping->source->name);
    for (unsigned k = 0; k < mapping->key_count; k++) {
        buffer_puts(sql, k > 0 ? ", " : " (");
        quote_ident(sql, mapping->source->columns[mapping->key[k].source].name);
    }
    buffer_putc(sql, ')');
}

/* ROWS FROM (unnest($1), …) [WITH ORDINALITY] AS portage_keys (portage_0, … [, portage_number]) */
static void put_keys(struct buffer *sql, const struct mapping *mapping, bool numbered)
{
    buffer_puts(sql, "ROWS FROM (");
    for (unsigned k = 0; k < mapping->key_count; k++)
        buffer_printf(sql, "%spg_catalog.unnest($%u::text[])", k > 0 ? ", " : "", k + 1);
    buffer_puts(sql, numbered ? ") WITH ORDINALITY AS portage_keys (" : ") AS portage_keys (");
    for (unsigned k = 0; k < mapping->key_count; k++)
        buffer_printf(sql, "%sportage_%u", k > 0 ? ", " : "", k);
    buffer_puts(sql, numbered ? ", portage_number)" : ")");
}

static void put_key_rows(struct buffer *sql, const struct mapping *mapping)
{
    buffer_puts(sql, "(SELECT ");
    for (unsigned k = 0; k < mapping->key_count; k++) {
        buffer_printf(sql, "%sportage_%u::%s AS ", k > 0 ? ", " : "", k,
                      key_type(mapping, &mapping->key[k]));
        quote_ident(sql, mapping->source->columns[mapping->key[k].source].name);
    }
    buffer_puts(sql, " FROM ");
    put_keys(sql, mapping, false);
    buffer_puts(sql, ") AS ");
    quote_ident(sql, mapping->source->name);
}

static const char *make_gone(const struct mapping *mapping, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "SELECT portage_keys.portage_number FROM ");
    put_keys(&sql, mapping, true);
    buffer_puts(&sql, " WHERE NOT EXISTS (SELECT FROM ");
    relation_put_only(&sql, mapping->source);
    buffer_puts(&sql, " AS portage_row WHERE ");
    for (unsigned k = 0; k < mapping->key_count; k++) {
        const struct column *column = &mapping->source->columns[mapping->key[k].source];
        buffer_puts(&sql, k > 0 ? " AND portage_row." : "portage_row.");
        quote_ident(&sql, column->name);
        buffer_printf(&sql, " = portage_keys.portage_%u::%s", k, column->type);
    }
    buffer_putc(&sql, ')');
    return arena_take(arena, &sql);
}

static const char *make_remove(const struct mapping *mapping, bool many, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "DELETE FROM ");
    relation_put_only(&sql, mapping->target);
    buffer_puts(&sql, " AS portage_row USING (SELECT ");
    for (unsigned k = 0; k < mapping->key_count && mapping->key[k].item >= 0; k++)
        buffer_printf(&sql, "%s%s AS portage_key_%u", k > 0 ? ", " : "",
                      mapping->items[mapping->key[k].item].select->expr, k);
    buffer_puts(&sql, " FROM ");
    if (many)
        put_key_rows(&sql, mapping);
    else
        put_key_row(&sql, mapping);
    if (mapping->where != NULL)
        buffer_printf(&sql, " WHERE (%s)", mapping->where);
    buffer_puts(&sql, ") AS m");
    for (unsigned k = 0; k < mapping->key_count && mapping->key[k].item >= 0; k++) {
        buffer_puts(&sql, k > 0 ? " AND portage_row." : " WHERE portage_row.");
        quote_ident(&sql, mapping->items[mapping->key[k].item].target->name);
        buffer_printf(&sql, " = m.portage_key_%u", k);
    }
    return arena_take(arena, &sql);
}

void rejoin_make(const struct mapping_set *reversed, const struct mapping *mapping,
                 struct arena *arena, struct rejoin *rejoin)
{
    struct parts parts = find_parts(reversed, mapping);
    CHECK(mapping->has_key);
    rejoin->read = make_read(&parts, arena, &rejoin->columns_count);
    rejoin->put = make_put(&parts, arena);
    rejoin->remove = make_remove(mapping, false, arena);
    rejoin->remove_many = make_remove(mapping, true, arena);
    rejoin->gone = make_gone(mapping, arena);
}

bool rejoin_keys(const char *const *const *keys, unsigned count, unsigned columns,
                 struct arena *arena, const char **arrays, struct error *err)
{
    for (unsigned c = 0; c < columns; c++) {
        struct buffer array;
        buffer_init(&array, KEYS_BYTES_MAX);
        for (unsigned k = 0; k < count; k++) {
            buffer_putc(&array, k == 0 ? '{' : ',');
            quote_element(&array, keys[k][c], strlen(keys[k][c]));
        }
        buffer_puts(&array, count == 0 ? "{}" : "}");
        if (buffer_failed(&array)) {
            buffer_release(&array);
            return error_set(err, ERROR_LIMIT, "%u keys are too long for a statement", count);
        }
        arrays[c] = arena_take(arena, &array);
    }
    return true;
}
