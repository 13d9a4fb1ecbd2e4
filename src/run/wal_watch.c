#include "run/wal_watch.h"

#include "mapping/invert.h"
#include "state/setting.h"
#include "state/wal.h"
#include "util/clock.h"
#include "util/log.h"

enum { LOOK_EVERY_US = 10 * 1000 * 1000 };

/* A slot of ours, and where it is. */
struct kept {
    const struct wal_watch *watch;
    enum which_side side;
    const char *server; /* "source", "shard 0" */
    const char *slot;
    struct wal_slot state;
};

/* What to do, which depends on what would be lost. */
static const char *way_out(const struct kept *kept)
{
    if (kept->side != kept->watch->live)
        return "It is of the direction at rest, and should be advanced: look for what \"run\" says of it.";
    if (kept->side == SIDE_SOURCE)
        return "It is not dropped: changes would be missing. Look why the stream is behind; \"pgportage"
               " abort\" gives the migration up.";
    return "It is not dropped: it is the way back. Look why the stream is behind, or give the way back up:"
           " \"pgportage finish\" is due.";
}

static bool write_journal(const struct kept *kept, int percent, int64_t most, const char *what,
                          struct error *err)
{
    json_t *detail = json_pack("{s:s, s:s, s:i, s:I, s:I, s:s, s:s}", "on", kept->server, "slot",
                               kept->slot, "percent", percent, "retained_bytes",
                               (json_int_t)kept->state.retained, "most_bytes", (json_int_t)most, "of",
                               what, "hint", way_out(kept));
    char *text = json_dumps(detail, 0);
    CHECK(text != NULL);
    bool ok = journal_write(kept->watch->migration->shards[0], kept->watch->epoch, "wal", text, err);
    free(text);
    json_decref(detail);
    return ok;
}

static bool warn(const struct kept *kept, int percent, int64_t most, const char *what,
                 struct error *err)
{
    struct error told = ERROR_INIT;
    error_set(&told, ERROR_LIMIT,
              "replication slot \"%s\" on %s%s keeps %lld MiB of WAL: %d %% of %s (%lld MiB) are"
              " reached",
              kept->slot, kept->side == SIDE_SOURCE ? "the " : "", kept->server, (long long)(kept->state.retained >> 20), percent, what,
              (long long)(most >> 20));
    if (percent >= 100 && kept->state.limit == most)
        error_detail(&told, "The server may take its WAL away at any time: then the slot is lost.");
    error_hint(&told, "%s", way_out(kept));
    log_error_as(LOG_WARNING, &told);
    return write_journal(kept, percent, most, what, err);
}

static bool look(struct kept *kept, PGconn *server, json_t *seen, struct error *err)
{
    const char *what;
    if (!wal_read(server, kept->slot, &kept->state, err))
        return false;
    wal_seen_add(seen, kept->slot, &kept->state);
    int64_t most = wal_most(&kept->state, kept->watch->migration->config->wal_budget, &what);
    int percent = wal_seen_warn(seen, kept->slot, &kept->state, most);
    return percent == 0 || warn(kept, percent, most, what, err);
}

static bool look_at_shard(struct wal_watch *watch, unsigned shard, json_t *seen, struct error *err)
{
    struct arena arena;
    struct config back;
    char server[24];
    arena_init(&arena, 1024);
    invert_servers(watch->migration->config, shard, &arena, &back);
    snprintf(server, sizeof server, "shard %u", shard);
    struct kept kept = {
        .watch = watch, .side = SIDE_TARGET, .server = server, .slot = back.slot};
    bool ok = look(&kept, watch->migration->shards[shard], seen, err);
    arena_release(&arena);
    return ok;
}

static bool look_at_all(struct wal_watch *watch, json_t *seen, struct error *err)
{
    struct migration *migration = watch->migration;
    struct kept kept = {.watch = watch,
                        .side = SIDE_SOURCE,
                        .server = "source",
                        .slot = migration->config->slot};
    if (!look(&kept, migration->source, seen, err))
        return false;
    for (unsigned s = 0; s < migration->shards_count; s++) {
        if (!look_at_shard(watch, s, seen, err))
            return false;
    }
    return true;
}

bool wal_watch_look(struct wal_watch *watch, struct error *err)
{
    if (clock_monotonic_us() < watch->look_again_us)
        return true;
    watch->look_again_us = clock_monotonic_us() + LOOK_EVERY_US;
    json_t *seen = wal_seen_load(watch->migration->shards[0], err);
    json_t *before = json_deep_copy(seen);
    bool ok = seen != NULL && look_at_all(watch, seen, err) &&
              (json_equal(seen, before) ||
               wal_seen_store(watch->migration->shards[0], seen, err));
    json_decref(before);
    json_decref(seen);
    return ok || error_context(err, "looking after the WAL that is kept");
}
