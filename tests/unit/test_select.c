#include "unit.h"

#include "mapping/select.h"

static struct column columns[] = {
    {.name = "id", .full_type = "integer"},
    {.name = "amount", .full_type = "numeric(12,2)"},
    {.name = "a b", .full_type = "text"},
};
static const struct relation source = {
    .schema = "public", .name = "x", .columns_count = 3, .columns = columns};
static const struct config config = {.path = "portage.yaml"};

static bool parse(const char *text, struct arena *arena, struct select_list *list,
                  struct error *err)
{
    struct config_text where = {.text = text, .line = 10, .column = 7, .block = true};
    error_clear(err);
    arena_init(arena, 4096);
    return select_parse(&config, &where, &source, arena, list, err);
}

static void test_kinds_slices_and_inverses(void **state)
{
    struct arena arena;
    struct select_list list;
    struct error err;
    (void)state;
    assert_true(parse("id, (amount * 100)::bigint AS cents, -- a comment, with a comma\n"
                      "\"a b\"::jsonb AS doc, 'it''s'::text AS origin, length(\"a b\") l",
                      &arena, &list, &err));
    assert_int_equal(list.count, 5);
    assert_int_equal(list.items[0].kind, SELECT_COLUMN);
    assert_int_equal(list.items[1].kind, SELECT_ARITHMETIC);
    assert_string_equal(list.items[1].expr, "(amount * 100)::bigint");
    assert_string_equal(list.items[1].inverse, "(\"cents\"::numeric / (100))::numeric(12,2)");
    assert_int_equal(list.items[2].kind, SELECT_CAST);
    assert_string_equal(list.items[2].cast_type, "jsonb");
    assert_string_equal(list.items[2].expr, "\"a b\"::jsonb");
    assert_int_equal(list.items[3].kind, SELECT_CONSTANT);
    assert_int_equal(list.items[4].kind, SELECT_OTHER);
    assert_string_equal(list.items[4].name, "l");
    assert_string_equal(list.calls.items[0].name, "length");
    arena_release(&arena);
}

static void test_refusals_name_the_place(void **state)
{
    static const char *const refused[][2] = {
        {"idd", "portage.yaml:10:7: public.x has no column \"idd\""},
        {"id,\n  nope", "portage.yaml:11:9: public.x has no column \"nope\""},
        {"*", "portage.yaml:10:7: * says nothing about the target's columns"},
        {"(SELECT 1) AS a", "portage.yaml:10:7: a subquery looks at other rows"},
        {"id; SELECT 2", "portage.yaml:10:7: this is more than one statement"},
        {"DISTINCT id", "portage.yaml:10:7: there is more here than expressions"},
        {"id + 1", "portage.yaml:10:7: this expression has no name"},
        {"$1 AS a", "portage.yaml:10:7: there are no parameters here"},
        {"count(*) AS n", "portage.yaml:10:7: aggregates and window functions look at other rows"},
    };
    (void)state;
    for (size_t r = 0; r < sizeof refused / sizeof refused[0]; r++) {
        struct arena arena;
        struct select_list list;
        struct error err;
        assert_false(parse(refused[r][0], &arena, &list, &err));
        assert_string_equal(err.message, refused[r][1]);
        assert_int_equal(err.class, ERROR_CONFIG);
        arena_release(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds_slices_and_inverses),
        cmocka_unit_test(test_refusals_name_the_place),
    };
    return run_unit_tests("select", tests);
}
