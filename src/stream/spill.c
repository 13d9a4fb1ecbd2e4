#include "stream/spill.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

enum {
    SEGMENTS = 64,
    SEGMENT_BYTES_MIN = 1024 * 1024,
};

/* Before each record. */
struct head {
    uint64_t length, checksum;
};

struct segment {
    struct segment *next;
    int file;
    int64_t written, taken;
};

struct spill {
    struct spill_space *space;
    struct segment *first, *last; /* taken from the first, appended to the last */
    int64_t bytes;
};

struct spill *spill_new(struct spill_space *space)
{
    struct spill *spill = check_calloc(1, sizeof *spill);
    spill->space = space;
    return spill;
}

static void drop_first(struct spill *spill)
{
    struct segment *segment = spill->first;
    close(segment->file);
    spill->first = segment->next;
    if (spill->first == NULL)
        spill->last = NULL;
    atomic_fetch_sub(&spill->space->bytes, segment->written);
    free(segment);
}

void spill_free(struct spill *spill)
{
    if (spill == NULL)
        return;
    while (spill->first != NULL)
        drop_first(spill);
    free(spill);
}

int64_t spill_bytes(const struct spill *spill)
{
    return spill->bytes;
}

/* ---- files ---- */

static bool set_file_error(struct error *err, const struct spill_space *space, const char *what)
{
    error_set(err, ERROR_RETRY, "could not %s a file in \"%s\": %s", what, space->folder,
              strerror(errno));
    error_detail(err, "Changes of tables that are copied whole wait there.");
    return error_hint(err, "Make room there, or name another folder with \"spill_dir\".");
}

/* -1 on error. */
static int make_file(const struct spill_space *space, struct error *err)
{
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/pgportage.XXXXXX", space->folder);
    if (length >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        set_file_error(err, space, "make");
        return -1;
    }
    int file = mkostemp(path, O_CLOEXEC);
    if (file < 0)
        set_file_error(err, space, "make");
    else
        unlink(path);
    return file;
}

bool spill_space_check(const struct spill_space *space, struct error *err)
{
    int file = make_file(space, err);
    if (file >= 0)
        return close(file) == 0 || set_file_error(err, space, "close");
    err->class = ERROR_CONFIG;
    return false;
}

static bool write_all(int file, const void *bytes, size_t length, int64_t offset)
{
    const char *at = bytes;
    while (length > 0) {
        ssize_t written = pwrite(file, at, length, offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return false;
        at += written;
        offset += written;
        length -= (size_t)written;
    }
    return true;
}

static bool read_all(int file, void *bytes, size_t length, int64_t offset)
{
    char *at = bytes;
    while (length > 0) {
        ssize_t got = pread(file, at, length, offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = EIO; /* shorter than it was written */
        if (got <= 0)
            return false;
        at += got;
        offset += got;
        length -= (size_t)got;
    }
    return true;
}

/* ---- in ---- */

static bool reserve(struct spill_space *space, int64_t bytes)
{
    if (atomic_fetch_add(&space->bytes, bytes) + bytes <= space->bytes_max)
        return true;
    atomic_fetch_sub(&space->bytes, bytes);
    return false;
}

static struct segment *add_segment(struct spill *spill, struct error *err)
{
    int file = make_file(spill->space, err);
    if (file < 0)
        return NULL;
    struct segment *segment = check_calloc(1, sizeof *segment);
    segment->file = file;
    if (spill->last != NULL)
        spill->last->next = segment;
    else
        spill->first = segment;
    spill->last = segment;
    return segment;
}

/* That the next record goes into. */
static struct segment *open_segment(struct spill *spill, struct error *err)
{
    int64_t size = spill->space->bytes_max / SEGMENTS;
    if (spill->last != NULL &&
        spill->last->written < (size > SEGMENT_BYTES_MIN ? size : SEGMENT_BYTES_MIN))
        return spill->last;
    return add_segment(spill, err);
}

/* What a failed write has left is beyond `written`; the next one goes over it. */
static bool write_record(const struct segment *segment, const void *bytes, size_t length)
{
    struct head head = {length, XXH3_64bits(bytes, length)};
    return write_all(segment->file, &head, sizeof head, segment->written) &&
           write_all(segment->file, bytes, length, segment->written + (int64_t)sizeof head);
}

enum spill_result spill_append(struct spill *spill, const void *bytes, size_t length,
                               struct error *err)
{
    int64_t size = (int64_t)(sizeof(struct head) + length);
    if (!reserve(spill->space, size))
        return SPILL_FULL;
    struct segment *segment = open_segment(spill, err);
    if (segment == NULL || !write_record(segment, bytes, length)) {
        atomic_fetch_sub(&spill->space->bytes, size);
        if (segment != NULL)
            set_file_error(err, spill->space, "write to");
        if (spill->first != NULL && spill->first->written == 0)
            drop_first(spill);
        return SPILL_FAILED;
    }
    segment->written += size;
    spill->bytes += size;
    return SPILL_OK;
}

/* ---- out ---- */

/* It is not what was written. */
static bool damaged(const struct spill *spill, struct error *err)
{
    errno = EIO;
    return set_file_error(err, spill->space, "read");
}

static bool read_record(const struct spill *spill, struct arena *arena, char **bytes,
                        size_t *length, struct error *err)
{
    struct head head;
    const struct segment *segment = spill->first;
    int64_t at = segment->taken + (int64_t)sizeof head;
    if (!read_all(segment->file, &head, sizeof head, segment->taken))
        return set_file_error(err, spill->space, "read");
    if (head.length > (uint64_t)(segment->written - at))
        return damaged(spill, err);
    *length = head.length;
    *bytes = arena_alloc(arena, *length);
    if (!read_all(segment->file, *bytes, *length, at))
        return set_file_error(err, spill->space, "read");
    return XXH3_64bits(*bytes, *length) == head.checksum || damaged(spill, err);
}

bool spill_take(struct spill *spill, struct arena *arena, const char **bytes, size_t *length,
                struct error *err)
{
    char *record = NULL;
    CHECK(spill->bytes > 0);
    if (!read_record(spill, arena, &record, length, err))
        return false;
    int64_t size = (int64_t)(sizeof(struct head) + *length);
    *bytes = record;
    spill->bytes -= size;
    spill->first->taken += size;
    if (spill->first->taken == spill->first->written)
        drop_first(spill);
    return true;
}
