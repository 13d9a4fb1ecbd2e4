#include "switchover/restore.h"

#include "pg/conn.h"
#include "state/journal.h"
#include "switchover/acting.h"
#include "switchover/gate.h"
#include "util/log.h"

static bool close_side(const struct side *side, const char *live, int64_t epoch, struct error *err)
{
    const struct gate_words words = gate_words_live(live);
    for (unsigned s = 0; s < side->count; s++) {
        if (!gate_shut(side->conns[s], epoch, &words, err))
            return false;
    }
    return true;
}

static bool open_side(const struct side *side, int64_t epoch, struct error *err)
{
    for (unsigned s = 0; s < side->count; s++) {
        if (!gate_open(side->conns[s], epoch, err))
            return false;
    }
    return true;
}

/* Waits for no reader of either side: the application waits for it. */
bool switch_restore_gates(const struct side *live, const struct side *other, int64_t epoch,
                          struct error *err)
{
    return close_side(other, live->name, epoch, err) &&
           acting_leave_to_run(other, epoch, err) &&
           open_side(live, epoch, err);
}

/* A fence that still has its deadline lifts itself; who has set it may be at work. */
static bool agrees(const struct side *side, bool open, bool *does, struct error *err)
{
    for (unsigned s = 0; s < side->count; s++) {
        struct gate_state state;
        if (!gate_read(side->conns[s], &state, err))
            return false;
        *does &= !state.exists || state.closed != open;
    }
    return true;
}

/* sides[0] is the source. What one looks at without the lock may have changed a moment later. */
static bool agree(const struct side sides[2], bool *do_agree, struct error *err)
{
    enum which_side live;
    if (!journal_live(sides[SIDE_TARGET].conns[0], &live, err))
        return false;
    *do_agree = true;
    return agrees(&sides[live], true, do_agree, err) &&
           agrees(&sides[side_other(live)], false, do_agree, err);
}

static bool restore_locked(const struct side sides[2], struct error *err)
{
    const struct side *target = &sides[SIDE_TARGET];
    PGconn *servers[CONFIG_SHARDS_MAX + 1];
    bool do_agree;
    int64_t epoch;
    enum which_side live;
    CHECK(target->count <= CONFIG_SHARDS_MAX);
    memcpy(servers, target->conns, target->count * sizeof *servers);
    servers[target->count] = sides[SIDE_SOURCE].conns[0];
    if (!agree(sides, &do_agree, err))
        return false;
    if (do_agree)
        return true;
    if (!journal_raise_epoch(servers, target->count + 1, &epoch, err) ||
        !journal_live(servers[0], &live, err))
        return false;
    log_warning("a switch has left the gates as they were: the %s is live, and is opened",
                sides[live].name);
    return switch_restore_gates(&sides[live], &sides[side_other(live)], epoch, err);
}

bool switch_restore_abandoned(PGconn *source, PGconn *const *shards, unsigned shards_count,
                              struct error *err)
{
    char holder[256];
    bool do_agree, taken;
    struct error ignored = ERROR_INIT;
    const struct side sides[] = {
        {.which = SIDE_SOURCE, .name = "source", .count = 1, .conns = &source},
        {.which = SIDE_TARGET, .name = "target", .count = shards_count, .conns = shards}};
    if (!agree(sides, &do_agree, err))
        return false;
    if (do_agree)
        return true;
    if (!journal_try_lock(shards[0], &taken, holder, err))
        return false;
    if (!taken)
        return true; /* it is at work */
    bool ok = restore_locked(sides, err);
    return journal_unlock(shards[0], ok ? err : &ignored) && ok;
}
