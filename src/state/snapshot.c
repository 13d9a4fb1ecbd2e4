#include "state/snapshot.h"

#include <errno.h>

/* Reads a number and moves *text behind it; false if there is none. */
static bool take_number(const char **text, uint64_t *number)
{
    char *end;
    if (**text < '0' || **text > '9')
        return false;
    errno = 0;
    *number = strtoull(*text, &end, 10);
    *text = end;
    return errno == 0;
}

static bool take_char(const char **text, char c)
{
    if (**text != c)
        return false;
    (*text)++;
    return true;
}

static bool take_xip(const char **text, struct snapshot *snapshot)
{
    unsigned commas = 0;
    for (const char *c = *text; *c != '\0'; c++)
        commas += *c == ',';
    snapshot->xip = check_malloc((commas + 1) * sizeof *snapshot->xip);
    while (**text != '\0') {
        if (snapshot->count > 0 && !take_char(text, ','))
            return false;
        if (snapshot->count > commas || !take_number(text, &snapshot->xip[snapshot->count]))
            return false;
        snapshot->count++;
    }
    return true;
}

bool snapshot_parse(const char *text, struct snapshot *snapshot, struct error *err)
{
    const char *at = text;
    *snapshot = (struct snapshot){0};
    bool ok = take_number(&at, &snapshot->xmin) && take_char(&at, ':') &&
              take_number(&at, &snapshot->xmax) && take_char(&at, ':') && take_xip(&at, snapshot);
    if (ok) {
        snapshot->text = check_strdup(text);
        return true;
    }
    snapshot_release(snapshot);
    return error_set(err, ERROR_FATAL, "not a snapshot: \"%.200s\"", text);
}

void snapshot_release(struct snapshot *snapshot)
{
    free(snapshot->xip);
    free(snapshot->text);
    *snapshot = (struct snapshot){0};
}

bool snapshot_sees(const struct snapshot *snapshot, uint64_t xid)
{
    if (xid < snapshot->xmin)
        return true;
    if (xid >= snapshot->xmax)
        return false;
    unsigned low = 0, high = snapshot->count;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (snapshot->xip[middle] < xid)
            low = middle + 1;
        else
            high = middle;
    }
    return low == snapshot->count || snapshot->xip[low] != xid;
}

uint64_t snapshot_widen(uint32_t xid, uint64_t near)
{
    const uint64_t epoch = UINT64_C(1) << 32;
    uint64_t wide = (near & ~(epoch - 1)) | xid;
    if (wide > near && wide - near > epoch / 2 && wide >= epoch)
        return wide - epoch;
    if (near > wide && near - wide > epoch / 2)
        return wide + epoch;
    return wide;
}
