/* What a dry run says of the steps: private to the switch, see switch_work.h. */
#include "pg/conn.h"
#include "switchover/switch_work.h"

/* How long each step took when it was last done in this direction. */
static const char last_sql[] =
    "SELECT DISTINCT ON (step) step, ms FROM portage.journal"
    " WHERE switch = $1 AND state = 'done' AND ms IS NOT NULL ORDER BY step, id DESC";

static json_t *last_times(struct work *work, struct error *err)
{
    const char *verb = switch_verb(work->switching->goal);
    PGresult *result = conn_query(work->control, last_sql, 1, &verb, err);
    json_t *times = result != NULL ? json_object() : NULL;
    for (int row = 0; result != NULL && row < PQntuples(result); row++)
        json_object_set_new(times, result_text(result, row, 0),
                            json_real(strtod(result_text(result, row, 1), NULL)));
    PQclear(result);
    return times;
}

static void add(struct work *work, json_t *times, const char *step, int64_t rehearsed_us,
                const char *does)
{
    json_t *last = json_object_get(times, step);
    json_t *row = json_pack("{s:s, s:s}", "step", step, "does", does);
    if (rehearsed_us > 0)
        json_object_set_new(row, "expected_ms", json_real((double)rehearsed_us / 1000));
    else
        json_object_set(row, "expected_ms", last != NULL ? last : json_null());
    json_object_set_new(row, "from",
                        rehearsed_us > 0 ? json_string("rehearsal")
                        : last != NULL   ? json_string("journal")
                                         : json_null());
    json_array_append_new(work->steps, row);
}

bool work_forecast(struct work *work, const struct rehearsal *rehearsal, struct error *err)
{
    const char *from = work->from->name, *to = work->to->name;
    struct arena *arena = &work->arena;
    json_t *times = last_times(work, err);
    if (times == NULL)
        return error_context(err, "reading how long the steps took");
    add(work, times, "pause", 0,
        endpoint_is_ours(work->endpoint)
            ? "the endpoint lets transactions end; requests wait"
            : "nothing: the application is led by you, and refused meanwhile");
    add(work, times, "fence", rehearsal->gates_us,
        arena_printf(arena, "the %s takes no writes; who has written is waited for", from));
    add(work, times, "seal", 0, "the fence loses its deadline");
    add(work, times, "drain", rehearsal->drain_us, "a marker goes through every lane");
    add(work, times, "check", 0,
        work->to->which == SIDE_TARGET
            ? "nothing prepared, nothing new; sequences are set"
            : "nothing prepared, nothing new; dirty keys are read again, sequences are set");
    add(work, times, "switched", 0, "the journal: the point of no return");
    add(work, times, "open", 0, arena_printf(arena, "the %s takes writes", to));
    add(work, times, "lead", 0,
        endpoint_is_ours(work->endpoint)
            ? arena_printf(arena, "the endpoint leads to the %s; requests go on", to)
            : arena_printf(arena, "nothing: you lead the application to the %s", to));
    json_decref(times);
    return true;
}
