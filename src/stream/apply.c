#include "stream/apply.h"

#include <uthash.h>

#include "mapping/statements.h"

enum {
    PARAMS_MAX = 8192,  /* of a statement; the protocol's limit is 65535 */
    PREPARED_MAX = 256, /* each is a plan in the server's memory */
    ROWS_STEP = 4,      /* statements are of 64, 16, 4 or 1 rows */
};

struct prepared_key {
    struct group_kind kind;
    unsigned rows;
};

struct prepared {
    struct prepared_key key;
    char name[16];
    struct statement statement;
    UT_hash_handle hh;
};

void applier_init(struct applier *applier, const struct applier_of *of, struct pipeline *pipeline)
{
    *applier = (struct applier){
        .pipeline = pipeline, .stream = of->stream, .back = of->config->reversed};
    groups_init(&applier->groups);
    readback_init(&applier->readback, of->config->source.text, of->stop);
    ghosts_init(&applier->ghosts, of->stream, of->lane);
    parts_init(&applier->parts, of->mappings, of->stream, &applier->readback, pipeline);
    arena_init(&applier->arena, 64 * 1024);
    applier->values = check_calloc(PARAMS_MAX, sizeof *applier->values);
    applier->lengths = check_calloc(PARAMS_MAX, sizeof *applier->lengths);
}

void applier_release(struct applier *applier)
{
    struct prepared *prepared, *next;
    HASH_ITER (hh, applier->prepared, prepared, next) {
        HASH_DEL(applier->prepared, prepared);
        free(prepared);
    }
    groups_release(&applier->groups);
    parts_release(&applier->parts);
    readback_release(&applier->readback);
    ghosts_release(&applier->ghosts);
    arena_release(&applier->arena);
    free(applier->values);
    free(applier->lengths);
}

/* ---- statements ---- */

static void statement_make_back(const struct prepared_key *key, unsigned stream,
                                struct arena *arena, struct statement *statement)
{
    const struct group_kind *kind = &key->kind;
    if (kind->op == CHANGE_INSERT)
        statement_back_insert(kind->mapping, stream, key->rows, arena, statement);
    else if (kind->op == CHANGE_UPDATE)
        statement_back_update(kind->mapping, stream, &kind->present, key->rows, arena, statement);
    else
        statement_back_delete(kind->mapping, stream, key->rows, arena, statement);
}

static void statement_make(struct applier *applier, const struct prepared_key *key,
                           struct statement *statement)
{
    const struct group_kind *kind = &key->kind;
    struct arena *arena = &applier->arena;
    if (applier->back && kind->mapping->has_key && kind->op != CHANGE_TRUNCATE)
        statement_make_back(key, applier->stream, arena, statement);
    else if (kind->op == CHANGE_INSERT)
        statement_insert(kind->mapping, key->rows, arena, statement);
    else if (kind->op == CHANGE_UPDATE)
        statement_update(kind->mapping, &kind->present, key->rows, arena, statement);
    else if (kind->op == CHANGE_DELETE)
        statement_delete(kind->mapping, key->rows, arena, statement);
    else
        *statement =
            (struct statement){.sql = statement_truncate(kind->mapping, arena), .may_miss = true};
}

/* So many are kept; then all are forgotten, here and there. */
static bool forget_when_many(struct applier *applier, struct error *err)
{
    struct prepared *prepared, *next;
    if (HASH_COUNT(applier->prepared) < PREPARED_MAX)
        return true;
    HASH_ITER (hh, applier->prepared, prepared, next) {
        HASH_DEL(applier->prepared, prepared);
        free(prepared);
    }
    arena_clear(&applier->arena);
    return pipeline_query(applier->pipeline, "DEALLOCATE ALL", 0, NULL, EXPECT_OK, err);
}

/* Prepared at its first use. NULL on error. */
static struct prepared *prepared_for(struct applier *applier, const struct group_kind *kind,
                                     unsigned rows, struct error *err)
{
    struct prepared_key key;
    struct prepared *found;
    memset(&key, 0, sizeof key); /* it is hashed as bytes */
    key.kind.mapping = kind->mapping;
    key.kind.op = kind->op;
    key.kind.present = kind->present;
    key.rows = rows;
    HASH_FIND(hh, applier->prepared, &key, sizeof key, found);
    if (found != NULL)
        return found;
    if (!forget_when_many(applier, err))
        return NULL;
    found = check_calloc(1, sizeof *found);
    found->key = key;
    snprintf(found->name, sizeof found->name, "p%u", HASH_COUNT(applier->prepared));
    statement_make(applier, &key, &found->statement);
    HASH_ADD(hh, applier->prepared, key, sizeof found->key, found);
    return pipeline_prepare(applier->pipeline, found->name, found->statement.sql, err) ? found
                                                                                       : NULL;
}

static void bind_row(struct applier *applier, const struct statement *statement,
                     const struct change *change, unsigned at)
{
    for (unsigned p = 0; p < statement->params_count; p++) {
        const struct statement_param *param = &statement->params[p];
        const struct tuple *row = param->from == PARAM_OLD ? &change->old_row : &change->new_row;
        const struct value *value = &row->values[param->column];
        applier->values[at + p] = value->kind == VALUE_TEXT ? value->bytes : NULL;
        applier->lengths[at + p] = (int)value->length;
    }
}

/* One statement for the first `rows` of the changes, which are of one kind. */
static bool send(struct applier *applier, const struct group_kind *kind,
                 struct change *const *changes, unsigned rows, struct error *err)
{
    struct prepared *prepared = prepared_for(applier, kind, rows, err);
    if (prepared == NULL)
        return false;
    const struct statement *statement = &prepared->statement;
    bool may_miss = statement->may_miss;
    lsn_t last = 0;
    for (unsigned r = 0; r < rows; r++) {
        bind_row(applier, statement, changes[r], r * statement->params_count);
        may_miss |= changes[r]->may_miss;
        last = changes[r]->lsn > last ? changes[r]->lsn : last;
    }
    struct expectation expected = {.kind = may_miss ? EXPECT_OK : EXPECT_ROWS,
                                   .rows = rows,
                                   .change = changes[0],
                                   .last = last};
    return pipeline_execute(applier->pipeline, prepared->name,
                            (int)(rows * statement->params_count), applier->values,
                            applier->lengths, &expected, err);
}

/* ---- groups ---- */

/* Updates of an ordered table go one by one: in which order a statement visits its rows is the server's
 * business. */
static unsigned rows_most(const struct group_kind *kind)
{
    unsigned rows = GROUP_ROWS_MAX;
    if (kind->op == CHANGE_UPDATE && group_is_ordered(kind->mapping))
        return 1;
    while (rows > 1 && rows * kind->mapping->source->columns_count > PARAMS_MAX)
        rows /= ROWS_STEP;
    return rows;
}

static bool send_group(struct applier *applier, struct group *group, struct error *err)
{
    unsigned rows = rows_most(&group->kind);
    for (unsigned done = 0; done < group->count; done += rows) {
        while (rows > group->count - done)
            rows /= ROWS_STEP;
        if (!send(applier, &group->kind, group->changes + done, rows, err))
            return false;
    }
    group_sent(&applier->groups, group);
    return true;
}

bool applier_flush(struct applier *applier, struct error *err)
{
    for (struct group *group = applier->groups.first; group != NULL; group = group->next) {
        if (group->count > 0 && !send_group(applier, group, err))
            return false;
    }
    groups_clear(&applier->groups);
    return true;
}

static bool apply_truncate(struct applier *applier, struct change *change, struct error *err)
{
    struct group_kind kind = {.mapping = change->mapping, .op = CHANGE_TRUNCATE};
    ghosts_forget_table(&applier->ghosts, change->mapping);
    return ghosts_remove_table(applier->pipeline, change->mapping, err) &&
           applier_flush(applier, err) && send(applier, &kind, &change, 1, err);
}

/* Reads back from the source what an unchanged TOAST column hides and the statement needs (R1). Not
 * *complete: the row is gone there, and the statement cannot do without. */
static bool complete_row(struct applier *applier, struct change *change, struct arena *arena,
                         bool *complete, struct error *err)
{
    struct column_set missing;
    struct column_set present = change_present(change);
    bool makes_row = change->op == CHANGE_INSERT, found;
    *complete = true;
    if (!makes_row && change->op != CHANGE_UPDATE)
        return true;
    if (!statement_missing(change->mapping, &present, makes_row, &missing))
        return true;
    if (!readback_fill(&applier->readback, change, &missing, arena, &found, err))
        return false;
    /* An update leaves alone what it does not know; but not when it may have to insert (`where`). */
    *complete = found || (!makes_row && !mapping_updates_move_rows(change->mapping));
    return true;
}

/* Completes the change, or makes a ghost of its row. *applies: something is left to be done. */
static bool settle(struct applier *applier, struct change *change, struct arena *arena,
                   bool *applies, struct error *err)
{
    struct ghosts *ghosts = &applier->ghosts;
    bool complete, known = ghosts_know(ghosts, change);
    if (known && change->op == CHANGE_UPDATE)
        change->op = CHANGE_INSERT; /* of what is not there */
    if (!complete_row(applier, change, arena, &complete, err))
        return false;
    *applies = complete && !(known && change->op == CHANGE_DELETE);
    if (complete)
        return !known || ghosts_forget(ghosts, applier->pipeline, change, err);
    if (change->op == CHANGE_UPDATE) { /* whether the row passed `where` before is not known */
        change->op = CHANGE_DELETE;
        change->old_row = change->new_row;
        *applies = true;
    }
    return known || ghosts_add(ghosts, applier->pipeline, change, err);
}

static bool must_be_alone(const struct change *change)
{
    return change->op != CHANGE_INSERT &&
           !statement_takes_rows(change->mapping, change->op == CHANGE_UPDATE);
}

bool applier_take(struct applier *applier, struct change *change, struct arena *arena, bool alone,
                  struct error *err)
{
    bool applies;
    if (change->op == CHANGE_TRUNCATE)
        return apply_truncate(applier, change, err);
    if (change->mapping->parts > 1)
        return applier_flush(applier, err) && parts_take(&applier->parts, change, arena, err);
    if (!settle(applier, change, arena, &applies, err))
        return false;
    if (!applies)
        return true;
    alone |= must_be_alone(change);
    if ((alone || !groups_admit(&applier->groups, change)) && !applier_flush(applier, err))
        return false;
    struct group *full = groups_add(&applier->groups, change);
    if (alone)
        return applier_flush(applier, err);
    return full == NULL || send_group(applier, full, err);
}
