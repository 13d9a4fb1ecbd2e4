#include "util/arena.h"

#include <stdarg.h>
#include <stdalign.h>

struct arena_block {
    struct arena_block *next;
    size_t used;
    size_t size;
    alignas(max_align_t) char bytes[];
};

void arena_init(struct arena *arena, size_t block_bytes)
{
    CHECK(block_bytes > 0);
    arena->blocks = NULL;
    arena->block_bytes = block_bytes;
    arena->bytes = 0;
}

void arena_release(struct arena *arena)
{
    struct arena_block *block = arena->blocks;
    while (block != NULL) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    arena->blocks = NULL;
    arena->bytes = 0;
}

void arena_clear(struct arena *arena)
{
    struct arena_block *kept = NULL;
    for (struct arena_block *block = arena->blocks, *next; block != NULL; block = next) {
        next = block->next;
        if (kept == NULL && block->size == arena->block_bytes)
            kept = block;
        else
            free(block);
    }
    arena->blocks = kept;
    arena->bytes = 0;
    if (kept != NULL) {
        kept->next = NULL;
        kept->used = 0;
        arena->bytes = sizeof *kept + kept->size;
    }
}

static struct arena_block *arena_add_block(struct arena *arena, size_t size)
{
    struct arena_block *block = check_malloc(sizeof *block + size);
    block->next = arena->blocks;
    block->used = 0;
    block->size = size;
    arena->blocks = block;
    arena->bytes += sizeof *block + size;
    return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    const size_t alignment = alignof(max_align_t);
    struct arena_block *block = arena->blocks;
    size = (size + alignment - 1) / alignment * alignment;
    if (block == NULL || block->size - block->used < size)
        block = arena_add_block(arena, size > arena->block_bytes ? size : arena->block_bytes);
    void *memory = block->bytes + block->used;
    block->used += size;
    return memory;
}

void *arena_zalloc(struct arena *arena, size_t size)
{
    return memset(arena_alloc(arena, size), 0, size);
}

void *arena_memdup(struct arena *arena, const void *bytes, size_t size)
{
    void *copy = arena_alloc(arena, size);
    if (size > 0)
        memcpy(copy, bytes, size);
    return copy;
}

char *arena_strndup(struct arena *arena, const char *text, size_t length)
{
    char *copy = arena_alloc(arena, length + 1);
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

char *arena_strdup(struct arena *arena, const char *text)
{
    return arena_strndup(arena, text, strlen(text));
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(length >= 0);
    char *text = arena_alloc(arena, (size_t)length + 1);
    va_start(args, format);
    vsnprintf(text, (size_t)length + 1, format, args);
    va_end(args);
    return text;
}

char *arena_take(struct arena *arena, struct buffer *buffer)
{
    CHECK(!buffer_failed(buffer));
    char *text = arena_strdup(arena, buffer_text(buffer));
    buffer_release(buffer);
    return text;
}
