#include "unit.h"

#include "stream/packing.h"

static struct mapping mappings[2] = {{.index = 0, .name = "public.a"}, {.index = 1, .name = "public.b"}};
static const struct mapping_set set = {.shards_count = 1, .count = 2, .mappings = mappings};

static struct value text_value(const char *bytes, uint32_t length)
{
    return (struct value){.kind = VALUE_TEXT, .length = length, .bytes = bytes};
}

static void assert_same_tuple(const struct tuple *a, const struct tuple *b)
{
    assert_int_equal(a->count, b->count);
    for (unsigned v = 0; v < a->count; v++) {
        assert_int_equal(a->values[v].kind, b->values[v].kind);
        assert_int_equal(a->values[v].length, b->values[v].length);
        if (a->values[v].kind != VALUE_TEXT)
            continue;
        assert_memory_equal(a->values[v].bytes, b->values[v].bytes, a->values[v].length);
        assert_int_equal(b->values[v].bytes[b->values[v].length], '\0');
    }
}

static void assert_same_change(const struct change *a, const struct change *b)
{
    assert_ptr_equal(a->mapping, b->mapping);
    assert_int_equal(a->op, b->op);
    assert_int_equal(a->leaf, b->leaf);
    assert_int_equal(a->may_miss, b->may_miss);
    assert_int_equal(a->recopy, b->recopy);
    assert_int_equal(a->xid, b->xid);
    assert_true(a->lsn == b->lsn);
    assert_true(a->marker == b->marker);
    assert_true(a->commit_time == b->commit_time);
    assert_int_equal(a->ordinal, b->ordinal);
    assert_true(a->key_hash == b->key_hash);
    assert_int_equal(a->key_length, b->key_length);
    assert_int_equal(a->key != NULL, b->key != NULL);
    if (a->key != NULL)
        assert_memory_equal(a->key, b->key, a->key_length);
    assert_same_tuple(&a->old_row, &b->old_row);
    assert_same_tuple(&a->new_row, &b->new_row);
}

/* Packs, and unpacks into memory of just that size, so that a read beyond it is found. */
static void assert_round_trip(const struct batch *batch)
{
    struct buffer bytes;
    buffer_init(&bytes, 1 << 24);
    batch_pack(batch, &bytes);
    struct batch *back = batch_new();
    char *exact = arena_memdup(&back->arena, buffer_text(&bytes), bytes.length);
    batch_unpack(back, exact, bytes.length, &set);
    assert_int_equal(back->count, batch->count);
    assert_true(back->since == batch->since);
    assert_int_equal(back->answered_at, 0);
    const struct change *b = back->first;
    for (const struct change *a = batch->first; a != NULL; a = a->next, b = b->next)
        assert_same_change(a, b);
    assert_null(b);
    batch_free(back);
    buffer_release(&bytes);
}

static void test_rows(void **state)
{
    (void)state;
    struct batch *batch = batch_new();
    batch->since = 0x1122334455667788;
    static char large[300000];
    memset(large, 'x', sizeof large - 1);
    struct value old_values[] = {text_value("1", 1), {.kind = VALUE_NULL}};
    struct value new_values[] = {text_value("", 0), {.kind = VALUE_UNCHANGED}, {.kind = VALUE_NULL},
                                 text_value(large, sizeof large - 1)};
    static const enum change_op ops[] = {CHANGE_INSERT, CHANGE_UPDATE, CHANGE_DELETE};
    for (unsigned o = 0; o < COUNT_OF(ops); o++) {
        struct change *change = batch_add(batch);
        struct change *next = change->next;
        *change = (struct change){.next = next, .mapping = &mappings[o % 2], .op = ops[o],
                                  .leaf = 16384 + o, .may_miss = o == 2, .xid = UINT32_MAX - o,
                                  .lsn = UINT64_MAX - o, .commit_time = -5, .ordinal = o + 1,
                                  .key = "a\0b", .key_length = 3, .key_hash = UINT64_MAX / 3};
        change->old_row = (struct tuple){COUNT_OF(old_values), old_values};
        if (ops[o] != CHANGE_DELETE)
            change->new_row = (struct tuple){COUNT_OF(new_values), new_values};
    }
    assert_round_trip(batch);
    batch_free(batch);
}

static void test_without_rows(void **state)
{
    (void)state;
    struct batch *batch = batch_new();
    assert_round_trip(batch); /* and empty */
    static const enum change_op ops[] = {CHANGE_COMMIT, CHANGE_MARKER, CHANGE_BARRIER};
    for (unsigned o = 0; o < COUNT_OF(ops); o++) {
        struct change *change = batch_add(batch);
        change->op = ops[o];
        change->lsn = 77;
        change->marker = INT64_MIN;
        change->key = o == 1 ? "" : NULL; /* empty is not none */
    }
    struct change *truncate = batch_add(batch);
    truncate->op = CHANGE_TRUNCATE;
    truncate->mapping = &mappings[1];
    truncate->recopy = true;
    assert_round_trip(batch);
    batch_free(batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_without_rows),
    };
    return run_unit_tests("packing", tests);
}
