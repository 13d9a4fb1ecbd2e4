#include "unit.h"

#include "pg/quote.h"

/* What D11 names, and what else has bitten others. */
static void test_ident(void **state)
{
    static const char *const rows[][2] = {
        {"orders", "\"orders\""}, {"Orders", "\"Orders\""},
        {"select", "\"select\""}, {"sel\"ect'é", "\"sel\"\"ect'é\""},
        {"a b.c", "\"a b.c\""},   {"\"", "\"\"\"\""},
        {"\\", "\"\\\""},         {"$1", "\"$1\""},
    };
    struct buffer out;
    struct arena arena;
    (void)state;
    buffer_init(&out, 64);
    arena_init(&arena, 256);
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        buffer_clear(&out);
        quote_ident(&out, rows[r][0]);
        assert_string_equal(buffer_text(&out), rows[r][1]);
        assert_string_equal(quote_ident_dup(&arena, rows[r][0]), rows[r][1]);
    }
    arena_release(&arena);
    buffer_release(&out);
}

static void test_name(void **state)
{
    struct buffer out;
    struct arena arena;
    (void)state;
    buffer_init(&out, 64);
    arena_init(&arena, 256);
    quote_name(&out, "My\"Schema", "sel\"ect'é");
    assert_string_equal(buffer_text(&out), "\"My\"\"Schema\".\"sel\"\"ect'é\"");
    assert_string_equal(quote_name_dup(&arena, "\"\"", "\"\""), "\"\"\"\"\"\".\"\"\"\"\"\"");
    arena_release(&arena);
    buffer_release(&out);
}

static void test_literal(void **state)
{
    static const char *const rows[][2] = {
        {"", "''"},
        {"plain", "'plain'"},
        {"it's", "'it''s'"},
        {"''", "''''''"},
        {"sel\"ect'é", "'sel\"ect''é'"},
        {"\\", "E'\\\\'"},
        {"\\'; DROP TABLE t; --", "E'\\\\''; DROP TABLE t; --'"},
        {"a\nb\tc", "'a\nb\tc'"},
        {"C:\\new", "E'C:\\\\new'"},
    };
    struct buffer out;
    (void)state;
    buffer_init(&out, 128);
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        buffer_clear(&out);
        quote_literal(&out, rows[r][0]);
        assert_string_equal(buffer_text(&out), rows[r][1]);
    }
    buffer_release(&out);
}

/* A statement that does not fit is found out at its end, as with all buffers. */
static void test_overflow(void **state)
{
    struct buffer out;
    (void)state;
    buffer_init(&out, 6);
    quote_literal(&out, "it's");
    assert_true(buffer_failed(&out));
    buffer_release(&out);
}

static void test_element(void **state)
{
    static const char *const rows[][2] = {
        {"", "\"\""},
        {"plain", "\"plain\""},
        {"{a,b}", "\"{a,b}\""},
        {"NULL", "\"NULL\""},
        {"\"", "\"\\\"\""},
        {"\\", "\"\\\\\""},
        {"a\"b\\c", "\"a\\\"b\\\\c\""},
    };
    struct buffer out;
    (void)state;
    buffer_init(&out, 64);
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        buffer_clear(&out);
        quote_element(&out, rows[r][0], strlen(rows[r][0]));
        assert_string_equal(buffer_text(&out), rows[r][1]);
    }
    buffer_clear(&out);
    quote_element(&out, NULL, 0);
    assert_string_equal(buffer_text(&out), "NULL");
    buffer_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ident),    cmocka_unit_test(test_name),
        cmocka_unit_test(test_literal),  cmocka_unit_test(test_element),
        cmocka_unit_test(test_overflow),
    };
    return run_unit_tests("quote", tests);
}
