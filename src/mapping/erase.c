#include "mapping/erase.h"

#include "pg/quote.h"

enum { STATEMENT_MAX = 1 << 20 };

static bool is_placed(const struct mapping *back, struct erase_of of)
{
    return of.shards > 1 && !back->origin->everywhere && back->origin->shard_item >= 0;
}

/* ---- whether ---- */

/* A column that the way back makes up, or leaves out, does not tell whose a row is. */
static bool comes_back(const struct mapping *back, const struct column *column)
{
    for (unsigned i = 0; i < back->items_count; i++) {
        if (strcmp(back->items[i].target->name, column->name) == 0)
            return back->items[i].select->kind != SELECT_CONSTANT;
    }
    return false;
}

/* What the mapping makes a column of the shard's table of. */
static const struct mapping_item *origin_item(const struct mapping *back, const char *name)
{
    for (unsigned i = 0; i < back->origin->items_count; i++) {
        if (strcmp(back->origin->items[i].target->name, name) == 0)
            return &back->origin->items[i];
    }
    return NULL;
}

static const struct column *key_column(const struct mapping *back, unsigned k)
{
    return &back->source->columns[back->key[k].source];
}

static bool keys_are_mapped(const struct mapping *back, struct error *err)
{
    if (!back->has_key)
        return error_set(err, ERROR_FATAL, "%s.%s has no key", back->source->schema,
                         back->source->name);
    for (unsigned k = 0; k < back->key_count; k++) {
        if (origin_item(back, key_column(back, k)->name) == NULL)
            return error_set(err, ERROR_FATAL, "the key column \"%s\" of %s.%s is not mapped",
                             key_column(back, k)->name, back->source->schema, back->source->name);
    }
    return true;
}

bool erase_check(const struct mapping *back, struct erase_of of, bool by_key, struct error *err)
{
    const struct mapping *origin = back->origin;
    CHECK(origin != NULL);
    if (is_placed(back, of)) {
        const struct column *key = &origin->source->columns[origin->shard_column];
        if (!comes_back(back, key))
            return error_set(err, ERROR_FATAL,
                             "the shard key \"%s\" of %s.%s does not come back from the shards",
                             key->name, origin->source->schema, origin->source->name);
    }
    return !(by_key || back->parts > 1) || keys_are_mapped(back, err);
}

bool erase_is_part(const struct mapping *back, struct erase_of of)
{
    return is_placed(back, of) || back->origin->where != NULL || back->parts > 1;
}

/* ---- the statements ---- */

static const struct column *shard_key(const struct mapping *back)
{
    return back->origin->items[back->origin->shard_item].target;
}

static void put_place_table(struct buffer *sql, const struct mapping *back)
{
    buffer_printf(sql, "pg_temp.portage_erase_%u", shard_key(back)->base_oid);
}

const char *erase_place(const struct mapping *back, struct erase_of of, struct arena *arena)
{
    struct buffer sql;
    if (!is_placed(back, of))
        return NULL;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "CREATE TEMPORARY TABLE IF NOT EXISTS ");
    put_place_table(&sql, back);
    buffer_printf(&sql, " (key %s) PARTITION BY HASH (key)", shard_key(back)->base_type);
    return arena_take(arena, &sql);
}

/* An item over the source's columns; a type of the shards' own need not be there. */
static void put_image(struct buffer *sql, const struct mapping_item *item)
{
    buffer_printf(sql, "(%s)", item->select->expr);
    if (item->target->builtin)
        buffer_printf(sql, "::%s", item->target->base_type);
}

/* FROM … WHERE …: the rows that the shard's table was made of. */
static void put_from(struct buffer *sql, const struct mapping *back, struct erase_of of)
{
    const struct mapping *origin = back->origin;
    const char *word = " WHERE ";
    buffer_puts(sql, " FROM ");
    relation_put_only(sql, back->target);
    if (is_placed(back, of)) {
        buffer_printf(sql, "%spg_catalog.satisfies_hash_partition('", word);
        put_place_table(sql, back);
        buffer_printf(sql, "'::pg_catalog.regclass, %u, %u, ", of.shards, of.shard);
        put_image(sql, &origin->items[origin->shard_item]);
        buffer_putc(sql, ')');
        word = " AND ";
    }
    if (origin->where != NULL)
        buffer_printf(sql, "%s(%s)", word, origin->where);
}

/* The key of the shard's row, as texts. */
static void put_key(struct buffer *sql, const struct mapping *back)
{
    for (unsigned k = 0; k < back->key_count; k++) {
        const struct mapping_item *item = origin_item(back, key_column(back, k)->name);
        CHECK(item != NULL);
        buffer_puts(sql, k > 0 ? ", (" : "(");
        put_image(sql, item);
        buffer_puts(sql, ")::text");
    }
}

const char *erase_rows(const struct mapping *back, struct erase_of of, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, back->parts > 1 ? "WITH gone AS (DELETE" : "DELETE");
    put_from(&sql, back, of);
    if (back->parts <= 1)
        return arena_take(arena, &sql);
    buffer_puts(&sql, " RETURNING ARRAY[");
    put_key(&sql, back);
    buffer_puts(&sql, "]::text AS portage_key) INSERT INTO portage.dirty (mapping, key, owner) SELECT ");
    quote_literal(&sql, back->name);
    buffer_printf(&sql, ", portage_key, %u FROM gone", of.shard);
    return arena_take(arena, &sql);
}

const char *erase_keys(const struct mapping *back, struct erase_of of, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "SELECT ");
    put_key(&sql, back);
    put_from(&sql, back, of);
    return arena_take(arena, &sql);
}
