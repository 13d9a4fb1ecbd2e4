#include "run/gates.h"

#include "pg/conn.h"
#include "switchover/gate.h"
#include "switchover/restore.h"
#include "switchover/side.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    LOCK_TIMEOUT_MS = 50,
    WORK_US = 200 * 1000,
    AGAIN_US = 1000 * 1000,
    RESTORE_EVERY_US = 1000 * 1000,
    LOOK_EVERY_US = 10 * 1000 * 1000,
};

void gates_init(struct gates *gates, struct migration *migration)
{
    *gates = (struct gates){.migration = migration};
    arena_init(&gates->arena, 64 * 1024);
    gates->source_tables = side_tables(&migration->set, SIDE_SOURCE, &gates->arena);
    gates->target_tables = side_tables(&migration->set, SIDE_TARGET, &gates->arena);
}

void gates_release(struct gates *gates)
{
    arena_release(&gates->arena);
}

bool gates_close_new(PGconn *shard, const struct mapping_set *set, struct error *err)
{
    struct arena arena;
    const struct gate_words words = gate_words_live(side_name(SIDE_SOURCE));
    arena_init(&arena, 64 * 1024);
    bool ok = gate_create(shard, &words, err) &&
              gate_lay_all(shard, side_tables(set, SIDE_TARGET, &arena), err);
    arena_release(&arena);
    return ok;
}

/* A table of somebody else's that has come since is no reason to stop the stream: a switch refuses without
 * its gate. */
static bool tell_denied(struct gates *gates, PGconn *conn, struct error *err)
{
    if (!gates->denied) {
        error_context(err, "laying a gate in database \"%s\"; no switch goes without it", PQdb(conn));
        error_hint(err, "GRANT the table's owner TO \"%s\";", PQuser(conn));
        log_error_as(LOG_WARNING, err);
    }
    gates->denied = true;
    gates->waiting++;
    error_clear(err);
    return true;
}

static bool lay_some(struct gates *gates, PGconn *conn, const char *tables, int64_t until_us,
                     unsigned *left, struct error *err)
{
    char busy[256];
    const struct gate_pace pace = {.lock_timeout_ms = LOCK_TIMEOUT_MS, .until_us = until_us};
    if (!gate_lay_some(conn, tables, &pace, left, busy, err))
        return strcmp(err->sqlstate, "42501") == 0 && tell_denied(gates, conn, err);
    if (busy[0] != '\0')
        log_debug("gate: %s is in use, it is tried again", busy);
    gates->waiting += *left;
    return true;
}

static bool lay(struct gates *gates, struct error *err)
{
    struct migration *migration = gates->migration;
    int64_t until_us = clock_monotonic_us() + WORK_US;
    unsigned left;
    gates->waiting = 0;
    if (!gate_create(migration->source, NULL, err) ||
        !lay_some(gates, migration->source, gates->source_tables, until_us, &left, err))
        return error_context(err, "the source");
    for (unsigned s = 0; s < migration->shards_count; s++) {
        if (!lay_some(gates, migration->shards[s], gates->target_tables, until_us, &left, err))
            return error_context(err, "shard %u", s);
    }
    return true;
}

static bool restore(struct gates *gates, struct error *err)
{
    struct migration *migration = gates->migration;
    if (clock_monotonic_us() < gates->restore_again_us)
        return true;
    gates->restore_again_us = clock_monotonic_us() + RESTORE_EVERY_US;
    return switch_restore_abandoned(migration->source, migration->shards, migration->shards_count,
                                    err);
}

bool gates_tend(struct gates *gates, struct error *err)
{
    if (!restore(gates, err))
        return error_context(err, "looking for a switch that was left");
    if (clock_monotonic_us() < gates->look_again_us)
        return true;
    if (!lay(gates, err))
        return error_context(err, "laying the gates");
    if (gates->waiting == 0 && !gates->told)
        log_info("the gates are laid");
    gates->told |= gates->waiting == 0;
    gates->look_again_us = clock_monotonic_us() + (gates->waiting == 0 ? LOOK_EVERY_US
                                                   : gates->told || gates->denied ? AGAIN_US
                                                                       : 0);
    return true;
}
