#include "stream/receiver.h"

#include <stdatomic.h>

#include "mapping/erase.h"
#include "pg/conn.h"
#include "pg/replication.h"
#include "stream/router.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    CONFIRM_EVERY_US = 1000 * 1000,
    CONFIRM_MOVED_EVERY_US = 20 * 1000, /* when there is something new to tell */
    FEED_EVERY_US = 2 * 1000,
    WAIT_US = 20 * 1000,
};

/* The receiver's thread. */
struct reception {
    const struct receiver *receiver;
    struct stream *stream;
    struct replication replication;
    struct relations *relations;
    struct router router;
    struct arena arena; /* of one message */
    bool inside;        /* between Begin and Commit … */
    bool begun;         /* … and a change of it has come */
    bool ours;          /* … which says that the transaction is our own */
    int64_t marker;     /* … id of the marker it wrote for a switch; 0: none */
    lsn_t complete;     /* end of the last transaction that was routed whole … */
    int64_t complete_time; /* … and the server's clock then */
    int64_t fed_us;
};

/* ---- what the server is told ---- */

static lsn_t least_progress(const struct stream *stream)
{
    lsn_t least = lane_progress(stream->lanes[0]);
    for (unsigned l = 1; l < stream->lanes_count; l++) {
        lsn_t progress = lane_progress(stream->lanes[l]);
        least = progress < least ? progress : least;
    }
    return least;
}

static bool answer_server(struct reception *reception, struct error *err)
{
    lsn_t durable = least_progress(reception->stream);
    int64_t silent_us = clock_monotonic_us() - reception->replication.last_reply_us;
    bool moved = durable > reception->replication.confirmed;
    if (reception->replication.reply_requested || silent_us >= CONFIRM_EVERY_US ||
        (moved && silent_us >= CONFIRM_MOVED_EVERY_US))
        return replication_confirm(&reception->replication, durable, err);
    return true;
}

/* What has come goes to the lanes that can take it; only what is complete is called dispatched. */
static void feed(struct reception *reception)
{
    reception->fed_us = clock_monotonic_us();
    router_feed(&reception->router);
    lsn_t pushed = router_pushed(&reception->router, reception->complete);
    if (pushed <= atomic_load(&reception->stream->dispatched))
        return;
    if (pushed == reception->complete)
        atomic_store(&reception->stream->dispatched_time, reception->complete_time);
    atomic_store(&reception->stream->dispatched, pushed);
}

static void feed_when_due(struct reception *reception)
{
    if (clock_monotonic_us() - reception->fed_us >= FEED_EVERY_US)
        feed(reception);
}

/* Called from every wait of this thread for a lane: the others need not wait with it, and keepalives go on. */
static bool while_waiting(void *context, struct error *err)
{
    struct reception *reception = context;
    feed_when_due(reception);
    return answer_server(reception, err);
}

/* ---- messages ---- */

enum truncated { TRUNCATED_NOT, TRUNCATED_PARTLY, TRUNCATED_WHOLE };

/* Of a partitioned table the message names the leaves, also where the root is published (13 and later): only
 * publish_via_partition_root would hide them. A leaf that is newer than the set has been met before, in its
 * Relation message (relations.h). */
static enum truncated truncated(const struct mapping *mapping,
                                const struct pgoutput_message *message)
{
    const struct relation *source = mapping->source;
    unsigned leaves = 0;
    for (unsigned t = 0; t < message->truncate.count; t++) {
        uint32_t oid = message->truncate.relation_oids[t];
        if (oid == source->oid)
            return TRUNCATED_WHOLE;
        leaves += relation_leaf(source, oid) != NULL;
    }
    if (leaves == 0)
        return TRUNCATED_NOT;
    return leaves == source->leaves_count ? TRUNCATED_WHOLE : TRUNCATED_PARTLY;
}

/*
 * Which rows of the target came from the partition is not known: what is left is copied again. Where
 * the copy was over, from the next incarnation on, because unique indexes must go first (leaves.h).
 */
static bool take_partial_truncate(struct reception *reception, const struct mapping *mapping,
                                  struct error *err)
{
    bool was_steady = holds_steady(reception->stream->holds, mapping);
    log_warning("a partition of %s.%s was truncated by itself at the source: %s is copied again",
                mapping->source->schema, mapping->source->name, mapping->name);
    return router_truncate(&reception->router, mapping, true, err) &&
           (!was_steady ||
            error_set(err, ERROR_RETRY, "%s was emptied and is to be copied again", mapping->name));
}

/* On the way back: what cannot be told of the source's rows, and ends it. */
static bool check_back(const struct reception *reception, const struct mapping *mapping, bool whole,
                       struct error *err)
{
    const struct stream *stream = reception->stream;
    const struct erase_of of = {.shard = stream->number, .shards = stream->rivals + 1};
    if (erase_check(mapping, of, !whole, err))
        return true;
    error_hint(err, "DELETE says which rows are meant. This one ends the way back: \"pgportage"
                    " finish\" goes on without it.");
    return error_context(err, "a TRUNCATE of %s%s.%s on shard %u cannot be brought back to %s",
                         whole ? "" : "a partition of ", mapping->source->schema,
                         mapping->source->name, stream->number, mapping->name);
}

static bool take_truncate_of(struct reception *reception, const struct mapping *mapping, bool whole,
                             struct error *err)
{
    if (reception->stream->config->reversed)
        return check_back(reception, mapping, whole, err) &&
               router_truncate(&reception->router, mapping, !whole, err);
    return whole ? router_truncate(&reception->router, mapping, false, err)
                 : take_partial_truncate(reception, mapping, err);
}

/* At one source position on every shard (R13). */
static bool take_truncate(struct reception *reception, const struct pgoutput_message *message,
                          struct error *err)
{
    const struct mapping_set *set = reception->stream->mappings;
    reception->begun = true;
    if (reception->ours)
        return true;
    for (unsigned m = 0; m < set->count; m++) {
        const struct mapping *mapping = &set->mappings[m];
        enum truncated what = truncated(mapping, message);
        if (what != TRUNCATED_NOT &&
            !take_truncate_of(reception, mapping, what == TRUNCATED_WHOLE, err))
            return false;
    }
    return true;
}

static bool take_marker(struct reception *reception, const struct stream_relation *relation,
                        const struct tuple *row, struct error *err)
{
    int id = relation->marker_id, purpose = relation->marker_purpose;
    if (id < 0 || purpose < 0 || row->count <= (unsigned)id || row->count <= (unsigned)purpose ||
        row->values[id].kind != VALUE_TEXT || row->values[purpose].kind != VALUE_TEXT)
        return error_set(err, ERROR_FATAL, "a row of portage.marker is not one of ours");
    if (strcmp(row->values[purpose].bytes, "switch") == 0)
        reception->marker = strtoll(row->values[id].bytes, NULL, 10);
    return true;
}

static bool take_row(struct reception *reception, const struct pgoutput_message *message,
                     struct error *err)
{
    const struct stream_relation *relation =
        relations_find(reception->relations, message->row.relation_oid);
    if (relation == NULL)
        return error_set(err, ERROR_FATAL, "the stream changes relation %u without describing it",
                         message->row.relation_oid);
    reception->ours |= !reception->begun && relation->role == RELATION_OURS;
    reception->begun = true;
    if (relation->role == RELATION_MARKER && message->kind == PGOUTPUT_INSERT)
        return take_marker(reception, relation, &message->row.new_tuple, err);
    if (reception->ours || relation->role != RELATION_MAPPED)
        return true;
    atomic_fetch_add_explicit(&reception->stream->changes, 1, memory_order_relaxed);
    return router_row(&reception->router, relation, message, err);
}

static void take_begin(struct reception *reception, const struct pgoutput_message *message)
{
    reception->inside = true;
    reception->begun = reception->ours = false;
    reception->marker = 0;
    router_begin(&reception->router, message);
}

/* The application stands still while a switch waits for its marker: nothing is kept back behind it. */
static bool take_commit(struct reception *reception, const struct pgoutput_message *message,
                        struct error *err)
{
    reception->inside = false;
    reception->complete = message->commit.end_lsn;
    reception->complete_time = message->commit.commit_time;
    router_commit(&reception->router, message->commit.end_lsn, reception->marker);
    return reception->marker == 0 || router_flush(&reception->router, err);
}

static bool take_message(struct reception *reception, const struct pgoutput_message *message,
                         struct error *err)
{
    switch (message->kind) {
    case PGOUTPUT_BEGIN:
        take_begin(reception, message);
        return true;
    case PGOUTPUT_COMMIT:
        return take_commit(reception, message, err);
    case PGOUTPUT_RELATION:
        return relations_learn(reception->relations, message, err);
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        return take_row(reception, message, err);
    case PGOUTPUT_TRUNCATE:
        return take_truncate(reception, message, err);
    case PGOUTPUT_ORIGIN:
    case PGOUTPUT_TYPE:
    case PGOUTPUT_MESSAGE:
        return true;
    }
    return error_set(err, ERROR_FATAL, "unknown message kind %d", (int)message->kind);
}

static bool take_changes(struct reception *reception, const char *payload, size_t length,
                         struct error *err)
{
    struct pgoutput_message message;
    bool ok = pgoutput_decode(payload, length, &reception->arena, &message, err) &&
              take_message(reception, &message, err);
    arena_clear(&reception->arena);
    feed_when_due(reception); /* also inside a transaction, which may be long */
    return ok;
}

/* The server has sent all it has: a quiet stream moves on too, when nothing is half received (T2). */
static bool take_idle(struct reception *reception, struct error *err)
{
    if (!reception->inside && reception->replication.server_end > reception->complete) {
        reception->complete = reception->replication.server_end;
        reception->complete_time = reception->replication.server_time;
    }
    feed(reception);
    if (!answer_server(reception, err))
        return false;
    bool kept = atomic_load(&reception->stream->dispatched) < reception->complete;
    return replication_wait(&reception->replication, kept ? FEED_EVERY_US : WAIT_US, err);
}

static bool receive_loop(struct reception *reception, struct error *err)
{
    const char *payload;
    size_t length;
    bool ok = true;
    while (ok && !stop_requested(reception->stream->stop)) {
        switch (replication_read(&reception->replication, &payload, &length, err)) {
        case REPLICATION_CHANGES:
            ok = take_changes(reception, payload, length, err) && answer_server(reception, err);
            break;
        case REPLICATION_KEEPALIVE:
            ok = answer_server(reception, err);
            break;
        case REPLICATION_IDLE:
            ok = take_idle(reception, err);
            break;
        case REPLICATION_ERROR:
            ok = false;
        }
    }
    return ok;
}

static bool receive(const struct receiver *receiver, struct error *err)
{
    struct reception reception = {.receiver = receiver,
                                  .stream = receiver->stream,
                                  .complete = receiver->start,
                                  .fed_us = clock_monotonic_us()};
    PGconn *conn = conn_open(receiver->conninfo, CONN_REPLICATION, "receiver", err);
    if (conn == NULL)
        return false;
    arena_init(&reception.arena, 64 * 1024);
    reception.relations =
        relations_new(receiver->stream->mappings, receiver->stream->config->reversed);
    router_init(&reception.router, receiver->stream);
    reception.router.wait = while_waiting;
    reception.router.wait_context = &reception;
    bool ok = replication_start(&reception.replication, conn, receiver->slot, receiver->publication,
                                receiver->start, false, err) &&
              receive_loop(&reception, err);
    router_release(&reception.router);
    relations_free(reception.relations);
    arena_release(&reception.arena);
    replication_release(&reception.replication);
    conn_close(conn);
    return ok;
}

void *receiver_main(void *argument)
{
    struct receiver *receiver = argument;
    struct error err = ERROR_INIT;
    log_set_subject("receiver");
    if (!receive(receiver, &err)) {
        error_context(&err, "receiving from slot \"%s\"", receiver->slot);
        stop_fail(receiver->stream->stop, &err);
    }
    return NULL;
}
