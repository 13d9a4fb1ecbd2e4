#include "switchover/acting.h"
#include "switchover/switch_work.h"

#include <inttypes.h>

#include "pg/conn.h"
#include "switchover/ask.h"
#include "switchover/restore.h"
#include "util/clock.h"
#include "util/log.h"

enum { LOCK_TIMEOUT_MS = 100, GATE_PAUSE_US = 100 * 1000 };

static bool is_cutover(const struct work *work)
{
    return work->switching->goal == SIDE_TARGET;
}

/* ---- before the pause ---- */

static bool lay_server(struct work *work, const struct side *side, unsigned number,
                       int64_t until_us, struct error *err)
{
    PGconn *conn = side->conns[number];
    const struct gate_words closed = gate_words_live(work->from->name);
    struct gate_pace pace = {.lock_timeout_ms = LOCK_TIMEOUT_MS, .until_us = until_us};
    char busy[256], server[24];
    unsigned left;
    if (!gate_create(conn, side == work->to ? &closed : NULL, err))
        return false;
    do {
        if (!gate_lay_some(conn, side->tables, &pace, &left, busy, err))
            return false;
    } while (left > 0 && clock_monotonic_us() < until_us &&
             !stop_wait(work->switching->stop, GATE_PAUSE_US));
    if (left > 0)
        findings_add(work->switching->findings, SEVERITY_REFUSE, "gate", NULL,
                     side_server(side, number, server),
                     "A long transaction holds it: try again when it has ended.",
                     "%u tables have no gate yet; %s cannot be locked", left, busy);
    return true;
}

/* What a dry run says of it. */
static bool count_missing(struct work *work, const struct side *side, struct error *err)
{
    for (unsigned s = 0; s < side->count; s++) {
        struct gate_census census;
        char server[24];
        if (!gate_census(side->conns[s], side->tables, &census, err))
            return false;
        if (census.without > 0)
            findings_add(work->switching->findings, SEVERITY_NOTE, "gate", NULL,
                         side_server(side, s, server), NULL, "%u of %u tables get a gate first",
                         census.without, census.relations);
    }
    return true;
}

bool work_lay_gates(struct work *work, struct error *err)
{
    if (work->switching->options.dry_run)
        return count_missing(work, work->from, err) && count_missing(work, work->to, err);

    const struct side *sides[] = {work->from, work->to};
    int64_t until_us = clock_monotonic_us() + (int64_t)work->switching->options.timeout_s * 1000000;
    for (int which = 0; which < 2; which++) {
        for (unsigned s = 0; s < sides[which]->count; s++) {
            if (!lay_server(work, sides[which], s, until_us, err))
                return error_context(err, "laying the gates");
        }
    }
    return true;
}

/* Before readiness_check(), which has `run` look at the source: what it saw is in the form of these, or one
 * of a later moment that differs from them. */
static bool take_censuses(struct work *work, struct error *err)
{
    for (unsigned s = 0; s < work->from->count; s++) {
        if (!gate_census(work->from->conns[s], work->from->tables, &work->censuses[s], err))
            return false;
    }
    return true;
}

static bool plan_sequences(struct work *work, struct error *err)
{
    const struct switching *switching = work->switching;
    struct sequences_sides sides = {.config = switching->config,
                                    .set = switching->set,
                                    .source = switching->source,
                                    .shards = switching->shards,
                                    .shards_count = switching->shards_count,
                                    .back = !is_cutover(work),
                                    .guard = work->guard};
    struct findings *findings = switching->findings;
    if (switching->options.dry_run)
        return sequences_assess(&sides, SEVERITY_REFUSE, findings, err);
    unsigned refused = findings->refused;
    if (sequences_plan(&sides, findings, &work->sequences, err))
        return true;
    if (findings->refused > refused)
        error_clear(err); /* it is told with the others */
    return findings->refused > refused;
}

static bool prepare_dirty(struct work *work, struct error *err)
{
    const struct switching *switching = work->switching;
    return dirty_prepare(switching->config, switching->set, switching->shards,
                         switching->shards_count, &work->dirty, err) &&
           dirty_foresee(work->dirty, switching->options.timeout_s, switching->findings, err);
}

/* Everything that takes time and touches nobody. Refused when a finding says so. */
bool step_ready(struct work *work, struct error *err)
{
    const struct switching *switching = work->switching;
    struct readiness readiness = {
        .switching = switching, .from = work->from, .to = work->to, .epoch = work->epoch};
    const struct endpoint_servers to = {.count = work->to->count, .conns = work->to->conns};
    int limit_ms = switching->options.timeout_s * 1000;
    if (!work_lay_gates(work, err) || !take_censuses(work, err) ||
        !work_look_for_subscriptions(work, err) ||
        !readiness_check(&readiness, err) ||
        !endpoint_check(work->endpoint, work->from->which, limit_ms, &to, switching->findings,
                        err) ||
        (switching->findings->refused == 0 && !plan_sequences(work, err)))
        return false;
    work->drain.from = work->from;
    work->drain.to = work->to;
    work->drain.lanes = switching->config->lanes;
    work->detail = json_pack("{s:f, s:s}", "marker_ms", (double)readiness.drain_us / 1000, "endpoint",
                             endpoint_name(switching->config));
    return switching->findings->refused > 0 || is_cutover(work) || prepare_dirty(work, err);
}

bool step_pause(struct work *work, struct error *err)
{
    return endpoint_hook(work->endpoint, HOOK_BEFORE_PAUSE, work->to->which, err) &&
           endpoint_pause(work->endpoint, work->to->which, err) &&
           endpoint_hook(work->endpoint, HOOK_PAUSED, work->to->which, err);
}

/* ---- in the pause ---- */

static int left_ms(const struct work *work)
{
    int64_t left_us = work->until_us - clock_monotonic_us();
    return left_us > 1000 ? (int)(left_us / 1000) : 1;
}

bool step_fence(struct work *work, struct error *err)
{
    const struct switch_options *options = &work->switching->options;
    const struct gate_words words = gate_words_moving(work->from->name, work->to->name);
    char server[24];
    work->began_us = clock_monotonic_us();
    work->until_us = work->began_us + (int64_t)options->timeout_s * 1000000;
    for (unsigned s = 0; s < work->from->count; s++) {
        if (!gate_fence(work->from->conns[s], work->epoch, &words, left_ms(work), &work->fences[s],
                        err))
            return false;
    }
    for (unsigned s = 0; s < work->from->count; s++) {
        const struct gate_patience patience = {
            .server = side_server(work->from, s, server),
            .until_us = work->until_us - (work->until_us - work->began_us) / 10,
            .terminate_us = options->kill_after_s < 0
                                ? 0
                                : work->began_us + (int64_t)options->kill_after_s * 1000000,
            .stop = work->switching->stop};
        if (!gate_wait(work->from->conns[s], &patience, err))
            return false;
    }
    return true;
}

bool step_seal(struct work *work, struct error *err)
{
    const struct gate_words words = gate_words_moving(work->from->name, work->to->name);
    for (unsigned s = 0; s < work->from->count; s++) {
        if (!gate_seal(work->from->conns[s], work->epoch, work->fences[s], &words, err))
            return false;
    }
    return endpoint_hook(work->endpoint, HOOK_FENCED, work->to->which, err);
}

bool step_drain(struct work *work, struct error *err)
{
    return drain_mark(&work->drain, work->epoch, err) &&
           drain_wait(&work->drain, work->until_us, work->switching->stop, err) &&
           endpoint_hook(work->endpoint, HOOK_DRAINED, work->to->which, err);
}

static void note_count(struct work *work, const char *name, unsigned count)
{
    if (work->detail == NULL)
        work->detail = json_object();
    json_object_set_new(work->detail, name, json_integer(count));
}

static bool read_positions(struct work *work, struct error *err)
{
    json_t *positions = json_object();
    struct ask *asks = check_calloc(work->to->count, sizeof *asks);
    for (unsigned s = 0; s < work->to->count; s++)
        asks[s] = (struct ask){.conn = work->to->conns[s],
                               .sql = "SELECT pg_catalog.pg_current_wal_insert_lsn()"};
    bool ok = ask_all(asks, work->to->count, err);
    for (unsigned s = 0; s < work->to->count; s++) {
        char server[24];
        if (ok)
            json_object_set_new(positions, side_server(work->to, s, server),
                                json_string(result_text(asks[s].result, 0, 0)));
        PQclear(asks[s].result);
    }
    free(asks);
    json_t *detail = json_pack("{s:s, s:o}", "live", work->to->name, "positions", positions);
    char *text = json_dumps(detail, 0);
    CHECK(text != NULL);
    work->positions = arena_strdup(&work->arena, text);
    free(text);
    json_decref(detail);
    return ok || error_context(err, "reading where the to-side's log stands");
}

bool step_check(struct work *work, struct error *err)
{
    unsigned sequences = 0, dirty = 0, acting;
    const struct dirty_limit limit = {.until_us = work->until_us, .stop = work->switching->stop};
    if (!work_look_again(work, err))
        return false;
    if (work->dirty != NULL && !dirty_settle(work->dirty, work->epoch, &limit, &dirty, err))
        return false;
    if (!sequences_set(work->sequences, err) ||
        !sequences_check(work->sequences, &sequences, err) ||
        !acting_bring_back(work->to, work->epoch, left_ms(work), &acting, err) ||
        !read_positions(work, err))
        return false;
    note_count(work, "sequences", sequences);
    note_count(work, "keys_and_triggers", acting);
    if (work->dirty != NULL)
        note_count(work, "dirty_keys", dirty);
    return clock_monotonic_us() < work->until_us ||
           error_set(err, ERROR_LIMIT, "the switch has taken longer than it may");
}

/* ---- the point of no return, and behind it ---- */

bool step_switched(struct work *work, struct error *err)
{
    return journal_switch(work->control, work->epoch, switch_verb(work->switching->goal),
                          work->from->name, work->to->name, work->positions, err);
}

bool step_open(struct work *work, struct error *err)
{
    for (unsigned s = 0; s < work->to->count; s++) {
        if (!gate_open(work->to->conns[s], work->epoch, err))
            return false;
    }
    if (work->began_us != 0)
        work->closed_us = clock_monotonic_us() - work->began_us;
    return true;
}

void work_note_resumed(struct work *work)
{
    int64_t since_us = endpoint_paused_since_us(work->endpoint);
    work->paused_us = since_us != 0 ? clock_monotonic_us() - since_us : 0;
}

static void run_hook(struct work *work, enum hook_phase phase)
{
    struct error failed = ERROR_INIT;
    if (!endpoint_hook(work->endpoint, phase, work->to->which, &failed))
        log_error_as(LOG_WARNING, &failed);
}

/* Clients of a pooler that has been led do not wait for another one that could not be. */
static bool lead_and_resume(struct work *work, struct error *err)
{
    struct error unled = ERROR_INIT;
    bool led = endpoint_lead(work->endpoint, work->to->which, &unled);
    bool resumed = endpoint_resume(work->endpoint, work->to->which, err);
    if (!led)
        *err = unled;
    return led && resumed;
}

bool step_lead(struct work *work, struct error *err)
{
    const struct gate_words words = gate_words_live(work->to->name);
    run_hook(work, HOOK_SWITCHED);
    if (!lead_and_resume(work, err))
        return false;
    work_note_resumed(work);
    run_hook(work, HOOK_RESUMED);
    for (unsigned s = 0; s < work->from->count; s++) {
        if (!gate_shut(work->from->conns[s], work->epoch, &words, err))
            return false;
    }
    return is_cutover(work) || dirty_forget(work->switching->source, work->epoch, err);
}
