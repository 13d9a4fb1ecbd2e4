#include "verify/pass.h"

#include "pg/conn.h"
#include "util/clock.h"
#include "util/log.h"
#include "verify/checks.h"
#include "verify/compare.h"
#include "verify/judge.h"
#include "verify/narrow.h"
#include "verify/repair.h"
#include "verify/sample.h"

enum {
    INTERVAL_US = 500 * 1000, /* aimed at */
    ROWS_FIRST = 20 * 1000,
    ROWS_LEAST = 1000,
    ROWS_MOST = 500 * 1000,
    PROGRESS_EVERY_US = 1000 * 1000,
};

/* One table's part of the pass. */
struct table_pass {
    const struct mapping *mapping;
    struct compared compared;
    int64_t rows_of_interval;
    const char *skipped; /* why it was not looked at; NULL */
    json_t *shard_rows;  /* counted, by shard; NULL */
};

struct pass {
    const struct config *config;
    const struct verify_options *options;
    struct stop stop;
    struct stop *outer;
    struct throttle throttle;
    struct suspects suspects;
    pthread_mutex_t lock; /* guards what follows */
    struct table_pass *tables;
    unsigned tables_count;
    unsigned next;            /* the table of which intervals are given out */
    const char *const *lower; /* where its next interval begins */
    bool at_end;              /* it has no further interval */
    struct arena arena;       /* of bounds */
    int64_t told_us;
};

struct interval {
    struct table_pass *table;
    struct bounds bounds;
    int64_t rows; /* wanted */
};

/* ---- intervals ---- */

static const char *const *key_of(struct pass *pass, const struct mapping *mapping,
                                 const PGresult *result)
{
    const char **key = arena_alloc(&pass->arena, mapping->range_count * sizeof *key);
    for (unsigned k = 0; k < mapping->range_count; k++)
        key[k] = arena_strdup(&pass->arena, result_text(result, 0, (int)k));
    return key;
}

/* The upper end of the interval that begins at pass->lower; NULL is the table's end. */
static bool find_upper(struct pass *pass, struct session *session, struct table_pass *table,
                       const char *const **upper, struct error *err)
{
    struct arena arena;
    *upper = NULL;
    if (!reading_by_intervals(table->mapping))
        return true;
    arena_init(&arena, 4096);
    PGresult *result = conn_query(
        session->source,
        reading_key_at(table->mapping, pass->lower, table->rows_of_interval, &arena), 0, NULL, err);
    arena_release(&arena);
    if (result == NULL)
        return error_context(err, "dividing %s", table->mapping->name);
    if (PQntuples(result) == 1)
        *upper = key_of(pass, table->mapping, result);
    PQclear(result);
    return true;
}

/* False when there is none left (class NONE), or on an error. */
static bool give_interval(struct pass *pass, struct session *session, struct interval *interval,
                          struct error *err)
{
    const char *const *upper;
    while (pass->next < pass->tables_count &&
           (pass->at_end || pass->tables[pass->next].skipped != NULL)) {
        pass->next++;
        pass->lower = NULL;
        pass->at_end = false;
    }
    if (pass->next == pass->tables_count)
        return false;
    struct table_pass *table = &pass->tables[pass->next];
    if (!find_upper(pass, session, table, &upper, err))
        return false;
    *interval = (struct interval){.table = table,
                                  .bounds = {.lower = pass->lower, .upper = upper},
                                  .rows = table->rows_of_interval};
    pass->lower = upper;
    pass->at_end = upper == NULL;
    return true;
}

static bool next_interval(struct pass *pass, struct session *session, struct interval *interval,
                          struct error *err)
{
    pthread_mutex_lock(&pass->lock);
    bool ok = give_interval(pass, session, interval, err);
    pthread_mutex_unlock(&pass->lock);
    return ok;
}

static void show_progress(struct pass *pass)
{
    char line[256];
    int64_t now_us = clock_monotonic_us();
    if (!pass->options->progress || now_us - pass->told_us < PROGRESS_EVERY_US ||
        pass->next >= pass->tables_count)
        return;
    const struct table_pass *table = &pass->tables[pass->next];
    pass->told_us = now_us;
    snprintf(line, sizeof line, "verify: table %u of %u, %s: %llu rows, %u keys to judge",
             pass->next + 1, pass->tables_count, table->mapping->name,
             (unsigned long long)table->compared.source_rows, pass->suspects.count);
    log_set_status(line);
}

/* The next interval should take about INTERVAL_US. */
static void learn(struct pass *pass, const struct interval *interval,
                  const struct compared *compared, int64_t took_us)
{
    struct table_pass *table = interval->table;
    int64_t rows = took_us > 0 ? interval->rows * INTERVAL_US / took_us : ROWS_MOST;
    rows = rows > interval->rows * 2 ? interval->rows * 2 : rows;
    pthread_mutex_lock(&pass->lock);
    table->rows_of_interval = rows < ROWS_LEAST ? ROWS_LEAST : rows > ROWS_MOST ? ROWS_MOST : rows;
    table->compared.source_rows += compared->source_rows;
    table->compared.target_rows += compared->target_rows;
    table->compared.bytes += compared->bytes;
    show_progress(pass);
    pthread_mutex_unlock(&pass->lock);
}

/* ---- workers ---- */

static bool work(struct pass *pass, struct session *session, struct error *err)
{
    struct interval interval;
    while (!session_stopped(session) && next_interval(pass, session, &interval, err)) {
        struct compared compared = {0};
        int64_t begun_us = clock_monotonic_us();
        if (!session_prepare(session, interval.table->mapping, err) ||
            !compare_interval(session, interval.table->mapping, interval.bounds, &pass->suspects,
                              &compared, err))
            return false;
        learn(pass, &interval, &compared, clock_monotonic_us() - begun_us);
    }
    return err->class == ERROR_NONE;
}

static struct session session_of(struct pass *pass)
{
    return (struct session){.config = pass->config,
                            .options = pass->options,
                            .stop = &pass->stop,
                            .outer = pass->outer,
                            .throttle = &pass->throttle};
}

static void *worker_main(void *argument)
{
    struct pass *pass = argument;
    struct session session = session_of(pass);
    struct error err = ERROR_INIT;
    log_set_subject("verify");
    bool ok = session_open(&session, &err) && work(pass, &session, &err);
    session_close(&session);
    if (!ok)
        stop_fail(&pass->stop, &err);
    return NULL;
}

static bool run_workers(struct pass *pass, struct error *err)
{
    unsigned count = (unsigned)pass->options->workers;
    pthread_t *threads = check_calloc(count, sizeof *threads);
    for (unsigned w = 0; w < count; w++)
        CHECK(pthread_create(&threads[w], NULL, worker_main, pass) == 0);
    for (unsigned w = 0; w < count; w++)
        pthread_join(threads[w], NULL);
    free(threads);
    if (pass->options->progress)
        log_set_status("");
    if (pass->stop.err.class != ERROR_NONE) {
        *err = pass->stop.err;
        return false;
    }
    return !stop_requested(pass->outer) || stop_error(err);
}

/* ---- what can be looked at ---- */

static bool all_copied(PGconn *shard, const struct mapping *mapping, bool *copied,
                       struct error *err)
{
    const char *const values[] = {mapping->name};
    PGresult *result = conn_query_row(
        shard,
        "SELECT COALESCE(pg_catalog.bool_and(done), false) FROM portage.range WHERE mapping = $1",
        1, values, err);
    if (result == NULL)
        return error_hint(err, "Run \"pgportage run\" first.");
    *copied = result_bool(result, 0, 0);
    PQclear(result);
    return true;
}

/* Whether `run` has taken up every partition that the source's table has by now. */
static bool all_taken_up(PGconn *control, const struct mapping *mapping, bool *taken_up,
                         struct error *err)
{
    struct buffer oids;
    buffer_init(&oids, 1 << 20);
    buffer_putc(&oids, '{');
    for (unsigned l = 0; l < mapping->source->leaves_count; l++)
        buffer_printf(&oids, "%s%u", l > 0 ? "," : "", mapping->source->leaves[l].oid);
    buffer_putc(&oids, '}');
    const char *const values[] = {buffer_text(&oids)};
    PGresult *result = conn_query_row(
        control,
        "SELECT NOT EXISTS (SELECT FROM pg_catalog.unnest($1::oid[]) AS here(leaf)"
        "   WHERE NOT EXISTS (SELECT FROM portage.leaf l WHERE l.leaf = here.leaf AND l.published))",
        1, values, err);
    buffer_release(&oids);
    if (result == NULL)
        return false;
    *taken_up = result_bool(result, 0, 0);
    PQclear(result);
    return true;
}

/* Tables that are still being copied are left out, and said to be. */
static bool skip_unfinished(struct pass *pass, struct session *session, struct error *err)
{
    for (unsigned t = 0; t < pass->tables_count; t++) {
        struct table_pass *table = &pass->tables[t];
        bool ready = true;
        for (unsigned s = 0; ready && s < session->shards_count; s++) {
            if (!all_copied(session->shards[s], table->mapping, &ready, err))
                return false;
        }
        if (!ready)
            table->skipped = "it is still being copied";
        else if (!all_taken_up(session->shards[0], table->mapping, &ready, err))
            return false;
        else if (!ready)
            table->skipped = "a new partition of it waits to be carried";
    }
    return true;
}

/* ---- the report ---- */

static uint64_t differences_of(const struct judgement *judgement, const struct mapping *mapping)
{
    uint64_t count = 0;
    for (const struct suspect *guilty = judgement->guilty; guilty != NULL; guilty = guilty->next)
        count += guilty->mapping == mapping;
    return count;
}

static json_t *report_tables(const struct pass *pass, const struct judgement *judgement)
{
    json_t *tables = json_array();
    for (unsigned t = 0; t < pass->tables_count; t++) {
        const struct table_pass *table = &pass->tables[t];
        const char *name = table->mapping->name;
        json_t *object = json_pack("{s:s, s:I, s:I, s:I}", "name", name, "source_rows",
                                   (json_int_t)table->compared.source_rows, "target_rows",
                                   (json_int_t)table->compared.target_rows, "differences",
                                   (json_int_t)differences_of(judgement, table->mapping));
        if (table->skipped != NULL)
            json_object_set_new(object, "skipped", json_string(table->skipped));
        if (table->shard_rows != NULL)
            json_object_set(object, "shard_rows", table->shard_rows);
        json_array_append_new(tables, object);
    }
    return tables;
}

static bool any_skipped(const struct pass *pass)
{
    for (unsigned t = 0; t < pass->tables_count; t++) {
        if (pass->tables[t].skipped != NULL)
            return true;
    }
    return false;
}

static void set_outcome(struct verification *verification, enum outcome outcome)
{
    static const char *const names[] = {"equal", "different", "undecided"};
    verification->outcome = outcome;
    json_object_set_new(verification->report, "outcome", json_string(names[outcome]));
}

/* Counts that were not taken at one moment prove nothing, so that they differ decides nothing. */
static bool counts_differ(const struct pass *pass)
{
    for (unsigned t = 0; pass->options->counts && t < pass->tables_count; t++) {
        const struct table_pass *table = &pass->tables[t];
        uint64_t copies = table->mapping->everywhere ? pass->config->shards_count : 1;
        if (table->compared.source_rows * copies != table->compared.target_rows)
            return true;
    }
    return false;
}

static void report(const struct pass *pass, const struct judgement *judgement, json_t *checks,
                   uint64_t checks_wrong, int64_t took_us, struct verification *verification)
{
    bool undecided = judgement->undecided > 0 || any_skipped(pass) || counts_differ(pass);
    enum outcome outcome = judgement->different > 0 || checks_wrong > 0 ? OUTCOME_DIFFERENT
                           : undecided                                  ? OUTCOME_UNDECIDED
                                                                        : OUTCOME_EQUAL;
    verification->report = json_pack(
        "{s:s, s:f, s:I, s:I, s:I, s:s, s:o, s:O, s:O}", "outcome", "", "seconds",
        (double)took_us / 1e6, "in_flight", (json_int_t)judgement->equal, "different",
        (json_int_t)judgement->different, "undecided", (json_int_t)judgement->undecided,
        "why_undecided", judgement->why_undecided, "tables", report_tables(pass, judgement),
        "checks", checks, "differences", judgement->differences);
    CHECK(verification->report != NULL);
    set_outcome(verification, outcome);
}

/* What was wrong is brought right and looked at again; the report keeps what was found first. */
static bool repair_and_judge(struct pass *pass, struct session *session, struct judgement *first,
                             uint64_t checks_wrong, struct verification *verification,
                             struct error *err)
{
    struct judgement again;
    uint64_t repaired;
    judgement_init(&again);
    bool ok = repair(session, first, &pass->suspects, &repaired, err) &&
              judge(session, &pass->suspects, &again, err);
    if (ok) {
        json_object_set_new(verification->report, "repaired", json_integer((json_int_t)repaired));
        json_object_set_new(verification->report, "left",
                            json_integer((json_int_t)(again.different + again.undecided)));
        bool equal = again.different + again.undecided + checks_wrong + first->undecided == 0 &&
                     !any_skipped(pass);
        if (equal)
            set_outcome(verification, OUTCOME_EQUAL);
    }
    judgement_release(&again);
    return ok;
}

/* In place of the exact pass: rows or counts, table by table. */
static bool run_quick(struct pass *pass, struct session *session, struct error *err)
{
    for (unsigned t = 0; t < pass->tables_count; t++) {
        struct table_pass *table = &pass->tables[t];
        if (stop_requested(pass->outer))
            return stop_error(err);
        if (table->skipped != NULL)
            continue;
        if (pass->options->counts)
            table->shard_rows = json_array();
        bool ok =
            pass->options->counts
                ? count_table(session, table->mapping, &table->compared, table->shard_rows, err)
                : session_prepare(session, table->mapping, err) &&
                      sample_table(session, table->mapping, pass->options->sample, &pass->suspects,
                                   &table->compared, err);
        if (!ok)
            return false;
    }
    return true;
}

/* What was found is told, also when it could not be repaired. */
static void repair_or_tell(struct pass *pass, struct session *session, struct judgement *judgement,
                           uint64_t checks_wrong, struct verification *verification)
{
    struct error err = ERROR_INIT;
    if (repair_and_judge(pass, session, judgement, checks_wrong, verification, &err))
        return;
    log_error(&err);
    json_object_set_new(verification->report, "repair_failed", json_string(err.message));
}

/* Of the tables that were looked at. */
static bool run_checks(struct pass *pass, struct session *session, json_t *found, uint64_t *wrong,
                       struct judgement *judgement, struct error *err)
{
    uint64_t undecided = 0;
    const struct mapping **tables = check_calloc(pass->tables_count + 1, sizeof *tables);
    unsigned count = 0;
    for (unsigned t = 0; t < pass->tables_count; t++) {
        if (pass->tables[t].skipped == NULL)
            tables[count++] = pass->tables[t].mapping;
    }
    bool ok = count == 0 || checks_run(session, tables, count, found, wrong, &undecided, err);
    judgement->undecided += undecided;
    free(tables);
    return ok;
}

static bool run_pass(struct pass *pass, struct verification *verification, struct error *err)
{
    struct session session = session_of(pass);
    struct judgement judgement;
    session.writes = pass->options->repair;
    int64_t begun_us = clock_monotonic_us();
    if (!session_open(&session, err))
        return false;
    for (unsigned t = 0; session.target_was_live && t < pass->tables_count; t++)
        pass->tables[t].mapping = narrow(pass->tables[t].mapping, &pass->arena);
    json_t *checks = json_array();
    uint64_t checks_wrong = 0;
    judgement_init(&judgement);
    bool quick = pass->options->counts || pass->options->sample > 0;
    bool ok = skip_unfinished(pass, &session, err) &&
              (quick ? run_quick(pass, &session, err) : run_workers(pass, err)) &&
              judge(&session, &pass->suspects, &judgement, err) &&
              (quick || run_checks(pass, &session, checks, &checks_wrong, &judgement, err));
    if (ok)
        report(pass, &judgement, checks, checks_wrong, clock_monotonic_us() - begun_us,
               verification);
    if (ok && pass->options->repair && !pass->options->dry_run && judgement.different > 0)
        repair_or_tell(pass, &session, &judgement, checks_wrong, verification);
    json_decref(checks);
    judgement_release(&judgement);
    session_close(&session);
    return ok;
}

bool verify_tables(const struct config *config, const struct mapping *const *tables,
                   unsigned tables_count, const struct verify_options *options, struct stop *stop,
                   struct verification *verification, struct error *err)
{
    struct pass pass = {
        .config = config, .options = options, .outer = stop, .tables_count = tables_count};
    stop_init(&pass.stop);
    throttle_init(&pass.throttle, options->rate_max);
    suspects_init(&pass.suspects);
    pthread_mutex_init(&pass.lock, NULL);
    arena_init(&pass.arena, 64 * 1024);
    pass.tables = check_calloc(tables_count, sizeof *pass.tables);
    for (unsigned t = 0; t < tables_count; t++)
        pass.tables[t] = (struct table_pass){.mapping = tables[t], .rows_of_interval = ROWS_FIRST};
    bool ok = run_pass(&pass, verification, err);
    for (unsigned t = 0; t < tables_count; t++)
        json_decref(pass.tables[t].shard_rows);
    free(pass.tables);
    arena_release(&pass.arena);
    pthread_mutex_destroy(&pass.lock);
    suspects_release(&pass.suspects);
    throttle_release(&pass.throttle);
    stop_release(&pass.stop);
    return ok;
}
