/* Which values a shard's sequence gives, and where it stands. */
#include "unit.h"

#include <stdio.h>

#include "switchover/sequence_values.h"

#define BIG INT64_MAX

/* increment, start, min, max */
static const struct sequence_shape plain = {1, 1, 1, BIG, false};
static const struct sequence_shape odd = {2, 1, 1, BIG, false};
static const struct sequence_shape tens = {10, 3, 3, BIG, false};
static const struct sequence_shape down = {-1, -1, INT64_MIN, -1, false};
static const struct sequence_shape ring = {1, 1, 1, 10, true};
static const struct sequence_shape small = {1, 1, 1, 32767, false};

static void test_interleaved_shapes(void **state)
{
    static const struct {
        const char *what;
        const struct sequence_shape *own;
        unsigned shard, shards;
        struct sequence_shape shape;
    } rows[] = {
        {"one shard is as it was", &plain, 0, 1, {1, 1, 1, BIG, false}},
        {"remainder 0 of 2", &plain, 0, 2, {2, 2, 1, BIG, false}},
        {"remainder 1 of 2", &plain, 1, 2, {2, 1, 1, BIG, false}},
        {"remainder 2 of 3", &plain, 2, 3, {3, 2, 1, BIG, false}},
        {"odd ones stay odd", &odd, 0, 2, {4, 1, 1, BIG, false}},
        {"odd ones stay odd, the other shard", &odd, 1, 2, {4, 3, 1, BIG, false}},
        {"tens and three", &tens, 1, 3, {30, 13, 3, BIG, false}},
        {"descending", &down, 0, 2, {-2, -2, INT64_MIN, -1, false}},
        {"descending, the other shard", &down, 1, 2, {-2, -1, INT64_MIN, -1, false}},
        {"a ring begins again at its own value", &ring, 0, 2, {2, 2, 2, 10, true}},
        {"a ring, the other shard", &ring, 1, 2, {2, 1, 1, 10, true}},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct sequence_shape shape;
        assert_row(sequence_interleave(rows[i].own, rows[i].shard, rows[i].shards, &shape),
                   rows[i].what);
        assert_row(sequence_shape_equal(&shape, &rows[i].shape), rows[i].what);
        assert_row(sequence_gives(&shape, shape.start), rows[i].what);
    }
}

static void test_no_room_to_interleave(void **state)
{
    static const struct sequence_shape two = {1, 1, 1, 2, false}, far = {BIG / 2, 1, 1, BIG, false};
    struct sequence_shape shape;
    (void)state;
    assert_false(sequence_interleave(&two, 0, 4, &shape)); /* its first would be 4 */
    assert_false(sequence_interleave(&far, 0, 4, &shape)); /* the increment is no bigint */
}

static void test_blocks(void **state)
{
    static const struct {
        const char *what;
        const struct sequence_shape *own;
        int64_t origin, size;
        unsigned shard;
        struct sequence_shape shape;
    } rows[] = {
        {"the first", &plain, 5000, 1000, 0, {1, 5001, 5001, 6000, false}},
        {"the next", &plain, 5000, 1000, 1, {1, 6001, 6001, 7000, false}},
        {"odd ones stay odd", &odd, 5000, 1000, 1, {2, 6001, 6001, 7000, false}},
        {"tens and three", &tens, 5000, 1000, 1, {10, 6003, 6003, 7000, false}},
        {"descending", &down, -5000, 1000, 1, {-1, -6001, -7000, -6001, false}},
    };
    struct sequence_shape shape, next;
    (void)state;
    assert_true(sequence_block(&odd, 5000, 1000, 0, &shape));
    assert_true(sequence_block(&odd, 5000, 1000, 1, &next) && sequence_disjoint(&shape, &next));
    assert_true(sequence_interleave(&odd, 0, 3, &shape));
    assert_true(sequence_interleave(&odd, 2, 3, &next) && sequence_disjoint(&shape, &next));
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_row(sequence_block(rows[i].own, rows[i].origin, rows[i].size, rows[i].shard, &shape),
                   rows[i].what);
        assert_row(sequence_shape_equal(&shape, &rows[i].shape), rows[i].what);
    }
    assert_true(sequence_block(&small, 2767, 15000, 1, &shape));
    assert_false(sequence_block(&small, 2768, 15000, 1, &shape)); /* its end lies behind 32767 */
    assert_false(sequence_block(&plain, BIG - 5, 1000, 0, &shape));
}

static void test_stand(void **state)
{
    static const struct sequence_shape even = {2, 2, 1, BIG, false},
                                       back = {-2, -2, INT64_MIN, -1, false},
                                       block = {1, 5001, 5001, 6000, false},
                                       half = {2, 2, 2, 10, true};
    static const struct {
        const char *what;
        const struct sequence_shape *shape;
        int64_t used, end, last; /* last 0: there is none */
    } rows[] = {
        {"as it is", &plain, 41, BIG, 41},
        {"before its first value", &plain, -100, BIG, 1},
        {"the next of its own", &even, 41, BIG, 42},
        {"one of its own", &even, 42, BIG, 42},
        {"descending", &back, -41, INT64_MIN, -42},
        {"below a block: at its start", &block, 41, BIG, 5001},
        {"in the block", &block, 5500, BIG, 5500},
        {"one value is left", &block, 5999, BIG, 5999},
        {"none is left", &block, 6000, BIG, 0},
        {"behind the block", &block, 7000, BIG, 0},
        {"a column that ends sooner", &plain, 32766, 32767, 32766},
        {"… and is at its end", &plain, 32767, 32767, 0},
        {"the last bigint", &plain, BIG, BIG, 0},
        {"a ring goes round", &half, 11, BIG, 2},
        {"a ring goes round twice", &half, 11 + 9, BIG, 2},
        {"a ring at its end", &half, 10, BIG, 10},
        {"a ring between its values", &half, 9, BIG, 10},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int64_t last = 0;
        bool found = sequence_stand(rows[i].shape, rows[i].used, rows[i].end, &last);
        assert_row(found == (rows[i].last != 0), rows[i].what);
        assert_row(!found || last == rows[i].last, rows[i].what);
        assert_row(!found || sequence_gives(rows[i].shape, last), rows[i].what);
    }
}

/* What no table of cases shows: whatever was used, no two shards meet, and none goes back. */
static void test_shards_never_meet(void **state)
{
    static const struct sequence_shape *const shapes[] = {&plain, &odd, &tens, &down};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        for (int64_t used = -70; used < 70; used++) {
            bool given[4000] = {false};
            for (unsigned s = 0; s < 5; s++) {
                struct sequence_shape shape;
                int64_t last;
                assert_true(sequence_interleave(shapes[i], s, 5, &shape));
                assert_true(
                    sequence_stand(&shape, used, shape.increment < 0 ? INT64_MIN : BIG, &last));
                for (int64_t next = last + shape.increment, n = 0; n < 20;
                     n++, next += shape.increment) {
                    assert_true(sequence_further(&shape, next, used) == next && next != used);
                    assert_true(sequence_gives(&shape, next));
                    assert_false(given[next + 2000]);
                    given[next + 2000] = true;
                }
            }
        }
    }
}

static void test_small_ones(void **state)
{
    int64_t value;
    (void)state;
    assert_int_equal(sequence_used(&plain, 1, false), 0);
    assert_int_equal(sequence_used(&plain, 1, true), 1);
    assert_int_equal(sequence_used(&down, -1, false), 0);
    assert_int_equal(sequence_further(&plain, 3, 5), 5);
    assert_int_equal(sequence_further(&down, 3, 5), 3);
    assert_true(sequence_ahead(&plain, 5, 1000, &value) && value == 1005);
    assert_true(sequence_ahead(&down, -5, 1000, &value) && value == -1005);
    assert_false(sequence_ahead(&plain, BIG - 5, 1000, &value));
    assert_false(sequence_disjoint(&plain, &odd));
    assert_false(sequence_disjoint(&plain, &plain));
    assert_true(sequence_disjoint(&plain, &down));
    assert_int_equal(sequence_percent(&small, 0, 32767), 0);
    assert_int_equal(sequence_percent(&small, 16384, 32767), 50);
    assert_int_equal(sequence_percent(&plain, 32767, 32767), 100);
    assert_int_equal(sequence_percent(&plain, BIG, 32767), 101);
    assert_int_equal(sequence_percent(&down, -1, INT64_MIN), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interleaved_shapes),
        cmocka_unit_test(test_no_room_to_interleave),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_stand),
        cmocka_unit_test(test_shards_never_meet),
        cmocka_unit_test(test_small_ones),
    };
    return run_unit_tests("sequence_values", tests);
}
