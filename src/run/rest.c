#include "run/rest.h"

#include <pthread.h>

#include "pg/conn.h"
#include "run/backward.h"
#include "run/ddl.h"
#include "run/slot.h"
#include "run/trouble.h"
#include "state/journal.h"
#include "state/lanes.h"
#include "state/setting.h"
#include "util/log.h"

enum { EVERY_US = 10 * 1000 * 1000 };

struct rest {
    const struct config *config;
    enum which_side live;
    int64_t epoch;
    struct stop *stop;
    pthread_t thread;
    struct migration migration;
    struct backward backward;
    bool open, bound, made;
    struct trouble trouble;
};

/* ---- the way back ---- */

static bool check_wal_level(PGconn *server, struct error *err)
{
    PGresult *result = conn_query_row(server, "SHOW wal_level", 0, NULL, err);
    bool logical = result != NULL && strcmp(result_text(result, 0, 0), "logical") == 0;
    if (result != NULL && !logical) {
        error_set(err, ERROR_CONFIG, "wal_level is %s", result_text(result, 0, 0));
        error_hint(err, "ALTER SYSTEM SET wal_level = logical; then restart the server.");
    }
    PQclear(result);
    return logical;
}

static void hint_privilege(PGconn *server, struct error *err)
{
    if (strcmp(err->sqlstate, "42501") == 0 && err->hint[0] == '\0')
        error_hint(err, "ALTER ROLE \"%s\" REPLICATION; or the provider's role for it.",
                   PQuser(server));
}

/* While the other side is live the slot holds what is to be brought back, and slot_check() says so. */
static bool forget_lost(struct rest *rest, struct migration *way, struct error *err)
{
    enum which_side live;
    bool lost = false;
    bool ok = journal_live(way->control, &live, err) &&
              (live != SIDE_SOURCE || slot_forget_lost(way, &lost, err));
    rest->made &= !lost;
    return ok;
}

static bool make_way(struct rest *rest, unsigned shard, struct error *err)
{
    lsn_t start;
    struct migration *way = &rest->backward.ways[shard];
    if (check_wal_level(way->source, err) && forget_lost(rest, way, err) &&
        slot_prepare(way, rest->epoch, rest->stop, &start, err) && slot_publish_new(way, err) &&
        lanes_create(way->shards[0], shard, migration_lanes(way), start, rest->epoch, err))
        return true;
    hint_privilege(way->source, err);
    return error_context(err, "making the way back from shard %u", shard);
}

static bool make_ways(struct rest *rest, struct error *err)
{
    if (!rest->bound) {
        if (!migration_bind(&rest->migration, err) ||
            !backward_bind(&rest->backward, &rest->migration, err))
            return false;
        rest->bound = true;
    }
    for (unsigned s = 0; s < rest->backward.count; s++) {
        if (!make_way(rest, s, err) || !ddl_record(&rest->backward.ways[s], err))
            return false;
    }
    return true;
}

/* Once the slots could be advanced, too. */
static bool tell_made(struct rest *rest, struct error *err)
{
    if (rest->live == SIDE_TARGET || rest->made)
        return true;
    rest->made = true;
    log_info("the way back is ready: %u slots on the target", rest->backward.count);
    return journal_write(rest->migration.control, rest->epoch, "way back", NULL, err);
}

/* ---- slots that nobody reads ---- */

static bool flushed_position(PGconn *server, lsn_t *position, struct error *err)
{
    PGresult *result =
        conn_query_row(server, "SELECT pg_catalog.pg_current_wal_flush_lsn()", 0, NULL, err);
    bool ok = result != NULL && result_lsn(result, 0, 0, position, err);
    PQclear(result);
    return ok;
}

/*
 * Where the publisher's log stands, read before the side that is live: while that is the other one at
 * the later moment, the publisher was fenced at the earlier one. Lanes first: a slot is never ahead of
 * them.
 */
static bool advance(struct rest *rest, struct migration *from, unsigned stream, struct error *err)
{
    lsn_t position;
    enum which_side live;
    if (!flushed_position(from->source, &position, err) ||
        !journal_live(from->control, &live, err))
        return false;
    if (live != rest->live)
        return true; /* this incarnation is about to end */
    for (unsigned s = 0; s < from->shards_count; s++) {
        if (!lanes_raise(from->shards[s], stream, position, rest->epoch, err))
            return false;
    }
    return slot_advance(from->source, from->config->slot, position, err);
}

static bool advance_all(struct rest *rest, struct error *err)
{
    if (rest->live == SIDE_TARGET)
        return advance(rest, &rest->migration, 0, err);
    for (unsigned s = 0; s < rest->backward.count; s++) {
        if (!advance(rest, &rest->backward.ways[s], s, err))
            return error_context(err, "shard %u", s);
    }
    return true;
}

/* ---- the thread ---- */

static void close_all(struct rest *rest)
{
    if (rest->bound)
        backward_release(&rest->backward);
    if (rest->open)
        migration_close(&rest->migration);
    rest->open = rest->bound = false;
}

static bool look_after(struct rest *rest, struct error *err)
{
    if (!rest->open && !migration_open(&rest->migration, rest->config, "rest", err))
        return false;
    rest->open = true;
    return (rest->live == SIDE_TARGET || make_ways(rest, err)) && advance_all(rest, err) &&
           tell_made(rest, err);
}

static void tell(struct rest *rest, struct error *err)
{
    if (stop_requested(rest->stop) || !trouble_is_new(&rest->trouble, err))
        return;
    if (rest->live == SIDE_SOURCE && rest->open)
        trouble_journal(rest->migration.control, rest->epoch, "no way back", err);
    error_context(err, "looking after the slots at rest; a cutover waits for it");
    log_error_as(LOG_WARNING, err);
}

static void *rest_main(void *argument)
{
    struct rest *rest = argument;
    log_set_subject("rest");
    do {
        struct error err = ERROR_INIT;
        if (look_after(rest, &err)) {
            trouble_is_over(&rest->trouble);
        } else {
            tell(rest, &err);
            close_all(rest);
        }
    } while (!stop_wait(rest->stop, EVERY_US));
    close_all(rest);
    return NULL;
}

struct rest *rest_start(const struct config *config, enum which_side live, int64_t epoch,
                        struct stop *stop)
{
    struct rest *rest = check_calloc(1, sizeof *rest);
    *rest = (struct rest){.config = config, .live = live, .epoch = epoch, .stop = stop};
    CHECK(pthread_create(&rest->thread, NULL, rest_main, rest) == 0);
    return rest;
}

void rest_end(struct rest *rest)
{
    if (rest == NULL)
        return;
    pthread_join(rest->thread, NULL);
    free(rest);
}
