#include "run/builders.h"

#include <unistd.h>

#include "pg/conn.h"
#include "run/deferred.h"
#include "switchover/acting.h"
#include "util/log.h"

enum {
    DONE_POLL_US = 20 * 1000,
    CANCEL_AGAIN_POLLS = 100, /* one may come between two statements */
};

struct builder {
    struct builders *builders;
    unsigned shard, number;
    pthread_t thread;
    PGcancel *cancel; /* under the lock; NULL while there is no connection */
    atomic_bool done;
};

struct builders {
    const struct config *config;
    struct stop *stop;
    pthread_mutex_t lock;
    struct builder *all;
    unsigned count;
};

static void set_cancel(struct builder *builder, PGcancel *cancel)
{
    pthread_mutex_lock(&builder->builders->lock);
    PQfreeCancel(builder->cancel);
    builder->cancel = cancel;
    pthread_mutex_unlock(&builder->builders->lock);
}

static bool build(struct builder *builder, PGconn *conn, struct error *err)
{
    bool keys = conn_is_replica_role(conn);
    if (!keys && builder->number == 0)
        log_info("foreign keys and triggers come with the cutover: they would act on what is applied, as"
                 " \"%s\" may not set session_replication_role",
                 PQuser(conn));
    set_cancel(builder, PQgetCancel(conn));
    /* all others' indexes are there, too, when it returns */
    bool ok = deferred_build(conn, builder->builders->stop, err) &&
              (!keys || builder->number > 0 || acting_build(conn, builder->builders->stop, err));
    set_cancel(builder, NULL);
    return ok;
}

static void *builder_main(void *argument)
{
    struct builder *builder = argument;
    struct builders *builders = builder->builders;
    struct error err = ERROR_INIT;
    char subject[48];
    snprintf(subject, sizeof subject, "shard %u indexes %u", builder->shard, builder->number);
    log_set_subject(subject);
    /* as the lanes do, so that it shows what they may */
    PGconn *conn = conn_open(builders->config->shards[builder->shard].text, CONN_APPLY, "indexes",
                             &err);
    if (conn == NULL || !build(builder, conn, &err)) {
        error_context(&err, "shard %u", builder->shard);
        stop_fail(builders->stop, &err);
    }
    conn_close(conn);
    atomic_store(&builder->done, true);
    return NULL;
}

struct builders *builders_start(const struct config *config, struct stop *stop)
{
    struct builders *builders = check_calloc(1, sizeof *builders);
    builders->config = config;
    builders->stop = stop;
    builders->count = config->shards_count * (unsigned)config->index_workers;
    builders->all = check_calloc(builders->count, sizeof *builders->all);
    pthread_mutex_init(&builders->lock, NULL);
    for (unsigned b = 0; b < builders->count; b++) {
        struct builder *builder = &builders->all[b];
        builder->builders = builders;
        builder->shard = b % config->shards_count;
        builder->number = b / config->shards_count;
        CHECK(pthread_create(&builder->thread, NULL, builder_main, builder) == 0);
    }
    return builders;
}

bool builders_done(const struct builders *builders)
{
    for (unsigned b = 0; b < builders->count; b++) {
        if (!atomic_load(&builders->all[b].done))
            return false;
    }
    return true;
}

/* An index may take hours, and nobody waits for it to end. */
static void cancel_all(struct builders *builders)
{
    char unused[256];
    pthread_mutex_lock(&builders->lock);
    for (unsigned b = 0; b < builders->count; b++) {
        if (builders->all[b].cancel != NULL)
            PQcancel(builders->all[b].cancel, unused, sizeof unused);
    }
    pthread_mutex_unlock(&builders->lock);
}

void builders_end(struct builders *builders)
{
    if (builders == NULL)
        return;
    for (unsigned poll = 0; !builders_done(builders); poll++) {
        if (stop_requested(builders->stop) && poll % CANCEL_AGAIN_POLLS == 0)
            cancel_all(builders);
        usleep(DONE_POLL_US);
    }
    for (unsigned b = 0; b < builders->count; b++)
        pthread_join(builders->all[b].thread, NULL);
    pthread_mutex_destroy(&builders->lock);
    free(builders->all);
    free(builders);
}
