#include "mapping/bind.h"
#include "mapping/invert.h"
#include "mapping/rejoin.h"
#include "mapping/statements.h"
#include "pg/conn.h"

enum { SAMPLE_ROWS = 20 };

struct inquiry {
    const struct config *config;
    const struct mapping_set *set;
    PGconn *source, *target;
    struct arena *arena;
    struct findings *findings;
};

/* ---- asking without spoiling the transaction ---- */

static bool begin(PGconn *conn, bool *begun, struct error *err)
{
    *begun = PQtransactionStatus(conn) == PQTRANS_IDLE;
    return !*begun || conn_exec(conn, "BEGIN", err);
}

static bool end(PGconn *conn, bool begun, struct error *err)
{
    return !begun || conn_exec(conn, "ROLLBACK", err);
}

static bool begin_question(PGconn *conn, struct error *err)
{
    return conn_exec(conn, "SAVEPOINT portage_ask", err);
}

/* The savepoint goes in any case: those of thousands of tables, within each other, would take a COMMIT minutes. */
static bool end_question(PGconn *conn, bool answered, struct error *err)
{
    return conn_exec(conn,
                     answered ? "RELEASE portage_ask"
                              : "ROLLBACK TO SAVEPOINT portage_ask; RELEASE portage_ask",
                     err);
}

/* *result is NULL when the server refuses; *refusal then holds its reason. What may work later is an error. */
static bool ask(PGconn *conn, const char *sql, int count, const char *const *values,
                PGresult **result, struct error *refusal, struct error *err)
{
    error_clear(refusal);
    if (!begin_question(conn, err))
        return false;
    *result = conn_query(conn, sql, count, values, refusal);
    if (*result == NULL && refusal->class == ERROR_RETRY) {
        *err = *refusal;
        return false;
    }
    if (end_question(conn, *result != NULL, err))
        return true;
    PQclear(*result);
    *result = NULL;
    return false;
}

static const struct config_text *place_of(const struct mapping *mapping)
{
    return mapping->config->select.text != NULL ? &mapping->config->select
                                                : &mapping->config->target;
}

static void refuse(const struct inquiry *inquiry, const struct mapping *mapping, const char *code,
                   const char *side, const struct error *refusal)
{
    findings_add(inquiry->findings, SEVERITY_REFUSE, code, place_of(mapping), mapping->name,
                 refusal->hint[0] != '\0' ? refusal->hint
                                          : "Both servers must accept it: write a cast, or what both know.",
                 "the %s says: %s%s%s", side,
                 refusal->message, refusal->detail[0] != '\0' ? ": " : "", refusal->detail);
}

/* ---- functions ---- */

static const char functions_sql[] =
    "SELECT pg_catalog.bool_or(prokind IN ('a', 'w')), pg_catalog.bool_or(proretset),"
    "       pg_catalog.bool_and(provolatile = 'v')"
    "         OR (pg_catalog.bool_and(provolatile <> 'i') AND pg_catalog.bool_or(pronargs = 0)),"
    "       pg_catalog.bool_or(provolatile <> 'i'), pg_catalog.count(*)"
    "  FROM pg_catalog.pg_proc WHERE proname = $1";

static bool check_call(const struct inquiry *inquiry, const struct mapping *mapping,
                       const struct select_call *call, struct error *err)
{
    struct config_text place = {.line = call->line, .column = call->place};
    PGresult *result = conn_query_row(inquiry->source, functions_sql, 1, &call->name, err);
    if (result == NULL)
        return false;
    if (result_bool(result, 0, 0) || result_bool(result, 0, 1))
        findings_add(inquiry->findings, SEVERITY_REFUSE, "not-one-to-one", &place, mapping->name,
                     "Each target row is made from one source row.",
                     "%s() is an aggregate, a window function, or returns a set", call->name);
    else if (result_bool(result, 0, 2))
        findings_add(inquiry->findings, SEVERITY_REFUSE, "volatile-expression", &place,
                     mapping->name, "Use immutable functions of the row's columns.",
                     "%s() gives another value each time: copy and stream would differ",
                     call->name);
    else if (result_bool(result, 0, 3))
        findings_add(inquiry->findings, SEVERITY_NOTE, "stable-expression", &place, mapping->name,
                     NULL, "%s() may depend on settings; ours are pinned: ISO dates, time zone UTC",
                     call->name);
    PQclear(result);
    return true;
}

static bool check_calls(const struct inquiry *inquiry, const struct mapping *mapping,
                        const struct select_calls *calls, struct error *err)
{
    for (unsigned c = 0; c < calls->count; c++) {
        if (!check_call(inquiry, mapping, &calls->items[c], err))
            return false;
    }
    return true;
}

/* ---- types ---- */

static bool check_prepare(const struct inquiry *inquiry, const struct mapping *mapping,
                          PGconn *conn, const char *sql, struct error *err)
{
    struct error refusal = ERROR_INIT;
    bool at_target = conn == inquiry->target;
    if (!begin_question(conn, err))
        return false;
    PGresult *result = PQprepare(conn, "", sql, 0, NULL);
    bool ok = PQresultStatus(result) == PGRES_COMMAND_OK;
    if (!ok)
        conn_result_error(conn, result, &refusal);
    PQclear(result);
    if (refusal.class == ERROR_RETRY) {
        *err = refusal;
        return false;
    }
    if (!ok)
        refuse(inquiry, mapping, at_target ? "target-type" : "source-type",
               at_target ? "target" : "source", &refusal);
    return end_question(conn, ok, err);
}

/* Turned round, rows are also read and put as a whole. */
static bool check_rejoin(const struct inquiry *inquiry, const struct mapping *mapping,
                         struct error *err)
{
    struct rejoin rejoin;
    rejoin_make(inquiry->set, mapping, inquiry->arena, &rejoin);
    return check_prepare(inquiry, mapping, inquiry->source, rejoin.read, err) &&
           check_prepare(inquiry, mapping, inquiry->target, rejoin.put, err) &&
           check_prepare(inquiry, mapping, inquiry->target, rejoin.remove, err);
}

/* The servers prepare what the stream will send. */
static bool check_statements(const struct inquiry *inquiry, const struct mapping *mapping,
                             struct error *err)
{
    struct statement statement;
    statement_insert(mapping, false, inquiry->arena, &statement);
    if (mapping->parts == 1 && /* a part's columns alone need not make a row */
        !check_prepare(inquiry, mapping, inquiry->target, statement.sql, err))
        return false;
    return !inquiry->config->reversed || !mapping->has_key || check_rejoin(inquiry, mapping, err);
}

/* ---- values: both servers must say the same (D18) ---- */

static void compare_row(const struct inquiry *inquiry, const struct mapping *mapping,
                        const PGresult *source, int row, const PGresult *target)
{
    for (unsigned i = 0; i < mapping->items_count; i++) {
        int column = (int)i;
        bool same = PQgetisnull(source, row, column) == PQgetisnull(target, 0, column) &&
                    strcmp(PQgetvalue(source, row, column), PQgetvalue(target, 0, column)) == 0;
        struct config_text place = {.line = mapping->items[i].select->line,
                                    .column = mapping->items[i].select->place};
        if (!same)
            findings_add(inquiry->findings, SEVERITY_REFUSE, "servers-differ", &place,
                         mapping->name, "Write the expression so that both versions agree.",
                         "%s of one row is %.100s on the source and %.100s on the target",
                         mapping->items[i].select->expr, result_text(source, row, column),
                         result_text(target, 0, column));
        if (!same)
            return;
    }
}

/* Rows of the source, and which of its columns stand behind their items. */
struct sample {
    PGresult *rows;
    struct column_set columns;
    struct inverses inverses;
};

/* Asks for one row of the sample; as ask(). */
static bool ask_row(PGconn *conn, const struct mapping *mapping, const struct statement *statement,
                    const struct sample *sample, int row, PGresult **result, struct error *refusal,
                    struct error *err)
{
    const char *values[RELATION_COLUMNS_MAX];
    int column = (int)mapping->items_count;
    unsigned p = 0;
    for (unsigned c = 0; c < mapping->source->columns_count && p < statement->params_count; c++) {
        if (!column_set_has(&sample->columns, c))
            continue;
        if (statement->params[p].column == c)
            values[p++] = PQgetisnull(sample->rows, row, column)
                              ? NULL
                              : PQgetvalue(sample->rows, row, column);
        column++;
    }
    CHECK(p == statement->params_count);
    return ask(conn, statement->sql, (int)p, values, result, refusal, err);
}

static bool check_row(const struct inquiry *inquiry, const struct mapping *mapping,
                      const struct statement *statement, const struct sample *sample, int row,
                      struct error *err)
{
    PGresult *result;
    struct error refusal;
    if (!ask_row(inquiry->target, mapping, statement, sample, row, &result, &refusal, err))
        return false;
    if (result == NULL)
        refuse(inquiry, mapping, "target-value", "target", &refusal);
    else
        compare_row(inquiry, mapping, sample->rows, row, result);
    PQclear(result);
    return true;
}

/* ---- the way back, proved on the same rows: inverse(mapping(row)) = row ---- */

static const char *source_column(const struct inquiry *inquiry, const struct mapping *mapping,
                                 const struct inverse *inverse)
{
    return arena_printf(inquiry->arena, "%s.%s.%s", mapping->source->schema, mapping->source->name,
                        mapping->source->columns[inverse->column].name);
}

static void report_difference(const struct inquiry *inquiry, const struct mapping *mapping,
                              const struct inverse *inverse, const char *side, const char *was,
                              const char *back)
{
    const char *column = mapping->source->columns[inverse->column].name;
    bool accepted = invert_accepts(inquiry->config, mapping->source, column, inquiry->arena);
    findings_add(
        inquiry->findings, accepted ? SEVERITY_NOTE : SEVERITY_WARNING,
        accepted ? "accepted-loss" : "inverse-differs", place_of(mapping),
        source_column(inquiry, mapping, inverse),
        accepted ? NULL : "Write its inverse: so that it gives the value back.",
        "on the way back: %s of one row was %.100s and becomes %.100s by %.200s, on the %s", column,
        was, back, inverse->expr, side);
}

/* A column is told once: `told` is by column of the source. */
static void compare_back(const struct inquiry *inquiry, const struct mapping *mapping,
                         const struct inverses *inverses, const PGresult *result, const char *side,
                         struct column_set *told)
{
    int at = 0;
    for (unsigned i = 0; i < inverses->count; i++) {
        const struct inverse *inverse = &inverses->items[i];
        if (!inverse_is_proved(inverse))
            continue;
        int back = at++, was = at++;
        bool same = PQgetisnull(result, 0, back) == PQgetisnull(result, 0, was) &&
                    strcmp(PQgetvalue(result, 0, back), PQgetvalue(result, 0, was)) == 0;
        if (same || column_set_has(told, (unsigned)inverse->column))
            continue;
        column_set_add(told, (unsigned)inverse->column);
        report_difference(inquiry, mapping, inverse, side,
                          PQgetisnull(result, 0, was) ? "null" : PQgetvalue(result, 0, was),
                          PQgetisnull(result, 0, back) ? "null" : PQgetvalue(result, 0, back));
    }
}

/* One server; ends at the first row that it refuses. */
static bool prove_on(const struct inquiry *inquiry, const struct mapping *mapping,
                     const struct sample *sample, bool at_source, struct column_set *told,
                     struct error *err)
{
    PGconn *conn = at_source ? inquiry->source : inquiry->target;
    const char *side = at_source ? "source" : "target";
    struct statement statement;
    struct error refusal;
    PGresult *result;
    statement_sample_back(mapping, &sample->inverses, at_source, inquiry->arena, &statement);
    for (int row = 0; row < PQntuples(sample->rows); row++) {
        if (!ask_row(conn, mapping, &statement, sample, row, &result, &refusal, err))
            return false;
        if (result == NULL) {
            findings_add(inquiry->findings, SEVERITY_WARNING, "inverse-fails", place_of(mapping),
                         mapping->name, refusal.hint[0] != '\0' ? refusal.hint : NULL,
                         "on the way back: the %s says of an inverse: %s", side, refusal.message);
            return true;
        }
        compare_back(inquiry, mapping, &sample->inverses, result, side, told);
        PQclear(result);
    }
    return true;
}

/* Which functions the inverses call: what would be refused of a select is no way back. */
static bool check_back_calls(const struct inquiry *inquiry, const struct mapping *mapping,
                             const struct inverse *inverse, struct error *err)
{
    struct findings said;
    struct inquiry judge = *inquiry;
    findings_init(&said, inquiry->arena);
    judge.findings = &said;
    if (!check_calls(&judge, mapping, &inverse->calls, err))
        return false;
    for (unsigned f = 0; f < said.count; f++) {
        if (said.items[f].severity == SEVERITY_REFUSE)
            findings_add(inquiry->findings, SEVERITY_WARNING, "no-way-back", place_of(mapping),
                         source_column(inquiry, mapping, inverse), said.items[f].fix,
                         "on the way back: %s", said.items[f].reason);
    }
    return true;
}

static bool prove(const struct inquiry *inquiry, const struct mapping *mapping,
                  const struct sample *sample, struct error *err)
{
    struct column_set told = {{0}};
    unsigned proved = 0;
    for (unsigned i = 0; i < sample->inverses.count; i++) {
        proved += inverse_is_proved(&sample->inverses.items[i]);
        if (!check_back_calls(inquiry, mapping, &sample->inverses.items[i], err))
            return false;
    }
    return proved == 0 || (prove_on(inquiry, mapping, sample, true, &told, err) &&
                           prove_on(inquiry, mapping, sample, false, &told, err));
}

static bool check_rows(const struct inquiry *inquiry, const struct mapping *mapping,
                       const struct sample *sample, struct error *err)
{
    struct statement statement;
    unsigned refused = inquiry->findings->refused;
    bool ok = true;
    statement_sample_target(mapping, inquiry->arena, &statement);
    for (int row = 0; ok && row < PQntuples(sample->rows) && refused == inquiry->findings->refused;
         row++)
        ok = check_row(inquiry, mapping, &statement, sample, row, err);
    if (!ok || refused < inquiry->findings->refused || inquiry->config->reversed)
        return ok;
    return prove(inquiry, mapping, sample, err);
}

static bool check_sample(const struct inquiry *inquiry, const struct mapping *mapping,
                         struct error *err)
{
    struct sample sample = {0};
    struct error refusal;
    inverses_of(inquiry->config, mapping, inquiry->arena, &sample.inverses);
    sample.columns = statement_sample_columns(mapping, &sample.inverses);
    if (!ask(inquiry->source,
             statement_sample_source(mapping, &sample.columns, SAMPLE_ROWS, inquiry->arena), 0,
             NULL, &sample.rows, &refusal, err))
        return false;
    if (sample.rows == NULL) {
        refuse(inquiry, mapping, "source-type", "source", &refusal);
        return true;
    }
    bool ok = check_rows(inquiry, mapping, &sample, err);
    PQclear(sample.rows);
    return ok;
}

static bool check_mapping(const struct inquiry *inquiry, const struct mapping *mapping,
                          struct error *err)
{
    unsigned refused = inquiry->findings->refused;
    if (!check_calls(inquiry, mapping, &mapping->calls, err) ||
        !check_calls(inquiry, mapping, &mapping->where_calls, err))
        return false;
    if (inquiry->findings->refused > refused)
        return true;
    if (!check_statements(inquiry, mapping, err))
        return false;
    return inquiry->findings->refused > refused || check_sample(inquiry, mapping, err);
}

bool bind_check_servers(const struct config *config, const struct mapping_set *set, PGconn *source,
                        PGconn *target, struct arena *arena, struct findings *findings,
                        struct error *err)
{
    struct inquiry inquiry = {config, set, source, target, arena, findings};
    bool source_begun, target_begun;
    if (!begin(source, &source_begun, err) || !begin(target, &target_begun, err))
        return false;
    for (unsigned m = 0; m < set->count; m++) {
        if (!check_mapping(&inquiry, &set->mappings[m], err))
            return error_context(err, "checking the mapping of %s", set->mappings[m].name);
    }
    return end(source, source_begun, err) && end(target, target_begun, err);
}
