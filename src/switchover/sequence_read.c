#include "switchover/sequence_read.h"

#include "pg/conn.h"
#include "pg/quote.h"

enum {
    COLUMNS_AT_ONCE = 100,
    /* Tables (partitions) whose index is looked at in the pause: a hundredth of a millisecond each. */
    LEAVES_MAX = 1000,
    ARRAY_MAX = SEQUENCES_AT_ONCE * 24,
};

/* Null for one that was not called. */
static const char last_sql[] =
    "SELECT pg_catalog.pg_sequence_last_value(u.oid::regclass)"
    "  FROM pg_catalog.unnest($1::oid[]) WITH ORDINALITY AS u(oid, n) ORDER BY u.n";

const char *sequence_oids(const struct sequence_server *server, const unsigned *sequences,
                          unsigned first, unsigned count, struct arena *arena)
{
    struct buffer text;
    buffer_init(&text, ARRAY_MAX);
    for (unsigned i = first; i < first + count; i++) {
        const struct sequence *sequence = server->named[sequences != NULL ? sequences[i] : i];
        buffer_putc(&text, i == first ? '{' : ',');
        if (sequence != NULL)
            buffer_printf(&text, "%u", sequence->oid);
        else
            buffer_puts(&text, "NULL");
    }
    buffer_putc(&text, '}');
    return arena_take(arena, &text);
}

static unsigned batches_of(unsigned count, unsigned at_once)
{
    return (count + at_once - 1) / at_once;
}

static unsigned batch_size(unsigned count, unsigned at_once, unsigned batch)
{
    unsigned left = count - batch * at_once;
    return left < at_once ? left : at_once;
}

/* ---- what feeds ---- */

static void find_feeds(struct sequence_reading *reading)
{
    const struct sequence_look *look = reading->look;
    unsigned count = look->from.servers[0].list.count;
    bool *feeds = arena_zalloc(look->arena, count + 1);
    reading->feeds = arena_alloc(look->arena, (count + 1) * sizeof *reading->feeds);
    for (unsigned g = 0; g < look->goals_count; g++) {
        for (unsigned f = 0; f < look->goals[g].feeds.count; f++)
            feeds[look->goals[g].feeds.from[f]] = true;
    }
    for (unsigned f = 0; f < count; f++) {
        if (feeds[f])
            reading->feeds[reading->feeds_count++] = f;
    }
}

/* ---- columns ---- */

static void put_column(struct buffer *sql, const struct sequence *sequence,
                       const struct sequence_column *column)
{
    buffer_printf(sql, "(SELECT pg_catalog.%s(", sequence->own.increment < 0 ? "min" : "max");
    quote_ident(sql, column->name);
    buffer_printf(sql, ")::bigint FROM %s", column->kind == 'p' ? "" : "ONLY ");
    quote_name(sql, column->schema, column->table);
    buffer_putc(sql, ')');
}

struct wanted {
    struct sequence_goal *goal;
    const struct sequence_column *column;
};

struct wishes {
    unsigned count;
    struct wanted *items;
};

static struct column_read *add_statement(struct column_read *at, const struct wanted *wanted,
                                         unsigned count, unsigned number, struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, (size_t)count * 1024 + 256);
    snprintf(at->name, sizeof at->name, "portage_columns_%u", number);
    at->count = count;
    at->goals = arena_alloc(arena, count * sizeof *at->goals);
    buffer_puts(&sql, "SELECT u.value FROM pg_catalog.unnest(ARRAY[");
    for (unsigned i = 0; i < count; i++) {
        buffer_puts(&sql, i > 0 ? ", " : "");
        put_column(&sql, wanted[i].goal->first, wanted[i].column);
        at->goals[i] = wanted[i].goal;
    }
    buffer_puts(&sql, "]) WITH ORDINALITY AS u(value, n) ORDER BY u.n");
    at->sql = arena_take(arena, &sql);
    return at;
}

/* Statements of so many columns each. */
static struct column_read *statements_of(const struct wishes *wishes, struct arena *arena,
                                         unsigned *count)
{
    *count = batches_of(wishes->count, COLUMNS_AT_ONCE);
    struct column_read *reads = arena_zalloc(arena, (*count + 1) * sizeof *reads);
    for (unsigned b = 0; b < *count; b++)
        add_statement(&reads[b], &wishes->items[b * COLUMNS_AT_ONCE],
                      batch_size(wishes->count, COLUMNS_AT_ONCE, b), b, arena);
    return reads;
}

/* In the pause: always what nothing else tells of; where sequences do, as many as are cheap. What is
 * beyond that is read before the pause, and then by its sequence and the margin. */
static void choose_columns(const struct sequence_look *look, struct wishes *paused,
                           struct wishes *before)
{
    int leaves = 0;
    for (unsigned g = 0; g < look->goals_count; g++) {
        struct sequence_goal *goal = &look->goals[g];
        for (unsigned c = 0; c < goal->first->columns_count; c++) {
            const struct sequence_column *column = &goal->first->columns[c];
            bool fed = goal->feeds.count > 0;
            if (column->integer_bytes == 0 || goal->first->own.cycle || (fed && !column->indexed))
                continue;
            leaves += fed ? column->leaves : 0;
            struct wishes *wishes = !fed || leaves <= LEAVES_MAX ? paused : before;
            wishes->items[wishes->count++] = (struct wanted){goal, column};
        }
    }
}

static unsigned columns_of(const struct sequence_look *look)
{
    unsigned count = 0;
    for (unsigned g = 0; g < look->goals_count; g++)
        count += look->goals[g].first->columns_count;
    return count;
}

static void take_columns(const struct column_read *read, const PGresult *result)
{
    for (unsigned i = 0; i < read->count; i++) {
        if (!PQgetisnull(result, (int)i, 0))
            sequence_goal_use(read->goals[i], result_int(result, (int)i, 0));
    }
}

static bool read_before(const struct sequence_look *look, const struct column_read *reads,
                        unsigned count, struct error *err)
{
    for (unsigned s = 0; s < look->to.count; s++) {
        for (unsigned r = 0; r < count; r++) {
            PGresult *result = conn_query(look->to.servers[s].conn, reads[r].sql, 0, NULL, err);
            if (result == NULL)
                return error_context(err, "reading columns of %s", look->to.servers[s].label);
            take_columns(&reads[r], result);
            PQclear(result);
        }
    }
    return true;
}

/* A session may have them from an earlier plan. */
static bool prepare_on(PGconn *conn, const struct column_read *read, struct error *err)
{
    char drop[64];
    snprintf(drop, sizeof drop, "DEALLOCATE %s", read->name);
    PGresult *known = conn_query_row(
        conn, "SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE name = $1)", 1,
        (const char *const[]){read->name}, err);
    if (known == NULL)
        return false;
    bool ok = !result_bool(known, 0, 0) || conn_exec(conn, drop, err);
    PQclear(known);
    if (!ok)
        return false;
    PGresult *result = PQprepare(conn, read->name, read->sql, 0, NULL);
    ok = PQresultStatus(result) == PGRES_COMMAND_OK || conn_result_error(conn, result, err);
    PQclear(result);
    return ok;
}

static bool prepare_columns(struct sequence_reading *reading, struct error *err)
{
    const struct sequence_look *look = reading->look;
    unsigned before_count, room = columns_of(look) + 1;
    struct wishes paused = {.items = arena_alloc(look->arena, room * sizeof *paused.items)};
    struct wishes before = {.items = arena_alloc(look->arena, room * sizeof *before.items)};
    choose_columns(look, &paused, &before);
    const struct column_read *reads = statements_of(&before, look->arena, &before_count);
    if (!read_before(look, reads, before_count, err))
        return false;
    reading->columns = statements_of(&paused, look->arena, &reading->columns_count);
    for (unsigned s = 0; s < look->to.count; s++) {
        for (unsigned r = 0; r < reading->columns_count; r++) {
            if (!prepare_on(look->to.servers[s].conn, &reading->columns[r], err))
                return error_context(err, "preparing on %s", look->to.servers[s].label);
        }
    }
    return true;
}

/* ---- all in one round trip ---- */

static void ask_last(struct sequence_reading *reading, const struct sequence_server *server,
                     const unsigned *sequences, unsigned count)
{
    for (unsigned b = 0; b < batches_of(count, SEQUENCES_AT_ONCE); b++) {
        struct ask *ask = &reading->asks[reading->asks_count++];
        *ask = (struct ask){.conn = server->conn, .sql = last_sql, .values_count = 1};
        ask->values[0] =
            sequence_oids(server, sequences, b * SEQUENCES_AT_ONCE,
                          batch_size(count, SEQUENCES_AT_ONCE, b), reading->look->arena);
    }
}

static void make_asks(struct sequence_reading *reading)
{
    const struct sequence_look *look = reading->look;
    unsigned here = batches_of(look->goals_count, SEQUENCES_AT_ONCE) + reading->columns_count;
    unsigned there = batches_of(reading->feeds_count, SEQUENCES_AT_ONCE);
    reading->asks =
        arena_zalloc(look->arena, (here * look->to.count + there * look->from.count + 1) *
                                      sizeof *reading->asks);
    for (unsigned s = 0; s < look->from.count; s++)
        ask_last(reading, &look->from.servers[s], reading->feeds, reading->feeds_count);
    for (unsigned s = 0; s < look->to.count; s++) {
        ask_last(reading, &look->to.servers[s], NULL, look->goals_count);
        for (unsigned r = 0; r < reading->columns_count; r++)
            reading->asks[reading->asks_count++] = (struct ask){
                .conn = look->to.servers[s].conn, .prepared = reading->columns[r].name};
    }
}

/* The answers of one server's batches, as if they were one: NULL when not called. */
struct answers {
    const struct ask *asks;
};

static bool answer_at(const struct answers *answers, unsigned i, int64_t *last)
{
    const PGresult *result = answers->asks[i / SEQUENCES_AT_ONCE].result;
    int row = (int)(i % SEQUENCES_AT_ONCE);
    if (row >= PQntuples(result) || PQgetisnull(result, row, 0))
        return false;
    *last = result_int(result, row, 0);
    return true;
}

static void take_feeds(struct sequence_reading *reading, const unsigned *places)
{
    const struct sequence_look *look = reading->look;
    unsigned batches = batches_of(reading->feeds_count, SEQUENCES_AT_ONCE);
    for (unsigned g = 0; g < look->goals_count; g++) {
        struct sequence_goal *goal = &look->goals[g];
        for (unsigned f = 0; f < goal->feeds.count * look->from.count; f++) {
            struct answers answers = {reading->asks + f % look->from.count * batches};
            int64_t last;
            if (answer_at(&answers, places[goal->feeds.from[f / look->from.count]], &last))
                sequence_goal_use(goal, last);
        }
    }
}

static void take_states(struct sequence_reading *reading, unsigned server, const struct ask *asks)
{
    const struct answers answers = {asks};
    for (unsigned g = 0; g < reading->look->goals_count; g++) {
        struct sequence_state *state = &reading->look->goals[g].states[server];
        state->called = answer_at(&answers, g, &state->last) || state->called;
    }
}

static void take(struct sequence_reading *reading)
{
    const struct sequence_look *look = reading->look;
    unsigned batches = batches_of(look->goals_count, SEQUENCES_AT_ONCE);
    const struct ask *at =
        reading->asks + batches_of(reading->feeds_count, SEQUENCES_AT_ONCE) * look->from.count;
    unsigned *places =
        arena_zalloc(look->arena, (look->from.servers[0].list.count + 1) * sizeof *places);
    for (unsigned f = 0; f < reading->feeds_count; f++)
        places[reading->feeds[f]] = f;
    take_feeds(reading, places);
    for (unsigned s = 0; s < look->to.count; s++, at += batches + reading->columns_count) {
        take_states(reading, s, at);
        for (unsigned r = 0; r < reading->columns_count; r++)
            take_columns(&reading->columns[r], at[batches + r].result);
    }
}

bool sequence_reading_now(struct sequence_reading *reading, struct error *err)
{
    bool ok = ask_all(reading->asks, reading->asks_count, err);
    if (ok)
        take(reading);
    for (unsigned a = 0; a < reading->asks_count; a++) {
        PQclear(reading->asks[a].result);
        reading->asks[a].result = NULL;
    }
    return ok || error_context(err, "reading sequences");
}

bool sequence_reading_prepare(struct sequence_reading *reading, struct sequence_look *look,
                              struct error *err)
{
    *reading = (struct sequence_reading){.look = look};
    find_feeds(reading);
    if (!prepare_columns(reading, err))
        return false;
    make_asks(reading);
    return true;
}
