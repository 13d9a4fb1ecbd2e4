#include "switchover/switch_work.h"

#include "pg/conn.h"
#include "switchover/ask.h"
#include "switchover/carried.h"

/* What is asked: three things of each from-server, and for a cutover one of each shard. */
enum { OF_FROM = 3 };

static const char prepared_sql[] = "SELECT gid FROM pg_catalog.pg_prepared_xacts"
                                   " WHERE database = pg_catalog.current_database() LIMIT 1";

static bool check_prepared(const struct work *work, unsigned number, const PGresult *prepared,
                           struct error *err)
{
    char server[24];
    if (PQntuples(prepared) == 0)
        return true;
    error_set(err, ERROR_CONFIG, "%s has a prepared transaction, \"%s\"",
              side_server(work->from, number, server), result_text(prepared, 0, 0));
    return error_hint(err, "ROLLBACK PREPARED or COMMIT PREPARED it, then try again.");
}

/* One that was enabled since we were ready may have written behind the fence. */
static bool check_subscriptions(const struct work *work, unsigned number, const PGresult *found,
                                struct error *err)
{
    char server[24];
    if (PQntuples(found) == 0)
        return true;
    error_set(err, ERROR_CONFIG, "%s, %s: %s", side_server(work->from, number, server),
              result_text(found, 0, 0), result_text(found, 0, 1));
    return error_hint(err, "%s Then try again.", result_text(found, 0, 2));
}

/* Where the role may not see them it was told so when we looked whether all is ready. */
static const char no_subscriptions_sql[] = "SELECT WHERE false";

bool work_look_for_subscriptions(struct work *work, struct error *err)
{
    static const char may_sql[] =
        "SELECT pg_catalog.bool_and(pg_catalog.has_column_privilege('pg_catalog.pg_subscription', c,"
        "  'SELECT')) FROM pg_catalog.unnest(ARRAY['subname', 'subenabled', 'subdbid']) AS c";
    work->subscriptions_sql = SUBSCRIPTIONS_SQL;
    for (unsigned s = 0; s < work->from->count; s++) {
        PGresult *result = conn_query_row(work->from->conns[s], may_sql, 0, NULL, err);
        if (result == NULL)
            return false;
        if (!result_bool(result, 0, 0))
            work->subscriptions_sql = no_subscriptions_sql;
        PQclear(result);
    }
    return true;
}

/* Names what has come, when it is a partition of the source. */
static bool tell_missing(const struct work *work, struct error *err)
{
    char missing[256] = "";
    struct error ignored = ERROR_INIT;
    if (work->from->which == SIDE_SOURCE &&
        carried_find_missing(work->switching->source, work->control, work->from->tables, missing,
                             &ignored) &&
        missing[0] != '\0')
        error_context(err, "partition %s is not carried yet", missing);
    return false;
}

/* What came without a gate may have been written to; what has another form than `run` has looked at may
 * have been rewritten. */
static bool check_census(const struct work *work, unsigned number, const PGresult *result,
                         struct error *err)
{
    const struct gate_census *before = &work->censuses[number];
    struct gate_census now;
    char server[24];
    bool same;
    gate_census_read(result, &now);
    if (!gate_census_same(work->from->conns[number], work->from->tables, before, &now, &same, err))
        return false;
    if (now.without == 0 && same)
        return true;
    error_set(err, ERROR_RETRY, "tables of %s have changed during the switch",
              side_server(work->from, number, server));
    error_detail(err, "There were %u relations and are %u; %u have no gate.", before->relations,
                 now.relations, now.without);
    error_hint(err, "Try again when \"pgportage run\" has taken it up.");
    return tell_missing(work, err);
}

static bool check_finished(unsigned shard, const PGresult *unfinished, struct error *err)
{
    if (PQgetisnull(unfinished, 0, 0))
        return true;
    error_set(err, ERROR_RETRY, "shard %u has not all rows: %s", shard,
              result_text(unfinished, 0, 0));
    return error_hint(err, "Try again when \"pgportage status\" says ready.");
}

static unsigned put_asks(const struct work *work, struct ask *asks)
{
    unsigned count = 0;
    for (unsigned s = 0; s < work->from->count; s++) {
        PGconn *conn = work->from->conns[s];
        asks[count++] = (struct ask){.conn = conn, .sql = prepared_sql};
        asks[count++] = (struct ask){.conn = conn, .sql = work->subscriptions_sql};
        asks[count++] = (struct ask){.conn = conn,
                                     .sql = gate_census_sql,
                                     .values_count = 1,
                                     .values = {work->from->tables}};
    }
    for (unsigned s = 0; work->to->which == SIDE_TARGET && s < work->to->count; s++)
        asks[count++] = (struct ask){.conn = work->to->conns[s], .sql = carried_unfinished_sql};
    return count;
}

static bool judge(const struct work *work, const struct ask *asks, unsigned count,
                  struct error *err)
{
    unsigned of_from = OF_FROM * work->from->count;
    for (unsigned s = 0; s < work->from->count; s++) {
        const struct ask *of_server = &asks[OF_FROM * s];
        if (!check_prepared(work, s, of_server[0].result, err) ||
            !check_subscriptions(work, s, of_server[1].result, err) ||
            !check_census(work, s, of_server[2].result, err))
            return false;
    }
    for (unsigned a = of_from; a < count; a++) {
        if (!check_finished(a - of_from, asks[a].result, err))
            return false;
    }
    return true;
}

bool work_look_again(struct work *work, struct error *err)
{
    unsigned most = OF_FROM * work->from->count + work->to->count;
    struct ask *asks = check_calloc(most, sizeof *asks);
    unsigned count = put_asks(work, asks);
    bool ok = (ask_all(asks, count, err) || error_context(err, "looking at all once more")) &&
              judge(work, asks, count, err);
    for (unsigned a = 0; a < count; a++)
        PQclear(asks[a].result);
    free(asks);
    return ok;
}
