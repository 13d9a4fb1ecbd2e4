/*
 * An arena: memory that is released all at once. One travels with each batch of changes, one holds
 * the configuration. Passed explicitly, owned by whoever holds it; one thread at a time.
 *
 * An arena has no limit of its own: what it holds is bounded by whoever fills it (batches by the
 * queue's weight, rows by row_bytes_max), which arena_bytes() lets them see.
 */
#ifndef UTIL_ARENA_H
#define UTIL_ARENA_H

#include <stddef.h>

#include "util/buffer.h"

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    size_t block_bytes;         /* size of an ordinary block */
    size_t bytes;               /* taken from malloc so far */
};

void arena_init(struct arena *arena, size_t block_bytes);
void arena_release(struct arena *arena);
void arena_clear(struct arena *arena); /* as new, but keeps a block of ordinary size */

void *arena_alloc(struct arena *arena, size_t size); /* aligned for any type, not zeroed */
void *arena_zalloc(struct arena *arena, size_t size);
char *arena_strdup(struct arena *arena, const char *text);
char *arena_strndup(struct arena *arena, const char *text, size_t length);
char *arena_printf(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);
/* The text of a buffer, which is released and must not have failed. */
char *arena_take(struct arena *arena, struct buffer *buffer);
void *arena_memdup(struct arena *arena, const void *bytes, size_t size);

static inline size_t arena_bytes(const struct arena *arena)
{
    return arena->bytes;
}

#endif
