#include "stream/packing.h"

static const uint32_t no_mapping = UINT32_MAX;

/* Counts, then the changes: each a packed_change, its key, its two tuples. */
struct packed_batch {
    uint64_t since;
    uint64_t count;
};

struct packed_change {
    uint64_t lsn, key_hash;
    int64_t marker, commit_time;
    uint32_t mapping, op, leaf, xid, ordinal, key_length;
    uint32_t old_count, new_count;
    uint8_t may_miss, recopy, has_key, unused[5];
};

/* Its bytes and a NUL follow. */
struct packed_value {
    uint32_t kind, length;
};

/* ---- to bytes ---- */

static void pack_text(const char *text, uint32_t length, struct buffer *bytes)
{
    buffer_append(bytes, text, length);
    buffer_putc(bytes, '\0');
}

static void pack_tuple(const struct tuple *tuple, struct buffer *bytes)
{
    for (unsigned v = 0; v < tuple->count; v++) {
        const struct value *value = &tuple->values[v];
        struct packed_value packed = {(uint32_t)value->kind, value->length};
        buffer_append(bytes, &packed, sizeof packed);
        if (value->kind == VALUE_TEXT)
            pack_text(value->bytes, value->length, bytes);
        else
            CHECK(value->kind == VALUE_NULL || value->kind == VALUE_UNCHANGED);
    }
}

static void pack_change(const struct change *change, struct buffer *bytes)
{
    struct packed_change packed = {
        .lsn = change->lsn, .key_hash = change->key_hash, .marker = change->marker,
        .commit_time = change->commit_time,
        .mapping = change->mapping != NULL ? change->mapping->index : no_mapping,
        .op = (uint32_t)change->op, .leaf = change->leaf, .xid = change->xid,
        .ordinal = change->ordinal, .key_length = change->key_length,
        .old_count = change->old_row.count, .new_count = change->new_row.count,
        .may_miss = change->may_miss, .recopy = change->recopy, .has_key = change->key != NULL,
    };
    buffer_append(bytes, &packed, sizeof packed);
    if (change->key != NULL)
        pack_text(change->key, change->key_length, bytes);
    pack_tuple(&change->old_row, bytes);
    pack_tuple(&change->new_row, bytes);
}

void batch_pack(const struct batch *batch, struct buffer *bytes)
{
    struct packed_batch packed = {batch->since, batch->count};
    buffer_append(bytes, &packed, sizeof packed);
    for (const struct change *change = batch->first; change != NULL; change = change->next)
        pack_change(change, bytes);
    CHECK(!buffer_failed(bytes));
}

/* ---- and back ---- */

struct packed {
    const char *at;
    size_t left;
};

static const char *skip(struct packed *packed, size_t length)
{
    const char *at = packed->at;
    CHECK(length <= packed->left);
    packed->at += length;
    packed->left -= length;
    return at;
}

static void read_into(struct packed *packed, void *into, size_t length)
{
    memcpy(into, skip(packed, length), length);
}

static const char *unpack_text(struct packed *packed, uint32_t length)
{
    const char *text = skip(packed, (size_t)length + 1);
    CHECK(text[length] == '\0');
    return text;
}

static struct tuple unpack_tuple(struct packed *packed, uint32_t count, struct arena *arena)
{
    struct tuple tuple = {.count = count};
    if (count > 0)
        tuple.values = arena_zalloc(arena, count * sizeof *tuple.values);
    for (unsigned v = 0; v < count; v++) {
        struct packed_value value;
        read_into(packed, &value, sizeof value);
        tuple.values[v] = (struct value){.kind = (enum value_kind)value.kind,
                                         .length = value.length};
        if (value.kind == VALUE_TEXT)
            tuple.values[v].bytes = unpack_text(packed, value.length);
    }
    return tuple;
}

static void unpack_change(struct packed *packed, struct batch *batch,
                          const struct mapping_set *set)
{
    struct packed_change from;
    read_into(packed, &from, sizeof from);
    CHECK(from.mapping == no_mapping || from.mapping < set->count);
    struct change *change = batch_add(batch);
    change->mapping = from.mapping != no_mapping ? &set->mappings[from.mapping] : NULL;
    change->op = (enum change_op)from.op;
    change->leaf = from.leaf;
    change->may_miss = from.may_miss != 0;
    change->recopy = from.recopy != 0;
    change->xid = from.xid;
    change->lsn = from.lsn;
    change->marker = from.marker;
    change->commit_time = from.commit_time;
    change->ordinal = from.ordinal;
    change->key_hash = from.key_hash;
    change->key_length = from.key_length;
    if (from.has_key != 0)
        change->key = unpack_text(packed, from.key_length);
    change->old_row = unpack_tuple(packed, from.old_count, &batch->arena);
    change->new_row = unpack_tuple(packed, from.new_count, &batch->arena);
}

void batch_unpack(struct batch *batch, const char *bytes, size_t length,
                  const struct mapping_set *set)
{
    struct packed packed = {bytes, length};
    struct packed_batch from;
    read_into(&packed, &from, sizeof from);
    batch->since = from.since;
    for (uint64_t c = 0; c < from.count; c++)
        unpack_change(&packed, batch, set);
    CHECK(packed.left == 0);
}
