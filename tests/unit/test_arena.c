#include "unit.h"

#include <stdalign.h>

#include "util/arena.h"

/* Every size is aligned, and no piece touches another, within blocks and beyond them. */
static void test_pieces(void **state)
{
    enum { PIECES = 200 };
    unsigned char *pieces[PIECES];
    struct arena arena;
    (void)state;
    arena_init(&arena, 256);
    for (size_t i = 0; i < PIECES; i++) {
        pieces[i] = arena_alloc(&arena, i);
        assert_int_equal((uintptr_t)pieces[i] % alignof(max_align_t), 0);
        memset(pieces[i], (int)i, i);
    }
    for (size_t i = 0; i < PIECES; i++) {
        for (size_t b = 0; b < i; b++)
            assert_int_equal(pieces[i][b], i);
    }
    arena_release(&arena);
}

static void test_larger_than_a_block(void **state)
{
    struct arena arena;
    (void)state;
    arena_init(&arena, 64);
    char *small = arena_strdup(&arena, "small");
    char *large = arena_zalloc(&arena, 100000);
    for (size_t i = 0; i < 100000; i++)
        assert_int_equal(large[i], 0);
    memset(large, 'x', 100000);
    assert_string_equal(small, "small");
    arena_release(&arena);
}

static void test_copies(void **state)
{
    struct arena arena;
    (void)state;
    arena_init(&arena, 64);
    assert_string_equal(arena_strdup(&arena, ""), "");
    assert_string_equal(arena_strdup(&arena, "sel\"ect'é"), "sel\"ect'é");
    assert_string_equal(arena_strndup(&arena, "abcdef", 3), "abc");
    assert_string_equal(arena_printf(&arena, "%s.%d", "orders", 12), "orders.12");
    assert_memory_equal(arena_memdup(&arena, "a\0b", 3), "a\0b", 3);
    assert_non_null(arena_memdup(&arena, NULL, 0));
    arena_release(&arena);
}

/* What batches are bounded by: everything taken counts, and nothing is left after a release. */
static void test_bytes(void **state)
{
    struct arena arena;
    (void)state;
    arena_init(&arena, 1024);
    assert_int_equal(arena_bytes(&arena), 0);
    (void)arena_alloc(&arena, 1);
    size_t first = arena_bytes(&arena);
    assert_in_range(first, 1024, 1024 + 64);
    (void)arena_alloc(&arena, 500);
    assert_int_equal(arena_bytes(&arena), first);
    (void)arena_alloc(&arena, 500);
    assert_int_equal(arena_bytes(&arena), 2 * first);
    (void)arena_alloc(&arena, 4096);
    assert_int_equal(arena_bytes(&arena), 3 * first + 4096 - 1024);
    arena_release(&arena);
    assert_int_equal(arena_bytes(&arena), 0);
    assert_string_equal(arena_strdup(&arena, "usable again"), "usable again");
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_larger_than_a_block),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_bytes),
    };
    return run_unit_tests("arena", tests);
}
