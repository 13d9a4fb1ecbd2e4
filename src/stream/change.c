#include "stream/change.h"

enum { BATCH_BLOCK_BYTES = 64 * 1024 };

struct batch *batch_new(void)
{
    struct batch *batch = check_calloc(1, sizeof *batch);
    arena_init(&batch->arena, BATCH_BLOCK_BYTES);
    return batch;
}

void batch_free(struct batch *batch)
{
    arena_release(&batch->arena);
    free(batch);
}

struct change *batch_add(struct batch *batch)
{
    struct change *change = arena_zalloc(&batch->arena, sizeof *change);
    if (batch->last != NULL)
        batch->last->next = change;
    else
        batch->first = change;
    batch->last = change;
    batch->count++;
    return change;
}

const char *change_op_name(enum change_op op)
{
    static const char *const names[] = {"INSERT",   "UPDATE", "DELETE",
                                        "TRUNCATE", "COMMIT", "BARRIER"};
    return names[op];
}
