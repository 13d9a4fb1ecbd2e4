#include "writer.h"

#include "util/clock.h"

enum { BACKOFF_FIRST_US = 5000, BACKOFF_MAX_US = 80000 };

static bool wait_until(struct writer *writer, int64_t due_us)
{
    int64_t left_us = due_us - clock_monotonic_us();
    if (left_us > 0)
        stop_wait(writer->stop, left_us);
    return !stop_requested(writer->stop);
}

/* The number is used up: the request is there, or may be. */
static void use_number(struct writer *writer, char event, const struct request *request)
{
    struct client *client = &writer->client;
    ack_add(writer->ack, event, client->id, client->seq, request->kind);
    client->seq++;
}

/* Again and again until it is known to be there or not known at all, or it makes no sense. */
static bool perform(struct writer *writer, const struct request *request, int64_t *changes)
{
    int64_t backoff_us = BACKOFF_FIRST_US;
    for (;;) {
        struct error err = ERROR_INIT;
        enum outcome outcome = session_request(&writer->sessions[request->shard],
                                               buffer_text(&request->sql), changes, &err);
        if (outcome == OUTCOME_ACKNOWLEDGED) {
            use_number(writer, 'a', request);
            return true;
        }
        stats_failed(writer->stats, &err, outcome == OUTCOME_UNKNOWN);
        if (outcome == OUTCOME_UNKNOWN)
            use_number(writer, 'u', request);
        if (stop_wait(writer->stop, backoff_us) || outcome == OUTCOME_UNKNOWN ||
            !session_may_pass(&err))
            return false;
        backoff_us = backoff_us * 2 < BACKOFF_MAX_US ? backoff_us * 2 : BACKOFF_MAX_US;
    }
}

static void work(struct writer *writer, struct request *request)
{
    double due_us = (double)clock_monotonic_us();
    while (wait_until(writer, (int64_t)due_us)) {
        int64_t changes;
        if (writer->us_per_change <= 0)
            due_us = (double)clock_monotonic_us();
        request_choose(request, &writer->client);
        if (!perform(writer, request, &changes))
            continue;
        stats_acknowledged(writer->stats, changes, clock_monotonic_us() - (int64_t)due_us);
        due_us += (double)changes * writer->us_per_change;
    }
}

/* Half of the time passes before the first of them, so that a short run has one too. */
static void work_large(struct writer *writer, struct request *request)
{
    int64_t due_us = clock_monotonic_us() + writer->large_every_us / 2;
    for (; wait_until(writer, due_us); due_us += writer->large_every_us) {
        int64_t changes;
        request_large(request, &writer->client, writer->large_rows);
        if (perform(writer, request, &changes))
            stats_large(writer->stats, changes);
    }
}

void *writer_main(void *context)
{
    struct writer *writer = context;
    struct request request;
    request_init(&request);
    ack_add(writer->ack, 's', writer->client.id, writer->client.seq, NULL);
    if (writer->large_every_us > 0)
        work_large(writer, &request);
    else
        work(writer, &request);
    ack_add(writer->ack, 'e', writer->client.id, writer->client.seq, NULL);
    for (unsigned i = 0; i < writer->client.shards; i++)
        session_close(&writer->sessions[i]);
    request_release(&request);
    return NULL;
}
