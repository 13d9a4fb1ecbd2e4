#include "verify/repair.h"

#include "pg/conn.h"
#include "state/journal.h"
#include "util/clock.h"
#include "util/log.h"
#include "verify/bring.h"
#include "verify/position.h"

enum { AGAIN_US = 20 * 1000 /* after a row that somebody is writing */ };

/* What was seen before the lanes were held. */
struct before {
    struct seen live, following;
    struct horizon newest; /* transactions that had begun are below it */
};

/* ---- all servers ---- */

static bool on_all(struct session *session, const char *sql, struct error *err)
{
    if (!conn_exec(session->source, sql, err))
        return error_context(err, "repairing, at the source");
    for (unsigned s = 0; s < session->shards_count; s++) {
        if (!conn_exec(session->shards[s], sql, err))
            return error_context(err, "repairing, on shard %u", s);
    }
    return true;
}

/* Where lanes write. */
static bool on_following(struct session *session, const char *sql, struct error *err)
{
    if (session->backward)
        return conn_exec(session->source, sql, err) ||
               error_context(err, "repairing, at the source");
    for (unsigned s = 0; s < session->shards_count; s++) {
        if (!conn_exec(session->shards[s], sql, err))
            return error_context(err, "repairing, on shard %u", s);
    }
    return true;
}

static void roll_back(struct session *session)
{
    struct error ignored = ERROR_INIT;
    if (!on_all(session, "ROLLBACK", &ignored)) {
        /* the first error tells more */
    }
}

/* ---- holding the lanes ---- */

/* A switch locks this row of every server in each of its transactions: until we end it waits. */
static const char hold_switch_sql[] = "SELECT FROM portage.gate FOR SHARE";
/* First what says that it is us who write: a decoder drops the transaction. */
static const char ours_sql[] = "UPDATE portage.instance SET epoch = epoch";
static const char hold_lanes_sql[] = "SELECT FROM portage.lane ORDER BY stream, lane FOR UPDATE";

static bool check_direction(struct session *session, struct error *err)
{
    enum which_side live;
    if (!journal_live(session->shards[0], &live, err))
        return false;
    return (live == SIDE_TARGET) == session->backward ||
           error_set(err, ERROR_CONFIG, "cannot repair: the other side is live since this pass began");
}

/* *held is false when a lane is inside a long transaction: it may wait for one that we hold. */
static bool hold(struct session *session, bool *held, struct error *err)
{
    *held = on_all(session, "BEGIN; SET LOCAL lock_timeout = '200ms'", err) &&
            on_following(session, ours_sql, err) && on_following(session, hold_lanes_sql, err) &&
            conn_exec(session->shards[0], hold_switch_sql, err);
    if (!*held && strcmp(err->sqlstate, "55P03") == 0) {
        error_clear(err);
        return true;
    }
    return *held && on_all(session, "SET LOCAL lock_timeout = 0", err) &&
           check_direction(session, err);
}

/* ---- one key ---- */

static bool see(struct session *session, bool live, struct suspect *suspect, struct arena *arena,
                struct seen *seen, struct error *err)
{
    return live == session->backward ? seen_target(session, &suspect, 1, arena, seen, err)
                                     : seen_source(session, &suspect, 1, arena, seen, err);
}

/*
 * Whether nothing that the lanes have applied is newer than what the live side shows. The row's header may
 * say so. Otherwise a commit might be in the log, applied, and not yet visible: then the other side's row
 * has been written since, or whoever wrote it had begun before and has not ended. Of shards that are live,
 * and of rows without a key, of which another one may be coming, only the latter tells.
 */
static bool is_still(const struct session *session, const struct mapping *mapping,
                     const struct before *before, const struct seen *live,
                     const struct seen *following, const struct horizon *oldest)
{
    if (!digest_equal(before->live.version, live->version))
        return false;
    if (mapping->has_key && !session->backward && live->count == 1 && !live->rows[0].touched)
        return true;
    return horizon_passed(oldest, &before->newest) &&
           digest_equal(before->following.version, following->version);
}

/* *still is also false when the live row changed while it was brought back: then nothing is kept. */
static bool bring(struct session *session, const struct ways *ways, struct suspect *suspect,
                  const struct seen *live, const struct seen *following, struct arena *arena,
                  bool *still, bool *brought, struct error *err)
{
    struct seen again;
    *brought = true;
    if (!session->backward)
        return bring_forward(session, suspect, live, following, arena, err);
    if (!bring_back(session, ways, suspect, following, live, arena, brought, err) ||
        !seen_target(session, &suspect, 1, arena, &again, err))
        return false;
    *still = digest_equal(again.version, live->version);
    return true;
}

static bool bring_when_still(struct session *session, const struct ways *ways,
                             struct suspect *suspect, const struct before *before,
                             struct arena *arena, bool *still, bool *brought, struct error *err)
{
    struct seen live, following;
    struct horizon oldest;
    if (!horizon_oldest(session, &oldest, err) ||
        !see(session, true, suspect, arena, &live, err) ||
        !see(session, false, suspect, arena, &following, err))
        return false;
    *still = is_still(session, suspect->mapping, before, &live, &following, &oldest);
    return !*still ||
           bring(session, ways, suspect, &live, &following, arena, still, brought, err);
}

static bool look_before(struct session *session, struct suspect *suspect, struct arena *arena,
                        struct before *before, struct judgement *judgement, struct error *err)
{
    struct position position;
    bool passed;
    if (!see(session, true, suspect, arena, &before->live, err) ||
        !position_now(session, &position, err) ||
        !position_wait(session, &position, &passed, judgement->why_undecided,
                       sizeof judgement->why_undecided, err))
        return false;
    if (!passed)
        return error_set(err, ERROR_CONFIG, "cannot repair: %s", judgement->why_undecided);
    return see(session, false, suspect, arena, &before->following, err) &&
           horizon_newest(session, &before->newest, err);
}

static bool try_once(struct session *session, const struct ways *ways,
                     struct suspect *suspect, struct arena *arena, bool *still,
                     bool *brought, struct judgement *judgement, struct error *err)
{
    struct before before;
    bool held;
    *still = *brought = false;
    if (!look_before(session, suspect, arena, &before, judgement, err))
        return false;
    bool ok = hold(session, &held, err) &&
              (!held || bring_when_still(session, ways, suspect, &before, arena, still, brought,
                                         err)) &&
              on_all(session, *still && *brought ? "COMMIT" : "ROLLBACK", err);
    if (!ok)
        roll_back(session);
    return ok;
}

static bool repair_one(struct session *session, const struct ways *ways,
                       struct suspect *suspect, struct judgement *judgement, bool *brought,
                       struct error *err)
{
    struct arena arena;
    int64_t deadline_us = clock_monotonic_us() + session->options->patience_us;
    bool ok = session_prepare(session, suspect->mapping, err), still = false;
    *brought = false;
    arena_init(&arena, 64 * 1024);
    while (ok && !still && clock_monotonic_us() < deadline_us) {
        arena_clear(&arena);
        ok = try_once(session, ways, suspect, &arena, &still, brought, judgement, err);
        if (ok && !still && session_wait(session, AGAIN_US))
            ok = stop_error(err);
    }
    arena_release(&arena);
    *brought &= still;
    return ok || error_context(err, "repairing a row of %s", suspect->mapping->name);
}

/* ---- all of them ---- */

/* Those that a server refuses, for a constraint that another one may still meet, are left in the list.
 * The others are suspects again. */
static bool repair_round(struct session *session, const struct ways *ways,
                         struct judgement *judgement, struct suspects *suspects,
                         uint64_t *repaired, struct error *refused, struct error *err)
{
    struct suspect *left = NULL;
    bool ok = true;
    while (ok && judgement->guilty != NULL) {
        struct suspect *suspect = judgement->guilty;
        bool brought;
        ok = repair_one(session, ways, suspect, judgement, &brought, err);
        judgement->guilty = suspect->next;
        if (!ok && err->class == ERROR_DATA) {
            *refused = *err;
            error_clear(err);
            ok = true;
            suspect->next = left;
            left = suspect;
            continue;
        }
        *repaired += brought;
        suspects_return(suspects, suspect);
    }
    judgement->guilty = left;
    return ok;
}

static void return_all(struct judgement *judgement, struct suspects *suspects)
{
    while (judgement->guilty != NULL) {
        struct suspect *suspect = judgement->guilty;
        judgement->guilty = suspect->next;
        suspects_return(suspects, suspect);
    }
}

/* The ways back, when they are what is needed. */
static bool bind(const struct session *session, struct ways *ways, struct error *err)
{
    *ways = (struct ways){0};
    return !session->backward || ways_bind(ways, session->config, session->set, err);
}

bool repair_dry(struct session *session, const struct judgement *judgement, uint64_t *count,
                struct error *err)
{
    struct ways ways;
    *count = 0;
    if (!bind(session, &ways, err))
        return false;
    for (const struct suspect *guilty = judgement->guilty; guilty != NULL; guilty = guilty->next)
        *count += !session->backward || ways_find(&ways, 0, guilty->mapping) != NULL;
    ways_release(&ways);
    return true;
}

bool repair(struct session *session, struct judgement *judgement, struct suspects *suspects,
            uint64_t *repaired, struct error *err)
{
    struct ways ways;
    struct error refused = ERROR_INIT;
    uint64_t before;
    bool ok;
    *repaired = 0;
    if (!bind(session, &ways, err))
        return false;
    do {
        before = *repaired;
        ok = repair_round(session, &ways, judgement, suspects, repaired, &refused, err);
    } while (ok && judgement->guilty != NULL && *repaired > before);
    if (ok && judgement->guilty != NULL)
        log_error_as(LOG_WARNING, &refused);
    return_all(judgement, suspects);
    ways_release(&ways);
    return ok;
}
