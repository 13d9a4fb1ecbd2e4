#include "run/proof.h"

#include "pg/conn.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    PATIENCE_US = 120 * 1000 * 1000,
    AGAIN_US = 60 * 1000 * 1000, /* after a pass that failed */
};

struct proof {
    const struct migration *migration;
    struct stop *stop;
    struct arena arena;
    const struct mapping *const *tables;
    pthread_t thread;
};

/* ---- what is kept ---- */

static const char record_sql[] =
    "WITH report AS (SELECT $1::jsonb AS r),"
    "     emptied AS (DELETE FROM portage.difference),"
    "     filled AS (INSERT INTO portage.difference (table_name, kind, key, shards, columns)"
    "                SELECT d->>'table', d->>'kind', d->'key', d->'shards', d->'columns'"
    "                  FROM report, pg_catalog.jsonb_array_elements(r->'differences') AS d)"
    " INSERT INTO portage.setting (name, value)"
    " SELECT 'verify', (r - 'differences' - 'tables'"
    "          || pg_catalog.jsonb_build_object('at', pg_catalog.clock_timestamp()))::text"
    "   FROM report"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value";

bool proof_record(PGconn *control, const struct verification *verification, struct error *err)
{
    char *text = json_dumps(verification->report, 0);
    CHECK(text != NULL);
    const char *const values[] = {text};
    PGresult *result = conn_query(control, record_sql, 1, values, err);
    free(text);
    PQclear(result);
    return result != NULL || error_context(err, "keeping the result of verify");
}

/* All mappings of the set, as verify_tables() takes them. */
static const struct mapping *const *all_tables(const struct mapping_set *set, struct arena *arena)
{
    const struct mapping **tables = arena_alloc(arena, (set->count + 1) * sizeof *tables);
    for (unsigned m = 0; m < set->count; m++)
        tables[m] = &set->mappings[m];
    return tables;
}

/* ---- again and again ---- */

/* How long until the next pass is due. */
static bool until_due(const struct config *config, PGconn *control, int64_t *wait_us,
                      struct error *err)
{
    PGresult *result = conn_query_row(
        control,
        "SELECT COALESCE((SELECT EXTRACT(epoch FROM pg_catalog.clock_timestamp()"
        "   - (value::jsonb->>'at')::timestamptz) FROM portage.setting WHERE name = 'verify'),"
        " 1e9)::bigint",
        0, NULL, err);
    if (result == NULL)
        return false;
    int64_t left_s = config->verify_every_s - result_int(result, 0, 0);
    PQclear(result);
    *wait_us = left_s > 0 ? left_s * 1000000 : 0;
    return true;
}

static void tell(const struct verification *verification)
{
    static const char *const names[] = {"equal", "different", "undecided"};
    json_int_t different = json_integer_value(json_object_get(verification->report, "different"));
    double seconds = json_real_value(json_object_get(verification->report, "seconds"));
    if (verification->outcome == OUTCOME_EQUAL)
        log_info("verify: both sides are equal (%.0f s)", seconds);
    else
        log_warning("verify: %s, %lld keys differ (%.0f s); portage.difference names them",
                    names[verification->outcome], (long long)different, seconds);
}

static bool pass_once(struct proof *proof, PGconn *control, struct error *err)
{
    const struct config *config = proof->migration->config;
    struct verification verification;
    struct verify_options options = {
        .workers = 1, .rate_max = config->verify_rate_max, .patience_us = PATIENCE_US, .kept_as = "run"};
    if (!verify_tables(config, &proof->migration->set, proof->tables, proof->migration->set.count,
                       &options, proof->stop, &verification, err))
        return false;
    tell(&verification);
    bool ok = proof_record(control, &verification, err);
    json_decref(verification.report);
    return ok;
}

static bool prove(struct proof *proof, struct error *err)
{
    int64_t wait_us;
    const struct config *config = proof->migration->config;
    PGconn *control = conn_open(config->shards[0].text, CONN_SESSION, "verify", err);
    bool ok = control != NULL;
    while (ok && !stop_requested(proof->stop)) {
        ok = until_due(config, control, &wait_us, err);
        if (ok && !stop_wait(proof->stop, wait_us))
            ok = pass_once(proof, control, err);
    }
    conn_close(control);
    return ok;
}

static void *proof_main(void *argument)
{
    struct proof *proof = argument;
    log_set_subject("verify");
    while (!stop_requested(proof->stop)) {
        struct error err = ERROR_INIT;
        if (prove(proof, &err) || err.class == ERROR_CANCELLED)
            continue;
        log_error_as(LOG_WARNING, &err);
        stop_wait(proof->stop, AGAIN_US);
    }
    return NULL;
}

struct proof *proof_start(const struct migration *migration, struct stop *stop)
{
    struct proof *proof = check_calloc(1, sizeof *proof);
    proof->migration = migration;
    proof->stop = stop;
    arena_init(&proof->arena, 4096);
    proof->tables = all_tables(&migration->set, &proof->arena);
    CHECK(pthread_create(&proof->thread, NULL, proof_main, proof) == 0);
    return proof;
}

void proof_end(struct proof *proof)
{
    if (proof == NULL)
        return;
    pthread_join(proof->thread, NULL);
    arena_release(&proof->arena);
    free(proof);
}
