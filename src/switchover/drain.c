#include "switchover/drain.h"

#include <inttypes.h>

#include "pg/conn.h"
#include "state/journal.h"
#include "switchover/ask.h"
#include "util/clock.h"

enum { POLL_US = 2 * 1000, NAMED_MAX = 8 };

bool drain_mark(struct drain *drain, int64_t epoch, struct error *err)
{
    char sql[256];
    snprintf(sql, sizeof sql,
             "WITH mine AS MATERIALIZED (SELECT FROM portage.gate WHERE epoch = %" PRId64
             " OR %" PRId64 " < 0 FOR UPDATE)"
             " INSERT INTO portage.marker (purpose) SELECT 'switch' FROM mine RETURNING id",
             epoch, epoch);
    for (unsigned s = 0; s < drain->from->count; s++) {
        PGresult *result = conn_query(drain->from->conns[s], sql, 0, NULL, err);
        if (result == NULL)
            return error_context(err, "writing a marker to database \"%s\"",
                                 PQdb(drain->from->conns[s]));
        bool ok = PQntuples(result) == 1;
        if (ok)
            drain->markers[s] = result_int(result, 0, 0);
        PQclear(result);
        if (!ok)
            return journal_superseded(drain->from->conns[s], err);
    }
    return true;
}

/* A stream has the number of the server that it comes from. */
static const char lanes_sql[] =
    "SELECT stream, lane, marker, progress FROM portage.lane ORDER BY stream, lane";

struct look {
    struct ask *asks; /* one for each to-server */
    unsigned late;
    struct buffer names; /* of lanes that lag */
};

static void add_name(struct look *look, const char *format, const char *server, unsigned stream,
                     const char *lane, const char *progress)
{
    if (look->late++ >= NAMED_MAX)
        return;
    buffer_puts(&look->names, look->late > 1 ? "; " : "");
    buffer_printf(&look->names, "%s: stream %u ", server, stream);
    if (lane == NULL)
        buffer_puts(&look->names, format);
    else
        buffer_printf(&look->names, "lane %s (at %s)", lane, progress);
}

static void judge_stream(const struct drain *drain, const PGresult *lanes, unsigned stream,
                         const char *server, struct look *look)
{
    int found = 0;
    for (int row = 0; row < PQntuples(lanes); row++) {
        if (result_int(lanes, row, 0) != stream)
            continue;
        found++;
        if (result_int(lanes, row, 2) < drain->markers[stream])
            add_name(look, NULL, server, stream, result_text(lanes, row, 1),
                     result_text(lanes, row, 3));
    }
    if (found < drain->lanes)
        add_name(look, "has no lanes there", server, stream, NULL, NULL);
}

static bool look_at(const struct drain *drain, struct look *look, struct error *err)
{
    unsigned count = drain->to->count;
    look->late = 0;
    buffer_clear(&look->names);
    for (unsigned t = 0; t < count; t++)
        look->asks[t] = (struct ask){.conn = drain->to->conns[t], .sql = lanes_sql};
    bool ok = ask_all(look->asks, count, err);
    for (unsigned t = 0; t < count; t++) {
        char server[24];
        for (unsigned f = 0; ok && f < drain->from->count; f++)
            judge_stream(drain, look->asks[t].result, f, side_server(drain->to, t, server), look);
        PQclear(look->asks[t].result);
    }
    return ok;
}

static bool wait_for_lanes(const struct drain *drain, struct look *look, int64_t until_us,
                           struct stop *stop, struct error *err)
{
    for (;;) {
        if (!look_at(drain, look, err))
            return error_context(err, "looking how far the lanes are");
        if (look->late == 0)
            return true;
        if (clock_monotonic_us() >= until_us)
            break;
        if (stop_wait(stop, POLL_US))
            return stop_error(err);
    }
    error_set(err, ERROR_LIMIT, "%u lanes have not applied all that the %s has", look->late,
              drain->from->name);
    return error_detail(err, "%s", buffer_text(&look->names));
}

bool drain_wait(const struct drain *drain, int64_t until_us, struct stop *stop, struct error *err)
{
    struct look look = {.asks = check_calloc(drain->to->count, sizeof *look.asks)};
    buffer_init(&look.names, 4096);
    bool ok = wait_for_lanes(drain, &look, until_us, stop, err);
    buffer_release(&look.names);
    free(look.asks);
    return ok;
}
