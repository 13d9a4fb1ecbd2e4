#include "mapping/bind.h"
#include "mapping/statements.h"
#include "pg/conn.h"

enum { SAMPLE_ROWS = 20 };

struct inquiry {
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

/* *result is NULL when the server refuses; *refusal then holds its reason. */
static bool ask(PGconn *conn, const char *sql, int count, const char *const *values,
                PGresult **result, struct error *refusal, struct error *err)
{
    error_clear(refusal);
    if (!conn_exec(conn, "SAVEPOINT portage_ask", err))
        return false;
    *result = conn_query(conn, sql, count, values, refusal);
    if (*result == NULL && PQstatus(conn) != CONNECTION_OK) {
        *err = *refusal;
        return false;
    }
    return *result != NULL || conn_exec(conn, "ROLLBACK TO SAVEPOINT portage_ask", err);
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
                 refusal->hint[0] != '\0' ? refusal->hint : NULL, "the %s says: %s%s%s", side,
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

/* The target prepares what the stream will send. */
static bool check_target(const struct inquiry *inquiry, const struct mapping *mapping,
                         struct error *err)
{
    struct statement statement;
    struct error refusal;
    statement_insert(mapping, false, inquiry->arena, &statement);
    if (!conn_exec(inquiry->target, "SAVEPOINT portage_ask", err))
        return false;
    PGresult *result = PQprepare(inquiry->target, "", statement.sql, 0, NULL);
    bool ok = PQresultStatus(result) == PGRES_COMMAND_OK;
    if (!ok) {
        error_clear(&refusal);
        conn_result_error(inquiry->target, result, &refusal);
        refuse(inquiry, mapping, "target-type", "target", &refusal);
    }
    PQclear(result);
    return ok || conn_exec(inquiry->target, "ROLLBACK TO SAVEPOINT portage_ask", err);
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

static bool check_row(const struct inquiry *inquiry, const struct mapping *mapping,
                      const struct statement *statement, const PGresult *sample, int row,
                      struct error *err)
{
    const char *values[RELATION_COLUMNS_MAX];
    PGresult *result;
    struct error refusal;
    for (unsigned p = 0; p < statement->params_count; p++) {
        int column = (int)(mapping->items_count + p);
        values[p] = PQgetisnull(sample, row, column) ? NULL : PQgetvalue(sample, row, column);
    }
    if (!ask(inquiry->target, statement->sql, (int)statement->params_count, values, &result,
             &refusal, err))
        return false;
    if (result == NULL)
        refuse(inquiry, mapping, "target-value", "target", &refusal);
    else
        compare_row(inquiry, mapping, sample, row, result);
    PQclear(result);
    return true;
}

static bool check_sample(const struct inquiry *inquiry, const struct mapping *mapping,
                         struct error *err)
{
    PGresult *sample;
    struct error refusal;
    struct statement statement;
    unsigned refused = inquiry->findings->refused;
    bool ok = true;
    if (!ask(inquiry->source, statement_sample_source(mapping, SAMPLE_ROWS, inquiry->arena), 0,
             NULL, &sample, &refusal, err))
        return false;
    if (sample == NULL) {
        refuse(inquiry, mapping, "source-type", "source", &refusal);
        return true;
    }
    statement_sample_target(mapping, inquiry->arena, &statement);
    for (int row = 0; ok && row < PQntuples(sample) && refused == inquiry->findings->refused; row++)
        ok = check_row(inquiry, mapping, &statement, sample, row, err);
    PQclear(sample);
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
    if (!check_target(inquiry, mapping, err))
        return false;
    return inquiry->findings->refused > refused || check_sample(inquiry, mapping, err);
}

bool bind_check_servers(const struct mapping_set *set, PGconn *source, PGconn *target,
                        struct arena *arena, struct findings *findings, struct error *err)
{
    struct inquiry inquiry = {source, target, arena, findings};
    bool source_begun, target_begun;
    if (!begin(source, &source_begun, err) || !begin(target, &target_begun, err))
        return false;
    for (unsigned m = 0; m < set->count; m++) {
        if (!check_mapping(&inquiry, &set->mappings[m], err))
            return error_context(err, "checking the mapping of %s", set->mappings[m].name);
    }
    return end(source, source_begun, err) && end(target, target_begun, err);
}
