#include "switchover/sequence_feeds.h"

#include "mapping/names.h"

/* A column and the sequence that fills it. */
struct filled {
    uint32_t relation;
    const char *column;
    unsigned sequence;
};

struct fillings {
    unsigned count;
    struct filled *items; /* ordered by relation */
};

struct finder {
    const struct sequence_list *source, *target;
    bool back;
    struct arena *arena;
    struct findings *findings;
    struct sequence_feeds *feeds; /* of the to-side */
    bool *feeding;                /* from-sequences that portage.yaml names */
};

static int compare_filled(const void *a, const void *b)
{
    const struct filled *left = a, *right = b;
    return (left->relation > right->relation) - (left->relation < right->relation);
}

static struct fillings fillings_of(const struct sequence_list *list, struct arena *arena)
{
    struct fillings fillings = {0};
    for (unsigned i = 0; i < list->count; i++)
        fillings.count += list->items[i].columns_count;
    fillings.items = arena_alloc(arena, (fillings.count + 1) * sizeof *fillings.items);
    fillings.count = 0;
    for (unsigned i = 0; i < list->count; i++) {
        for (unsigned c = 0; c < list->items[i].columns_count; c++)
            fillings.items[fillings.count++] =
                (struct filled){.relation = list->items[i].columns[c].relation,
                                .column = list->items[i].columns[c].name,
                                .sequence = i};
    }
    qsort(fillings.items, fillings.count, sizeof *fillings.items, compare_filled);
    return fillings;
}

/* The columns of a relation that sequences fill. */
static struct fillings fillings_within(const struct fillings *all, uint32_t relation)
{
    struct filled key = {.relation = relation};
    struct filled *found =
        bsearch(&key, all->items, all->count, sizeof *all->items, compare_filled);
    struct fillings within = {.items = found};
    const struct filled *end = all->items + all->count;
    if (found == NULL)
        return within;
    while (within.items > all->items && within.items[-1].relation == relation)
        within.items--;
    while (within.items + within.count < end && within.items[within.count].relation == relation)
        within.count++;
    return within;
}

static void add_feed(struct finder *finder, unsigned source, unsigned target)
{
    struct sequence_feeds *feeds = &finder->feeds[finder->back ? source : target];
    unsigned from = finder->back ? target : source;
    for (unsigned f = 0; f < feeds->count; f++) {
        if (feeds->from[f] == from)
            return;
    }
    unsigned *grown = arena_alloc(finder->arena, (feeds->count + 1) * sizeof *grown);
    if (feeds->count > 0)
        memcpy(grown, feeds->from, feeds->count * sizeof *grown);
    grown[feeds->count++] = from;
    feeds->from = grown;
}

/* ---- by portage.yaml ---- */

static const struct sequence *named(struct finder *finder, const struct config_text *text,
                                    const struct sequence_list *list, const char *side)
{
    struct table_name name;
    const struct sequence *found = NULL;
    if (name_parse(text->text, finder->arena, &name))
        found = sequence_list_find(list, name.schema, name.name);
    if (found == NULL)
        findings_add(finder->findings, SEVERITY_REFUSE, "unknown-sequence", text, text->text, NULL,
                     "is no sequence of the %s", side);
    return found;
}

static void feed_by_config(struct finder *finder, const struct config *config)
{
    for (unsigned i = 0; i < config->sequences_count; i++) {
        const struct config_sequence *pair = &config->sequences[i];
        const struct sequence *target = named(finder, &pair->target, finder->target, "target");
        const struct sequence *source = named(finder, &pair->source, finder->source, "source");
        if (target == NULL || source == NULL)
            continue;
        add_feed(finder, source->index, target->index);
        finder->feeding[finder->back ? target->index : source->index] = true;
    }
}

/* ---- by columns ---- */

static bool keeps_value(const struct select_item *select)
{
    return select->kind == SELECT_COLUMN || select->kind == SELECT_CAST;
}

/* A pair of a source column and its image, each filled by a sequence or by none (NULL). */
static void feed_by_pair(struct finder *finder, const struct select_item *select,
                         const struct filled *source, const struct filled *target)
{
    const struct filled *to = finder->back ? source : target;
    if (keeps_value(select) && source != NULL && target != NULL)
        add_feed(finder, source->sequence, target->sequence);
    else if (!keeps_value(select) && to != NULL)
        finder->feeds[to->sequence].computed = true;
}

static const struct filled *next_filled(const struct fillings *fillings, const char *column,
                                        unsigned *at)
{
    while (*at < fillings->count) {
        const struct filled *filled = &fillings->items[(*at)++];
        if (strcmp(filled->column, column) == 0)
            return filled;
    }
    return NULL;
}

/* Every sequence that fills the one column with every one that fills the other. */
static void feed_by_item(struct finder *finder, const struct mapping *mapping,
                         const struct mapping_item *item, const struct fillings *source,
                         const struct fillings *target)
{
    if (item->select->column < 0)
        return;
    const char *column = mapping->source->columns[item->select->column].name;
    unsigned s = 0;
    const struct filled *from = next_filled(source, column, &s);
    do {
        unsigned t = 0;
        const struct filled *to = next_filled(target, item->target->name, &t);
        do {
            feed_by_pair(finder, item->select, from, to);
        } while (to != NULL && (to = next_filled(target, item->target->name, &t)) != NULL);
    } while (from != NULL && (from = next_filled(source, column, &s)) != NULL);
}

static void feed_by_mappings(struct finder *finder, const struct mapping_set *set)
{
    struct fillings source = fillings_of(finder->source, finder->arena);
    struct fillings target = fillings_of(finder->target, finder->arena);
    for (unsigned m = 0; m < set->count; m++) {
        const struct mapping *mapping = &set->mappings[m];
        struct fillings here = fillings_within(&source, mapping->source->oid);
        struct fillings there = fillings_within(&target, mapping->target->oid);
        for (unsigned i = 0; i < mapping->items_count; i++)
            feed_by_item(finder, mapping, &mapping->items[i], &here, &there);
    }
}

/* ---- by name ---- */

static void feed_by_name(struct finder *finder, const struct sequence_list *from,
                         const struct sequence_list *to)
{
    for (unsigned t = 0; t < to->count; t++) {
        const struct sequence *same =
            sequence_list_find(from, to->items[t].schema, to->items[t].name);
        if (finder->feeds[t].count > 0 || finder->feeds[t].computed || same == NULL ||
            finder->feeding[same->index])
            continue;
        add_feed(finder, finder->back ? t : same->index, finder->back ? same->index : t);
    }
}

struct sequence_feeds *sequence_feeds_find(const struct config *config,
                                           const struct mapping_set *set, bool back,
                                           const struct sequence_list *from,
                                           const struct sequence_list *to, struct arena *arena,
                                           struct findings *findings)
{
    struct finder finder = {.source = back ? to : from,
                            .target = back ? from : to,
                            .back = back,
                            .arena = arena,
                            .findings = findings};
    finder.feeds = arena_zalloc(arena, (to->count + 1) * sizeof *finder.feeds);
    finder.feeding = arena_zalloc(arena, (from->count + 1) * sizeof *finder.feeding);
    feed_by_config(&finder, config);
    feed_by_mappings(&finder, set);
    feed_by_name(&finder, from, to);
    return finder.feeds;
}
