#include "verify/reading.h"

#include "pg/quote.h"

enum { STATEMENT_MAX = 1 << 20 };

enum {
    BPCHAR = 1042,
    NUMERIC = 1700,
    TIME = 1083,
    TIMESTAMP = 1114,
    TIMESTAMPTZ = 1184,
    INTERVAL = 1186,
    TIMETZ = 1266
};

/* Built-in types by OID whose binary form is the same everywhere and complete. */
static const uint32_t binary_types[] = {
    16 /* bool */,     17 /* bytea */,       18 /* "char" */,        19 /* name */,
    20 /* int8 */,     21 /* int2 */,        23 /* int4 */,          25 /* text */,
    114 /* json */,    650 /* cidr */,       700 /* float4 */,       701 /* float8 */,
    829 /* macaddr */, 869 /* inet */,       1043 /* varchar */,     1082 /* date */,
    1083 /* time */,   1114 /* timestamp */, 1184 /* timestamptz */, 1186 /* interval */,
    1266 /* timetz */, 1560 /* bit */,       1562 /* varbit */,      1700 /* numeric */,
    2950 /* uuid */,   3802 /* jsonb */,
};

/*
 * char(n) is padded to its length, in its binary form too; its text is not. So it comes in binary
 * only from a column of the same length.
 */
static bool is_padded_alike(const struct mapping *mapping, const struct mapping_item *item)
{
    return item->target->base_oid == BPCHAR && item->select->kind == SELECT_COLUMN &&
           strcmp(mapping->source->columns[item->select->column].base_full_type,
                  item->target->base_full_type) == 0;
}

bool reading_is_binary(const struct mapping *mapping, unsigned item)
{
    const struct column *target = mapping->items[item].target;
    if (mapping->has_key && is_padded_alike(mapping, &mapping->items[item]))
        return true;
    for (size_t t = 0; t < sizeof binary_types / sizeof binary_types[0]; t++) {
        if (mapping->has_key && target->base_oid == binary_types[t])
            return true;
    }
    return false;
}

static bool is_integer(enum sortkey_type type)
{
    return type == SORTKEY_INT2 || type == SORTKEY_INT4 || type == SORTKEY_INT8;
}

bool reading_by_intervals(const struct mapping *mapping)
{
    if (mapping->copy_mode != COPY_RANGES)
        return false;
    for (unsigned k = 0; k < mapping->range_count; k++) {
        const struct column *target = mapping->items[mapping->key[k].item].target;
        enum sortkey_type from = mapping->key[k].sort;
        enum sortkey_type to = sortkey_type_of(target->base_oid, target->bytewise);
        if (from != to && !(is_integer(from) && is_integer(to)))
            return false;
    }
    return true;
}

bool reading_is_placed(const struct mapping *mapping, unsigned shards)
{
    return shards > 1 && !mapping->everywhere && mapping->shard_item >= 0;
}

/* ---- items ---- */

/*
 * With the type's length or scale where an assignment rounds; never where an explicit cast would cut
 * silently and an assignment fails. What is below a domain has the domain's.
 */
static const char *cast_of(const struct column *target)
{
    switch (target->base_oid) {
    case NUMERIC:
    case TIME:
    case TIMETZ:
    case TIMESTAMP:
    case TIMESTAMPTZ:
    case INTERVAL:
        return target->base_full_type;
    default:
        return target->base_type;
    }
}

static void put_source_item(struct buffer *sql, const struct mapping *mapping, unsigned item,
                            bool text)
{
    const struct mapping_item *mapped = &mapping->items[item];
    if (mapped->target->builtin)
        buffer_printf(sql, "(%s)::%s", mapped->select->expr, cast_of(mapped->target));
    else
        buffer_printf(sql, "(%s)", mapped->select->expr);
    if (text || !reading_is_binary(mapping, item))
        buffer_puts(sql, "::text");
}

static void put_source_items(struct buffer *sql, const struct mapping *mapping, bool text)
{
    for (unsigned i = 0; i < mapping->items_count; i++) {
        buffer_puts(sql, i > 0 ? ", " : "");
        put_source_item(sql, mapping, i, text);
        buffer_printf(sql, " AS portage_%u", i);
    }
}

static void put_target_items(struct buffer *sql, const struct mapping *mapping, bool text)
{
    for (unsigned i = 0; i < mapping->items_count; i++) {
        buffer_puts(sql, i > 0 ? ", " : "");
        quote_ident(sql, mapping->items[i].target->name);
        buffer_puts(sql, text || !reading_is_binary(mapping, i) ? "::text" : "");
        buffer_printf(sql, " AS portage_%u", i);
    }
}

/* ---- tables and rows ---- */

static void put_place_table(struct buffer *sql, const struct mapping *mapping)
{
    const struct column *key = mapping->items[mapping->shard_item].target;
    buffer_printf(sql, "pg_temp.portage_place_%u", key->base_oid);
}

const char *reading_place_table(const struct mapping *mapping, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "CREATE TEMPORARY TABLE IF NOT EXISTS ");
    put_place_table(&sql, mapping);
    buffer_printf(&sql, " (key %s) PARTITION BY HASH (key)",
                  mapping->items[mapping->shard_item].target->base_type);
    return arena_take(arena, &sql);
}

static void put_place(struct buffer *sql, const struct mapping *mapping, unsigned shard,
                      unsigned shards, const char *value)
{
    buffer_puts(sql, "pg_catalog.satisfies_hash_partition('");
    put_place_table(sql, mapping);
    buffer_printf(sql, "'::pg_catalog.regclass, %u, %u, ", shards, shard);
    if (value != NULL)
        buffer_puts(sql, value);
    else
        quote_ident(sql, mapping->items[mapping->shard_item].target->name);
    buffer_printf(sql, "::%s)", mapping->items[mapping->shard_item].target->base_type);
}

static void put_placed(struct buffer *sql, const struct mapping *mapping, unsigned shard,
                       unsigned shards)
{
    if (reading_is_placed(mapping, shards))
        put_place(sql, mapping, shard, shards, NULL);
    else
        buffer_puts(sql, "true");
}

static void put_source_table(struct buffer *sql, const struct mapping *mapping)
{
    buffer_puts(sql, " FROM ");
    relation_put_only(sql, mapping->source);
}

/* Which rows of the target are this mapping's: those with a merge's constants. */
static const char *put_target_where(struct buffer *sql, const struct mapping *mapping)
{
    const char *word = " WHERE ";
    for (unsigned i = 0; mapping->merged && i < mapping->items_count; i++) {
        if (mapping->items[i].select->kind != SELECT_CONSTANT)
            continue;
        buffer_puts(sql, word);
        quote_ident(sql, mapping->items[i].target->name);
        buffer_printf(sql, " IS NOT DISTINCT FROM (%s)", mapping->items[i].select->expr);
        word = " AND ";
    }
    return word;
}

static void put_sample(struct buffer *sql, double percent)
{
    if (percent < 100)
        buffer_printf(sql, " TABLESAMPLE SYSTEM (%.9f)", percent);
}

static const char *put_target_table(struct buffer *sql, const struct mapping *mapping,
                                    double percent)
{
    buffer_puts(sql, " FROM ");
    relation_put_only(sql, mapping->target);
    put_sample(sql, percent);
    return put_target_where(sql, mapping);
}

/* The mapping's `where`; gives what a further condition begins with. */
static const char *put_source_filter(struct buffer *sql, const struct mapping *mapping)
{
    if (mapping->where == NULL)
        return " WHERE ";
    buffer_printf(sql, " WHERE (%s)", mapping->where);
    return " AND ";
}

static const struct column *key_column_of(const struct mapping *mapping, unsigned k, bool target)
{
    const struct key_column *key = &mapping->key[k];
    return target ? mapping->items[key->item].target : &mapping->source->columns[key->source];
}

static void put_bound(struct buffer *sql, const struct mapping *mapping, const char *operator,
                      const char * const * values, bool target)
{
    buffer_putc(sql, '(');
    for (unsigned k = 0; k < mapping->range_count; k++) {
        buffer_puts(sql, k > 0 ? ", " : "");
        quote_ident(sql, key_column_of(mapping, k, target)->name);
    }
    buffer_printf(sql, ") %s (", operator);
    for (unsigned k = 0; k < mapping->range_count; k++) {
        buffer_puts(sql, k > 0 ? ", " : "");
        quote_literal(sql, values[k]);
        buffer_printf(sql, "::%s", key_column_of(mapping, k, target)->base_type);
    }
    buffer_putc(sql, ')');
}

static void put_bounds(struct buffer *sql, const struct mapping *mapping, struct bounds bounds,
                       const char *word, bool target)
{
    if (bounds.lower != NULL) {
        buffer_puts(sql, word);
        put_bound(sql, mapping, ">", bounds.lower, target);
        word = " AND ";
    }
    if (bounds.upper != NULL) {
        buffer_puts(sql, word);
        put_bound(sql, mapping, "<=", bounds.upper, target);
    }
}

const char *reading_source(const struct mapping *mapping, struct bounds bounds, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "SELECT ");
    put_source_items(&sql, mapping, false);
    put_source_table(&sql, mapping);
    put_bounds(&sql, mapping, bounds, put_source_filter(&sql, mapping), false);
    return arena_take(arena, &sql);
}

const char *reading_target(const struct mapping *mapping, struct bounds bounds, unsigned shard,
                           unsigned shards, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "SELECT ");
    put_placed(&sql, mapping, shard, shards);
    buffer_puts(&sql, " AS portage_placed, ");
    put_target_items(&sql, mapping, false);
    put_bounds(&sql, mapping, bounds, put_target_table(&sql, mapping, 100), true);
    return arena_take(arena, &sql);
}

const char *reading_source_sample(const struct mapping *mapping, double percent, int64_t rows,
                                  struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "SELECT ");
    put_source_items(&sql, mapping, false);
    put_source_table(&sql, mapping);
    put_sample(&sql, percent);
    put_source_filter(&sql, mapping);
    buffer_printf(&sql, " ORDER BY pg_catalog.random() LIMIT %lld", (long long)rows);
    return arena_take(arena, &sql);
}

const char *reading_target_sample(const struct mapping *mapping, double percent, int64_t rows,
                                  unsigned shard, unsigned shards, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "SELECT ");
    put_placed(&sql, mapping, shard, shards);
    buffer_puts(&sql, " AS portage_placed, ");
    put_target_items(&sql, mapping, false);
    put_target_table(&sql, mapping, percent);
    buffer_printf(&sql, " ORDER BY pg_catalog.random() LIMIT %lld", (long long)rows);
    return arena_take(arena, &sql);
}

const char *reading_count(const struct mapping *mapping, bool target, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "SELECT pg_catalog.count(*)");
    if (target) {
        put_target_table(&sql, mapping, 100);
    } else {
        put_source_table(&sql, mapping);
        put_source_filter(&sql, mapping);
    }
    return arena_take(arena, &sql);
}

static void put_range_columns(struct buffer *sql, const struct mapping *mapping, const char *cast)
{
    for (unsigned k = 0; k < mapping->range_count; k++) {
        buffer_puts(sql, k > 0 ? ", " : "");
        quote_ident(sql, key_column_of(mapping, k, false)->name);
        buffer_puts(sql, cast);
    }
}

/* The inner SELECT gives the columns bare: one that casts would cast each key that is passed over. */
const char *reading_key_at(const struct mapping *mapping, const char *const *lower, int64_t rows,
                           struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "SELECT ");
    put_range_columns(&sql, mapping, "::text");
    buffer_puts(&sql, " FROM (SELECT ");
    put_range_columns(&sql, mapping, "");
    put_source_table(&sql, mapping);
    put_bounds(&sql, mapping, (struct bounds){.lower = lower}, " WHERE ", false);
    buffer_puts(&sql, " ORDER BY ");
    put_range_columns(&sql, mapping, "");
    buffer_printf(&sql, " OFFSET %lld LIMIT 1) AS portage_key", (long long)rows - 1);
    return arena_take(arena, &sql);
}

/* ---- single rows ---- */

/* The source's key column against the target's image of it. */
static void put_source_key(struct buffer *sql, const struct mapping *mapping, unsigned k)
{
    const struct column *source = key_column_of(mapping, k, false);
    const struct column *target = key_column_of(mapping, k, true);
    unsigned item = (unsigned)mapping->key[k].item;
    bool comparable =
        reading_is_binary(mapping, item) &&
        (source->base_oid == target->base_oid ||
         (is_integer(mapping->key[k].sort) && is_integer(sortkey_type_of(target->base_oid, true))));
    if (comparable) {
        quote_ident(sql, source->name); /* by its index */
        buffer_printf(sql, " = $%u", k + 1);
    } else if (is_integer(mapping->key[k].sort)) { /* whose text is the target's key */
        quote_ident(sql, source->name);
        buffer_printf(sql, " = $%u::text::%s", k + 1, source->base_type);
    } else {
        put_source_item(sql, mapping, item, false);
        buffer_printf(sql, " = $%u", k + 1);
    }
}

/* Without a key a row is told by all of its items, where nulls are equal. */
static void put_key_match(struct buffer *sql, const struct mapping *mapping, const char *word,
                          bool target)
{
    unsigned count = mapping->has_key ? mapping->key_count : mapping->items_count;
    for (unsigned k = 0; k < count; k++, word = " AND ") {
        unsigned item = mapping->has_key ? (unsigned)mapping->key[k].item : k;
        buffer_puts(sql, word);
        if (target) {
            quote_ident(sql, mapping->items[item].target->name);
            buffer_puts(sql, reading_is_binary(mapping, item) ? "" : "::text");
        } else if (mapping->has_key) {
            put_source_key(sql, mapping, k);
            continue;
        } else {
            put_source_item(sql, mapping, item, true);
        }
        buffer_printf(sql, "%s $%u", mapping->has_key ? " =" : " IS NOT DISTINCT FROM", k + 1);
    }
}

const char *reading_source_row(const struct mapping *mapping, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "SELECT tableoid::text || '/' || ctid::text || '/' || xmin::text,"
                      " xmax::text <> '0', ");
    put_source_items(&sql, mapping, true);
    put_source_table(&sql, mapping);
    put_key_match(&sql, mapping, put_source_filter(&sql, mapping), false);
    return arena_take(arena, &sql);
}

const char *reading_target_row(const struct mapping *mapping, unsigned shard, unsigned shards,
                               struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "SELECT tableoid::text || '/' || ctid::text || '/' || xmin::text, ");
    put_placed(&sql, mapping, shard, shards);
    buffer_puts(&sql, ", ");
    put_target_items(&sql, mapping, true);
    put_key_match(&sql, mapping, put_target_table(&sql, mapping, 100), true);
    return arena_take(arena, &sql);
}

const char *reading_target_match(const struct mapping *mapping, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    put_key_match(&sql, mapping, put_target_where(&sql, mapping), true);
    return arena_take(arena, &sql);
}

const char *reading_place(const struct mapping *mapping, unsigned shard, unsigned shards,
                          struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "SELECT ");
    put_place(&sql, mapping, shard, shards, "$1");
    return arena_take(arena, &sql);
}

const char *reading_strays(const struct mapping *const *parts, unsigned parts_count,
                           struct arena *arena)
{
    struct buffer sql;
    const struct relation *target = parts[0]->target;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_puts(&sql, "SELECT pg_catalog.array_agg(o.row) FROM (SELECT tableoid::text || '/' ||"
                      " ctid::text || '/' || xmin::text AS row FROM ");
    relation_put_only(&sql, target);
    for (unsigned p = 0; p < parts_count; p++) {
        buffer_puts(&sql, p == 0 ? " WHERE NOT (true" : " AND NOT (true");
        for (unsigned i = 0; i < parts[p]->items_count; i++) {
            if (parts[p]->items[i].select->kind != SELECT_CONSTANT)
                continue;
            buffer_puts(&sql, " AND ");
            quote_ident(&sql, parts[p]->items[i].target->name);
            buffer_printf(&sql, " IS NOT DISTINCT FROM (%s)", parts[p]->items[i].select->expr);
        }
        buffer_putc(&sql, ')');
    }
    buffer_puts(&sql, " AND ($1::text[] IS NULL OR tableoid::text || '/' || ctid::text || '/' ||"
                      " xmin::text = ANY ($1::text[])) LIMIT 10000) AS o");
    return arena_take(arena, &sql);
}
