/*
 * A spill: records of bytes, first in and first out, in files without a name.
 *
 * A file is unlinked as soon as it is made, so that nothing is left of it however we end; what it held
 * is lost then, and comes again, because nothing is confirmed before it is applied. Records go into
 * files (segments) of a 64th of what the space allows, each given back when it is read, so that the
 * disk holds little more than what waits.
 *
 * Invariants
 *  1. The bytes of a space are those of all its files, and at most bytes_max.
 *  2. A record is in the spill whole or not at all: after a failed append all is as before.
 *  3. What is taken is what was appended, by its checksum, or an error.
 *
 * The space is shared by the spills of all lanes. A spill is used by one thread at a time.
 */
#ifndef STREAM_SPILL_H
#define STREAM_SPILL_H

#include <stdatomic.h>
#include <stdint.h>

#include "util/arena.h"
#include "util/error.h"

struct spill_space {
    const char *folder;
    int64_t bytes_max;
    _Atomic int64_t bytes; /* in all files */
    _Atomic int64_t told_us; /* when it was last said that there is no more room; 0: never */
};

/* CONFIG when no file can be made in the folder. */
bool spill_space_check(const struct spill_space *space, struct error *err) MUST_CHECK;

enum spill_result {
    SPILL_OK,
    SPILL_FULL,   /* the space has no room */
    SPILL_FAILED, /* the disk has none, or worse: see err, class RETRY */
};

struct spill;

struct spill *spill_new(struct spill_space *space);
void spill_free(struct spill *spill); /* with all that is in it */

enum spill_result spill_append(struct spill *spill, const void *bytes, size_t length,
                               struct error *err) MUST_CHECK;

/* The oldest record, in memory of the arena. There must be one. RETRY when it cannot be read as it was
 * written. */
bool spill_take(struct spill *spill, struct arena *arena, const char **bytes, size_t *length,
                struct error *err) MUST_CHECK;

/* Bytes that wait: 0 when there is no record. */
int64_t spill_bytes(const struct spill *spill);

#endif
