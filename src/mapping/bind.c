#include "mapping/bind.h"

#include "mapping/names.h"
#include "pg/conn.h"

enum { MAPPINGS_MAX = 10000 };

struct binder {
    const struct config *config;
    const struct catalog *source, *target;
    unsigned shards_count;
    struct arena *arena;
    struct mapping_set *set;
    struct findings *findings;
    bool *filled; /* target relations that a mapping fills, by index */
    bool *read;   /* source relations that a mapping reads */
};

static const char *relation_label(const struct binder *binder, const struct relation *relation)
{
    return arena_printf(binder->arena, "%s.%s", relation->schema, relation->name);
}

/* A table by its written name; what is wrong with it is a finding. */
static const struct relation *find_table(const struct binder *binder,
                                         const struct catalog *catalog,
                                         const struct config_text *text, const char *side)
{
    struct table_name name;
    if (!name_parse(text->text, binder->arena, &name)) {
        findings_add(binder->findings, SEVERITY_REFUSE, "table-name", text, text->text,
                     "Write schema.table; quote parts with capitals: public.\"Settings\".",
                     "is not the name of a table");
        return NULL;
    }
    const struct relation *found = catalog_find(catalog, name.schema, name.name);
    if (found == NULL)
        findings_add(binder->findings, SEVERITY_REFUSE, "unknown-table", text, text->text,
                     "Write the name as the database has it, with its schema, or create the table first.",
                     "the %s has no table of this name (database \"%s\")", side,
                     catalog->database);
    return found;
}

static void add_mapping(struct binder *binder, const struct config_mapping *from,
                        const struct relation *source, const struct relation *target, bool merged)
{
    struct mapping_set *set = binder->set;
    CHECK(set->count < MAPPINGS_MAX);
    struct mapping *mapping = &set->mappings[set->count];
    *mapping = (struct mapping){.index = set->count};
    binder->filled[target - binder->target->relations] = true;
    binder->read[source - binder->source->relations] = true;
    if (bind_table(binder->config, binder->shards_count, from, source, target, merged,
                   binder->arena, mapping, binder->findings))
        set->count++;
}

/* Whether another mapping of the file has the same target. */
static bool is_merge(const struct binder *binder, const struct config_mapping *from)
{
    unsigned same = 0;
    for (unsigned m = 0; m < binder->config->mappings_count; m++)
        same += strcmp(binder->config->mappings[m].target.text, from->target.text) == 0;
    return same > 1;
}

static void bind_named(struct binder *binder)
{
    for (unsigned m = 0; m < binder->config->mappings_count; m++) {
        const struct config_mapping *from = &binder->config->mappings[m];
        if (from->is_pattern)
            continue;
        const struct relation *target =
            find_table(binder, binder->target, &from->target, "target");
        if (target == NULL)
            continue;
        const struct relation *source =
            from->from.text != NULL
                ? find_table(binder, binder->source, &from->from, "source")
                : catalog_find(binder->source, target->schema, target->name);
        if (source != NULL)
            add_mapping(binder, from, source, target, is_merge(binder, from));
        else if (from->from.text == NULL)
            findings_add(binder->findings, SEVERITY_REFUSE, "unknown-table", &from->target,
                         from->target.text, "Say which one with from:.",
                         "the source has no table of this name");
    }
}

static const struct config_mapping *find_pattern(const struct binder *binder,
                                                 const struct relation *target)
{
    for (unsigned m = 0; m < binder->config->mappings_count; m++) {
        const struct config_mapping *from = &binder->config->mappings[m];
        if (from->is_pattern && name_matches(from->target.text, target->schema, target->name))
            return from;
    }
    return NULL;
}

static void bind_patterns(struct binder *binder)
{
    for (unsigned t = 0; t < binder->target->relations_count; t++) {
        const struct relation *target = &binder->target->relations[t];
        const struct config_mapping *from = find_pattern(binder, target);
        if (binder->filled[t])
            continue;
        const struct relation *source =
            from != NULL ? catalog_find(binder->source, target->schema, target->name) : NULL;
        if (source != NULL)
            add_mapping(binder, from, source, target, false);
        else if (!binder->config->reversed)
            findings_add(binder->findings, SEVERITY_NOTE, "unfilled-table",
                         from != NULL ? &from->target : NULL, relation_label(binder, target),
                         NULL, "no mapping fills this table of the target");
    }
}

static void note_unread(const struct binder *binder)
{
    for (unsigned s = 0; s < binder->source->relations_count; s++) {
        if (!binder->read[s])
            findings_add(binder->findings, SEVERITY_WARNING, "unread-table", NULL,
                         relation_label(binder, &binder->source->relations[s]),
                         "Map it, or be sure that it may stay behind.",
                         "no mapping reads this table of the source");
    }
}

/* ---- merges ---- */

/* What tells the parts of a merge apart: a target column that is a different constant in each. */
static bool told_apart(const struct mapping *a, const struct mapping *b)
{
    for (unsigned i = 0; i < a->items_count; i++) {
        for (unsigned j = 0; j < b->items_count; j++) {
            const struct select_item *x = a->items[i].select, *y = b->items[j].select;
            if (a->items[i].target->attnum == b->items[j].target->attnum &&
                x->kind == SELECT_CONSTANT && y->kind == SELECT_CONSTANT &&
                strcmp(x->expr, y->expr) != 0)
                return true;
        }
    }
    return false;
}

static void check_merges(const struct binder *binder)
{
    const struct mapping_set *set = binder->set;
    for (unsigned a = 0; a < set->count; a++) {
        for (unsigned b = a + 1; b < set->count; b++) {
            const struct mapping *x = &set->mappings[a], *y = &set->mappings[b];
            if (x->target == y->target && !told_apart(x, y))
                findings_add(binder->findings, SEVERITY_REFUSE, "two-mappings",
                             &y->config->target, relation_label(binder, x->target),
                             "Give each part a constant of its own in one column of the key.",
                             "%s.%s and %s.%s could make the same row", x->source->schema,
                             x->source->name, y->source->schema, y->source->name);
        }
    }
}

/* ---- the other shards ---- */

static bool same_columns(const struct relation *a, const struct relation *b)
{
    if (a->columns_count != b->columns_count || a->kind != b->kind)
        return false;
    for (unsigned c = 0; c < a->columns_count; c++) {
        int other = relation_column(b, a->columns[c].name);
        if (other < 0 || strcmp(a->columns[c].full_type, b->columns[other].full_type) != 0)
            return false;
    }
    return true;
}

static void check_shard(const struct binder *binder, const struct catalog *shard, unsigned number)
{
    for (unsigned t = 0; t < binder->target->relations_count; t++) {
        const struct relation *target = &binder->target->relations[t];
        if (!binder->filled[t])
            continue;
        const struct relation *there = catalog_find(shard, target->schema, target->name);
        if (there == NULL || !same_columns(target, there))
            findings_add(binder->findings, SEVERITY_REFUSE, "shards-differ", NULL,
                         relation_label(binder, target),
                         "Create the same tables on all shards, or let target.schema do it.",
                         "%s on shard %u, other than on shard 0",
                         there == NULL ? "does not exist" : "has other columns", number);
    }
}

static void check_password(const struct binder *binder, const struct config_text *text)
{
    if (text->text != NULL && conn_holds_password(text->text))
        findings_add(binder->findings, SEVERITY_WARNING, "password", text, "portage.yaml",
                     "Use a password file (~/.pgpass) or a service file.",
                     "a password stands in this file");
}

bool bind_mappings(const struct config *config, const struct catalog *source,
                   const struct catalog *targets, unsigned shards_count, struct arena *arena,
                   struct mapping_set *set, struct findings *findings, struct error *err)
{
    struct binder binder = {
        .config = config, .source = source, .target = &targets[0], .shards_count = shards_count,
        .arena = arena, .set = set, .findings = findings,
        .filled = arena_zalloc(arena, (targets[0].relations_count + 1) * sizeof(bool)),
        .read = arena_zalloc(arena, (source->relations_count + 1) * sizeof(bool)),
    };
    size_t room = config->mappings_count + targets[0].relations_count;
    if (room > MAPPINGS_MAX)
        return error_set(err, ERROR_LIMIT, "more than %d tables", MAPPINGS_MAX);
    *set = (struct mapping_set){.shards_count = shards_count, .source = source,
                                .target = &targets[0]};
    set->mappings = arena_zalloc(arena, (room + 1) * sizeof *set->mappings);
    bind_named(&binder);
    bind_patterns(&binder);
    /* What stays behind, and who makes which row, was judged the way there. */
    if (!config->reversed) {
        note_unread(&binder);
        check_merges(&binder);
    }
    for (unsigned s = 1; s < shards_count; s++)
        check_shard(&binder, &targets[s], s);
    if (!config->reversed)
        check_password(&binder, &config->source);
    for (unsigned s = 0; !config->reversed && s < config->shards_count; s++)
        check_password(&binder, &config->shards[s]);
    /* Turned round, what stands on every shard comes back from the first: the others may have nothing. */
    if (set->count == 0 && findings->refused == 0 && !config->reversed)
        findings_add(findings, SEVERITY_REFUSE, "nothing-mapped", NULL, config->path,
                     "tables: {\"public.*\": identical}", "no table is mapped");
    return true;
}
