#include "unit.h"

#include "mapping/select.h"
#include "pg/oid.h"

enum { ID, AMOUNT, A_B, DOC, GRUESSE, QUOTED };

static struct column columns[] = {
    [ID] = {.name = "id",
            .full_type = "integer",
            .base_type = "integer",
            .base_oid = OID_INT4,
            .type_oid = OID_INT4},
    [AMOUNT] = {.name = "amount",
                .full_type = "numeric(12,2)",
                .base_type = "numeric",
                .builtin = true,
                .base_oid = OID_NUMERIC,
                .type_oid = OID_NUMERIC},
    [A_B] = {.name = "a b", .full_type = "text", .base_type = "text"},
    [DOC] = {.name = "doc", .full_type = "jsonb", .base_type = "jsonb"},
    [GRUESSE] = {.name = "grüße", .full_type = "text", .base_type = "text"},
    [QUOTED] = {.name = "sel\"ect'é", .full_type = "bigint", .base_type = "bigint"},
};
static const struct relation source = {
    .schema = "public", .name = "x", .columns_count = COUNT_OF(columns), .columns = columns};
static const struct config config = {.path = "portage.yaml"};

static bool parse(const char *text, struct arena *arena, struct select_list *list,
                  struct error *err)
{
    struct config_text where = {.text = text, .line = 10, .column = 7, .block = true};
    error_clear(err);
    arena_init(arena, 4096);
    return select_parse(&config, &where, &source, arena, list, err);
}

static void parse_or_fail(const char *text, struct arena *arena, struct select_list *list)
{
    struct error err;
    if (!parse(text, arena, list, &err))
        fail_msg("%s: %s", text, err.message);
    assert_int_equal(err.class, ERROR_NONE);
}

static void test_kinds_slices_and_inverses(void **state)
{
    struct arena arena;
    struct select_list list;
    (void)state;
    parse_or_fail("id, (amount * 100)::bigint AS cents, -- a comment, with a comma\n"
                  "\"a b\"::jsonb AS doc, 'it''s'::text AS origin, length(\"a b\") l",
                  &arena, &list);
    assert_int_equal(list.count, 5);
    assert_int_equal(list.items[0].kind, SELECT_COLUMN);
    assert_int_equal(list.items[1].kind, SELECT_ARITHMETIC);
    assert_string_equal(list.items[1].expr, "(amount * 100)::bigint");
    assert_string_equal(list.items[1].inverse, "(\"cents\"::numeric / (100))::numeric");
    assert_int_equal(list.items[2].kind, SELECT_CAST);
    assert_string_equal(list.items[2].cast_type, "jsonb");
    assert_string_equal(list.items[2].expr, "\"a b\"::jsonb");
    assert_int_equal(list.items[3].kind, SELECT_CONSTANT);
    assert_int_equal(list.items[4].kind, SELECT_OTHER);
    assert_string_equal(list.items[4].name, "l");
    assert_string_equal(list.calls.items[0].name, "length");
    arena_release(&arena);
}

static bool same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void test_kinds(void **state)
{
    static const struct {
        const char *text, *name;
        enum select_kind kind;
        int column;
        const char *inverse;
    } rows[] = {
        {"id", "id", SELECT_COLUMN, ID, "\"id\""},
        {"ID AS Key", "key", SELECT_COLUMN, ID, "\"key\""},
        {"x.id k", "k", SELECT_COLUMN, ID, "\"k\""},
        {"\"sel\"\"ect'é\" AS \"Q\"\"é\"", "Q\"é", SELECT_COLUMN, QUOTED, "\"Q\"\"é\""},
        {"grüße", "grüße", SELECT_COLUMN, GRUESSE, "\"grüße\""},
        {"id::bigint", "id", SELECT_CAST, ID, "\"id\"::integer"},
        {"CAST(id AS bigint) AS k", "k", SELECT_CAST, ID, "\"k\"::integer"},
        {"id::bigint::text AS k", "k", SELECT_ARITHMETIC, ID, "\"k\"::integer"},
        {"id + 5 AS k", "k", SELECT_ARITHMETIC, ID, "(\"k\" - (5))::integer"},
        {"id + -5 AS k", "k", SELECT_ARITHMETIC, ID, "(\"k\" - (-5))::integer"},
        {"id + - 5 AS k", "k", SELECT_ARITHMETIC, ID, "(\"k\" - (-5))::integer"},
        {"id + -(5) AS k", "k", SELECT_ARITHMETIC, ID, "(\"k\" - (-5))::integer"},
        {"id * -1 AS k", "k", SELECT_ARITHMETIC, ID, "(\"k\"::numeric / (-1))::integer"},
        {"id + -2.5 AS k", "k", SELECT_ARITHMETIC, ID, "(\"k\" - (-2.5))::integer"},
        {"-5 - id AS k", "k", SELECT_ARITHMETIC, ID, "((-5) - \"k\")::integer"},
        {"5 + id AS k", "k", SELECT_ARITHMETIC, ID, "(\"k\" - (5))::integer"},
        {"id - 5 AS k", "k", SELECT_ARITHMETIC, ID, "(\"k\" + (5))::integer"},
        {"5 - id AS k", "k", SELECT_ARITHMETIC, ID, "((5) - \"k\")::integer"},
        {"id - 0 AS k", "k", SELECT_ARITHMETIC, ID, "(\"k\" + (0))::integer"},
        {"id * 3 AS k", "k", SELECT_ARITHMETIC, ID, "(\"k\"::numeric / (3))::integer"},
        {"1.5 * amount AS k", "k", SELECT_ARITHMETIC, AMOUNT, "(\"k\"::numeric / (1.5))::numeric"},
        {"amount / 100.0 AS k", "k", SELECT_ARITHMETIC, AMOUNT, "(\"k\" * (100.0))::numeric"},
        {"(id + 1) * 2 - 3 AS k", "k", SELECT_ARITHMETIC, ID,
         "(((\"k\" + (3))::numeric / (2)) - (1))::integer"},
        {"amount / 10 AS k", "k", SELECT_ARITHMETIC, AMOUNT, "(\"k\" * (10))::numeric"},
        {"id / 10.0 AS k", "k", SELECT_ARITHMETIC, ID, "(\"k\" * (10.0))::integer"},
        {"id::numeric / 10 AS k", "k", SELECT_ARITHMETIC, ID, "(\"k\" * (10))::integer"},
        {"(id * 1.5) / 10 AS k", "k", SELECT_ARITHMETIC, ID,
         "((\"k\" * (10))::numeric / (1.5))::integer"},
        {"id / 10 AS k", "k", SELECT_OTHER, ID, NULL},
        {"(id + 1) / 10 AS k", "k", SELECT_OTHER, ID, NULL},
        {"id::bigint / 10 AS k", "k", SELECT_OTHER, ID, NULL},
        {"amount::int / 10 AS k", "k", SELECT_OTHER, AMOUNT, NULL},
        {"(id / 10)::numeric AS k", "k", SELECT_OTHER, ID, NULL},
        {"(id / 10) * 1.5 AS k", "k", SELECT_OTHER, ID, NULL},
        {"id / 10000000000 AS k", "k", SELECT_OTHER, ID, NULL},
        {"5 / '7' + id AS k", "k", SELECT_OTHER, ID, NULL},
        {"id * 0 AS k", "k", SELECT_OTHER, ID, NULL},
        {"id * 0.00 AS k", "k", SELECT_OTHER, ID, NULL},
        {"id * -0 AS k", "k", SELECT_OTHER, ID, NULL},
        {"id / 0 AS k", "k", SELECT_OTHER, ID, NULL},
        {"5 / id AS k", "k", SELECT_OTHER, ID, NULL},
        {"-id AS k", "k", SELECT_OTHER, ID, NULL},
        {"id % 7 AS k", "k", SELECT_OTHER, ID, NULL},
        {"id + id AS k", "k", SELECT_OTHER, -1, NULL},
        {"id + amount AS k", "k", SELECT_OTHER, -1, NULL},
        {"lower(\"a b\") AS k", "k", SELECT_OTHER, A_B, NULL},
        {"doc -> 1 AS k", "k", SELECT_OTHER, DOC, NULL},
        {"doc ->> 1 AS k", "k", SELECT_OTHER, DOC, NULL},
        {"doc - 'gone' AS k", "k", SELECT_OTHER, DOC, NULL},
        {"id IN (1, 2) AS k", "k", SELECT_OTHER, ID, NULL},
        {"id BETWEEN 1 AND 2 AS k", "k", SELECT_OTHER, ID, NULL},
        {"CASE WHEN id > 0 THEN 'p' ELSE 'n' END AS k", "k", SELECT_OTHER, ID, NULL},
        {"coalesce(id, 0) AS k", "k", SELECT_OTHER, ID, NULL},
        {"7 AS k", "k", SELECT_CONSTANT, -1, NULL},
        {"'a'::text AS k", "k", SELECT_CONSTANT, -1, NULL},
        {"NULL::integer AS k", "k", SELECT_CONSTANT, -1, NULL},
        {"pi() AS k", "k", SELECT_OTHER, -1, NULL},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct arena arena;
        struct select_list list;
        parse_or_fail(rows[r].text, &arena, &list);
        assert_row(list.count == 1, rows[r].text);
        const struct select_item *item = &list.items[0];
        assert_string_equal(item->name, rows[r].name);
        assert_row(item->kind == rows[r].kind, rows[r].text);
        assert_row(item->column == rows[r].column, rows[r].text);
        if (!same(item->inverse, rows[r].inverse))
            fail_msg("%s: inverse is %s", rows[r].text, item->inverse);
        if (rows[r].column >= 0)
            assert_row(column_set_has(&item->uses, (unsigned)rows[r].column), rows[r].text);
        arena_release(&arena);
    }
}

static void test_cast_types(void **state)
{
    static const char *const rows[][2] = {
        {"id::bigint", "int8"},           {"id::int", "int4"},
        {"id::numeric(10,2)", "numeric"}, {"id::pg_catalog.text", "text"},
        {"id::shop.\"My Type\"", "My Type"}, {"\"a b\"::jsonb AS k", "jsonb"},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct arena arena;
        struct select_list list;
        parse_or_fail(rows[r][0], &arena, &list);
        assert_row(list.items[0].kind == SELECT_CAST, rows[r][0]);
        assert_string_equal(list.items[0].cast_type, rows[r][1]);
        arena_release(&arena);
    }
}

/* How many digits behind the point a value has at most; -1 where some may be lost. */
static void test_digits(void **state)
{
    static const struct {
        const char *text;
        int digits;
    } rows[] = {
        {"id", 0},
        {"amount", 2},
        {"\"a b\" AS k", -1},
        {"id + 5 AS k", 0},
        {"id + 0.125 AS k", 3},
        {"1.5 - amount AS k", 2},
        {"amount * 100 AS k", 0},
        {"amount * 10 AS k", 1},
        {"amount * 1000 AS k", 0},
        {"amount * 25 AS k", 2},
        {"amount * 0.5 AS k", 3},
        {"(amount * 100)::bigint AS k", 0},
        {"(amount * 10)::bigint AS k", -1},
        {"amount::int AS k", -1},
        {"id::bigint::text AS k", 0},
        {"id::smallint AS k", -1},
        {"id::smallint::bigint AS k", -1},
        {"amount::numeric AS k", 2},
        {"amount::numeric(20,3) AS k", 2},
        {"amount::numeric(20,1) AS k", -1},
        {"amount::numeric(20) AS k", -1},
        {"amount::float8 AS k", -1},
        {"amount::varchar(3) AS k", -1},
        {"amount / 10 AS k", -1},
        {"amount + 1e2 AS k", -1},
        {"amount + id AS k", -1},
        {"7 AS k", -1},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct arena arena;
        struct select_list list;
        parse_or_fail(rows[r].text, &arena, &list);
        if (list.items[0].digits != rows[r].digits)
            fail_msg("%s: %d digits", rows[r].text, list.items[0].digits);
        arena_release(&arena);
    }
}

/* Slices are the user's own words, without the name; what looks like a comma, a comment, a name or
 * an AS within them is theirs. */
static void test_slices(void **state)
{
    static const struct {
        const char *text, *expr, *name;
    } rows[] = {
        {"id", "id", "id"},
        {"  id  ", "id", "id"},
        {"id AS k", "id", "k"},
        {"id as \"as\"", "id", "as"},
        {"id k", "id", "k"},
        {"id\n  AS\n  k", "id", "k"},
        {"(id)AS k", "(id)", "k"},
        {"(id)AS\"k\"", "(id)", "k"},
        {"\"a b\"AS k", "\"a b\"", "k"},
        {"id AS \"x\"\"y\"", "id", "x\"y"},
        {"id AS \"\"\"\"", "id", "\""},
        {"id AS \"\"\"x\"", "id", "\"x"},
        {"id AS \"x\"\"\"", "id", "x\""},
        {"id AS grüße", "id", "grüße"},
        {"grüße k", "grüße", "k"},
        {"id::bigint", "id::bigint", "id"},
        {"concat(id, ',', \"a b\") AS k", "concat(id, ',', \"a b\")", "k"},
        {"'a, b AS c' AS k", "'a, b AS c'", "k"},
        {"'--no comment' AS k", "'--no comment'", "k"},
        {"'/*no*/' AS k", "'/*no*/'", "k"},
        {"'it''s --' AS k", "'it''s --'", "k"},
        {"E'it\\'s --' AS k", "E'it\\'s --'", "k"},
        {"E'a''\\'--b' AS k", "E'a''\\'--b'", "k"},
        {"$$--'$$ AS k", "$$--'$$", "k"},
        {"$t$ $$ -- $t$ AS k", "$t$ $$ -- $t$", "k"},
        {"id /* , nope */ AS k", "id", "k"},
        {"id /* a /* nested */ one */ + 1 AS k", "id                          + 1", "k"},
        {"id -- , nope\n + 1 AS k", "id          \n + 1", "k"},
        {"id AS k -- the last", "id", "k"},
        {"CASE WHEN id > 0 THEN 1 END AS k", "CASE WHEN id > 0 THEN 1 END", "k"},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct arena arena;
        struct select_list list;
        parse_or_fail(rows[r].text, &arena, &list);
        assert_row(list.count == 1, rows[r].text);
        assert_string_equal(list.items[0].expr, rows[r].expr);
        assert_string_equal(list.items[0].name, rows[r].name);
        arena_release(&arena);
    }
}

/* In a list each item ends before the next one's comma, whatever stands between. */
static void test_slices_of_a_list(void **state)
{
    struct arena arena;
    struct select_list list;
    (void)state;
    parse_or_fail("id, -- key\n  amount + 1 AS \"a, b\" , /* , */ 'x,y' c,\n\n  \"a b\"\n", &arena,
                  &list);
    assert_int_equal(list.count, 4);
    assert_string_equal(list.items[0].expr, "id");
    assert_string_equal(list.items[1].expr, "amount + 1");
    assert_string_equal(list.items[1].name, "a, b");
    assert_string_equal(list.items[2].expr, "'x,y'");
    assert_string_equal(list.items[2].name, "c");
    assert_string_equal(list.items[3].expr, "\"a b\"");
    assert_int_equal(list.items[0].line, 10);
    assert_int_equal(list.items[0].place, 7);
    assert_int_equal(list.items[1].line, 11);
    assert_int_equal(list.items[1].place, 9);
    assert_int_equal(list.items[2].place, 9 + 31);
    assert_int_equal(list.items[3].line, 13);
    assert_int_equal(list.items[3].place, 9);
    arena_release(&arena);
}

static void test_uses_and_calls(void **state)
{
    struct arena arena;
    struct select_list list;
    (void)state;
    parse_or_fail("concat(id, upper(\"a b\")) AS a,\n public.lower(grüße) AS b", &arena, &list);
    assert_int_equal(list.items[0].column, -1);
    assert_true(column_set_has(&list.items[0].uses, ID));
    assert_true(column_set_has(&list.items[0].uses, A_B));
    assert_false(column_set_has(&list.items[0].uses, GRUESSE));
    assert_true(column_set_has(&list.items[1].uses, GRUESSE));
    assert_false(column_set_intersects(&list.items[0].uses, &list.items[1].uses));
    column_set_join(&list.items[0].uses, &list.items[1].uses);
    assert_true(column_set_intersects(&list.items[0].uses, &list.items[1].uses));
    assert_true(column_set_has(&list.items[0].uses, ID));
    assert_int_equal(list.calls.count, 3);
    assert_string_equal(list.calls.items[0].name, "concat");
    assert_string_equal(list.calls.items[1].name, "upper");
    assert_string_equal(list.calls.items[2].name, "lower");
    assert_int_equal(list.calls.items[1].line, 10);
    assert_int_equal(list.calls.items[1].place, 7 + 11);
    assert_int_equal(list.calls.items[2].line, 11);
    assert_int_equal(list.calls.items[2].place, 7 + 1);
    arena_release(&arena);
}

static void test_column_sets(void **state)
{
    struct column_set set = {{0}}, other = {{0}};
    (void)state;
    column_set_add(&set, 0);
    column_set_add(&set, 63);
    column_set_add(&set, 64);
    column_set_add(&set, RELATION_COLUMNS_MAX - 1);
    for (unsigned c = 0; c < RELATION_COLUMNS_MAX; c++)
        assert_int_equal(column_set_has(&set, c),
                         c == 0 || c == 63 || c == 64 || c == RELATION_COLUMNS_MAX - 1);
    column_set_add(&other, RELATION_COLUMNS_MAX - 2);
    assert_false(column_set_intersects(&set, &other));
    column_set_add(&other, RELATION_COLUMNS_MAX - 1);
    assert_true(column_set_intersects(&set, &other));
}

static void test_refusals_name_the_place(void **state)
{
    static const char *const refused[][2] = {
        {"idd", "portage.yaml:10:7: public.x has no column \"idd\""},
        {"id,\n  nope", "portage.yaml:11:9: public.x has no column \"nope\""},
        {"id, /* ,\n */ nope", "portage.yaml:11:11: public.x has no column \"nope\""},
        {"grÜße", "portage.yaml:10:7: public.x has no column \"grÜße\""},
        {"\"ID\"", "portage.yaml:10:7: public.x has no column \"ID\""},
        {"y.id", "portage.yaml:10:7: only columns of the source table can be used"},
        {"public.x.id", "portage.yaml:10:7: only columns of the source table can be used"},
        {"", "portage.yaml:10:7: the select list is empty"},
        {"*", "portage.yaml:10:7: * says nothing about the target's columns"},
        {"x.*", "portage.yaml:10:7: * says nothing about the target's columns"},
        {"(SELECT 1) AS a", "portage.yaml:10:7: a subquery looks at other rows"},
        {"id,\n EXISTS (SELECT 1) AS a", "portage.yaml:11:8: a subquery looks at other rows"},
        {"id IN (SELECT 1) AS a", "portage.yaml:10:10: a subquery looks at other rows"},
        {"id; SELECT 2", "portage.yaml:10:7: this is more than one statement"},
        {"id FROM a UNION SELECT id", "portage.yaml:10:7: this is more than one statement"},
        {"DISTINCT id", "portage.yaml:10:7: there is more here than expressions"},
        {"id + 1", "portage.yaml:10:7: this expression has no name"},
        {"id, lower(\"a b\")", "portage.yaml:10:11: this expression has no name"},
        {"$1 AS a", "portage.yaml:10:7: there are no parameters here"},
        {"count(*) AS n", "portage.yaml:10:7: aggregates and window functions look at other rows"},
        {"sum(id) OVER () AS n",
         "portage.yaml:10:7: aggregates and window functions look at other rows"},
        {"sum(id) FILTER (WHERE true) AS n",
         "portage.yaml:10:7: aggregates and window functions look at other rows"},
        {"count(DISTINCT id) AS n",
         "portage.yaml:10:7: aggregates and window functions look at other rows"},
        {"array_agg(id ORDER BY id) AS n",
         "portage.yaml:10:7: aggregates and window functions look at other rows"},
        {"id, current_date AS d",
         "portage.yaml:10:11: the value depends on when and where it is asked for"},
        {"current_user AS d",
         "portage.yaml:10:7: the value depends on when and where it is asked for"},
        {"id,\n  amount +", "portage.yaml:11:17: syntax error at or near \"FROM\""},
        {"id,, amount", "portage.yaml:10:10: syntax error at or near \",\""},
        {"id FROM other", "portage.yaml:10:20: syntax error at or near \"FROM\""},
        {"'open AS a", "portage.yaml:10:7: unterminated quoted string at or near \"'open AS a\n"
                       "FROM portage_source\""},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(refused); r++) {
        struct arena arena;
        struct select_list list;
        struct error err;
        assert_row(!parse(refused[r][0], &arena, &list, &err), refused[r][0]);
        assert_string_equal(err.message, refused[r][1]);
        assert_int_equal(err.class, ERROR_CONFIG);
        assert_true(err.hint[0] != '\0');
        arena_release(&arena);
    }
}

/* A plain or quoted scalar stands on one line of the file and goes on at column 1. */
static void test_places_of_other_texts(void **state)
{
    const struct config_text plain = {.text = "id, nope", .line = 4, .column = 13};
    struct arena arena;
    struct select_list list;
    struct error err = ERROR_INIT;
    (void)state;
    arena_init(&arena, 4096);
    assert_false(select_parse(&config, &plain, &source, &arena, &list, &err));
    assert_string_equal(err.message, "portage.yaml:4:17: public.x has no column \"nope\"");
    arena_release(&arena);
}

static bool parse_condition(const char *text, struct arena *arena, struct column_set *uses,
                            struct select_calls *calls, struct error *err)
{
    struct config_text where = {.text = text, .line = 20, .column = 12};
    error_clear(err);
    arena_init(arena, 4096);
    return select_parse_condition(&config, &where, &source, arena, uses, calls, err);
}

static void test_condition(void **state)
{
    struct arena arena;
    struct column_set uses;
    struct select_calls calls;
    struct error err;
    (void)state;
    assert_true(parse_condition("amount > 0 AND lower(\"a b\") <> '--' -- note", &arena, &uses,
                                &calls, &err));
    assert_true(column_set_has(&uses, AMOUNT));
    assert_true(column_set_has(&uses, A_B));
    assert_false(column_set_has(&uses, ID));
    assert_int_equal(calls.count, 1);
    assert_string_equal(calls.items[0].name, "lower");
    assert_int_equal(calls.items[0].line, 20);
    assert_int_equal(calls.items[0].place, 12 + 15);
    arena_release(&arena);
}

static void test_condition_refusals(void **state)
{
    static const char *const refused[][2] = {
        {"nope > 1", "portage.yaml:20:12: public.x has no column \"nope\""},
        {"id > 1 AND nope", "portage.yaml:20:23: public.x has no column \"nope\""},
        {"id IN (SELECT 1)", "portage.yaml:20:15: a subquery looks at other rows"},
        {"id > 1 LIMIT 1", "portage.yaml:20:12: there is more here than expressions"},
        {"id > 1 GROUP BY id", "portage.yaml:20:12: there is more here than expressions"},
        {"id > 1 ORDER BY id", "portage.yaml:20:12: there is more here than expressions"},
        {"true; DELETE FROM x", "portage.yaml:20:12: this is more than one statement"},
        {"id >", "portage.yaml:20:16: syntax error at end of input"},
        {"count(*) > 1",
         "portage.yaml:20:12: aggregates and window functions look at other rows"},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(refused); r++) {
        struct arena arena;
        struct column_set uses;
        struct select_calls calls;
        struct error err;
        assert_row(!parse_condition(refused[r][0], &arena, &uses, &calls, &err), refused[r][0]);
        assert_string_equal(err.message, refused[r][1]);
        assert_int_equal(err.class, ERROR_CONFIG);
        arena_release(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds_slices_and_inverses),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_cast_types),
        cmocka_unit_test(test_digits),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_slices_of_a_list),
        cmocka_unit_test(test_uses_and_calls),
        cmocka_unit_test(test_column_sets),
        cmocka_unit_test(test_refusals_name_the_place),
        cmocka_unit_test(test_places_of_other_texts),
        cmocka_unit_test(test_condition),
        cmocka_unit_test(test_condition_refusals),
    };
    return run_unit_tests("select", tests);
}
