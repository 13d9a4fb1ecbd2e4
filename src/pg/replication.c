#include "pg/replication.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/param.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pg/conn.h"
#include "pg/quote.h"
#include "util/clock.h"

/* Headers of the two messages a server sends: type, then (w) start, end, time or (k) end, time, flag. */
enum { XLOGDATA_HEADER = 1 + 8 + 8 + 8, KEEPALIVE_LENGTH = 1 + 8 + 8 + 1 };

enum {
    NAP_LEAST_US = 500, /* how long changes may gather before the next read … */
    NAP_MOST_US = 4000, /* … on one host, when so many come in a microsecond: */
    FAST_BYTES_US = 8,
    EMPTY_BYTES = 16 * 1024,  /* libpq reads so many at once */
    WINDOW_BYTES = 64 * 1024, /* on one host; more than the longest nap lets gather */
};

/* Microseconds between the epochs of Unix and PostgreSQL (2000-01-01). */
static const int64_t pg_epoch_us = INT64_C(946684800000000);

static uint64_t read_u64(const char *bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | (unsigned char)bytes[i];
    return value;
}

static void write_u64(char *bytes, uint64_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 8)
        bytes[i] = (char)value;
}

static bool tcp_host(int (*end)(int, struct sockaddr *, socklen_t *), int fd, char host[NI_MAXHOST])
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    return end(fd, (struct sockaddr *)&address, &length) == 0 && address.ss_family != AF_UNIX &&
           getnameinfo((struct sockaddr *)&address, length, host, NI_MAXHOST, NULL, 0,
                       NI_NUMERICHOST) == 0;
}

static bool is_tcp_on_one_host(int fd)
{
    char ours[NI_MAXHOST], theirs[NI_MAXHOST];
    return tcp_host(getsockname, fd, ours) && tcp_host(getpeername, fd, theirs) &&
           strcmp(ours, theirs) == 0;
}

/*
 * A server sends each change by itself. While our window is open each is a segment, an acknowledgement and
 * two wake-ups, which cost it more than the decoding; while it is closed they gather in the server's socket
 * and come as one. Between hosts the network does that. On one host the window is a small one and the naps
 * are longer than it lasts: what has gathered follows at once when it opens, so that is no limit.
 */
static void gather_at_server(struct replication *stream)
{
    int bytes = WINDOW_BYTES, fd = PQsocket(stream->conn);
    if (is_tcp_on_one_host(fd) && setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) == 0)
        stream->nap_us_most = NAP_MOST_US;
}

bool replication_start(struct replication *stream, PGconn *conn, const char *slot,
                       const char *publication, lsn_t start, bool binary, struct error *err)
{
    struct buffer sql;
    char position[LSN_TEXT_SIZE];
    *stream = (struct replication){.conn = conn,
                                   .last_reply_us = clock_monotonic_us(),
                                   .nap_us = NAP_LEAST_US,
                                   .nap_us_most = NAP_LEAST_US};
    buffer_init(&sql, 1024);
    buffer_puts(&sql, "START_REPLICATION SLOT ");
    quote_ident(&sql, slot);
    buffer_printf(&sql, " LOGICAL %s (proto_version '1', publication_names '",
                  lsn_text(start, position));
    quote_ident(&sql, publication);
    buffer_printf(&sql, "'%s)", binary ? ", binary 'true'" : "");
    PGresult *result = PQexec(conn, buffer_text(&sql));
    bool ok = PQresultStatus(result) == PGRES_COPY_BOTH;
    if (ok) {
        gather_at_server(stream);
    } else {
        conn_result_error(conn, result, err);
        error_context(err, "starting replication from slot \"%s\"", slot);
    }
    PQclear(result);
    buffer_release(&sql);
    return ok;
}

void replication_release(struct replication *stream)
{
    PQfreemem(stream->message);
    stream->message = NULL;
}

static enum replication_event replication_end(struct replication *stream, struct error *err)
{
    PGresult *result = PQgetResult(stream->conn);
    if (PQresultStatus(result) == PGRES_FATAL_ERROR)
        conn_result_error(stream->conn, result, err);
    else
        error_set(err, ERROR_RETRY, "the server ended the replication stream");
    PQclear(result);
    return REPLICATION_ERROR;
}

static enum replication_event replication_keepalive(struct replication *stream, size_t length,
                                                    struct error *err)
{
    if (length < KEEPALIVE_LENGTH) {
        error_set(err, ERROR_FATAL, "a keepalive of the replication stream is cut short");
        return REPLICATION_ERROR;
    }
    lsn_t end = read_u64(stream->message + 1);
    if (end > stream->server_end)
        stream->server_end = end;
    stream->server_time = (int64_t)read_u64(stream->message + 9);
    if (stream->message[17] != 0)
        stream->reply_requested = true;
    return REPLICATION_KEEPALIVE;
}

static enum replication_event replication_changes(struct replication *stream, size_t length,
                                                  const char **payload, size_t *payload_length,
                                                  struct error *err)
{
    if (length < XLOGDATA_HEADER) {
        error_set(err, ERROR_FATAL, "a message of the replication stream is cut short");
        return REPLICATION_ERROR;
    }
    lsn_t end = read_u64(stream->message + 9);
    if (end > stream->server_end)
        stream->server_end = end;
    stream->server_time = (int64_t)read_u64(stream->message + 17);
    *payload = stream->message + XLOGDATA_HEADER;
    *payload_length = length - XLOGDATA_HEADER;
    return REPLICATION_CHANGES;
}

enum replication_event replication_read(struct replication *stream, const char **payload,
                                        size_t *length, struct error *err)
{
    PQfreemem(stream->message);
    stream->message = NULL;
    int got = PQgetCopyData(stream->conn, &stream->message, 1);
    if (got == 0)
        return REPLICATION_IDLE;
    if (got == -1)
        return replication_end(stream, err);
    if (got < 0) {
        conn_error(stream->conn, err);
        return REPLICATION_ERROR;
    }
    if (stream->message[0] == 'k')
        return replication_keepalive(stream, (size_t)got, err);
    if (stream->message[0] == 'w')
        return replication_changes(stream, (size_t)got, payload, length, err);
    error_set(err, ERROR_FATAL, "unknown message \"%c\" in the replication stream",
              stream->message[0]);
    return REPLICATION_ERROR;
}

static int waiting_bytes(const struct replication *stream)
{
    int bytes = 0;
    return ioctl(PQsocket(stream->conn), FIONREAD, &bytes) == 0 ? bytes : 0;
}

/* The socket is read until it is empty, and then left alone for as long as changes come fast. What comes
 * seldom is hardly kept back. */
static void nap(struct replication *stream)
{
    int64_t now_us = clock_monotonic_us();
    if (now_us - stream->last_read_us < stream->nap_us && waiting_bytes(stream) < EMPTY_BYTES) {
        usleep((useconds_t)stream->nap_us);
        stream->nap_us = waiting_bytes(stream) >= stream->nap_us * FAST_BYTES_US
                             ? MIN(stream->nap_us * 2, stream->nap_us_most)
                             : MAX(stream->nap_us / 2, NAP_LEAST_US);
    }
    stream->last_read_us = clock_monotonic_us();
}

bool replication_wait(struct replication *stream, int64_t timeout_us, struct error *err)
{
    struct pollfd fd = {.fd = PQsocket(stream->conn), .events = POLLIN};
    int ready = poll(&fd, 1, (int)((timeout_us + 999) / 1000));
    if (ready < 0 && errno != EINTR)
        return error_set(err, ERROR_FATAL, "could not wait for the replication stream: %s",
                         strerror(errno));
    if (ready > 0)
        nap(stream);
    if (ready > 0 && PQconsumeInput(stream->conn) == 0)
        return conn_error(stream->conn, err);
    return true;
}

bool replication_confirm(struct replication *stream, lsn_t durable, struct error *err)
{
    char reply[1 + 8 + 8 + 8 + 8 + 1];
    reply[0] = 'r';
    write_u64(reply + 1, durable);
    write_u64(reply + 9, durable);
    write_u64(reply + 17, durable);
    write_u64(reply + 25, (uint64_t)(clock_wall_us() - pg_epoch_us));
    reply[33] = 0;
    if (PQputCopyData(stream->conn, reply, sizeof reply) <= 0 || PQflush(stream->conn) != 0)
        return conn_error(stream->conn, err);
    stream->confirmed = durable;
    stream->last_reply_us = clock_monotonic_us();
    stream->reply_requested = false;
    return true;
}
