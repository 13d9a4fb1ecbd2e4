#include "stream/change.h"

enum { BATCH_BLOCK_BYTES = 16 * 1024 };

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

const struct tuple *change_row(const struct change *change)
{
    return change->op == CHANGE_DELETE ? &change->old_row : &change->new_row;
}

static bool same_value(const struct value *a, const struct value *b)
{
    return a->kind == b->kind && a->length == b->length &&
           (a->length == 0 || memcmp(a->bytes, b->bytes, a->length) == 0);
}

bool tuple_same_key(const struct mapping *mapping, const struct tuple *a, const struct tuple *b)
{
    for (unsigned k = 0; k < mapping->key_count; k++) {
        unsigned column = (unsigned)mapping->key[k].source;
        if (!same_value(&a->values[column], &b->values[column]))
            return false;
    }
    return mapping->has_key;
}

const char *change_op_name(enum change_op op)
{
    static const char *const names[] = {"INSERT", "UPDATE", "DELETE", "TRUNCATE",
                                        "COMMIT", "MARKER", "BARRIER"};
    return names[op];
}
