#include "verify/session.h"

#include "pg/conn.h"
#include "state/journal.h"
#include "state/setting.h"
#include "verify/reading.h"

static bool read_direction(struct session *session, struct error *err)
{
    enum which_side live;
    if (!journal_live(session->shards[0], &live, err))
        return false;
    session->backward = live == SIDE_TARGET;
    PGresult *result = conn_query_row(session->shards[0],
                                      "SELECT pg_catalog.count(*) FROM portage.journal"
                                      " WHERE step = 'switched'",
                                      0, NULL, err);
    session->switches = result != NULL ? (unsigned)result_int(result, 0, 0) : 0;
    PQclear(result);
    return result != NULL;
}

/* As the migration was begun, not as portage.yaml is now. */
static bool read_lanes(struct session *session, struct error *err)
{
    return setting_get(session->shards[0], "whole_tables", &session->whole_tables, err) &&
           setting_get(session->shards[0], "lanes", &session->lanes, err);
}

bool session_has_own_lanes(const struct session *session, const struct mapping *mapping)
{
    size_t length = strlen(mapping->name);
    const char *line = session->whole_tables;
    while (line != NULL && *line != '\0') {
        size_t end = strcspn(line, "\n");
        if (end == length && memcmp(line, mapping->name, length) == 0)
            return true;
        line += end + (line[end] == '\n');
    }
    return false;
}

bool session_open(struct session *session, struct error *err)
{
    const struct config *config = session->config;
    session->shards_count = config->shards_count;
    session->shards = check_calloc(config->shards_count, sizeof *session->shards);
    enum conn_kind kind = session->writes ? CONN_APPLY : CONN_SESSION;
    session->source = conn_open(config->source.text, kind, "verify", err);
    bool ok = session->source != NULL;
    for (unsigned s = 0; ok && s < config->shards_count; s++) {
        session->shards[s] = conn_open(config->shards[s].text, kind, "verify", err);
        ok = session->shards[s] != NULL || error_context(err, "shard %u", s);
    }
    ok = ok && read_direction(session, err) && read_lanes(session, err);
    if (!ok)
        session_close(session);
    return ok;
}

void session_close(struct session *session)
{
    conn_close(session->source);
    for (unsigned s = 0; session->shards != NULL && s < session->shards_count; s++)
        conn_close(session->shards[s]);
    free(session->shards);
    free(session->whole_tables);
    free(session->lanes);
    session->source = NULL;
    session->shards = NULL;
    session->whole_tables = session->lanes = NULL;
}

bool session_prepare(struct session *session, const struct mapping *mapping, struct error *err)
{
    struct arena arena;
    bool ok = true;
    if (!reading_is_placed(mapping, session->shards_count))
        return true;
    arena_init(&arena, 4096);
    const char *sql = reading_place_table(mapping, &arena);
    for (unsigned s = 0; ok && s < session->shards_count; s++) {
        ok = conn_exec(session->shards[s], sql, err) ||
             error_context(err, "shard %u: asking where the rows of %s belong", s, mapping->name);
    }
    arena_release(&arena);
    return ok;
}

bool session_stopped(const struct session *session)
{
    return stop_requested(session->stop) || stop_requested(session->outer);
}

bool session_wait(const struct session *session, int64_t timeout_us)
{
    return stop_wait(session->outer, timeout_us) || session_stopped(session);
}
