#include "ack.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <unistd.h>

#include "util/buffer.h"

enum { BATCH_BYTES = 64 * 1024 };

struct ack {
    int file;
    pthread_mutex_t lock; /* guards the rest, and the order of writes */
    struct buffer pending;
    int write_error; /* errno of the first failed write, 0 if none */
};

/* A bank that was killed may have cut its last line short: what is left of it could be read as
 * another line. */
static bool drop_cut_line(int file)
{
    char c = '\n';
    off_t end = lseek(file, 0, SEEK_END);
    while (end > 0 && pread(file, &c, 1, end - 1) == 1 && c != '\n')
        end--;
    return end >= 0 && ftruncate(file, end) == 0;
}

struct ack *ack_open(const char *path, struct error *err)
{
    int file = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (file < 0 || !drop_cut_line(file)) {
        error_set(err, ERROR_CONFIG, "could not open \"%s\": %s", path, strerror(errno));
        if (file >= 0)
            close(file);
        return NULL;
    }
    struct ack *ack = check_calloc(1, sizeof(*ack));
    ack->file = file;
    pthread_mutex_init(&ack->lock, NULL);
    buffer_init(&ack->pending, 2 * BATCH_BYTES);
    return ack;
}

static void write_pending(struct ack *ack)
{
    const char *at = buffer_text(&ack->pending);
    size_t left = ack->pending.length;
    while (left > 0) {
        ssize_t written = write(ack->file, at, left);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            if (ack->write_error == 0)
                ack->write_error = errno;
            break;
        }
        at += written;
        left -= (size_t)written;
    }
    buffer_clear(&ack->pending);
}

bool ack_close(struct ack *ack, struct error *err)
{
    ack_flush(ack);
    int failed = ack->write_error;
    if (close(ack->file) != 0 && failed == 0)
        failed = errno;
    buffer_release(&ack->pending);
    pthread_mutex_destroy(&ack->lock);
    free(ack);
    if (failed != 0)
        return error_set(err, ERROR_FATAL, "could not write the ack file: %s", strerror(failed));
    return true;
}

void ack_add(struct ack *ack, char event, int client, int64_t seq, const char *kind)
{
    pthread_mutex_lock(&ack->lock);
    buffer_printf(&ack->pending, "%c %d %" PRId64 "%s%s\n", event, client, seq, kind ? " " : "",
                  kind ? kind : "");
    if (ack->pending.length >= BATCH_BYTES)
        write_pending(ack);
    pthread_mutex_unlock(&ack->lock);
}

void ack_flush(struct ack *ack)
{
    pthread_mutex_lock(&ack->lock);
    write_pending(ack);
    pthread_mutex_unlock(&ack->lock);
}

static bool parse_line(const char *text, struct ack_line *line)
{
    line->kind[0] = '\0';
    int fields =
        sscanf(text, "%c %d %" SCNd64 " %15s", &line->event, &line->client, &line->seq, line->kind);
    if (line->event == 'a' || line->event == 'u')
        return fields == 4;
    return (line->event == 's' || line->event == 'e') && fields == 3;
}

bool ack_read(const char *path, ack_visit *visit, void *context, struct error *err)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return error_set(err, ERROR_CONFIG, "could not open \"%s\": %s", path, strerror(errno));

    char text[128];
    bool good = true;
    for (unsigned number = 1; good && fgets(text, sizeof(text), file); number++) {
        struct ack_line line;
        if (!strchr(text, '\n') && feof(file))
            break;
        good = parse_line(text, &line) ||
               error_set(err, ERROR_CONFIG, "\"%s\", line %u: not a line of an ack file", path,
                         number);
        good = good && visit(context, &line, err);
    }
    fclose(file);
    return good;
}
