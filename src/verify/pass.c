#include "verify/pass.h"

#include "pg/conn.h"
#include "util/clock.h"
#include "util/log.h"
#include "verify/checks.h"
#include "verify/compare.h"
#include "verify/judge.h"
#include "verify/kept.h"
#include "verify/narrow.h"
#include "verify/repair.h"
#include "verify/request.h"
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
    struct table_result result;
    struct ledger ledger;
    int64_t rows_of_interval;
};

struct pass {
    const struct config *config;
    const struct mapping_set *set;
    const struct verify_options *options;
    struct stop stop;
    struct stop *outer;
    struct throttle throttle;
    struct suspects suspects;
    struct kept kept;
    int64_t begun_us;
    pthread_mutex_t lock; /* guards what follows */
    struct table_pass *tables;
    unsigned tables_count;
    unsigned next;            /* the table of which intervals are given out */
    const char *const *lower; /* where its next interval begins */
    bool begun, at_end;       /* it has been begun; it has no further interval */
    struct arena arena;       /* of bounds */
    int64_t told_us;
};

struct interval {
    struct table_pass *table;
    struct ledger_interval *entry;
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
    if (!reading_by_intervals(table->result.mapping))
        return true;
    arena_init(&arena, 4096);
    PGresult *result = conn_query(
        session->source,
        reading_key_at(table->result.mapping, pass->lower, table->rows_of_interval, &arena), 0, NULL,
        err);
    arena_release(&arena);
    if (result == NULL)
        return error_context(err, "dividing %s", table->result.mapping->name);
    if (PQntuples(result) == 1)
        *upper = key_of(pass, table->result.mapping, result);
    PQclear(result);
    return true;
}

static bool is_over(const struct pass *pass, const struct table_pass *table)
{
    return table->result.skipped != NULL || table->ledger.complete || pass->at_end;
}

/* The table that is at work, from where an earlier run of the pass was; NULL when none is left. */
static struct table_pass *current_table(struct pass *pass)
{
    while (pass->next < pass->tables_count && is_over(pass, &pass->tables[pass->next])) {
        pass->next++;
        pass->begun = pass->at_end = false;
    }
    if (pass->next == pass->tables_count)
        return NULL;
    struct table_pass *table = &pass->tables[pass->next];
    if (!pass->begun)
        pass->lower = table->ledger.cursor;
    pass->begun = true;
    return table;
}

/* False when there is none left (class NONE), or on an error. */
static bool give_interval(struct pass *pass, struct session *session, struct interval *interval,
                          struct error *err)
{
    const char *const *upper;
    struct table_pass *table = current_table(pass);
    if (table == NULL || !find_upper(pass, session, table, &upper, err))
        return false;
    *interval = (struct interval){.table = table,
                                  .entry = ledger_give(&table->ledger, upper),
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

/* " about 12 min left", by what was read since this run began; empty when nothing can be said. */
static void put_time_left(const struct pass *pass, int64_t now_us, char *text, size_t size)
{
    double all = 0, done = 0, before = 0;
    text[0] = '\0';
    for (unsigned t = 0; t < pass->tables_count; t++) {
        const struct table_result *result = &pass->tables[t].result;
        double rows = (double)result->compared.source_rows;
        double estimate = (double)result->mapping->source->rows_estimate;
        if (result->skipped != NULL)
            continue;
        done += rows;
        before += (double)result->rows_before;
        all += pass->tables[t].ledger.complete || estimate < rows ? rows : estimate;
    }
    double seconds = (double)(now_us - pass->begun_us) / 1e6;
    if (done - before <= 0 || seconds < 5)
        return;
    double left = (all - done) * seconds / (done - before);
    if (left < 90)
        snprintf(text, size, ", about %.0f s left", left);
    else
        snprintf(text, size, ", about %.0f min left", left / 60);
}

static void show_progress(struct pass *pass)
{
    char line[256], left[64];
    int64_t now_us = clock_monotonic_us();
    if (!pass->options->progress || now_us - pass->told_us < PROGRESS_EVERY_US ||
        pass->next >= pass->tables_count)
        return;
    const struct table_result *table = &pass->tables[pass->next].result;
    pass->told_us = now_us;
    put_time_left(pass, now_us, left, sizeof left);
    snprintf(line, sizeof line, "verify: table %u of %u, %s: %llu rows, %u keys to judge%s",
             pass->next + 1, pass->tables_count, table->mapping->name,
             (unsigned long long)table->compared.source_rows, pass->suspects.count, left);
    log_set_status(line);
}

/* The interval is compared. The next one should take about INTERVAL_US. */
static void end_interval(struct pass *pass, const struct interval *interval,
                         const struct compared *compared, int64_t took_us)
{
    struct table_pass *table = interval->table;
    int64_t rows = took_us > 0 ? interval->rows * INTERVAL_US / took_us : ROWS_MOST;
    rows = rows > interval->rows * 2 ? interval->rows * 2 : rows;
    pthread_mutex_lock(&pass->lock);
    table->rows_of_interval = rows < ROWS_LEAST ? ROWS_LEAST : rows > ROWS_MOST ? ROWS_MOST : rows;
    compared_add(&table->result.compared, compared);
    ledger_end(&table->ledger, interval->entry, compared);
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
        const struct mapping *mapping = interval.table->result.mapping;
        if (!session_prepare(session, mapping, err) ||
            !compare_interval(session, mapping, interval.bounds, &pass->suspects, &compared, err))
            return false;
        end_interval(pass, &interval, &compared, clock_monotonic_us() - begun_us);
        if (!kept_write_if_due(&pass->kept, session->shards[0], &pass->lock, &pass->suspects, err))
            return false;
    }
    return err->class == ERROR_NONE;
}

static struct session session_of(struct pass *pass)
{
    return (struct session){.config = pass->config,
                            .set = pass->set,
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
        struct table_result *table = &pass->tables[t].result;
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

/* Pointers to what is found of each table, or to its mapping; by the pass's arena. */
static const struct table_result *const *results_of(struct pass *pass)
{
    const struct table_result **results =
        arena_alloc(&pass->arena, (pass->tables_count + 1) * sizeof *results);
    for (unsigned t = 0; t < pass->tables_count; t++)
        results[t] = &pass->tables[t].result;
    return results;
}

static const struct mapping *const *mappings_of(struct pass *pass)
{
    const struct mapping **mappings =
        arena_alloc(&pass->arena, (pass->tables_count + 1) * sizeof *mappings);
    for (unsigned t = 0; t < pass->tables_count; t++)
        mappings[t] = pass->tables[t].result.mapping;
    return mappings;
}

/* ---- where an earlier run was ---- */

static void tell_continued(const struct pass *pass)
{
    unsigned complete = 0;
    uint64_t rows = 0;
    for (unsigned t = 0; t < pass->tables_count; t++) {
        complete += pass->kept.tables[t].complete_before;
        rows += pass->kept.tables[t].before.source_rows;
    }
    log_info("the pass that was begun at %s goes on: %u of %u tables and %llu rows are done",
             pass->kept.begun_at, complete, pass->tables_count, (unsigned long long)rows);
}

static bool take_up(struct pass *pass, struct session *session, struct error *err)
{
    struct kept *kept = &pass->kept;
    if (pass->options->kept_as == NULL)
        return true;
    for (unsigned t = 0; t < pass->tables_count; t++) {
        kept->tables[t].mapping = pass->tables[t].result.mapping;
        kept->tables[t].ledger = &pass->tables[t].ledger;
    }
    const char *request = request_of(session, mappings_of(pass), pass->tables_count, &pass->arena);
    if (!kept_begin(kept, session->shards[0], request, pass->options->fresh, &pass->arena,
                    &pass->suspects, err))
        return false;
    if (!kept->on)
        log_info("this pass cannot go on after a restart: %s", kept->why);
    for (unsigned t = 0; t < pass->tables_count; t++) {
        pass->tables[t].result.compared = kept->tables[t].before;
        pass->tables[t].result.rows_before = kept->tables[t].before.source_rows;
    }
    if (kept->continued)
        tell_continued(pass);
    return true;
}

/* ---- the end of it ---- */

/* Counts that were not taken at one moment prove nothing, so that they differ decides nothing. */
static bool counts_differ(const struct pass *pass)
{
    for (unsigned t = 0; pass->options->counts && t < pass->tables_count; t++) {
        const struct table_result *table = &pass->tables[t].result;
        uint64_t copies = table->mapping->everywhere ? pass->config->shards_count : 1;
        if (table->compared.source_rows * copies != table->compared.target_rows)
            return true;
    }
    return false;
}

static void report(struct pass *pass, const struct judgement *judgement, json_t *checks,
                   uint64_t checks_wrong, struct verification *verification)
{
    const struct findings_of_pass findings = {.tables = results_of(pass),
                                              .tables_count = pass->tables_count,
                                              .judgement = judgement,
                                              .kept = &pass->kept,
                                              .checks = checks,
                                              .checks_wrong = checks_wrong,
                                              .counts_differ = counts_differ(pass),
                                              .took_us = clock_monotonic_us() - pass->begun_us};
    report_make(&findings, verification);
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
                     !report_any_skipped(results_of(pass), pass->tables_count);
        if (equal)
            report_set_outcome(verification, OUTCOME_EQUAL);
    }
    judgement_release(&again);
    return ok;
}

/* In place of the exact pass: rows or counts, table by table. */
static bool run_quick(struct pass *pass, struct session *session, struct error *err)
{
    for (unsigned t = 0; t < pass->tables_count; t++) {
        struct table_result *table = &pass->tables[t].result;
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

static bool repair_dry_run(struct session *session, const struct judgement *judgement,
                           struct verification *verification, struct error *err)
{
    uint64_t count;
    if (!repair_dry(session, judgement, &count, err))
        return false;
    json_object_set_new(verification->report, "would_repair", json_integer((json_int_t)count));
    return true;
}

/* What was found is told, also when it could not be repaired. */
static void repair_or_tell(struct pass *pass, struct session *session, struct judgement *judgement,
                           uint64_t checks_wrong, struct verification *verification)
{
    struct error err = ERROR_INIT;
    bool ok = pass->options->dry_run
                  ? repair_dry_run(session, judgement, verification, &err)
                  : repair_and_judge(pass, session, judgement, checks_wrong, verification, &err);
    if (ok)
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
        if (pass->tables[t].result.skipped == NULL)
            tables[count++] = pass->tables[t].result.mapping;
    }
    bool ok = count == 0 || checks_run(session, tables, count, found, wrong, &undecided, err);
    judgement->undecided += undecided;
    free(tables);
    return ok;
}

/* Reads both sides; afterwards all that differed are suspects. */
static bool read_all(struct pass *pass, struct session *session, struct error *err)
{
    return take_up(pass, session, err) && run_workers(pass, err) &&
           kept_write(&pass->kept, session->shards[0], &pass->lock, &pass->suspects, err);
}

static bool run_pass(struct pass *pass, struct verification *verification, struct error *err)
{
    struct session session = session_of(pass);
    struct judgement judgement;
    session.writes = pass->options->repair;
    pass->begun_us = clock_monotonic_us();
    if (!session_open(&session, err))
        return false;
    for (unsigned t = 0; session.switches > 0 && t < pass->tables_count; t++)
        pass->tables[t].result.mapping = narrow(pass->tables[t].result.whole, &pass->arena);
    json_t *checks = json_array();
    uint64_t checks_wrong = 0;
    judgement_init(&judgement);
    bool quick = pass->options->counts || pass->options->sample > 0;
    bool ok = skip_unfinished(pass, &session, err) &&
              (quick ? run_quick(pass, &session, err) : read_all(pass, &session, err)) &&
              judge(&session, &pass->suspects, &judgement, err) &&
              (quick || run_checks(pass, &session, checks, &checks_wrong, &judgement, err));
    if (ok)
        report(pass, &judgement, checks, checks_wrong, verification);
    if (ok && pass->options->repair && judgement.different > 0)
        repair_or_tell(pass, &session, &judgement, checks_wrong, verification);
    struct error forgetting = ERROR_INIT;
    if (ok && !kept_end(&pass->kept, session.shards[0], &forgetting))
        log_error_as(LOG_WARNING, &forgetting);
    json_decref(checks);
    judgement_release(&judgement);
    session_close(&session);
    return ok;
}

/* As many as the rate lets through in the time that an interval should take. */
static int64_t rows_first(const struct pass *pass, const struct relation *source)
{
    int64_t bytes = pass->options->rate_max * INTERVAL_US / 1000000;
    if (pass->options->rate_max == 0)
        return ROWS_FIRST;
    int64_t row_bytes = source->rows_estimate > 0 ? source->bytes / source->rows_estimate : 0;
    int64_t rows = row_bytes > 0 ? bytes / row_bytes : ROWS_LEAST;
    return rows < ROWS_LEAST ? ROWS_LEAST : rows > ROWS_FIRST ? ROWS_FIRST : rows;
}

static void begin_tables(struct pass *pass, const struct mapping *const *tables)
{
    const struct compared nothing = {0};
    pass->tables = check_calloc(pass->tables_count + 1, sizeof *pass->tables);
    for (unsigned t = 0; t < pass->tables_count; t++) {
        pass->tables[t] = (struct table_pass){
            .result = {.mapping = tables[t], .whole = tables[t]}, .rows_of_interval = rows_first(pass, tables[t]->source)};
        ledger_init(&pass->tables[t].ledger, NULL, false, &nothing);
    }
}

static void end_tables(struct pass *pass)
{
    for (unsigned t = 0; t < pass->tables_count; t++) {
        json_decref(pass->tables[t].result.shard_rows);
        ledger_release(&pass->tables[t].ledger);
    }
    free(pass->tables);
}

bool verify_tables(const struct config *config, const struct mapping_set *set,
                   const struct mapping *const *tables, unsigned tables_count,
                   const struct verify_options *options, struct stop *stop,
                   struct verification *verification, struct error *err)
{
    struct pass pass = {.config = config,
                        .set = set,
                        .options = options,
                        .outer = stop,
                        .tables_count = tables_count};
    stop_init(&pass.stop);
    throttle_init(&pass.throttle, options->rate_max);
    suspects_init(&pass.suspects);
    kept_init(&pass.kept, tables_count);
    pthread_mutex_init(&pass.lock, NULL);
    arena_init(&pass.arena, 64 * 1024);
    begin_tables(&pass, tables);
    bool ok = run_pass(&pass, verification, err);
    end_tables(&pass);
    arena_release(&pass.arena);
    pthread_mutex_destroy(&pass.lock);
    kept_release(&pass.kept);
    suspects_release(&pass.suspects);
    throttle_release(&pass.throttle);
    stop_release(&pass.stop);
    return ok;
}
