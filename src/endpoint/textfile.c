#include "endpoint/textfile.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

static bool file_error(const char *what, const char *path, struct error *err)
{
    return error_set(err, ERROR_CONFIG, "could not %s \"%s\": %s", what, path, strerror(errno));
}

bool textfile_read(const char *path, struct buffer *text, struct error *err)
{
    char block[4096];
    size_t got;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return file_error("open", path, err);
    while ((got = fread(block, 1, sizeof block, file)) > 0)
        buffer_append(text, block, got);
    bool bad = ferror(file) != 0;
    fclose(file);
    if (bad)
        return file_error("read", path, err);
    return !buffer_failed(text) ||
           error_set(err, ERROR_LIMIT, "\"%s\" is larger than %d bytes", path, TEXTFILE_MAX);
}

/* Where the file really is, and the folder that it is in. */
static bool resolve(const char *path, char place[PATH_MAX], char folder[PATH_MAX],
                    struct error *err)
{
    if (realpath(path, place) == NULL)
        return file_error("find", path, err);
    snprintf(folder, PATH_MAX, "%s", place);
    char *slash = strrchr(folder, '/');
    slash[slash == folder ? 1 : 0] = '\0';
    return true;
}

static bool in_group(gid_t group)
{
    gid_t groups[256];
    int count = getgroups(256, groups);
    for (int g = 0; g < count; g++) {
        if (groups[g] == group)
            return true;
    }
    return group == getegid();
}

static bool can_keep_owner(const struct stat *status)
{
    return geteuid() == 0 || (status->st_uid == geteuid() && in_group(status->st_gid));
}

bool textfile_can_replace(const char *path, struct error *err)
{
    char place[PATH_MAX], folder[PATH_MAX];
    struct stat status;
    if (!resolve(path, place, folder, err))
        return false;
    if (stat(place, &status) != 0)
        return file_error("look at", place, err);
    if (!can_keep_owner(&status))
        return error_set(err, ERROR_CONFIG, "the owner of \"%s\" is another user or group", place);
    if (access(folder, W_OK | X_OK) != 0)
        return file_error("write in folder", folder, err);
    return true;
}

static bool write_all(int file, const struct buffer *text)
{
    const char *bytes = buffer_text(text);
    for (size_t at = 0; at < text->length;) {
        ssize_t wrote = write(file, bytes + at, text->length - at);
        if (wrote < 0 && errno != EINTR)
            return false;
        at += wrote > 0 ? (size_t)wrote : 0;
    }
    return true;
}

/* The name is on disk only when the folder is. */
static bool sync_folder(const char *folder)
{
    int opened = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened < 0)
        return false;
    bool ok = fsync(opened) == 0;
    close(opened);
    return ok;
}

static bool write_like(int file, const struct stat *status, const struct buffer *text)
{
    /* The owner first: giving a file away takes bits of its mode. */
    return fchown(file, status->st_uid, status->st_gid) == 0 &&
           fchmod(file, status->st_mode & 07777) == 0 && write_all(file, text) && fsync(file) == 0;
}

bool textfile_replace(const char *path, const struct buffer *text, struct error *err)
{
    char place[PATH_MAX], folder[PATH_MAX], beside[PATH_MAX + 16];
    struct stat status;
    if (!resolve(path, place, folder, err))
        return false;
    if (stat(place, &status) != 0)
        return file_error("look at", place, err);
    snprintf(beside, sizeof beside, "%s.XXXXXX", place);
    int file = mkostemp(beside, O_CLOEXEC);
    if (file < 0)
        return file_error("write beside", place, err);
    bool ok = write_like(file, &status, text) || file_error("write", beside, err);
    ok = (close(file) == 0 || !ok || file_error("write", beside, err)) && ok;
    ok = ok && (rename(beside, place) == 0 || file_error("replace", place, err));
    if (!ok) {
        unlink(beside);
        return false;
    }
    return sync_folder(folder) || file_error("write folder", folder, err);
}
