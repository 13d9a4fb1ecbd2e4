#include "stream/apply.h"

#include <uthash.h>

#include "mapping/erase.h"
#include "mapping/statements.h"
#include "stream/look.h"

enum { PREPARED_MAX = 256 }; /* each is a plan in the server's memory */

struct prepared_key {
    struct group_kind kind;
    bool many; /* rows */
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
        .pipeline = pipeline,
        .stream = of->stream,
        .streams = of->streams,
        .conninfo = of->conninfo,
        .back = of->config->reversed,
        .readback = of->readback,
    };
    groups_init(&applier->groups);
    ghosts_init(&applier->ghosts, of->stream, of->lane);
    parts_init(&applier->parts, of->mappings, of->stream, of->readback, pipeline);
    arena_init(&applier->arena, 64 * 1024);
    binding_init(&applier->binding);
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
    ghosts_release(&applier->ghosts);
    arena_release(&applier->arena);
    binding_release(&applier->binding);
}

/* ---- statements ---- */

static void statement_make_back(const struct prepared_key *key, unsigned stream,
                                struct arena *arena, struct statement *statement)
{
    const struct group_kind *kind = &key->kind;
    if (kind->op == CHANGE_INSERT)
        statement_back_insert(kind->mapping, stream, key->many, arena, statement);
    else if (kind->op == CHANGE_UPDATE)
        statement_back_update(kind->mapping, stream, &kind->present, key->many, arena, statement);
    else
        statement_back_delete(kind->mapping, stream, key->many, arena, statement);
}

/* Whose rows are in the table: on the way back, perhaps other shards' too. */
static bool truncates_part(const struct applier *applier, const struct mapping *mapping,
                           struct erase_of *of)
{
    *of = (struct erase_of){.shard = applier->stream, .shards = applier->streams};
    return applier->back && erase_is_part(mapping, *of);
}

static const char *truncate_sql(struct applier *applier, const struct mapping *mapping)
{
    struct erase_of of;
    return truncates_part(applier, mapping, &of) ? erase_rows(mapping, of, &applier->arena)
                                                 : statement_truncate(mapping, &applier->arena);
}

static void statement_make(struct applier *applier, const struct prepared_key *key,
                           struct statement *statement)
{
    const struct group_kind *kind = &key->kind;
    struct arena *arena = &applier->arena;
    if (applier->back && kind->mapping->has_key && kind->op != CHANGE_TRUNCATE)
        statement_make_back(key, applier->stream, arena, statement);
    else if (kind->op == CHANGE_INSERT)
        statement_insert(kind->mapping, key->many, arena, statement);
    else if (kind->op == CHANGE_UPDATE)
        statement_update(kind->mapping, &kind->present, key->many, arena, statement);
    else if (kind->op == CHANGE_DELETE)
        statement_delete(kind->mapping, key->many, arena, statement);
    else
        *statement = (struct statement){.sql = truncate_sql(applier, kind->mapping), .may_miss = true};
}

/* So many are kept; then all are forgotten, here and there. One by one: the lane has others. */
static bool forget_when_many(struct applier *applier, struct error *err)
{
    struct prepared *prepared, *next;
    char sql[32];
    if (HASH_COUNT(applier->prepared) < PREPARED_MAX)
        return true;
    HASH_ITER (hh, applier->prepared, prepared, next) {
        snprintf(sql, sizeof sql, "DEALLOCATE %s", prepared->name);
        if (!pipeline_query(applier->pipeline, sql, 0, NULL, EXPECT_OK, err))
            return false;
        HASH_DEL(applier->prepared, prepared);
        free(prepared);
    }
    arena_clear(&applier->arena);
    return true;
}

/* Prepared at its first use. NULL on error. */
static struct prepared *prepared_for(struct applier *applier, const struct group_kind *kind,
                                     bool many, struct error *err)
{
    struct prepared_key key;
    struct prepared *found;
    memset(&key, 0, sizeof key); /* it is hashed as bytes */
    key.kind.mapping = kind->mapping;
    key.kind.op = kind->op;
    key.kind.present = kind->present;
    key.many = many;
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

static struct expectation expectation_of(const struct statement *statement,
                                         struct change *const *changes, unsigned rows)
{
    bool may_miss = statement->may_miss;
    lsn_t last = 0;
    for (unsigned r = 0; r < rows; r++) {
        may_miss |= changes[r]->may_miss;
        last = changes[r]->lsn > last ? changes[r]->lsn : last;
    }
    return (struct expectation){.kind = may_miss ? EXPECT_OK : EXPECT_ROWS,
                                .tells_keys = statement->tells_keys,
                                .rows = rows,
                                .change = changes[0],
                                .last = last};
}

/* One statement for the first `rows` of the changes, which are of one kind. */
static bool send(struct applier *applier, const struct group_kind *kind,
                 struct change *const *changes, unsigned rows, struct error *err)
{
    bool many = rows > 1;
    struct prepared *prepared = prepared_for(applier, kind, many, err);
    if (prepared == NULL)
        return false;
    const struct statement *statement = &prepared->statement;
    if (!many)
        bind_row(&applier->binding, statement, changes[0]);
    else if (!bind_rows(&applier->binding, statement, changes, rows, err))
        return false;
    const struct parameters parameters = {.count = (int)statement->params_count,
                                          .values = applier->binding.values,
                                          .lengths = applier->binding.lengths,
                                          .formats = applier->binding.formats};
    struct expectation expected = expectation_of(statement, changes, rows);
    return pipeline_execute(applier->pipeline, prepared->name, &parameters, &expected, err);
}

/* ---- groups ---- */

static enum statement_op statement_op(enum change_op op)
{
    if (op == CHANGE_INSERT)
        return STATEMENT_INSERT;
    return op == CHANGE_UPDATE ? STATEMENT_UPDATE : STATEMENT_DELETE;
}

/* Updates of an ordered table go one by one: in which order a statement visits its rows is the server's
 * business. */
static bool takes_rows(const struct group_kind *kind)
{
    return statement_takes_rows(kind->mapping, statement_op(kind->op)) &&
           !(kind->op == CHANGE_UPDATE && group_is_ordered(kind->mapping));
}

static size_t change_bytes(const struct change *change)
{
    const struct tuple *row = change_row(change);
    size_t bytes = 0;
    for (unsigned v = 0; v < row->count; v++)
        bytes += row->values[v].length;
    return bytes;
}

/* How many of the changes go into the next statement. */
static unsigned rows_that_fit(struct change *const *changes, unsigned count)
{
    size_t bytes = change_bytes(changes[0]);
    unsigned rows = 1;
    while (rows < count && (bytes += change_bytes(changes[rows])) <= BIND_ROWS_BYTES_MAX)
        rows++;
    return rows;
}

static bool send_group(struct applier *applier, struct group *group, struct error *err)
{
    bool many = takes_rows(&group->kind);
    unsigned rows;
    for (unsigned done = 0; done < group->count; done += rows) {
        rows = many ? rows_that_fit(group->changes + done, group->count - done) : 1;
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

static bool make_place(struct applier *applier, const struct change *change, struct arena *arena,
                       struct error *err)
{
    struct erase_of of;
    const char *sql = truncates_part(applier, change->mapping, &of)
                          ? erase_place(change->mapping, of, arena)
                          : NULL;
    return sql == NULL || pipeline_query(applier->pipeline, sql, 0, NULL, EXPECT_OK, err);
}

/* The ghosts stay: what is in the stream ends them. */
static bool apply_partial(struct applier *applier, struct change *change, struct error *err)
{
    const struct look look = {.conninfo = applier->conninfo,
                              .of = {.shard = applier->stream, .shards = applier->streams},
                              .parts = &applier->parts};
    return applier_flush(applier, err) && look_take(&look, change, err);
}

static bool apply_truncate(struct applier *applier, struct change *change, struct arena *arena,
                           struct error *err)
{
    struct group_kind kind = {.mapping = change->mapping, .op = CHANGE_TRUNCATE};
    ghosts_forget_table(&applier->ghosts, change->mapping);
    return ghosts_remove_table(applier->pipeline, change->mapping, err) &&
           applier_flush(applier, err) && make_place(applier, change, arena, err) &&
           send(applier, &kind, &change, 1, err);
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
    if (!readback_fill(applier->readback, change, &missing, arena, &found, err))
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
           !statement_takes_rows(change->mapping, statement_op(change->op));
}

bool applier_take(struct applier *applier, struct change *change, struct arena *arena, bool alone,
                  struct error *err)
{
    bool applies;
    if (change->op == CHANGE_TRUNCATE && applier->back && change->partial)
        return apply_partial(applier, change, err);
    if (change->op == CHANGE_TRUNCATE)
        return apply_truncate(applier, change, arena, err);
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
