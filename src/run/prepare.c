#include "run/prepare.h"

#include "copy/ranges.h"
#include "mapping/statements.h"
#include "pg/conn.h"
#include "run/leaves.h"
#include "run/slot.h"
#include "run/target.h"
#include "state/epoch.h"
#include "state/journal.h"
#include "state/lanes.h"
#include "state/schema.h"
#include "state/setting.h"
#include "switchover/acting.h"
#include "switchover/closed.h"
#include "switchover/restore.h"
#include "util/log.h"

static const char *const phases[] = {"new", "preparing", "copying", "indexing", "ready"};

static int phase_rank(const char *phase)
{
    for (int p = 0; p < (int)(sizeof phases / sizeof phases[0]); p++) {
        if (phase != NULL && strcmp(phases[p], phase) == 0)
            return p;
    }
    return 0;
}

bool phase_set(PGconn *control, int64_t epoch, const char *phase, struct error *err)
{
    char *before;
    if (!setting_get(control, "phase", &before, err))
        return false;
    bool later = phase_rank(phase) > phase_rank(before);
    free(before);
    if (!later)
        return true;
    log_info("phase: %s", phase);
    return setting_put(control, "phase", phase, err) &&
           journal_write(control, epoch, phase, NULL, err);
}

/* ---- what must not change between runs ---- */

/* A setting that is recorded at the first start; a CONFIG error when it differs later. */
static bool keep_setting(PGconn *control, const char *name, const char *value, const char *what,
                         struct error *err)
{
    char *before;
    if (!setting_get(control, name, &before, err))
        return false;
    if (before == NULL)
        return setting_put(control, name, value, err);
    bool same = strcmp(before, value) == 0;
    if (!same) {
        error_set(err, ERROR_CONFIG, "%s changed since this migration began", what);
        error_begin_again(err, "Put it back as it was, or");
    }
    free(before);
    return same;
}

/* Which mapping is the first that is not as it was: `ends` are the ends of their parts of `text`. */
static bool name_difference(const struct migration *migration, PGconn *control, const char *text,
                            const size_t *ends, struct error *err)
{
    char *before;
    size_t same = 0;
    unsigned m = 0;
    struct error ignored = ERROR_INIT;
    if (!setting_get(control, "mappings", &before, &ignored))
        return false;
    while (before != NULL && text[same] != '\0' && text[same] == before[same])
        same++;
    while (m < migration->set.count && ends[m] <= same)
        m++;
    free(before);
    return m < migration->set.count &&
           error_detail(err, "The first difference is in %s: in portage.yaml, or in a column of its"
                             " tables.", migration->set.mappings[m].name);
}

/* What the mappings say, in a form that does not depend on which indexes exist at the moment. */
static bool keep_mappings(const struct migration *migration, PGconn *control, struct error *err)
{
    struct arena arena;
    struct buffer text;
    struct statement statement;
    arena_init(&arena, 64 * 1024);
    buffer_init(&text, 16 << 20);
    size_t *ends = arena_alloc(&arena, migration->set.count * sizeof *ends);
    for (unsigned m = 0; m < migration->set.count; m++) {
        const struct mapping *mapping = &migration->set.mappings[m];
        statement_insert(mapping, false, &arena, &statement);
        buffer_printf(&text, "%s: %s; shard %d\n", mapping->name, statement.sql,
                      mapping->everywhere ? -2 : mapping->shard_item);
        ends[m] = text.length;
    }
    bool ok = keep_setting(control, "mappings", buffer_text(&text), "the mapping", err);
    if (!ok && err->class == ERROR_CONFIG)
        name_difference(migration, control, buffer_text(&text), ends, err);
    buffer_release(&text);
    arena_release(&arena);
    return ok;
}

static bool keep_settings(const struct migration *migration, struct error *err)
{
    PGconn *control = migration->shards[0];
    char lanes[12], shards[12];
    snprintf(lanes, sizeof lanes, "%d", migration->config->lanes);
    snprintf(shards, sizeof shards, "%u", migration->shards_count);
    return keep_setting(control, "lanes", lanes, "\"lanes\"", err) &&
           keep_setting(control, "shards", shards, "the number of shards", err) &&
           keep_setting(control, "slot", migration->config->slot, "\"slot\"", err) &&
           keep_setting(control, "publication", migration->config->publication,
                        "\"publication\"", err) &&
           keep_mappings(migration, control, err);
}

/* ---- lanes ---- */

/* The lanes of all shards; with what a switch says they need not be told, see direction.h. */
static bool prepare_lanes(const struct migration *migration, unsigned stream, int64_t epoch,
                          lsn_t start, lsn_t switched, struct error *err)
{
    for (unsigned s = 0; s < migration->shards_count; s++) {
        PGconn *server = migration->shards[s];
        if (!lanes_create(server, stream, migration_lanes(migration), start, epoch, err) ||
            !lanes_raise(server, stream, switched, epoch, err))
            return error_context(err, "shard %u", s);
    }
    return true;
}

static bool check_slot(struct migration *migration, unsigned stream, struct error *err)
{
    lsn_t least = UINT64_MAX;
    for (unsigned s = 0; s < migration->shards_count; s++) {
        lsn_t progress;
        bool known;
        if (!lanes_least(migration->shards[s], stream, &progress, &known, err))
            return false;
        least = known && progress < least ? progress : least;
    }
    return slot_check(migration, least, err);
}

/* ---- the sequence ---- */

/* Before anything of ours is made beside what a finish has left there. */
static bool check_closed(const struct config *config, struct error *err)
{
    char name[24];
    for (unsigned d = 0; d <= config->shards_count; d++) {
        const char *text = d == 0 ? config->source.text : config->shards[d - 1].text;
        PGconn *conn = conn_open(text, CONN_SESSION, "prepare", err);
        snprintf(name, sizeof name, d == 0 ? "the source" : "shard %u", d - 1);
        bool ok = conn != NULL && closed_refuse(conn, name, err);
        conn_close(conn);
        if (!ok)
            return false;
    }
    return true;
}

static bool install_schemas(const struct config *config, struct error *err)
{
    for (unsigned s = 0; s < config->shards_count; s++) {
        PGconn *conn = conn_open(config->shards[s].text, CONN_SESSION, "prepare", err);
        bool ok = conn != NULL && schema_install(conn, err);
        conn_close(conn);
        if (!ok)
            return error_context(err, "shard %u", s);
    }
    PGconn *conn = conn_open(config->source.text, CONN_SESSION, "prepare", err);
    bool ok = conn != NULL && schema_install(conn, err);
    conn_close(conn);
    return ok || error_context(err, "the source");
}

static bool raise_epoch(struct migration *migration, int64_t *epoch, struct error *err)
{
    return epoch_raise(migration->shards, migration->shards_count, migration->source, epoch, err);
}

static bool put_aside_on_shards(const struct migration *migration, struct stop *stop,
                                struct error *err)
{
    for (unsigned s = 0; s < migration->shards_count; s++) {
        if (!acting_put_aside(migration->shards[s], migration->config->shards[s].text, NULL, stop,
                              err))
            return error_context(err, "shard %u", s);
    }
    return true;
}

static bool put_aside_on_source(struct migration *migration, struct stop *stop,
                                struct error *err)
{
    const char *tables = side_tables(&migration->set, SIDE_SOURCE, &migration->arena);
    return acting_put_aside(migration->source, migration->config->source.text, tables, stop, err) ||
           error_context(err, "the source");
}

/* On the side that is not `live`. */
static bool put_aside(struct migration *migration, enum which_side live, struct stop *stop,
                      struct error *err)
{
    return live == SIDE_SOURCE ? put_aside_on_shards(migration, stop, err)
                               : put_aside_on_source(migration, stop, err);
}

static bool continue_prepared(struct migration *migration, struct stop *stop, int64_t *epoch,
                              struct error *err)
{
    lsn_t start, switched;
    PGconn *control = migration->control;
    if (!raise_epoch(migration, epoch, err) ||
        !phase_set(control, *epoch, "preparing", err) || !migration_bind(migration, err))
        return false;
    if (migration->findings.refused > 0)
        return migration_refused(migration, err);
    return migration_restore_lanes(migration, err) && leaves_exist(migration, err) &&
           keep_settings(migration, err) && put_aside(migration, SIDE_SOURCE, stop, err) &&
           slot_prepare(migration, *epoch, stop, &start, err) &&
           leaves_restore(migration, *epoch, err) &&
           direction_position(control, SIDE_SOURCE, "source", &switched, err) &&
           prepare_lanes(migration, 0, *epoch, start, switched, err) &&
           ranges_create(migration->source, migration->shards, migration->shards_count,
                         &migration->set, *epoch, err) &&
           leaves_make_room(migration, err) &&
           check_slot(migration, 0, err) &&
           phase_set(control, *epoch, "copying", err);
}

/* ---- the way back ---- */

/* Publication, slot and lanes were made before the switch. */
static bool prepare_way(struct migration *way, unsigned shard, int64_t epoch, struct stop *stop,
                        struct error *err)
{
    lsn_t start, switched;
    char publisher[32];
    snprintf(publisher, sizeof publisher, "shard %u", shard);
    return slot_prepare(way, epoch, stop, &start, err) &&
           direction_position(way->control, SIDE_TARGET, publisher, &switched, err) &&
           prepare_lanes(way, shard, epoch, start, switched, err) &&
           check_slot(way, shard, err);
}

static bool prepare_ways(struct backward *backward, int64_t epoch, struct stop *stop,
                         struct error *err)
{
    for (unsigned s = 0; s < backward->count; s++) {
        if (!prepare_way(&backward->ways[s], s, epoch, stop, err))
            return error_context(err, "the way back from shard %u", s);
    }
    return true;
}

static bool continue_backward(struct migration *migration, struct backward *backward,
                              struct stop *stop, int64_t *epoch, struct error *err)
{
    if (!raise_epoch(migration, epoch, err) || !migration_bind(migration, err))
        return false;
    if (migration->findings.refused > 0)
        return migration_refused(migration, err);
    if (!keep_settings(migration, err) || !backward_bind(backward, migration, err))
        return false;
    if (put_aside(migration, SIDE_TARGET, stop, err) &&
        prepare_ways(backward, *epoch, stop, err))
        return true;
    backward_release(backward);
    return false;
}

/* What the direction needs, once it is known. */
static bool continue_as(enum which_side live, struct migration *migration, struct backward *backward,
                        struct stop *stop, int64_t *epoch, struct error *err)
{
    *backward = (struct backward){0};
    return live == SIDE_TARGET ? continue_backward(migration, backward, stop, epoch, err)
                               : continue_prepared(migration, stop, epoch, err);
}

/* Before anything that may wait: whoever has died may have left both sides closed. */
static bool restore_gates(const struct config *config, struct error *err)
{
    struct migration own;
    if (!migration_open(&own, config, "prepare", err))
        return false;
    bool ok = switch_restore_abandoned(own.source, own.shards, own.shards_count, err);
    migration_close(&own);
    return ok || error_context(err, "looking for a switch that was left");
}

bool prepare_servers(const struct config *config, struct error *err)
{
    return check_closed(config, err) && install_schemas(config, err) && restore_gates(config, err);
}

static bool read_direction(const struct config *config, enum which_side *live, struct error *err)
{
    PGconn *control = conn_open(config->shards[0].text, CONN_SESSION, "prepare", err);
    bool ok = control != NULL && journal_live(control, live, err);
    conn_close(control);
    return ok;
}

bool prepare(struct migration *migration, struct backward *backward, const struct config *config,
             enum which_side *live, struct stop *stop, int64_t *epoch, struct error *err)
{
    if (!read_direction(config, live, err) ||
        (*live == SIDE_SOURCE && !target_prepare(config, err)) ||
        !migration_open(migration, config, "supervisor", err))
        return false;
    if (continue_as(*live, migration, backward, stop, epoch, err))
        return true;
    migration_close(migration);
    return false;
}
