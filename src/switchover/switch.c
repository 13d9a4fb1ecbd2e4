#include "switchover/switch.h"

#include <inttypes.h>
#include <signal.h>
#include <unistd.h>

#include "pg/conn.h"
#include "state/schema.h"
#include "switchover/closed.h"
#include "switchover/restore.h"
#include "switchover/switch_work.h"
#include "util/clock.h"
#include "util/log.h"

enum { LOCK_ATTEMPTS = 20, LOCK_AGAIN_US = 50 * 1000 };

static const struct step steps[] = {
    {"ready", step_ready},       {"pause", step_pause}, {"fence", step_fence},
    {"seal", step_seal},         {"drain", step_drain}, {"check", step_check},
    {"switched", step_switched}, {"open", step_open},   {"lead", step_lead},
};

enum { READY, PAUSE, FENCE, SEAL, DRAIN, CHECK_STEP, SWITCHED, OPEN, LEAD, STEPS };
_Static_assert(sizeof steps / sizeof steps[0] == STEPS, "each step has its name");

const char *switch_verb(enum which_side goal)
{
    return goal == SIDE_TARGET ? "cutover" : "rollback";
}

static bool is_wanted(const char *variable, const char *step, const char *state)
{
    const char *wanted = getenv(variable);
    size_t length = strlen(step);
    return wanted != NULL && strncmp(wanted, step, length) == 0 && wanted[length] == ':' &&
           strcmp(wanted + length + 1, state) == 0;
}

/* For tests: what a crash here leaves behind, and what the death of another one here does to us; once,
 * for the step is made again when its server came back. */
static void crash_point(const char *step, const char *state)
{
    static bool halted;
    if (is_wanted("PGPORTAGE_CRASH_AT", step, state))
        kill(getpid(), SIGKILL);
    if (!halted && is_wanted("PGPORTAGE_HALT_AT", step, state)) {
        halted = true;
        kill(getpid(), SIGSTOP);
    }
}

/* ---- the journal, step by step ---- */

static char *detail_text(const struct work *work)
{
    return work->detail != NULL ? json_dumps(work->detail, 0) : NULL;
}

static void forget_detail(struct work *work)
{
    json_decref(work->detail);
    work->detail = NULL;
}

/* The end of one step (-1: none) and the beginning of the next one (STEPS: none) in one round trip. The
 * end of `switched` is the entry itself. */
static bool write_steps(struct work *work, int ended, int64_t took_us, int begun, struct error *err)
{
    struct journal_entry entries[2];
    unsigned count = 0;
    const char *verb = switch_verb(work->switching->goal);
    char *detail = detail_text(work);
    if (ended >= 0 && ended != SWITCHED)
        entries[count++] = (struct journal_entry){.which = verb,
                                                  .step = steps[ended].name,
                                                  .state = "done",
                                                  .detail = detail,
                                                  .us = took_us};
    if (begun < STEPS && begun != SWITCHED)
        entries[count++] = (struct journal_entry){
            .which = verb, .step = steps[begun].name, .state = "begun", .us = -1};
    bool ok = count == 0 || journal_steps(work->control, work->epoch, entries, count, err);
    free(detail);
    forget_detail(work);
    return ok;
}

static void note_ms(json_t *detail, const char *name, int64_t us)
{
    if (us > 0)
        json_object_set_new(detail, name, json_real((double)us / 1000));
}

static bool write_end(struct work *work, const char *step, const char *verb,
                      const struct error *why, struct error *err)
{
    json_t *detail = json_object();
    if (why != NULL)
        json_object_set_new(detail, "why", json_string(why->message));
    note_ms(detail, "closed_ms", work->closed_us);
    note_ms(detail, "paused_ms", work->paused_us);
    char *text = json_dumps(detail, 0);
    const struct journal_entry entry = {.which = verb,
                                        .step = step,
                                        .state = "done",
                                        .detail = text,
                                        .us = -1};
    bool ok = journal_steps(work->control, work->epoch, &entry, 1, err);
    free(text);
    json_decref(detail);
    return ok;
}

static void tell_step(struct work *work, int step, int64_t took_us)
{
    json_array_append_new(work->steps, json_pack("{s:s, s:f}", "step", steps[step].name, "ms",
                                                 (double)took_us / 1000));
    log_info("%-8s %9.1f ms", steps[step].name, (double)took_us / 1000);
}

/* *reached is the step that failed. */
static bool run_steps(struct work *work, int first, int end, int *reached, struct error *err)
{
    int ended = -1;
    int64_t took_us = 0;
    for (int s = first; s < end; s++) {
        *reached = s;
        if (s <= CHECK_STEP && stop_requested(work->switching->stop))
            return stop_error(err);
        if (!write_steps(work, ended, took_us, s, err))
            return false;
        crash_point(steps[s].name, "begun");
        int64_t began_us = clock_monotonic_us();
        if (!steps[s].run(work, err))
            return error_context(err, "%s, step \"%s\"", switch_verb(work->switching->goal),
                                 steps[s].name);
        took_us = clock_monotonic_us() - began_us;
        crash_point(steps[s].name, "done");
        tell_step(work, s, took_us);
        ended = s;
        if (s == READY && work->switching->findings->refused > 0)
            break;
    }
    return write_steps(work, ended, took_us, STEPS, err);
}

/* ---- the work ---- */

static void work_init(struct work *work, const struct switching *switching)
{
    *work = (struct work){.switching = switching, .control = switching->shards[0]};
    struct arena *arena = &work->arena;
    arena_init(arena, 64 * 1024);
    work->source =
        (struct side){.which = SIDE_SOURCE,
                      .name = side_name(SIDE_SOURCE),
                      .count = 1,
                      .conns = arena_memdup(arena, &switching->source, sizeof switching->source),
                      .tables = side_tables(switching->set, SIDE_SOURCE, arena)};
    work->target = (struct side){.which = SIDE_TARGET,
                                 .name = side_name(SIDE_TARGET),
                                 .count = switching->shards_count,
                                 .conns = switching->shards,
                                 .tables = side_tables(switching->set, SIDE_TARGET, arena)};
    work->to = switching->goal == SIDE_TARGET ? &work->target : &work->source;
    work->from = switching->goal == SIDE_TARGET ? &work->source : &work->target;
    work->servers_count = switching->shards_count + 1;
    work->servers = arena_alloc(arena, work->servers_count * sizeof *work->servers);
    memcpy(work->servers, switching->shards, switching->shards_count * sizeof *work->servers);
    work->servers[switching->shards_count] = switching->source;
    work->censuses = arena_zalloc(arena, work->from->count * sizeof *work->censuses);
    work->fences = arena_zalloc(arena, work->from->count * sizeof *work->fences);
    work->drain.markers = arena_zalloc(arena, work->from->count * sizeof(int64_t));
    work->endpoint = endpoint_open(switching->config, switching->stop);
    work->steps = json_array();
}

static void work_release(struct work *work)
{
    endpoint_close(work->endpoint);
    sequences_free(work->sequences);
    dirty_free(work->dirty);
    json_decref(work->detail);
    arena_release(&work->arena);
}

static bool in_use(const char *holder, struct error *err)
{
    error_set(err, ERROR_CONFIG, "another switch is at work");
    error_detail(err, "Its lock is held by %s.", holder);
    return error_hint(err, "Wait for it. \"pgportage journal\" shows how far it is.");
}

static bool check_schemas(const struct work *work, struct error *err)
{
    if (!closed_refuse(work->switching->source, "the source", err))
        return false;
    for (unsigned s = 0; s < work->servers_count; s++) {
        bool exists;
        if (!schema_exists(work->servers[s], &exists, err))
            return false;
        if (!exists) {
            error_set(err, ERROR_CONFIG, "there is no migration in database \"%s\"",
                      PQdb(work->servers[s]));
            return error_hint(err, work->switching->goal == SIDE_TARGET
                                       ? "\"pgportage run\" begins one."
                                       : "Nothing leads back once it was finished; \"pgportage run\""
                                         " begins a new one.");
        }
    }
    return true;
}

/* For a moment `run` has it, too, when it restores what a dead process left. */
static bool take_lock(struct work *work, struct error *err)
{
    bool taken = false;
    char holder[256];
    for (int attempt = 0; attempt < LOCK_ATTEMPTS; attempt++) {
        if (!journal_try_lock(work->control, &taken, holder, err))
            return false;
        work->locked = taken;
        if (taken)
            return true;
        if (stop_wait(work->switching->stop, LOCK_AGAIN_US))
            return stop_error(err);
    }
    return in_use(holder, err);
}

/* The lock, the epoch, and only then what the journal says. */
static bool take_over(struct work *work, bool *at_goal, struct error *err)
{
    enum which_side live;
    if (!check_schemas(work, err) || !take_lock(work, err) ||
        !journal_raise_epoch(work->servers, work->servers_count, &work->epoch, err) ||
        !journal_live(work->control, &live, err))
        return false;
    *at_goal = live == work->to->which;
    work->guard = arena_printf(
        &work->arena, "SELECT FROM portage.gate WHERE epoch = %" PRId64 " FOR UPDATE", work->epoch);
    return true;
}

/* ---- both ways out ---- */

/* Before `switched`: as if nothing had been. The endpoint last, when the gate is open. */
static bool restore(struct work *work, const struct side *live, const struct error *why,
                    struct error *err)
{
    struct error failed = ERROR_INIT;
    const struct side *other = live == work->from ? work->to : work->from;
    if (!switch_restore_gates(live, other, work->epoch, err))
        return false;
    bool ok = endpoint_restore(work->endpoint, live->which, err);
    work_note_resumed(work);
    if (!endpoint_hook(work->endpoint, HOOK_ABORTED, other->which, &failed))
        log_error_as(LOG_WARNING, &failed);
    return ok && write_end(work, "aborted", switch_verb(other->which), why, err);
}

/* Behind `switched`. */
static bool complete(struct work *work, struct error *err)
{
    int reached;
    bool ok = run_steps(work, OPEN, STEPS, &reached, err) &&
              write_end(work, "done", switch_verb(work->switching->goal), NULL, err);
    work->unsettled = !ok && !journal_is_superseded(err);
    return ok;
}

static void abort_switch(struct work *work, int reached, struct error *err)
{
    struct error failed = ERROR_INIT;
    if (reached < PAUSE || journal_is_superseded(err))
        return;
    if (reached >= SWITCHED) { /* its answer may be lost, and yet it has happened */
        error_context(err, "it is not known whether it has switched");
        work->unsettled = true;
        return;
    }
    log_error_as(LOG_WARNING, err);
    log_info("aborting: the %s stays live", work->from->name);
    if (restore(work, work->from, err, &failed)) {
        log_info("the %s takes writes again", work->from->name);
        return;
    }
    log_error_as(LOG_WARNING, &failed);
    work->unsettled = !journal_is_superseded(&failed);
}

static bool switch_forward(struct work *work, struct error *err)
{
    int reached;
    if (!run_steps(work, READY, PAUSE, &reached, err))
        return false;
    if (work->switching->findings->refused > 0)
        return true;
    if (!run_steps(work, PAUSE, OPEN, &reached, err)) {
        abort_switch(work, reached, err);
        return false;
    }
    return complete(work, err);
}

/* Of the servers one after the other, as the steps do it. */
static bool rehearse_gates(struct work *work, struct rehearsal *rehearsal, struct error *err)
{
    for (unsigned s = 0; s < work->from->count; s++) {
        int64_t us;
        if (!gate_rehearse(work->from->conns[s], &us, err))
            return false;
        rehearsal->gates_us += us;
    }
    return true;
}

static bool never_switched(struct work *work, struct switch_result *result)
{
    result->outcome = SWITCH_REFUSED;
    findings_add(work->switching->findings, SEVERITY_REFUSE, "never-switched", NULL, work->to->name,
                 "There is nothing to go back from: \"pgportage cutover\" leads to the target.",
                 "is live, and the target never was");
    return true;
}

/* The goal is live. A switch that brought it there may have to be finished; one that was to lead away
 * from it, and has not, is taken back. */
static bool stay(struct work *work, const struct journal_left *left, struct switch_result *result,
                 struct error *err)
{
    result->outcome = SWITCH_ALREADY;
    if (left->unfinished[0] != '\0')
        return complete(work, err);
    if (left->begun[0] != '\0')
        return restore(work, work->to, NULL, err);
    return left->ever || never_switched(work, result);
}

/* Changes nothing: neither the epoch, nor the journal, nor what the application sees. Of ours a marker is
 * written, and a table of no rows is made, closed, opened and dropped. */
static bool rehearse(struct work *work, struct error *err)
{
    struct rehearsal rehearsal = {0};
    if (!step_ready(work, err))
        return false;
    rehearsal.drain_us =
        (int64_t)(json_real_value(json_object_get(work->detail, "marker_ms")) * 1000);
    forget_detail(work);
    return rehearse_gates(work, &rehearsal, err) && work_forecast(work, &rehearsal, err);
}

static bool is_left(const struct journal_left *left)
{
    return left->begun[0] != '\0' || left->unfinished[0] != '\0';
}

/* Under the lock: two rehearsals at a time would find each other's table. */
static bool dry_run(struct work *work, struct switch_result *result, struct error *err)
{
    struct journal_left left;
    enum which_side live;
    if (!check_schemas(work, err) || !take_lock(work, err) ||
        !journal_epoch(work->control, &result->epoch, err) ||
        !journal_live(work->control, &live, err) || !journal_left(work->control, &left, err))
        return false;
    work->epoch = DRAIN_ANY_EPOCH;
    if (is_left(&left))
        findings_add(work->switching->findings, SEVERITY_NOTE, "left", NULL, "journal", NULL,
                     "a switch was left half done: it is restored, or completed, first");
    result->outcome = live == work->to->which ? SWITCH_ALREADY : SWITCH_READY;
    if (result->outcome == SWITCH_ALREADY)
        return left.ever || is_left(&left) || never_switched(work, result);
    if (!rehearse(work, err))
        return false;
    if (work->switching->findings->refused > 0)
        result->outcome = SWITCH_REFUSED;
    return true;
}

static bool go(struct work *work, struct switch_result *result, struct error *err)
{
    struct journal_left left;
    bool at_goal;
    if (work->switching->options.dry_run)
        return dry_run(work, result, err);
    if (!take_over(work, &at_goal, err) || !journal_left(work->control, &left, err))
        return false;
    result->epoch = work->epoch;
    if (at_goal)
        return stay(work, &left, result, err);
    if (is_left(&left) && !restore(work, work->from, NULL, err))
        return false;
    bool ok = switch_forward(work, err);
    result->outcome = work->switching->findings->refused > 0 ? SWITCH_REFUSED : SWITCH_DONE;
    return ok;
}

static bool settle(struct work *work, struct switch_result *result, struct error *err)
{
    struct journal_left left;
    bool at_goal;
    if (!take_over(work, &at_goal, err) || !journal_left(work->control, &left, err))
        return false;
    result->epoch = work->epoch;
    if (at_goal)
        return stay(work, &left, result, err);
    result->outcome = SWITCH_RESTORED;
    return restore(work, work->from, NULL, err);
}

/* Until the lock was ours it may have come to its end. */
static bool settle_abandoned(struct work *work, struct switch_result *result, struct error *err)
{
    char holder[256];
    struct journal_left left;
    result->outcome = SWITCH_DONE;
    if (!journal_try_lock(work->control, &work->locked, holder, err) ||
        !journal_left(work->control, &left, err))
        return false;
    return !work->locked || !is_left(&left) || settle(work, result, err);
}

static bool run_work(const struct switching *switching, struct switch_result *result,
                     bool (*body)(struct work *, struct switch_result *, struct error *),
                     struct error *err)
{
    struct work work;
    struct error ignored = ERROR_INIT;
    *result = (struct switch_result){0};
    work_init(&work, switching);
    bool ok = body(&work, result, err);
    result->closed_us = work.closed_us;
    result->paused_us = work.paused_us;
    result->steps = work.steps;
    result->unsettled = work.unsettled;
    if (PQstatus(work.control) == CONNECTION_OK && work.locked &&
        !journal_unlock(work.control, &ignored)) {
        /* it goes with the connection */
    }
    work_release(&work);
    return ok;
}

bool switch_run(const struct switching *switching, struct switch_result *result, struct error *err)
{
    return run_work(switching, result, go, err);
}

bool switch_settle(const struct switching *switching, struct switch_result *result,
                   struct error *err)
{
    return run_work(switching, result, settle, err);
}

bool switch_settle_abandoned(const struct switching *switching, struct switch_result *result,
                             struct error *err)
{
    return run_work(switching, result, settle_abandoned, err);
}
