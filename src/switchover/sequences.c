#include "switchover/sequences.h"

#include "pg/conn.h"
#include "state/journal.h"
#include "switchover/sequence_read.h"

enum { ALTERED_AT_ONCE = 500 };

struct sequences {
    struct arena arena;
    struct sequences_sides sides;
    struct sequence_look look;
    struct sequence_reading reading;
    const char *set_sql;
    unsigned asks_count; /* of sequences_set(); sequences_check() has as many */
    struct ask *asks;
};

/* ---- what the to-side gives from now on ---- */

static const char record_format[] =
    "INSERT INTO portage.sequence (sequence, increment, start, min, max, origin)"
    " VALUES (%u, %lld, %lld, %lld, %lld, %s)"
    " ON CONFLICT (sequence) DO UPDATE SET origin = excluded.origin;"
    "ALTER SEQUENCE %s INCREMENT BY %lld MINVALUE %lld MAXVALUE %lld START WITH %lld";

/* What it was is kept once: later only the origin changes. */
static void put_alter(struct buffer *sql, const struct sequences *sequences,
                      const struct sequence_goal *goal, unsigned server)
{
    const struct sequence *here = sequences->look.to.servers[server].named[goal->first->index];
    const struct sequence_shape *own = &here->own, *shape = &goal->shapes[server];
    char origin[24] = "NULL";
    if (sequence_goal_in_blocks(&sequences->look, goal))
        snprintf(origin, sizeof origin, "%lld", (long long)goal->origin);
    buffer_printf(sql, record_format, here->oid, (long long)own->increment, (long long)own->start,
                  (long long)own->min, (long long)own->max, origin, here->quoted,
                  (long long)shape->increment, (long long)shape->min, (long long)shape->max,
                  (long long)shape->start);
}

/* Where it stands may lie outside its new bounds. */
static void put_restart(struct buffer *sql, const struct sequence_shape *shape,
                        struct sequence_state *state)
{
    if (state->last < shape->min || state->last > shape->max) {
        buffer_printf(sql, " RESTART WITH %lld", (long long)shape->start);
        *state = (struct sequence_state){.last = shape->start, .called = false};
    }
    buffer_puts(sql, ";");
}

/* The guard's row stays locked until the end of the transaction. */
static bool hold_guard(const struct sequences *sequences, PGconn *conn, struct error *err)
{
    if (sequences->sides.guard == NULL)
        return true;
    PGresult *result = conn_query(conn, sequences->sides.guard, 0, NULL, err);
    if (result == NULL)
        return false;
    bool held = PQntuples(result) == 1;
    PQclear(result);
    return held || journal_superseded(conn, err);
}

static bool alter_some(const struct sequences *sequences, PGconn *conn, const struct buffer *sql,
                       struct error *err)
{
    struct error ignored = ERROR_INIT;
    if (sql->length == 0)
        return true;
    if (conn_exec(conn, "BEGIN; SET LOCAL lock_timeout = '5s'", err) &&
        hold_guard(sequences, conn, err) && conn_exec(conn, buffer_text(sql), err) &&
        conn_exec(conn, "COMMIT", err))
        return true;
    if (!conn_exec(conn, "ROLLBACK", &ignored)) {
        /* the first error tells more */
    }
    return error_context(err, "changing the increments of sequences");
}

static bool alter_server(struct sequences *sequences, unsigned server, struct error *err)
{
    struct sequence_look *look = &sequences->look;
    PGconn *conn = look->to.servers[server].conn;
    struct buffer sql;
    unsigned count = 0;
    bool ok = true;
    buffer_init(&sql, ALTERED_AT_ONCE * 1024);
    for (unsigned g = 0; ok && g < look->goals_count; g++) {
        struct sequence_goal *goal = &look->goals[g];
        const struct sequence *here = look->to.servers[server].named[g];
        if (sequence_shape_equal(&here->shape, &goal->shapes[server]))
            continue;
        put_alter(&sql, sequences, goal, server);
        put_restart(&sql, &goal->shapes[server], &goal->states[server]);
        if (++count % ALTERED_AT_ONCE == 0) {
            ok = alter_some(sequences, conn, &sql, err);
            buffer_clear(&sql);
        }
    }
    ok = ok && alter_some(sequences, conn, &sql, err);
    buffer_release(&sql);
    return ok || error_context(err, "%s", look->to.servers[server].label);
}

static bool alter_all(struct sequences *sequences, struct error *err)
{
    for (unsigned s = 0; sequence_look_shared(&sequences->look) && s < sequences->look.to.count;
         s++) {
        if (!alter_server(sequences, s, err))
            return false;
    }
    return true;
}

/* ---- planning ---- */

/* setval() is asked only where the guard gives a row: no rows back, and nothing was set. */
static const char *make_set_sql(const char *guard, struct arena *arena)
{
    static const char format[] =
        "%s SELECT pg_catalog.setval(s.oid::regclass, s.last, s.called)"
        "  FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::bigint[]),"
        "                  pg_catalog.unnest($3::bool[])) AS s(oid, last, called) %s";
    if (guard == NULL)
        return arena_printf(arena, format, "", "");
    return arena_printf(arena, format,
                        arena_printf(arena, "WITH guard AS MATERIALIZED (%s)", guard),
                        "WHERE EXISTS (SELECT FROM guard)");
}

static unsigned batches_of(const struct sequences *sequences)
{
    return (sequences->look.goals_count + SEQUENCES_AT_ONCE - 1) / SEQUENCES_AT_ONCE;
}

static unsigned batch_size(const struct sequences *sequences, unsigned batch)
{
    unsigned left = sequences->look.goals_count - batch * SEQUENCES_AT_ONCE;
    return left < SEQUENCES_AT_ONCE ? left : SEQUENCES_AT_ONCE;
}

static void make_asks(struct sequences *sequences)
{
    const struct sequence_look *look = &sequences->look;
    unsigned batches = batches_of(sequences);
    sequences->set_sql = make_set_sql(sequences->sides.guard, &sequences->arena);
    sequences->asks_count = batches * look->to.count;
    sequences->asks =
        arena_zalloc(&sequences->arena, (sequences->asks_count + 1) * sizeof *sequences->asks);
    for (unsigned a = 0; a < sequences->asks_count; a++) {
        const struct sequence_server *server = &look->to.servers[a / batches];
        sequences->asks[a].conn = server->conn;
        sequences->asks[a].values[0] =
            sequence_oids(server, NULL, a % batches * SEQUENCES_AT_ONCE,
                          batch_size(sequences, a % batches), &sequences->arena);
    }
}

/* The first of those that refuse, from `seen` on. */
static bool refused(const struct findings *findings, unsigned seen, struct error *err)
{
    for (unsigned f = seen; f < findings->count; f++) {
        const struct finding *finding = &findings->items[f];
        if (finding->severity != SEVERITY_REFUSE)
            continue;
        error_set(err, ERROR_CONFIG, "%s: %s", finding->object, finding->reason);
        if (finding->fix != NULL)
            error_hint(err, "%s", finding->fix);
        return true;
    }
    return false;
}

static bool plan(struct sequences *sequences, struct findings *findings, struct error *err)
{
    unsigned seen = findings->count;
    struct sequence_look *look = &sequences->look;
    if (!sequence_look_read(look, &sequences->sides, &sequences->arena, findings, err))
        return false;
    /* What may not be read is not asked for. */
    sequence_look_decide(look, SEVERITY_REFUSE, findings);
    if (refused(findings, seen, err))
        return false;
    if (!sequence_reading_prepare(&sequences->reading, look, err) ||
        !sequence_reading_now(&sequences->reading, err))
        return false;
    /* Again, by what the columns told: only new reasons would come out of it. */
    struct findings again;
    findings_init(&again, &sequences->arena);
    sequence_look_decide(look, SEVERITY_REFUSE, &again);
    if (refused(&again, 0, err) || !alter_all(sequences, err))
        return false;
    make_asks(sequences);
    return true;
}

bool sequences_plan(const struct sequences_sides *sides, struct findings *findings,
                    struct sequences **sequences, struct error *err)
{
    struct sequences *made = check_calloc(1, sizeof *made);
    made->sides = *sides;
    arena_init(&made->arena, 256 * 1024);
    if (plan(made, findings, err)) {
        *sequences = made;
        return true;
    }
    sequences_free(made);
    return error_context(err, "planning the sequences");
}

void sequences_free(struct sequences *sequences)
{
    if (sequences == NULL)
        return;
    arena_release(&sequences->arena);
    free(sequences);
}

bool sequences_assess(const struct sequences_sides *sides, enum severity hindrance,
                      struct findings *findings, struct error *err)
{
    struct arena arena;
    struct sequence_look look;
    arena_init(&arena, 64 * 1024);
    bool ok = sequence_look_read(&look, sides, &arena, findings, err);
    if (ok)
        sequence_look_decide(&look, hindrance, findings);
    arena_release(&arena);
    return ok;
}

/* ---- in the pause ---- */

static bool full(const struct sequence_goal *goal, const struct sequence_server *server,
                 struct error *err)
{
    error_set(err, ERROR_LIMIT, "sequence %s on %s has no values left", goal->first->quoted,
              server->label);
    error_detail(err, "%lld is used; it ends at %lld.", (long long)goal->used,
                 (long long)goal->end);
    return error_hint(err, "A smaller sequence_margin, a larger sequence_range, or a bigint.");
}

/* Its values and whether they are used, of one batch, as arrays. */
static bool fill_batch(struct sequences *sequences, struct ask *ask, unsigned server,
                       unsigned batch, struct buffer text[2], struct error *err)
{
    const struct sequence_look *look = &sequences->look;
    for (unsigned i = 0; i < batch_size(sequences, batch); i++) {
        const struct sequence_goal *goal = &look->goals[batch * SEQUENCES_AT_ONCE + i];
        struct sequence_state state;
        if (!sequence_goal_stand(look, goal, server, &state))
            return full(goal, &look->to.servers[server], err);
        buffer_printf(&text[0], "%c%lld", i == 0 ? '{' : ',', (long long)state.last);
        buffer_printf(&text[1], "%c%c", i == 0 ? '{' : ',', state.called ? 't' : 'f');
    }
    buffer_putc(&text[0], '}');
    buffer_putc(&text[1], '}');
    ask->sql = sequences->set_sql;
    ask->values_count = 3;
    ask->values[1] = buffer_text(&text[0]);
    ask->values[2] = buffer_text(&text[1]);
    return true;
}

/* Fewer rows than asked: the guard let none through. */
static bool all_were_set(struct sequences *sequences, struct error *err)
{
    unsigned batches = batches_of(sequences);
    for (unsigned a = 0; a < sequences->asks_count; a++) {
        if (PQntuples(sequences->asks[a].result) != (int)batch_size(sequences, a % batches))
            return journal_superseded(sequences->asks[a].conn, err);
    }
    return true;
}

static void clear_asks(struct sequences *sequences)
{
    for (unsigned a = 0; a < sequences->asks_count; a++) {
        PQclear(sequences->asks[a].result);
        sequences->asks[a].result = NULL;
    }
}

static bool set_all(struct sequences *sequences, struct buffer (*texts)[2], struct error *err)
{
    unsigned batches = batches_of(sequences);
    for (unsigned a = 0; a < sequences->asks_count; a++) {
        if (!fill_batch(sequences, &sequences->asks[a], a / batches, a % batches, texts[a], err))
            return false;
    }
    bool ok = ask_all(sequences->asks, sequences->asks_count, err) && all_were_set(sequences, err);
    clear_asks(sequences);
    return ok;
}

bool sequences_set(struct sequences *sequences, struct error *err)
{
    if (!sequence_reading_now(&sequences->reading, err))
        return false;
    struct buffer(*texts)[2] = check_calloc(sequences->asks_count + 1, sizeof *texts);
    for (unsigned a = 0; a < sequences->asks_count; a++) {
        buffer_init(&texts[a][0], SEQUENCES_AT_ONCE * 24);
        buffer_init(&texts[a][1], SEQUENCES_AT_ONCE * 4);
    }
    bool ok = set_all(sequences, texts, err);
    for (unsigned a = 0; a < sequences->asks_count; a++) {
        buffer_release(&texts[a][0]);
        buffer_release(&texts[a][1]);
    }
    free(texts);
    return ok || error_context(err, "setting sequences");
}

/* ---- the proof ---- */

static const char proof_sql[] =
    "SELECT s.seqincrement, s.seqstart, s.seqmin, s.seqmax, s.seqcycle,"
    "       pg_catalog.pg_sequence_last_value(u.oid::regclass)"
    "  FROM pg_catalog.unnest($1::oid[]) WITH ORDINALITY AS u(oid, n)"
    "  JOIN pg_catalog.pg_sequence s ON s.seqrelid = u.oid ORDER BY u.n";

/* What is wrong with a sequence as its server tells it; NULL when nothing is. */
static const char *wrong_with(const struct sequence_goal *goal, unsigned server,
                              const PGresult *result, int row)
{
    struct sequence_shape shape = {.increment = result_int(result, row, 0),
                                   .start = result_int(result, row, 1),
                                   .min = result_int(result, row, 2),
                                   .max = result_int(result, row, 3),
                                   .cycle = result_bool(result, row, 4)};
    int64_t last = result_int(result, row, 5);
    if (!sequence_shape_equal(&shape, &goal->shapes[server]))
        return "has another increment or other bounds than it was given";
    if (PQgetisnull(result, row, 5))
        return goal->is_used ? "was not set" : NULL;
    if (!sequence_gives(&shape, last))
        return "stands at a value of another shard";
    if (goal->is_used && !shape.cycle &&
        sequence_further(&goal->first->own, last, goal->used) != last)
        return "stands below a value that is used";
    return NULL;
}

static bool check_batch(const struct sequences *sequences, unsigned server, unsigned batch,
                        const PGresult *result, struct error *err)
{
    const struct sequence_look *look = &sequences->look;
    if (PQntuples(result) != (int)batch_size(sequences, batch))
        return error_set(err, ERROR_FATAL, "a sequence of %s is gone",
                         look->to.servers[server].label);
    for (int row = 0; row < PQntuples(result); row++) {
        const struct sequence_goal *goal = &look->goals[batch * SEQUENCES_AT_ONCE + (unsigned)row];
        const char *wrong = wrong_with(goal, server, result, row);
        if (wrong != NULL)
            return error_set(err, ERROR_FATAL, "sequence %s on %s %s", goal->first->quoted,
                             look->to.servers[server].label, wrong);
    }
    return true;
}

static bool check_disjoint(const struct sequence_look *look, struct error *err)
{
    for (unsigned g = 0; g < look->goals_count; g++) {
        const struct sequence_goal *goal = &look->goals[g];
        for (unsigned s = 1; s < look->to.count; s++) {
            for (unsigned other = 0; other < s; other++) {
                if (!sequence_disjoint(&goal->shapes[s], &goal->shapes[other]))
                    return error_set(err, ERROR_FATAL,
                                     "sequence %s gives the same values on shards %u and %u",
                                     goal->first->quoted, other, s);
            }
        }
    }
    return true;
}

bool sequences_check(struct sequences *sequences, unsigned *checked, struct error *err)
{
    unsigned batches = batches_of(sequences);
    if (!sequence_reading_now(&sequences->reading, err))
        return false;
    for (unsigned a = 0; a < sequences->asks_count; a++) {
        sequences->asks[a].sql = proof_sql;
        sequences->asks[a].values_count = 1;
    }
    bool ok = ask_all(sequences->asks, sequences->asks_count, err);
    for (unsigned a = 0; ok && a < sequences->asks_count; a++)
        ok = check_batch(sequences, a / batches, a % batches, sequences->asks[a].result, err);
    clear_asks(sequences);
    *checked = sequences->look.goals_count * sequences->look.to.count;
    return ok && check_disjoint(&sequences->look, err);
}
