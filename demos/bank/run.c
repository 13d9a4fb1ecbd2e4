#include "run.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>

#include "db.h"
#include "util/clock.h"
#include "writer.h"

enum { LARGE_CLIENT = 999, CLIENTS_PER_SEED = 1000 };

struct run {
    const struct run_options *options;
    char *dsns[SHARDS_MAX];
    unsigned writers_count; /* with the one of large transactions */
    struct writer *writers;
    struct ack *ack;
    struct stats *stats;
    struct stop stop;
};

/* The template with each {shard} replaced. */
static char *dsn_of(const struct run_options *options, unsigned shard)
{
    if (!options->dsn_template)
        return check_strdup(options->source);
    static const char mark[] = "{shard}";
    struct buffer dsn;
    buffer_init(&dsn, 64 * 1024);
    const char *at = options->dsn_template;
    for (const char *next; (next = strstr(at, mark)); at = next + strlen(mark)) {
        buffer_append(&dsn, at, (size_t)(next - at));
        buffer_printf(&dsn, "%u", shard);
    }
    buffer_puts(&dsn, at);
    return buffer_detach(&dsn);
}

static void prepare_writer(struct run *run, unsigned index)
{
    const struct run_options *options = run->options;
    struct writer *writer = &run->writers[index];
    bool large = index == options->writers;
    int number = large ? LARGE_CLIENT : (int)index;

    writer->ack = run->ack;
    writer->stats = run->stats;
    writer->stop = &run->stop;
    writer->client.id = (int)options->seed * CLIENTS_PER_SEED + number;
    writer->client.seq = 1;
    writer->client.shards = options->shards;
    writer->client.dice.state = (uint64_t)writer->client.id;
    writer->large_rows = options->large_rows;
    if (large)
        writer->large_every_us = (int64_t)(options->large_every * 1e6);
    if (options->rate > 0)
        writer->us_per_change = 1e6 * options->writers / options->rate;
    for (unsigned i = 0; i < options->shards; i++)
        writer->sessions[i] = (struct session){.dsn = run->dsns[i], .stop = &run->stop};
}

/* A client that was here before goes on behind its last number, wherever that is. */
static bool continue_client(struct client *client, PGconn *conn, struct error *err)
{
    char sql[64];
    int64_t last;
    snprintf(sql, sizeof(sql), "SELECT public.bank_last(%d)", client->id);
    if (!db_int(conn, sql, &last, err))
        return false;
    if (last >= client->seq)
        client->seq = last + 1;
    return true;
}

static bool ask_database(struct run *run, const char *dsn, struct error *err)
{
    int64_t customers = 0;
    PGconn *conn = db_open(dsn, err);
    bool good = conn && db_int(conn, "SELECT public.bank_customers()", &customers, err);
    for (unsigned i = 0; good && i < run->writers_count; i++) {
        struct client *client = &run->writers[i].client;
        if (customers > client->customers)
            client->customers = customers;
        good = continue_client(client, conn, err);
    }
    PQfinish(conn);
    return good;
}

static bool prepare(struct run *run, struct error *err)
{
    const struct run_options *options = run->options;
    for (unsigned i = 0; i < options->shards; i++)
        run->dsns[i] = dsn_of(options, i);
    run->writers_count = options->writers + (options->large_every > 0);
    run->writers = check_calloc(run->writers_count, sizeof(*run->writers));
    for (unsigned i = 0; i < run->writers_count; i++)
        prepare_writer(run, i);
    for (unsigned i = 0; i < options->shards; i++)
        if (!ask_database(run, run->dsns[i], err))
            return error_context(err, "database name %u", i);
    if (run->writers[0].client.customers < 20)
        return error_set(err, ERROR_CONFIG, "the bank has no customers") ||
               error_hint(err, "Run bank load first.");
    return true;
}

static void show_second(struct run *run, int64_t second, struct stats_counts *before)
{
    struct stats_counts now;
    struct histogram latencies;
    stats_take_second(run->stats, &now, &latencies);
    if (run->options->progress)
        fprintf(stderr,
                "%4" PRId64 " s %6" PRIu64 " changes/s  p50 %6.2f ms  p99 %7.2f ms  max %7.2f ms"
                "  errors %" PRIu64 "\n",
                second, now.changes - before->changes,
                (double)histogram_quantile_us(&latencies, 0.5) / 1e3,
                (double)histogram_quantile_us(&latencies, 0.99) / 1e3,
                (double)latencies.max_us / 1e3, now.errors - before->errors);
    *before = now;
}

/* Sleeps to the next second; true when a signal came instead. The signals are blocked. */
static bool wait_for_signal(const sigset_t *signals, int64_t until_us)
{
    int64_t left_us = until_us - clock_monotonic_us();
    if (left_us < 0)
        left_us = 0;
    struct timespec timeout = {.tv_sec = left_us / 1000000, .tv_nsec = left_us % 1000000 * 1000};
    return sigtimedwait(signals, NULL, &timeout) > 0;
}

static void watch(struct run *run, const sigset_t *signals, int64_t begun_us)
{
    struct stats_counts before = {0};
    int64_t end_us = begun_us + (int64_t)(run->options->seconds * 1e6);
    bool ended = false;
    for (int64_t second = 1; !ended; second++) {
        int64_t until_us = begun_us + second * 1000000;
        if (run->options->seconds > 0 && until_us > end_us)
            until_us = end_us;
        ended =
            wait_for_signal(signals, until_us) || (run->options->seconds > 0 && until_us >= end_us);
        show_second(run, second, &before);
        ack_flush(run->ack);
    }
    stop_request(&run->stop);
}

static bool print_json(const struct run *run, double seconds, struct error *err)
{
    if (!run->options->json)
        return true;
    FILE *out = fopen(run->options->json, "we");
    if (!out)
        return error_set(err, ERROR_CONFIG, "could not open \"%s\": %s", run->options->json,
                         strerror(errno));
    stats_print_json(run->stats, out, seconds);
    if (fclose(out) != 0)
        return error_set(err, ERROR_CONFIG, "could not write \"%s\": %s", run->options->json,
                         strerror(errno));
    return true;
}

static bool work(struct run *run, struct error *err)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before the threads, which inherit it */

    pthread_t *threads = check_calloc(run->writers_count, sizeof(*threads));
    int64_t begun_us = clock_monotonic_us();
    for (unsigned i = 0; i < run->writers_count; i++)
        CHECK(pthread_create(&threads[i], NULL, writer_main, &run->writers[i]) == 0);
    watch(run, &signals, begun_us);
    double seconds = (double)(clock_monotonic_us() - begun_us) / 1e6;
    for (unsigned i = 0; i < run->writers_count; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    stats_print(run->stats, stdout, seconds);
    return print_json(run, seconds, err);
}

bool run_run(const struct run_options *options, struct error *err)
{
    struct run run = {.options = options, .stats = stats_new()};
    stop_init(&run.stop);
    run.ack = ack_open(options->ack, err);
    bool good = run.ack && prepare(&run, err) && work(&run, err);
    if (run.ack) {
        struct error second = ERROR_INIT;
        if (!ack_close(run.ack, &second) && good) {
            *err = second;
            good = false;
        }
    }
    free(run.writers);
    for (unsigned i = 0; i < options->shards; i++)
        free(run.dsns[i]);
    stats_free(run.stats);
    stop_release(&run.stop);
    return good;
}
