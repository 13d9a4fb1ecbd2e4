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

static void test_name_join(void **state)
{
    static const char sixty[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    struct arena arena;
    (void)state;
    arena_init(&arena, 1024);
    assert_string_equal(name_join(&arena, "t", "_2024"), "t_2024");
    assert_string_equal(name_join(&arena, "", "_2024"), "_2024");
    char *cut = name_join(&arena, sixty, "_2024_01");
    assert_int_equal(strlen(cut), NAME_MAX_BYTES);
    assert_string_equal(cut + NAME_MAX_BYTES - strlen("a_2024_01"), "a_2024_01");
    char *whole = name_join(&arena, "\xc3\xa9\xc3\xa9", sixty); /* three bytes are left: one letter */
    assert_int_equal(strlen(whole), 62);
    assert_memory_equal(whole, "\xc3\xa9" "aa", 4);
    assert_string_equal(name_join(&arena, "\xe2\x82\xac\xe2\x82\xac", sixty) + 3, sixty);
    arena_release(&arena);
}

static void test_sql_find(void **state)
{
    static const char index[] = "CREATE INDEX \"a USING b\" ON public.\"it\"\" USING \" USING btree (a)";
    static const char key[] = "FOREIGN KEY (\"a NOT VALID\") REFERENCES p(id)";
    (void)state;
    assert_string_equal(sql_find(index, " USING "), " USING btree (a)");
    assert_null(sql_find(key, " NOT VALID"));
    assert_string_equal(sql_find("CHECK ((a = ' USING ''x'::text)) USING b", " USING "), " USING b");
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
        cmocka_unit_test(test_ident),    cmocka_unit_test(test_name), cmocka_unit_test(test_name_join),
        cmocka_unit_test(test_sql_find),
        cmocka_unit_test(test_literal),  cmocka_unit_test(test_element),
        cmocka_unit_test(test_overflow),
    };
    return run_unit_tests("quote", tests);
}
