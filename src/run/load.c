#include "run/load.h"

#include "pg/conn.h"
#include "state/setting.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    LOOK_US = 1000 * 1000,
    CALM_PERCENT = 80, /* of a limit: below it the copy goes on */
};

/* Standbys only: whoever decodes may be slow on his own account, and so are we. */
static const char lag_sql[] =
    "SELECT COALESCE(NULLIF(r.application_name, ''), r.pid::text),"
    "       (EXTRACT(epoch FROM r.replay_lag) * 1000)::bigint"
    "  FROM pg_catalog.pg_stat_replication r"
    " WHERE r.replay_lag IS NOT NULL AND NOT EXISTS ("
    "   SELECT FROM pg_catalog.pg_replication_slots s"
    "    WHERE s.active_pid = r.pid AND s.slot_type = 'logical')"
    " ORDER BY r.replay_lag DESC LIMIT 1";

static const char active_sql[] =
    "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity"
    " WHERE backend_type = 'client backend' AND state = 'active'"
    "   AND application_name NOT LIKE 'pgportage %' AND pid <> pg_catalog.pg_backend_pid()";

void load_init(struct load *load, struct migration *migration)
{
    *load = (struct load){.migration = migration};
}

static bool waits(const struct load *load)
{
    return load->waits_for[0] != '\0';
}

static bool is_over(const struct load *load, int64_t value, int64_t limit)
{
    return waits(load) ? value * 100 > limit * CALM_PERCENT : value > limit;
}

/* `text` is left alone when the replicas are near enough. */
static bool look_at_replicas(const struct load *load, char *text, size_t size, struct error *err)
{
    int64_t limit_s = load->migration->config->replica_lag_max_s;
    if (limit_s == 0)
        return true;
    PGresult *result = conn_query(load->migration->source, lag_sql, 0, NULL, err);
    if (result == NULL)
        return error_context(err, "looking at the source's standbys");
    int64_t lag_ms = PQntuples(result) > 0 ? result_int(result, 0, 1) : 0;
    if (is_over(load, lag_ms, limit_s * 1000))
        snprintf(text, size, "the source's standby %.63s replays %.1f s behind"
                             " (source_replica_lag_max: %llds)",
                 result_text(result, 0, 0), (double)lag_ms / 1000, (long long)limit_s);
    PQclear(result);
    return true;
}

static bool look_at_sessions(const struct load *load, char *text, size_t size, struct error *err)
{
    int limit = load->migration->config->source_active_max;
    if (limit == 0)
        return true;
    PGresult *result = conn_query_row(load->migration->source, active_sql, 0, NULL, err);
    if (result == NULL)
        return error_context(err, "looking at the source's sessions");
    int64_t active = result_int(result, 0, 0);
    if (is_over(load, active, limit))
        snprintf(text, size, "%lld sessions of others are active at the source"
                             " (source_active_max: %d)",
                 (long long)active, limit);
    PQclear(result);
    return true;
}

static bool record(struct load *load, const char *text, struct error *err)
{
    PGconn *control = load->migration->control;
    bool as_before = load->recorded && !waits(load) && text[0] == '\0';
    load->recorded = true;
    if (as_before)
        return true;
    return text[0] != '\0' ? setting_put(control, "copy_waits", text, err)
                           : setting_remove(control, "copy_waits", err);
}

static bool tell(struct load *load, struct copier *copier, const char *text, struct error *err)
{
    copier_pause(copier, text[0] != '\0');
    if (!waits(load) && text[0] != '\0') {
        load->since_us = clock_monotonic_us();
        log_info("the copy waits: %s", text);
    }
    if (waits(load) && text[0] == '\0')
        log_info("the copy goes on, after %.1f s",
                 (double)(clock_monotonic_us() - load->since_us) / 1e6);
    bool ok = record(load, text, err);
    snprintf(load->waits_for, sizeof load->waits_for, "%s", text);
    return ok;
}

bool load_watch(struct load *load, struct copier *copier, struct error *err)
{
    char text[sizeof load->waits_for] = "";
    int64_t now_us = clock_monotonic_us();
    if (now_us - load->looked_us < LOOK_US)
        return true;
    load->looked_us = now_us;
    return look_at_sessions(load, text, sizeof text, err) &&
           look_at_replicas(load, text, sizeof text, err) && tell(load, copier, text, err);
}

bool load_end(struct load *load, struct error *err)
{
    load->waits_for[0] = '\0';
    return setting_remove(load->migration->control, "copy_waits", err);
}
