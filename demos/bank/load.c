#include "load.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "db.h"
#include "load_steps.h"
#include "util/buffer.h"
#include "util/clock.h"

enum { LOADERS = 2, INT8_OID = 20 };

struct load {
    const struct load_options *options;
    int64_t customers;
    int64_t begun_us;
    bool unchecked; /* foreign keys do not fire: the steps need no order */
    bool late;      /* which of the steps are on */
    atomic_uint next_step;
    pthread_mutex_t lock; /* guards the rest */
    int64_t rows;
    struct error err;
};

static int64_t customers_for(int64_t rows)
{
    int64_t customers = rows / 20;
    return customers < 200 ? 200 : customers > 1000000 ? 1000000 : customers;
}

static void report(struct load *load, const char *table, int64_t rows, int64_t step_us)
{
    pthread_mutex_lock(&load->lock);
    load->rows += rows;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%-26s %9" PRId64 " rows %6.1f s", table, rows,
                (double)step_us / 1e6);
    else
        fprintf(stderr, "%-26s %9" PRId64 " rows %6.1f s\n", table, rows, (double)step_us / 1e6);
    pthread_mutex_unlock(&load->lock);
}

static bool run_step(struct load *load, PGconn *conn, const struct load_step *step,
                     struct error *err)
{
    char customers[24], rows[24];
    snprintf(customers, sizeof(customers), "%" PRId64, load->customers);
    snprintf(rows, sizeof(rows), "%" PRId64, load->options->rows);
    const char *values[] = {customers, rows};
    /* A statement refers to both, one or none of them. */
    const Oid types[] = {INT8_OID, INT8_OID};

    int64_t begun = clock_monotonic_us();
    PGresult *result = PQexecParams(conn, step->sql, 2, types, values, NULL, NULL, 0);
    bool good = PQresultStatus(result) == PGRES_COMMAND_OK ||
                (db_error(conn, result, err), error_context(err, "loading %s", step->table));
    if (good)
        report(load, step->table, strtoll(PQcmdTuples(result), NULL, 10),
               clock_monotonic_us() - begun);
    PQclear(result);
    return good;
}

static bool begin_session(struct load *load, PGconn *conn, struct error *err)
{
    struct buffer sql;
    char seed[24];
    snprintf(seed, sizeof(seed), "%" PRId64, load->options->seed);
    buffer_init(&sql, 4096);
    buffer_printf(&sql, load_pick, seed);
    bool good = db_exec(conn, "SET timezone = 'UTC'", err) && db_exec(conn, buffer_text(&sql), err);
    buffer_release(&sql);
    return good &&
           (!load->unchecked || db_exec(conn, "SET session_replication_role = replica", err));
}

static bool load_some(struct load *load, struct error *err)
{
    PGconn *conn = db_open(load->options->dsn, err);
    bool good = conn && begin_session(load, conn, err);
    unsigned i;
    while (good && (i = atomic_fetch_add(&load->next_step, 1)) < load_steps_count)
        if (load_steps[i].late == load->late)
            good = run_step(load, conn, &load_steps[i], err);
    PQfinish(conn);
    return good;
}

static void *loader_main(void *context)
{
    struct load *load = context;
    struct error err = ERROR_INIT;
    if (!load_some(load, &err)) {
        atomic_store(&load->next_step, load_steps_count);
        pthread_mutex_lock(&load->lock);
        if (load->err.class == ERROR_NONE)
            load->err = err;
        pthread_mutex_unlock(&load->lock);
    }
    return NULL;
}

static bool load_tables(struct load *load, bool late, struct error *err)
{
    pthread_t threads[LOADERS];
    load->late = late;
    atomic_store(&load->next_step, 0);
    unsigned count = load->unchecked ? LOADERS : 1;
    for (unsigned i = 0; i < count; i++)
        CHECK(pthread_create(&threads[i], NULL, loader_main, load) == 0);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    if (load->err.class == ERROR_NONE)
        return true;
    *err = load->err;
    return false;
}

/* Two loaders at a time need that no foreign key is checked, which a superuser may have. */
static bool look(struct load *load, PGconn *conn, struct error *err)
{
    PGresult *result = PQexec(conn, "SET session_replication_role = replica");
    load->unchecked = PQresultStatus(result) == PGRES_COMMAND_OK;
    PQclear(result);

    int64_t customers;
    if (!db_int(conn, "SELECT public.bank_customers()", &customers, err))
        return error_hint(err, "Run source.sql first.");
    if (customers > 0)
        return error_set(err, ERROR_CONFIG, "the bank has %" PRId64 " customers already",
                         customers);
    return true;
}

static bool finish(struct load *load, PGconn *conn, struct error *err)
{
    if (!db_exec(conn, load_sequences, err) || !db_exec(conn, "VACUUM ANALYZE", err))
        return false;
    fprintf(stderr, "%sloaded %" PRId64 " rows, %" PRId64 " customers, in %.1f s\n",
            isatty(STDERR_FILENO) ? "\r\033[K" : "", load->rows, load->customers,
            (double)(clock_monotonic_us() - load->begun_us) / 1e6);
    return true;
}

bool load_run(const struct load_options *options, struct error *err)
{
    struct load load = {
        .options = options,
        .customers = customers_for(options->rows),
        .begun_us = clock_monotonic_us(),
        .err = ERROR_INIT,
    };
    pthread_mutex_init(&load.lock, NULL);
    PGconn *conn = db_open(options->dsn, err);
    bool good = conn && look(&load, conn, err) && load_tables(&load, false, err) &&
                load_tables(&load, true, err) && finish(&load, conn, err);
    PQfinish(conn);
    pthread_mutex_destroy(&load.lock);
    return good;
}
