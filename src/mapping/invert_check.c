#include "mapping/bind.h"
#include "mapping/invert.h"
#include "mapping/names.h"

struct checker {
    const struct mapping_set *set;
    const struct config *config;
    struct arena *arena;
    struct findings *findings;
    struct inverses *inverses; /* by mapping */
};

static const char *label(const struct checker *checker, const struct relation *relation,
                         const char *column)
{
    return arena_printf(checker->arena, "%s.%s%s%s", relation->schema, relation->name,
                        column != NULL ? "." : "", column != NULL ? column : "");
}

/* ---- losses ---- */

/* A loss, accepted or not. `column` is NULL when it is the whole table's. */
static void report(const struct checker *checker, const struct mapping *mapping, const char *column,
                   const char *fix, const char *reason)
{
    bool accepted = invert_accepts(checker->config, mapping->source, column, checker->arena);
    findings_add(checker->findings, accepted ? SEVERITY_NOTE : SEVERITY_WARNING,
                 accepted ? "accepted-loss" : "no-way-back", &mapping->config->target,
                 label(checker, mapping->source, column), accepted ? NULL : fix,
                 "on the way back: %s", reason);
}

static const char *missing_reason(const struct checker *checker, const struct mapping *mapping,
                                  unsigned column)
{
    const struct column *lost = &mapping->source->columns[column];
    const char *expr = NULL;
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (column_set_has(&mapping->items[i].select->uses, column))
            expr = mapping->items[i].select->expr;
    }
    const char *cause =
        expr != NULL ? arena_printf(checker->arena, "no inverse can be derived of %.200s", expr)
                     : "the target does not hold it";
    return arena_printf(checker->arena, "%s; %s", cause,
                        column_may_be_left_out(lost)
                            ? "a new row gets its default, an old one keeps what it has"
                            : "it may not be null and has no default, so no row could be inserted");
}

static const char *missing_fix(const struct checker *checker, const struct mapping *mapping,
                               const struct column *lost)
{
    struct arena *arena = checker->arena;
    const char *inverse = arena_printf(
        arena, "For %s write inverse: {%s: \"an expression over the target's columns\"}",
        label(checker, mapping->target, NULL), lost->name);
    if (!column_may_be_left_out(lost))
        return arena_printf(arena, "%s, a constant if there is no other.", inverse);
    return arena_printf(arena, "%s; or accept_losses: [%s]", inverse,
                        label(checker, mapping->source, lost->name));
}

/* How well any mapping of the source table gives the column back. */
static const struct inverse *best_inverse(const struct checker *checker,
                                          const struct relation *source, unsigned column)
{
    const struct inverse *best = NULL;
    for (unsigned m = 0; m < checker->set->count; m++) {
        const struct inverses *inverses = &checker->inverses[m];
        for (unsigned i = 0; checker->set->mappings[m].source == source && i < inverses->count;
             i++) {
            const struct inverse *inverse = &inverses->items[i];
            bool better = best == NULL || best->how == INVERSE_MISSING ||
                          (best->how == INVERSE_CONSTANT && inverse->how != INVERSE_MISSING);
            if (inverse->column == (int)column && better)
                best = inverse;
        }
    }
    return best;
}

static void check_column(const struct checker *checker, const struct mapping *mapping,
                         unsigned column)
{
    const struct column *lost = &mapping->source->columns[column];
    const struct inverse *inverse = best_inverse(checker, mapping->source, column);
    if (inverse == NULL) /* generated */
        return;
    if (inverse->how == INVERSE_CONSTANT)
        findings_add(checker->findings, SEVERITY_NOTE, "accepted-loss", &mapping->config->target,
                     label(checker, mapping->source, lost->name), NULL,
                     "on the way back: a new row gets %.200s, an old one keeps what it has",
                     inverse->expr);
    else if (inverse->how == INVERSE_MISSING)
        report(checker, mapping, lost->name, missing_fix(checker, mapping, lost),
               missing_reason(checker, mapping, column));
}

/* ---- columns of the target that nothing is made of ---- */

static bool tells_its_part(const struct mapping *mapping, const struct mapping_item *item)
{
    return mapping->merged && item->select->kind == SELECT_CONSTANT;
}

static bool column_goes_back(const struct checker *checker, const struct relation *target,
                             unsigned column)
{
    for (unsigned m = 0; m < checker->set->count; m++) {
        const struct mapping *mapping = &checker->set->mappings[m];
        if (mapping->target != target)
            continue;
        for (unsigned i = 0; i < checker->inverses[m].count; i++) {
            if (column_set_has(&checker->inverses[m].items[i].uses, column))
                return true;
        }
        for (unsigned i = 0; i < mapping->items_count; i++) {
            if (mapping->items[i].target == &target->columns[column] &&
                tells_its_part(mapping, &mapping->items[i]))
                return true;
        }
    }
    return false;
}

static void check_target_columns(const struct checker *checker, const struct mapping *mapping)
{
    const struct relation *target = mapping->target;
    for (unsigned c = 0; c < target->columns_count; c++) {
        if (!target->columns[c].generated && !column_goes_back(checker, target, c))
            findings_add(checker->findings, SEVERITY_NOTE, "target-only", &mapping->config->target,
                         label(checker, target, target->columns[c].name), NULL,
                         "on the way back: nothing of the source is made of this column");
    }
}

/* ---- splits ---- */

static void check_part(const struct checker *checker, const struct mapping *first,
                       const struct mapping *part)
{
    if (part->where != NULL)
        report(checker, part, NULL, NULL,
               "it goes to several tables and one of them has `where`: no row can be joined again");
    else if (part->everywhere != first->everywhere || part->shard_column != first->shard_column)
        report(checker, part, NULL, "Give all its targets the same shard_by.",
               "the parts of a row are on different shards");
}

static void check_split(const struct checker *checker, unsigned first)
{
    const struct mapping *mappings = checker->set->mappings;
    unsigned parts = 0;
    for (unsigned m = first; m < checker->set->count; m++)
        parts += mappings[m].source == mappings[first].source;
    for (unsigned m = first; parts > 1 && m < checker->set->count; m++) {
        if (mappings[m].source == mappings[first].source)
            check_part(checker, &mappings[first], &mappings[m]);
    }
    if (parts > 1 && !mappings[first].has_key)
        report(checker, &mappings[first], NULL, "Give it a primary key.",
               "it goes to several tables and has no key to join them again");
}

/* ---- what the binder says of the mappings turned round ---- */

/* By schema.table, schema.table.column, or a mapping's name. */
static const struct mapping *mapping_at(const struct checker *checker, const char *object)
{
    for (unsigned m = 0; m < checker->set->count; m++) {
        const char *name = label(checker, checker->set->mappings[m].source, NULL);
        size_t length = strlen(name);
        if (strncmp(object, name, length) == 0 && strchr(".<", object[length]) != NULL)
            return &checker->set->mappings[m];
    }
    return NULL;
}

/* missing-column is a loss that was told already; of its own it says how to write a select. */
static void take_refusal(const struct checker *checker, const struct finding *finding)
{
    const struct mapping *mapping = mapping_at(checker, finding->object);
    if (finding->severity != SEVERITY_REFUSE || strcmp(finding->code, "missing-column") == 0)
        return;
    const char *reason = arena_printf(checker->arena, "%s: %s", finding->object, finding->reason);
    if (mapping != NULL)
        report(checker, mapping, NULL, finding->fix, reason);
    else
        findings_add(checker->findings, SEVERITY_WARNING, "no-way-back", NULL, finding->object,
                     finding->fix, "on the way back: %s", finding->reason);
}

/* Binds the mappings turned round from shard 0; what the binder refuses is told of the way there. */
static bool bind_back(const struct checker *checker, struct config *back,
                      struct mapping_set *reversed)
{
    struct findings said;
    struct error err = ERROR_INIT;
    invert_config(checker->set, checker->config, 0, checker->arena, back);
    findings_init(&said, checker->arena);
    if (!bind_mappings(back, checker->set->target, checker->set->source, 1, checker->arena,
                       reversed, &said, &err))
        findings_add(&said, SEVERITY_REFUSE, "limit", NULL, checker->config->path, NULL, "%s",
                     err.message);
    for (unsigned f = 0; f < said.count; f++)
        take_refusal(checker, &said.items[f]);
    return said.refused == 0;
}

bool invert_check_servers(const struct mapping_set *set, const struct config *config,
                          PGconn *source, PGconn *target, struct arena *arena,
                          struct findings *findings, struct error *err)
{
    struct findings said, told;
    struct config back;
    struct mapping_set reversed;
    struct checker quiet = {.set = set, .config = config, .arena = arena, .findings = &told};
    struct checker checker = {.set = set, .config = config, .arena = arena, .findings = findings};
    findings_init(&said, arena);
    findings_init(&told, arena); /* invert_check() has told it */
    if (!bind_back(&quiet, &back, &reversed))
        return true;
    if (!bind_check_servers(&back, &reversed, target, source, arena, &said, err))
        return error_context(err, "looking at the way back");
    for (unsigned f = 0; f < said.count; f++)
        take_refusal(&checker, &said.items[f]);
    return true;
}

/* ---- names in accept_losses that are no loss ---- */

static bool is_found(const struct findings *findings, const char *object)
{
    for (unsigned f = 0; f < findings->count; f++) {
        const struct finding *finding = &findings->items[f];
        if (strcmp(finding->object, object) == 0 && (strcmp(finding->code, "accepted-loss") == 0 ||
                                                     strcmp(finding->code, "target-only") == 0))
            return true;
    }
    return false;
}

static bool is_loss(const struct checker *checker, const char *text)
{
    struct table_name table;
    const char *column;
    if (name_parse(text, checker->arena, &table))
        return catalog_find(checker->set->source, table.schema, table.name) != NULL;
    return column_name_parse(text, checker->arena, &table, &column) &&
           is_found(checker->findings,
                    arena_printf(checker->arena, "%s.%s.%s", table.schema, table.name, column));
}

static void check_accepted(const struct checker *checker)
{
    const struct config *config = checker->config;
    for (unsigned a = 0; a < config->accept_losses_count; a++) {
        if (!is_loss(checker, config->accept_losses[a].text))
            findings_add(checker->findings, SEVERITY_WARNING, "unknown-loss",
                         &config->accept_losses[a], config->accept_losses[a].text,
                         "Write schema.table.column, or schema.table, of the source.",
                         "accept_losses names what is no loss on the way back");
    }
}

/* All that concerns one table of the source. */
static void check_source(const struct checker *checker, unsigned first)
{
    const struct mapping *mapping = &checker->set->mappings[first];
    if (invert_accepts(checker->config, mapping->source, NULL, checker->arena)) {
        report(checker, mapping, NULL, NULL,
               "nothing of it is carried back, as accept_losses says");
        return;
    }
    for (unsigned c = 0; c < mapping->source->columns_count; c++)
        check_column(checker, mapping, c);
    check_split(checker, first);
}

/* Whether no mapping before it has the same source, or target. */
static bool is_first(const struct mapping_set *set, unsigned m, bool of_target)
{
    for (unsigned before = 0; before < m; before++) {
        const struct mapping *a = &set->mappings[before], *b = &set->mappings[m];
        if (of_target ? a->target == b->target : a->source == b->source)
            return false;
    }
    return true;
}

void invert_check(const struct mapping_set *set, const struct config *config, struct arena *arena,
                  struct findings *findings)
{
    struct checker checker = {
        .set = set,
        .config = config,
        .arena = arena,
        .findings = findings,
        .inverses = arena_zalloc(arena, (set->count + 1) * sizeof *checker.inverses),
    };
    struct config back;
    struct mapping_set reversed;
    for (unsigned m = 0; m < set->count; m++)
        inverses_of(config, &set->mappings[m], arena, &checker.inverses[m]);
    for (unsigned m = 0; m < set->count; m++) {
        if (is_first(set, m, false))
            check_source(&checker, m);
        if (is_first(set, m, true))
            check_target_columns(&checker, &set->mappings[m]);
    }
    bind_back(&checker, &back, &reversed);
    check_accepted(&checker);
}
