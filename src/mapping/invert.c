#include "mapping/invert.h"

#include "mapping/bind.h"
#include "mapping/names.h"
#include "pg/oid.h"
#include "pg/quote.h"

enum { LIST_MAX = 1 << 20 };

/* ---- the inverse of a column ---- */

/* One expression over the target's columns. */
static bool parse_inverse(const struct config *config, const struct config_text *text,
                          const struct relation *target, struct arena *arena,
                          struct inverse *inverse, struct error *err)
{
    struct select_list list;
    struct config_text named = *text;
    named.text = arena_printf(arena, "%s\nAS portage_inverse", text->text);
    if (!select_parse(config, &named, target, arena, &list, err))
        return false;
    if (list.count != 1)
        return error_set(err, ERROR_CONFIG, "%s:%d:%d: an inverse is one expression", config->path,
                         text->line, text->column);
    inverse->expr = list.items[0].expr;
    inverse->uses = list.items[0].uses;
    inverse->calls = list.calls;
    if (list.items[0].kind == SELECT_CONSTANT)
        inverse->how = INVERSE_CONSTANT;
    return true;
}

bool inverse_check_given(const struct config *config, const struct config_inverse *given,
                         const struct relation *target, struct arena *arena, struct error *err)
{
    struct inverse inverse = {0};
    return parse_inverse(config, &given->expr, target, arena, &inverse, err);
}

static const struct config_inverse *find_given(const struct mapping *mapping, const char *column)
{
    for (unsigned i = 0; i < mapping->config->inverse_count; i++) {
        if (strcmp(mapping->config->inverse[i].column.text, column) == 0)
            return &mapping->config->inverse[i];
    }
    return NULL;
}

/* The item that gives the column back best: as it is, through one cast, by arithmetic. */
static const struct mapping_item *find_item(const struct mapping *mapping, unsigned column)
{
    const struct mapping_item *best = NULL;
    for (unsigned i = 0; i < mapping->items_count; i++) {
        const struct mapping_item *item = &mapping->items[i];
        if (item->select->column == (int)column && item->select->inverse != NULL &&
            (best == NULL || item->select->kind < best->select->kind))
            best = item;
    }
    return best;
}

/* A column that was carried as it is needs a cast where its type is another: not each has an
 * assignment cast that leads back. */
static const char *derive(const struct mapping_item *item, const struct column *source,
                          struct arena *arena)
{
    if (item->select->kind != SELECT_COLUMN ||
        strcmp(source->base_type, item->target->base_type) == 0)
        return item->select->inverse;
    return arena_printf(arena, "%s::%s", item->select->inverse, source->base_type);
}

static void find_inverse(const struct config *config, const struct mapping *mapping,
                         struct arena *arena, struct inverse *inverse)
{
    const struct column *column = &mapping->source->columns[inverse->column];
    const struct config_inverse *given = find_given(mapping, column->name);
    const struct mapping_item *item = find_item(mapping, (unsigned)inverse->column);
    struct config_text text = {.line = mapping->config->target.line, .column = 1};
    struct error err = ERROR_INIT;
    if (given != NULL)
        text = given->expr;
    else if (item != NULL)
        text.text = derive(item, column, arena);
    inverse->how = given != NULL ? INVERSE_GIVEN : item != NULL ? INVERSE_DERIVED : INVERSE_MISSING;
    inverse->stored_as_jsonb = given == NULL && item != NULL &&
                               item->target->base_oid == OID_JSONB && column->base_oid != OID_JSONB;
    if (text.text != NULL && !parse_inverse(config, &text, mapping->target, arena, inverse, &err))
        inverse->how = INVERSE_MISSING; /* the binder has refused it */
}

void inverses_of(const struct config *config, const struct mapping *mapping, struct arena *arena,
                 struct inverses *inverses)
{
    const struct relation *source = mapping->source;
    inverses->count = 0;
    inverses->items = arena_zalloc(arena, (source->columns_count + 1) * sizeof *inverses->items);
    for (unsigned c = 0; c < source->columns_count; c++) {
        if (source->columns[c].generated)
            continue;
        struct inverse *inverse = &inverses->items[inverses->count++];
        inverse->column = (int)c;
        find_inverse(config, mapping, arena, inverse);
    }
}

/* ---- what may be lost ---- */

/* schema.table.column, or schema.table, as written in accept_losses. */
static bool names_it(const char *text, const struct relation *source, const char *column,
                     struct arena *arena)
{
    struct table_name table;
    const char *last;
    if (column == NULL)
        return name_parse(text, arena, &table) && strcmp(table.schema, source->schema) == 0 &&
               strcmp(table.name, source->name) == 0;
    return column_name_parse(text, arena, &table, &last) &&
           strcmp(table.schema, source->schema) == 0 && strcmp(table.name, source->name) == 0 &&
           strcmp(last, column) == 0;
}

bool invert_accepts(const struct config *config, const struct relation *source, const char *column,
                    struct arena *arena)
{
    for (unsigned a = 0; a < config->accept_losses_count; a++) {
        if (names_it(config->accept_losses[a].text, source, column, arena) ||
            names_it(config->accept_losses[a].text, source, NULL, arena))
            return true;
    }
    return false;
}

/* ---- the reversed configuration ---- */

/* Whether the constant of an item is another one in a part of the same target. */
static bool tells_apart(const struct mapping_set *set, const struct mapping *mapping,
                        const struct mapping_item *item)
{
    for (unsigned m = 0; m < set->count; m++) {
        const struct mapping *other = &set->mappings[m];
        for (unsigned i = 0; other->target == mapping->target && i < other->items_count; i++) {
            const struct select_item *there = other->items[i].select;
            if (other->items[i].target == item->target && there->kind == SELECT_CONSTANT &&
                strcmp(there->expr, item->select->expr) != 0)
                return true;
        }
    }
    return false;
}

static const char *part_condition(const struct mapping_set *set, const struct mapping *mapping,
                                  struct arena *arena)
{
    struct buffer sql;
    const char *word = "";
    if (!mapping->merged)
        return NULL;
    buffer_init(&sql, LIST_MAX);
    for (unsigned i = 0; i < mapping->items_count; i++) {
        const struct mapping_item *item = &mapping->items[i];
        if (item->select->kind != SELECT_CONSTANT || !tells_apart(set, mapping, item))
            continue;
        buffer_puts(&sql, word);
        quote_ident(&sql, item->target->name);
        buffer_printf(&sql, " IS NOT DISTINCT FROM (%s)", item->select->expr);
        word = " AND ";
    }
    return arena_take(arena, &sql);
}

/* On one line: the place of an error in it is the line of the table in portage.yaml. */
static const char *reversed_list(const struct mapping *mapping, const struct inverses *inverses,
                                 struct arena *arena)
{
    struct buffer sql;
    const char *comma = "";
    buffer_init(&sql, LIST_MAX);
    for (unsigned i = 0; i < inverses->count; i++) {
        const struct inverse *inverse = &inverses->items[i];
        if (inverse->how == INVERSE_MISSING)
            continue;
        buffer_printf(&sql, "%s%s AS ", comma, inverse->expr);
        quote_ident(&sql, mapping->source->columns[inverse->column].name);
        comma = ", ";
    }
    return arena_take(arena, &sql);
}

/* lag_by names a column of the target: the source column that it was made of. */
static const char *reversed_lag_by(const struct mapping *mapping)
{
    const char *name = mapping->config->lag_by.text;
    for (unsigned i = 0; name != NULL && i < mapping->items_count; i++) {
        const struct select_item *item = mapping->items[i].select;
        if (strcmp(item->name, name) == 0 && item->column >= 0)
            return mapping->source->columns[item->column].name;
    }
    return NULL;
}

static bool goes_back(const struct config *config, const struct mapping *mapping, unsigned shard,
                      struct arena *arena)
{
    return !(mapping->everywhere && shard > 0) &&
           !invert_accepts(config, mapping->source, NULL, arena);
}

static unsigned count_parts(const struct mapping_set *set, const struct relation *source)
{
    unsigned parts = 0;
    for (unsigned m = 0; m < set->count; m++)
        parts += set->mappings[m].source == source;
    return parts;
}

static struct config_text at(const struct mapping *mapping, const char *text)
{
    return (struct config_text){.text = text,
                                .line = mapping->config->target.line,
                                .column = mapping->config->target.column};
}

static struct config_mapping reversed_mapping(const struct mapping_set *set,
                                              const struct config *config,
                                              const struct mapping *mapping, struct arena *arena)
{
    const struct relation *source = mapping->source, *target = mapping->target;
    struct inverses inverses;
    inverses_of(config, mapping, arena, &inverses);
    return (struct config_mapping){
        .target = at(mapping, quote_name_dup(arena, source->schema, source->name)),
        .from = at(mapping, quote_name_dup(arena, target->schema, target->name)),
        .select = at(mapping, reversed_list(mapping, &inverses, arena)),
        .where = at(mapping, part_condition(set, mapping, arena)),
        .lag_by = at(mapping, reversed_lag_by(mapping)),
        .park_errors = mapping->config->park_errors,
        .parts = count_parts(set, source),
        .origin = mapping,
    };
}

const char *invert_slot(const struct config *config, unsigned shard, struct arena *arena)
{
    return name_join(arena, config->slot, arena_printf(arena, "_back_%u", shard));
}

void invert_servers(const struct config *config, unsigned shard, struct arena *arena,
                    struct config *back)
{
    CHECK(shard < config->shards_count);
    *back = *config; /* its limits */
    back->reversed = true;
    back->source = config->shards[shard];
    back->shards_count = 1;
    back->shards = arena_memdup(arena, &config->source, sizeof config->source);
    back->schema_file = NULL;
    back->shard_by_count = back->accept_losses_count = 0;
    back->verify_every_s = 0;
    back->slot = invert_slot(config, shard, arena);
    back->publication = name_join(arena, config->publication, "_back");
    back->mappings_count = 0;
    back->mappings = NULL;
}

void invert_config(const struct mapping_set *set, const struct config *config, unsigned shard,
                   struct arena *arena, struct config *back)
{
    invert_servers(config, shard, arena, back);
    back->mappings = arena_zalloc(arena, (set->count + 1) * sizeof *back->mappings);
    for (unsigned m = 0; m < set->count; m++) {
        if (goes_back(config, &set->mappings[m], shard, arena))
            back->mappings[back->mappings_count++] =
                reversed_mapping(set, config, &set->mappings[m], arena);
    }
}
