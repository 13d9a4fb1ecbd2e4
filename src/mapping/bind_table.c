#include "mapping/bind.h"
#include "mapping/invert.h"
#include "pg/oid.h"
#include "pg/quote.h"

/* One mapping while it is bound. */
struct binding {
    const struct config *config;
    const struct config_mapping *from;
    const struct relation *source, *target;
    unsigned shards_count;
    struct arena *arena;
    struct mapping *mapping;
    struct findings *findings;
    bool *mapped; /* by index into target->columns */
};

static const char *object_name(const struct binding *binding, const char *column)
{
    return arena_printf(binding->arena, "%s.%s%s%s", binding->target->schema,
                        binding->target->name, column != NULL ? "." : "",
                        column != NULL ? column : "");
}

/* Refuses; always false. `place` may be NULL. */
#define REFUSE(binding, code, place, column, fix, ...)                                             \
    findings_add((binding)->findings, SEVERITY_REFUSE, code, place, object_name(binding, column),  \
                 fix, __VA_ARGS__)

static struct config_text item_place(const struct select_item *item)
{
    return (struct config_text){.line = item->line, .column = item->place};
}

/* ---- the columns ---- */

/* `identical`: every target column from the source column of its name. */
static bool list_identical(const struct binding *binding, struct select_list *list)
{
    bool ok = true;
    list->items = arena_zalloc(binding->arena,
                               (binding->target->columns_count + 1) * sizeof *list->items);
    for (unsigned t = 0; t < binding->target->columns_count; t++) {
        const struct column *target = &binding->target->columns[t];
        int s = relation_column(binding->source, target->name);
        if (target->generated || (s < 0 && column_may_be_left_out(target)))
            continue;
        if (s < 0) {
            ok = REFUSE(binding, "missing-column", &binding->from->target, target->name,
                        "Write a select for this table that says what the column holds.",
                        "may not be null, has no default, and %s.%s has no column of this name",
                        binding->source->schema, binding->source->name);
            continue;
        }
        struct select_item *item = &list->items[list->count++];
        *item = (struct select_item){
            .name = target->name,
            .expr = quote_ident_dup(binding->arena, target->name),
            .kind = SELECT_COLUMN,
            .column = s,
            .digits = column_digits(&binding->source->columns[s]),
            .inverse = quote_ident_dup(binding->arena, target->name),
            .line = binding->from->target.line,
            .place = binding->from->target.column,
        };
        column_set_add(&item->uses, (unsigned)s);
    }
    return ok;
}

static void warn_left_behind(const struct binding *binding)
{
    for (unsigned c = 0; c < binding->source->columns_count; c++) {
        const struct column *column = &binding->source->columns[c];
        if (!column->generated && relation_column(binding->target, column->name) < 0)
            findings_add(binding->findings, SEVERITY_WARNING, "column-left-behind",
                         &binding->from->target, object_name(binding, NULL),
                         "Add it to the target, or write a select without it.",
                         "\"identical\", but the source's column \"%s\" has no place here",
                         column->name);
    }
}

static bool read_list(const struct binding *binding, struct select_list *list)
{
    struct error err = ERROR_INIT;
    if (binding->from->select.text == NULL) {
        warn_left_behind(binding);
        return list_identical(binding, list);
    }
    if (select_parse(binding->config, &binding->from->select, binding->source, binding->arena,
                     list, &err))
        return true;
    return REFUSE(binding, "select", NULL, NULL,
                  err.hint[0] != '\0' ? err.hint : "Write what may stand between SELECT and FROM.", "%s",
                  err.message);
}

static bool refuse_item(const struct binding *binding, const struct select_item *item,
                        const char *code, const char *fix, const char *reason)
{
    struct config_text place = item_place(item);
    return REFUSE(binding, code, &place, item->name, fix, "%s", reason);
}

static bool check_uses(const struct binding *binding, const struct select_item *item)
{
    for (unsigned c = 0; c < binding->source->columns_count; c++) {
        if (column_set_has(&item->uses, c) && binding->source->columns[c].generated)
            return refuse_item(binding, item, "generated-column",
                               "Write the column's expression instead of its name.",
                               arena_printf(binding->arena,
                                            "uses the generated column \"%s\", which the stream"
                                            " of changes does not carry",
                                            binding->source->columns[c].name));
    }
    return true;
}

static bool bind_item(const struct binding *binding, const struct select_item *item,
                      struct mapping_item *bound)
{
    int t = relation_column(binding->target, item->name);
    if (t < 0)
        return refuse_item(binding, item, "unknown-column",
                           "Add the column to the target, or AS another name.",
                           "the target table has no such column");
    const struct column *target = &binding->target->columns[t];
    if (target->generated)
        return refuse_item(binding, item, "generated-column", "Leave it out.",
                           "the target computes this column itself");
    if (binding->mapped[t])
        return refuse_item(binding, item, "duplicate-column", "Keep one of them.",
                           "the select list gives this column twice");
    binding->mapped[t] = true;
    *bound = (struct mapping_item){.select = item, .target = target};
    return check_uses(binding, item);
}

static bool check_unmapped(const struct binding *binding)
{
    bool ok = true;
    for (unsigned t = 0; t < binding->target->columns_count; t++) {
        const struct column *column = &binding->target->columns[t];
        if (!binding->mapped[t] && !column_may_be_left_out(column))
            ok = REFUSE(binding, "missing-column",
                        binding->from->select.text != NULL ? &binding->from->select
                                                           : &binding->from->target,
                        column->name, "Add an item with AS and its name to the select.",
                        "may not be null and has no default, and the select leaves it out");
    }
    return ok;
}

static bool bind_items(const struct binding *binding, const struct select_list *list)
{
    struct mapping *mapping = binding->mapping;
    bool ok = true;
    mapping->calls = list->calls;
    mapping->items = arena_zalloc(binding->arena, (list->count + 1) * sizeof *mapping->items);
    for (unsigned i = 0; i < list->count; i++)
        ok &= bind_item(binding, &list->items[i], &mapping->items[mapping->items_count++]);
    if (ok && list->count == 0)
        ok = REFUSE(binding, "no-columns", &binding->from->target, NULL, "Write a select.",
                    "no column of the source is mapped");
    /* One part of a row is not to have all of its columns. */
    return (mapping->parts > 1 || check_unmapped(binding)) && ok;
}

static bool bind_where(const struct binding *binding)
{
    struct mapping *mapping = binding->mapping;
    struct error err = ERROR_INIT;
    if (binding->from->where.text == NULL)
        return true;
    mapping->where = binding->from->where.text;
    return select_parse_condition(binding->config, &binding->from->where, binding->source,
                                  binding->arena, &mapping->where_uses, &mapping->where_calls,
                                  &err) ||
           REFUSE(binding, "where", NULL, NULL,
                  err.hint[0] != '\0' ? err.hint : "Write what may stand behind WHERE.", "%s",
                  err.message);
}

/* ---- the key ---- */

static bool index_within(const struct unique_index *inner, const struct unique_index *outer)
{
    for (unsigned i = 0; i < inner->count; i++) {
        bool found = false;
        for (unsigned o = 0; o < outer->count; o++)
            found |= outer->attnums[o] == inner->attnums[i];
        if (!found)
            return false;
    }
    return true;
}

/* The index that the replica identity goes by; NULL for FULL and NOTHING, and where none serves: a
 * deferrable primary key does not (R3). */
static const struct unique_index *find_identity_index(const struct relation *source)
{
    for (unsigned u = 0; u < source->uniques_count; u++) {
        const struct unique_index *index = &source->uniques[u];
        bool chosen = source->replica_identity == 'i' ? index->replica_identity
                                                      : source->replica_identity == 'd' && index->primary;
        if (chosen && index->immediate)
            return index;
    }
    return NULL;
}

/* The key must be known of every old row, so it lies within the replica identity. Of the two the
 * primary key is preferred: it is what the copy walks along. */
static const struct unique_index *choose_key(const struct relation *source)
{
    const struct unique_index *primary = NULL, *identity = find_identity_index(source);
    for (unsigned u = 0; u < source->uniques_count; u++) {
        if (source->uniques[u].primary)
            primary = &source->uniques[u];
    }
    if (source->replica_identity != 'i')
        return primary;
    return primary != NULL && identity != NULL && index_within(primary, identity) ? primary
                                                                                  : identity;
}

static void set_identity(const struct binding *binding)
{
    const struct relation *source = binding->source;
    const struct unique_index *key = find_identity_index(source);
    for (unsigned c = 0; c < source->columns_count; c++) {
        if (source->replica_identity == 'f' && !source->columns[c].generated)
            column_set_add(&binding->mapping->identity, c);
    }
    for (unsigned k = 0; key != NULL && k < key->count; k++)
        column_set_add(&binding->mapping->identity,
                       (unsigned)relation_column_by_attnum(source, key->attnums[k]));
}

/* Casts that map different values to different values. */
static bool keeps_apart(const struct column *source, const struct column *target)
{
    uint32_t from = source->base_oid, to = target->base_oid;
    if (from == to || OID_IN(to, OID_TEXT, OID_VARCHAR))
        return !OID_IN(from, OID_BPCHAR) || from == to;
    if (strcmp(source->base_type, target->base_type) == 0) /* of the user's own making */
        return true;
    return (from == OID_INT2 && OID_IN(to, OID_INT4, OID_INT8)) ||
           (from == OID_INT4 && to == OID_INT8);
}

static int key_item(const struct binding *binding, int column)
{
    for (unsigned i = 0; i < binding->mapping->items_count; i++) {
        const struct mapping_item *item = &binding->mapping->items[i];
        bool plain = item->select->kind == SELECT_COLUMN || item->select->kind == SELECT_CAST;
        if (plain && item->select->column == column &&
            keeps_apart(&binding->source->columns[column], item->target))
            return (int)i;
    }
    return -1;
}

static bool bind_key_column(const struct binding *binding, int source, struct key_column *key)
{
    const struct column *column = &binding->source->columns[source];
    const struct config_mapping *from = binding->from;
    *key = (struct key_column){
        .source = source,
        .item = key_item(binding, source),
        .sort = sortkey_type_of(column->base_oid, column->bytewise),
    };
    if (key->item >= 0)
        return true;
    return REFUSE(binding, "key-not-mapped",
                  from->select.text != NULL ? &from->select : &from->target, NULL,
                  "Map it as it is, or to a wider type; a constant may stand beside it.",
                  "the key column \"%s\" of %s.%s has no image from which rows can be told apart",
                  column->name, binding->source->schema, binding->source->name);
}

/* ---- the key, when the mapping was turned round ---- */

static int item_of_attnum(const struct mapping *mapping, int attnum)
{
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (mapping->items[i].target->attnum == attnum)
            return (int)i;
    }
    return -1;
}

/* The fix of what an old row does not tell. */
static const char *identity_fix(const struct binding *binding)
{
    return arena_printf(binding->arena,
                        "ALTER TABLE \"%s\".\"%s\" REPLICA IDENTITY FULL; in target.schema",
                        binding->source->schema, binding->source->name);
}

static bool check_in_identity(const struct binding *binding, const char *column, int source)
{
    return column_set_has(&binding->mapping->identity, (unsigned)source) ||
           REFUSE(binding, "not-in-identity", &binding->from->target, column, identity_fix(binding),
                  "deletes do not tell it: \"%s\" is not in the replica identity of %s.%s",
                  binding->source->columns[source].name, binding->source->schema,
                  binding->source->name);
}

/*
 * A cast suffices that the way there would refuse, because it may give two rows one key: it does so
 * only to rows that the target has got since, and the second of them the key itself refuses. What could
 * race is kept in order.
 */
static bool bind_back_column(const struct binding *binding, int attnum, struct key_column *key)
{
    struct mapping *mapping = binding->mapping;
    const char *name =
        binding->target->columns[relation_column_by_attnum(binding->target, attnum)].name;
    *key = (struct key_column){.item = item_of_attnum(mapping, attnum), .sort = SORTKEY_NONE};
    const struct mapping_item *item = key->item >= 0 ? &mapping->items[key->item] : NULL;
    if (item == NULL || (item->select->kind != SELECT_COLUMN && item->select->kind != SELECT_CAST))
        return REFUSE(binding, "key-not-mapped", &binding->from->target, name,
                      "Map the key as it is, or to a wider type.",
                      "the key's column is not a plain column of %s.%s", binding->source->schema,
                      binding->source->name);
    key->source = item->select->column;
    const struct column *source = &binding->source->columns[key->source];
    bool integers = column_integer_bytes(source) > 0 && column_integer_bytes(item->target) > 0;
    mapping->serial_lane |= !integers && !keeps_apart(source, item->target);
    return check_in_identity(binding, name, key->source);
}

/* The columns of `where`, which tell the parts of a merge apart. */
static bool bind_back_where(const struct binding *binding)
{
    struct mapping *mapping = binding->mapping;
    bool ok = true;
    for (unsigned c = 0; c < binding->source->columns_count; c++) {
        if (!column_set_has(&mapping->where_uses, c))
            continue;
        mapping->key[mapping->key_count++] =
            (struct key_column){.source = (int)c, .item = -1, .sort = SORTKEY_NONE};
        ok = check_in_identity(binding, NULL, (int)c) && ok;
    }
    mapping->where_by_key = ok && mapping->where != NULL;
    return ok;
}

static bool bind_back_key(const struct binding *binding)
{
    struct mapping *mapping = binding->mapping;
    const struct unique_index *key = choose_key(binding->target);
    bool ok = true;
    set_identity(binding);
    mapping->has_key = key != NULL;
    if (key == NULL)
        return binding->source->replica_identity == 'f' ||
               REFUSE(binding, "no-replica-identity", &binding->from->target, NULL,
                      identity_fix(binding),
                      "has no key, so only whole old rows tell which of its rows is meant");
    mapping->key = arena_zalloc(binding->arena, (key->count + binding->source->columns_count) *
                                                    sizeof *mapping->key);
    for (unsigned k = 0; k < key->count; k++)
        ok &= bind_back_column(binding, key->attnums[k], &mapping->key[mapping->key_count++]);
    return bind_back_where(binding) && ok;
}

static bool bind_key(const struct binding *binding)
{
    struct mapping *mapping = binding->mapping;
    const struct unique_index *key = choose_key(binding->source);
    bool ok = true;
    if (binding->config->reversed)
        return bind_back_key(binding);
    set_identity(binding);
    mapping->has_key = key != NULL;
    if (key == NULL)
        return true;
    mapping->key = arena_zalloc(binding->arena, key->count * sizeof *mapping->key);
    for (unsigned k = 0; k < key->count; k++) {
        int column = relation_column_by_attnum(binding->source, key->attnums[k]);
        CHECK(column >= 0); /* expressions are no primary key and no replica identity */
        ok &= bind_key_column(binding, column, &mapping->key[mapping->key_count++]);
    }
    while (mapping->range_count < mapping->key_count &&
           mapping->key[mapping->range_count].sort != SORTKEY_NONE)
        mapping->range_count++;
    return ok;
}

/* R3: without an identity the source itself refuses updates once the table is published. */
static bool check_identity(const struct binding *binding)
{
    const struct relation *source = binding->source;
    char fix[512];
    if (source->replica_identity == 'f' || find_identity_index(source) != NULL)
        return true;
    snprintf(fix, sizeof fix, "ALTER TABLE \"%s\".\"%s\" REPLICA IDENTITY FULL;", source->schema,
             source->name);
    return REFUSE(binding, "no-replica-identity", NULL, NULL, fix,
                  "%s.%s has no replica identity that serves (a deferrable key does not): once it is"
                  " published, its own updates and deletes would fail", source->schema, source->name);
}

/* Whether a unique index of the target holds whenever the source's key does. */
static bool index_follows_key(const struct binding *binding, const struct unique_index *index)
{
    const struct mapping *mapping = binding->mapping;
    for (unsigned k = 0; k < mapping->key_count; k++) {
        if (mapping->key[k].item < 0)
            continue;
        int attnum = mapping->items[mapping->key[k].item].target->attnum;
        bool found = false;
        for (unsigned i = 0; i < index->count; i++)
            found |= index->attnums[i] == attnum;
        if (!found)
            return false;
    }
    return mapping->has_key && !index->exclusion;
}

static bool index_starts_with_key(const struct binding *binding, const struct unique_index *index)
{
    const struct mapping *mapping = binding->mapping;
    for (unsigned k = 0; k < mapping->key_count && index->count > 0; k++) {
        if (mapping->key[k].item >= 0 &&
            index->attnums[0] == mapping->items[mapping->key[k].item].target->attnum)
            return true;
    }
    return false;
}

/*
 * Whether equal values have one text under our pinned settings, so that a key's text tells its lane.
 * Not so numeric (1.0 = 1.00) unless the column fixes its scale, float (-0 = 0), character, interval,
 * timetz, jsonb and whatever holds such, text under a nondeterministic collation, and types of the
 * user's own (citext). An inet's text shows all that its equality compares: family, bits, address.
 */
static bool has_one_text(const struct column *column)
{
    if (column->type_kind == 'e')
        return true;
    if (OID_IN(column->base_oid, OID_TEXT, OID_VARCHAR))
        return column->collation_deterministic;
    if (column->base_oid == OID_NUMERIC) /* of a domain the scale is not known here */
        return column_modifiers(column).count > 0;
    return OID_IN(column->base_oid, OID_BOOL, OID_BYTEA, OID_CHAR, OID_NAME, OID_INT2, OID_INT4,
                  OID_INT8, OID_OID, OID_UUID, OID_DATE, OID_TIME, OID_TIMESTAMP, OID_TIMESTAMPTZ,
                  OID_MACADDR, OID_MACADDR8, OID_INET, OID_CIDR);
}

/* A key that changes to an equal one would be deleted in one lane and inserted in another. */
static void bind_key_lanes(const struct binding *binding)
{
    struct mapping *mapping = binding->mapping;
    for (unsigned k = 0; k < mapping->key_count; k++) {
        const struct key_column *key = &mapping->key[k];
        mapping->serial_lane |= !has_one_text(&binding->source->columns[key->source]) ||
                                (key->item >= 0 && !has_one_text(mapping->items[key->item].target));
    }
}

/* A primary key alone is never taken away for the copy. */
static bool index_is_key(const struct binding *binding, const struct unique_index *index)
{
    const struct mapping *mapping = binding->mapping;
    if (!index->primary)
        return false;
    for (unsigned i = 0; i < index->count; i++) {
        bool found = false;
        for (unsigned k = 0; k < mapping->items_count; k++)
            found |= mapping->items[k].target->attnum == index->attnums[i] &&
                     (mapping_item_is_key(mapping, k) ||
                      (mapping->merged && mapping->items[k].select->kind == SELECT_CONSTANT));
        if (!found)
            return false;
    }
    return true;
}

static void bind_uniques(const struct binding *binding)
{
    const struct relation *target = binding->target;
    bool found = false;
    for (unsigned u = 0; u < target->uniques_count; u++) {
        binding->mapping->serial_lane |= !index_follows_key(binding, &target->uniques[u]);
        binding->mapping->key_unique |= index_is_key(binding, &target->uniques[u]);
        found |= index_starts_with_key(binding, &target->uniques[u]);
    }
    if (binding->mapping->has_key && !found)
        findings_add(binding->findings, SEVERITY_WARNING, "slow-key", &binding->from->target,
                     object_name(binding, NULL),
                     "Give the target a primary key that begins with a column of the source's.",
                     "no unique index of the target begins with a column of the source's key: each"
                     " update and delete reads the whole table until the indexes are built");
}

/* ---- how it is copied ---- */

/* Types whose binary form holds OIDs, which differ between servers, or that have none (D14). */
static bool travels_as_text(const struct column *column)
{
    if (!column->builtin)
        return column->is_container || column->type_kind != 'e';
    return OID_IN(column->base_oid, OID_ACLITEM, 24, 1034, 2202, 2203, 2204, 2205, 2206, 2207, 2208,
                  2209, 2210, 2211, 3734, 3735, 3769, 3770, 4089, 4090, 4096, 4097, 4191, 4192);
}

static void bind_copy(const struct binding *binding)
{
    struct mapping *mapping = binding->mapping;
    mapping->copy_mode = mapping->range_count > 0 ? COPY_RANGES : COPY_WHOLE;
    mapping->copy_format = COPY_BINARY;
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (travels_as_text(mapping->items[i].target))
            mapping->copy_format = COPY_TEXT;
    }
    for (unsigned i = 0; i < mapping->items_count; i++) {
        struct mapping_item *item = &mapping->items[i];
        const struct select_item *select = item->select;
        item->jsonb_from_text =
            mapping->copy_format == COPY_BINARY && select->kind == SELECT_CAST &&
            strcmp(select->cast_type, "jsonb") == 0 && item->target->base_oid == OID_JSONB &&
            OID_IN(binding->source->columns[select->column].base_oid, OID_TEXT, OID_VARCHAR,
                   OID_JSON);
    }
}

/* ---- where it goes ---- */

static int item_of_target(const struct mapping *mapping, const char *name)
{
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (strcmp(mapping->items[i].target->name, name) == 0)
            return (int)i;
    }
    return -1;
}

/* The mapping's own word, or the first of the general ones that the target has. */
static const struct config_text *shard_key_name(const struct binding *binding)
{
    const struct config *config = binding->config;
    if (binding->from->shard_by.text != NULL)
        return &binding->from->shard_by;
    for (unsigned s = 0; s < config->shard_by_count; s++) {
        if (relation_column(binding->target, config->shard_by[s].text) >= 0)
            return &config->shard_by[s];
    }
    return NULL;
}

/* The hash is computed from the source's text, so the text must mean the same in the target. */
static bool same_hash(const struct column *source, const struct column *target)
{
    uint32_t from = source->base_oid, to = target->base_oid;
    return from == to || (OID_IN(from, OID_INT2, OID_INT4, OID_INT8) &&
                          OID_IN(to, OID_INT2, OID_INT4, OID_INT8)) ||
           (OID_IN(from, OID_TEXT, OID_VARCHAR, OID_UUID) && OID_IN(to, OID_TEXT, OID_VARCHAR));
}

static bool check_shard_key(const struct binding *binding, const struct config_text *name)
{
    const struct mapping *mapping = binding->mapping;
    const struct mapping_item *item = &mapping->items[mapping->shard_item];
    const struct select_item *select = item->select;
    bool plain = select->kind == SELECT_COLUMN || select->kind == SELECT_CAST;
    if (mapping->shard_hash == PARTHASH_NONE)
        return REFUSE(binding, "shard-key-type", name, name->text,
                      "Shard by a bool, integer, text, uuid, numeric, date, timestamp or bytea.",
                      "the hash of type %s is not the same on every server",
                      item->target->full_type);
    if (!item->target->collation_deterministic)
        return REFUSE(binding, "shard-key-type", name, name->text,
                      "Give the column a deterministic collation.",
                      "its collation is not deterministic: equal values would hash differently");
    if (!plain || !same_hash(&binding->source->columns[select->column], item->target))
        return REFUSE(binding, "shard-key-expression", name, name->text,
                      "Shard by a column that is mapped as it is, or cast to a wider type.",
                      "the shard of a change is found from the source column, and %s is computed",
                      name->text);
    if (!item->target->not_null && !binding->source->columns[select->column].not_null)
        return REFUSE(binding, "shard-key-null", name, name->text,
                      "Make it NOT NULL on either side.",
                      "a shard key may not be null");
    return true;
}

static bool check_shard_identity(const struct binding *binding)
{
    const struct mapping *mapping = binding->mapping;
    char fix[512];
    if (mapping->shard_key_in_identity || binding->from->shard_key_immutable)
        return true;
    snprintf(fix, sizeof fix,
             "ALTER TABLE \"%s\".\"%s\" REPLICA IDENTITY FULL; or an index that holds the key and"
             " this column; or \"shard_key: immutable\" when no row ever changes it",
             binding->source->schema, binding->source->name);
    return REFUSE(binding, "shard-key-not-in-identity", &binding->from->target,
                  mapping->items[mapping->shard_item].target->name, fix,
                  "updates and deletes do not tell the old shard: \"%s\" is not in the replica"
                  " identity of %s.%s",
                  binding->source->columns[mapping->shard_column].name, binding->source->schema,
                  binding->source->name);
}

static bool bind_shard(const struct binding *binding)
{
    struct mapping *mapping = binding->mapping;
    const struct config_text *name = shard_key_name(binding);
    mapping->shard_item = mapping->shard_column = -1;
    mapping->shard_key_in_identity = true;
    mapping->everywhere = binding->from->shard_by.text != NULL &&
                          strcmp(binding->from->shard_by.text, "everywhere") == 0;
    if (mapping->everywhere || (binding->shards_count == 1 && name == NULL))
        return true;
    if (name == NULL)
        return REFUSE(binding, "no-shard-key", &binding->from->target, NULL,
                      "Write shard_by: with one of its columns, or shard_by: everywhere.",
                      "nothing says on which shard a row belongs");
    mapping->shard_item = item_of_target(mapping, name->text);
    if (mapping->shard_item < 0)
        return REFUSE(binding, "no-shard-key", name, name->text,
                      "Name a column of the target that the select fills.",
                      "the shard key is not among the mapped columns");
    const struct mapping_item *item = &mapping->items[mapping->shard_item];
    mapping->shard_column = item->select->column;
    mapping->shard_hash = parthash_type_of(item->target->base_oid);
    if (!check_shard_key(binding, name))
        return false;
    mapping->shard_key_in_identity =
        column_set_has(&mapping->identity, (unsigned)mapping->shard_column);
    return binding->shards_count == 1 || check_shard_identity(binding);
}

static bool bind_partitions(const struct binding *binding)
{
    struct mapping *mapping = binding->mapping;
    const struct config_text *name = &binding->from->partition_column;
    mapping->partition_item = -1;
    if (name->text == NULL)
        return true;
    mapping->partition_item = item_of_target(mapping, name->text);
    if (binding->target->kind != 'p')
        return REFUSE(binding, "not-partitioned", name, NULL,
                      "Create the target table with PARTITION BY RANGE (column).",
                      "partition_by needs a partitioned table");
    return mapping->partition_item >= 0 ||
           REFUSE(binding, "unknown-column", name, name->text,
                  "Name a column of the target that the select fills.",
                  "the column of partition_by is not mapped");
}

static bool check_inverse(const struct binding *binding, const struct config_inverse *inverse)
{
    struct error err = ERROR_INIT;
    if (relation_column(binding->source, inverse->column.text) < 0)
        return REFUSE(binding, "unknown-column", &inverse->column, NULL,
                      "Write a column of the source, and its expression over the target's.",
                      "inverse: %s.%s has no column \"%s\"", binding->source->schema,
                      binding->source->name, inverse->column.text);
    return inverse_check_given(binding->config, inverse, binding->target, binding->arena, &err) ||
           REFUSE(binding, "inverse", &inverse->expr, NULL, err.hint[0] != '\0' ? err.hint : NULL,
                  "inverse of \"%s\": %s", inverse->column.text, err.message);
}

static bool check_words(const struct binding *binding)
{
    const struct config_mapping *from = binding->from;
    bool ok = true;
    for (unsigned i = 0; i < from->inverse_count; i++)
        ok = check_inverse(binding, &from->inverse[i]) && ok;
    if (from->lag_by.text != NULL && relation_column(binding->target, from->lag_by.text) < 0)
        ok = REFUSE(binding, "unknown-column", &from->lag_by, from->lag_by.text,
                    "Name a column of the target that the select fills.",
                    "lag_by: the target has no such column");
    if (from->park_errors)
        findings_add(binding->findings, SEVERITY_WARNING, "park", &from->target,
                     object_name(binding, NULL), NULL,
                     "on_error: park is not there yet; a refused row stops the run");
    return ok;
}

bool bind_table(const struct config *config, unsigned shards_count,
                const struct config_mapping *from, const struct relation *source,
                const struct relation *target, bool merged, struct arena *arena,
                struct mapping *mapping, struct findings *findings)
{
    struct select_list *list = arena_zalloc(arena, sizeof *list);
    struct binding binding = {
        .config = config, .from = from, .source = source, .target = target,
        .shards_count = shards_count, .arena = arena, .mapping = mapping, .findings = findings,
        .mapped = arena_zalloc(arena, target->columns_count * sizeof(bool)),
    };
    mapping->config = from;
    mapping->source = source;
    mapping->target = target;
    mapping->parts = from->parts > 1 ? from->parts : 1;
    mapping->merged = merged && mapping->parts == 1;
    mapping->name = merged ? arena_printf(arena, "%s.%s<-%s.%s", target->schema, target->name,
                                          source->schema, source->name)
                           : arena_printf(arena, "%s.%s", target->schema, target->name);
    if (!read_list(&binding, list) || !bind_items(&binding, list) || !bind_where(&binding))
        return false;
    bool ok = check_identity(&binding);
    ok = check_words(&binding) && ok;
    if (!bind_key(&binding) || !ok)
        return false;
    bind_uniques(&binding);
    bind_key_lanes(&binding);
    bind_copy(&binding);
    ok = bind_shard(&binding);
    return bind_partitions(&binding) && ok;
}
