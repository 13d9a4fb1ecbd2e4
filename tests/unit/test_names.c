#include "unit.h"

#include "mapping/names.h"

static void test_parse(void **state)
{
    static const struct {
        const char *text, *schema, *name;
    } rows[] = {
        {"orders", "public", "orders"},
        {"Orders", "public", "orders"},
        {"shop.Orders", "shop", "orders"},
        {"Shop.\"Orders\"", "shop", "Orders"},
        {"\"Shop\".orders", "Shop", "orders"},
        {"\"a.b\".\"c d\"", "a.b", "c d"},
        {"\"sel\"\"ect'é\"", "public", "sel\"ect'é"},
        {"\"\"\"\"", "public", "\""},
        {"größe", "public", "größe"},
        {"\"select\"", "public", "select"},
    };
    struct arena arena;
    (void)state;
    arena_init(&arena, 256);
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct table_name name;
        assert_row(name_parse(rows[r].text, &arena, &name), rows[r].text);
        assert_string_equal(name.schema, rows[r].schema);
        assert_string_equal(name.name, rows[r].name);
    }
    arena_release(&arena);
}

static void test_parse_refuses(void **state)
{
    static const char *const wrong[] = {"", ".", "a.", ".a", "a..b", "a.b.c", "\"", "\"a", "\"\"",
                                        "\"a\"b", "a.\"b", "\"a\"\"", "\"a\".", "\"a\".\"\""};
    struct arena arena;
    (void)state;
    arena_init(&arena, 256);
    for (size_t w = 0; w < COUNT_OF(wrong); w++) {
        struct table_name name;
        assert_row(!name_parse(wrong[w], &arena, &name), wrong[w]);
    }
    arena_release(&arena);
}

static void test_patterns(void **state)
{
    static const struct {
        const char *pattern, *schema, *name;
        bool matches;
    } rows[] = {
        {"public.*", "public", "orders", true},
        {"public.*", "shop", "orders", false},
        {"public.*", "public2", "orders", false},
        {"*.*", "shop", "orders", true},
        {"*", "public", "orders", true},
        {"*", "shop", "orders", false},
        {"orders_*", "public", "orders_2024", true},
        {"orders_*", "public", "orders_", true},
        {"orders_*", "public", "orders", false},
        {"orders_*", "public", "my_orders_2024", false},
        {"*orders", "public", "my_orders", true},
        {"*orders", "public", "orders_old", false},
        {"shop.o*r*s", "shop", "orders", true},
        {"shop.o*r*s", "shop", "order", false},
        {"shop.*a*b*", "shop", "xxaxxbxx", true},
        {"shop.*a*b*", "shop", "xxbxxaxx", false},
        {"s*.orders", "shop", "orders", true},
        {"shop.orders", "shop", "orders", true},
        {"shop.orders", "shop", "orders2", false},
        {"*", "public", "größe", true},
        {"\"Shop\".*", "Shop", "orders", true},
        {"\"Shop\".*", "shop", "orders", false},
        {"Shop.*", "Shop", "orders", true},
        {"Shop.*", "shop", "orders", false},
        {"Sch ema.*", "Sch ema", "sel\"ect", true},
        {"\"Shop\".\"Or\"*", "Shop", "Orders", true},
        {"\"Shop\".Or*", "Shop", "Orders", true},
        {"\"Card\"*", "public", "CardTokens", true},
        {"\"a.b\".*", "a.b", "c", true},
        {"a.*", "a.b", "c", false},
        {"*.\"c.d\"", "a", "c.d", true},
        {"*\"\"\"\"", "public", "sel\"", true},
        {"*.\"a*b\"", "public", "a*b", true},
        {"*.\"a*b\"", "public", "axb", false},
        {"a.b.*", "a", "b", false},
        {"a.b.*", "a.b", "c", false},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++)
        assert_row(name_matches(rows[r].pattern, rows[r].schema, rows[r].name) == rows[r].matches,
                   rows[r].pattern);
}

static void test_what_is_a_pattern(void **state)
{
    static const struct {
        const char *text;
        bool pattern;
    } rows[] = {
        {"public.*", true},         {"*", true},
        {"\"Shop\".*", true},       {"\"a\"\"b\".*", true},
        {"public.orders", false},   {"public.\"a*b\"", false},
        {"\"a*\".\"b\"", false},    {"\"a\"\"*\"", false},
        {"\"a*\".b*", true},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++)
        assert_row(name_is_pattern(rows[r].text) == rows[r].pattern, rows[r].text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_what_is_a_pattern),
    };
    return run_unit_tests("names", tests);
}
