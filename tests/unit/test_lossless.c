/* Which target columns keep all of their source column. */
#include "unit.h"

#include "mapping/lossless.h"
#include "pg/oid.h"

#define BUILTIN(NAME, TYPE, BASE, OID)                                                             \
    {.name = (NAME), .full_type = (TYPE), .base_type = (BASE), .type_oid = (OID),                  \
     .base_oid = (OID), .type_kind = 'b', .builtin = true}

enum { OWN_TYPE = 20000 };

/* Of the source, and types of targets. */
static struct column columns[] = {
    BUILTIN("i2", "smallint", "smallint", OID_INT2),
    BUILTIN("i4", "integer", "integer", OID_INT4),
    BUILTIN("i8", "bigint", "bigint", OID_INT8),
    BUILTIN("n", "numeric", "numeric", OID_NUMERIC),
    BUILTIN("n12_2", "numeric(12,2)", "numeric", OID_NUMERIC),
    BUILTIN("n12_0", "numeric(12,0)", "numeric", OID_NUMERIC),
    BUILTIN("n14_3", "numeric(14,3)", "numeric", OID_NUMERIC),
    BUILTIN("f4", "real", "real", OID_FLOAT4),
    BUILTIN("f8", "double precision", "double precision", OID_FLOAT8),
    BUILTIN("t", "text", "text", OID_TEXT),
    BUILTIN("v", "character varying", "character varying", OID_VARCHAR),
    BUILTIN("v10", "character varying(10)", "character varying", OID_VARCHAR),
    BUILTIN("v20", "character varying(20)", "character varying", OID_VARCHAR),
    BUILTIN("c5", "character(5)", "bpchar", OID_BPCHAR),
    BUILTIN("d", "date", "date", OID_DATE),
    BUILTIN("tz", "timestamp with time zone", "timestamp with time zone", OID_TIMESTAMPTZ),
    BUILTIN("j", "jsonb", "jsonb", OID_JSONB),
    BUILTIN("m", "money", "money", OID_MONEY),
    {.name = "mood", .full_type = "mood", .base_type = "mood", .type_oid = OWN_TYPE,
     .base_oid = OWN_TYPE, .type_kind = 'e'},
    {.name = "euro", .full_type = "euro", .base_type = "numeric", .type_oid = OWN_TYPE + 1,
     .base_oid = OID_NUMERIC, .type_kind = 'b', .builtin = true},
};
static const struct relation source = {
    .schema = "public", .name = "x", .columns_count = COUNT_OF(columns), .columns = columns};
static const struct config config = {.path = "portage.yaml"};

static bool judge(const char *expr, const char *target)
{
    struct arena arena;
    struct select_list list;
    struct error err = ERROR_INIT;
    arena_init(&arena, 4096);
    struct config_text text = {.text = arena_printf(&arena, "%s AS k", expr), .line = 1};
    if (!select_parse(&config, &text, &source, &arena, &list, &err))
        fail_msg("%s: %s", expr, err.message);
    const struct select_item *item = &list.items[0];
    const struct column *from = item->column >= 0 ? &columns[item->column] : NULL;
    bool lossless = item_is_lossless(item, from, &columns[relation_column(&source, target)]);
    arena_release(&arena);
    return lossless;
}

static void test_lossless(void **state)
{
    static const char *const rows[][2] = {
        {"i4", "i4"},           {"i4", "i8"},
        {"i2", "i4"},           {"i4::bigint", "i8"},
        {"i4::text", "t"},      {"i8", "n"},
        {"i4", "n12_2"},        {"i4 + 7", "i4"},
        {"n", "n"},             {"n", "t"},
        {"n12_2", "n"},         {"n12_2", "n14_3"},
        {"n12_2::text", "t"},   {"(n12_2 * 100)::bigint", "i8"},
        {"n12_2 * 100", "n12_0"}, {"n12_2 * 0.5", "n14_3"},
        {"f4", "f8"},           {"f4::double precision", "f8"},
        {"f8::text", "t"},      {"t", "v"},
        {"v10", "v20"},         {"v10", "t"},
        {"v10::text", "v"},     {"c5", "c5"},
        {"d::text", "t"},       {"tz", "t"},
        {"j::text", "t"},       {"mood", "mood"},
        {"mood::text", "t"},    {"euro", "euro"},
        {"7", "i4"},            {"i8::text", "v"},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++)
        assert_row(judge(rows[r][0], rows[r][1]), rows[r][0]);
}

static void test_lossy(void **state)
{
    static const char *const rows[][2] = {
        {"i8", "i4"},              {"i8::int", "i4"},
        {"i8::int", "i8"},         {"i4 / 10", "i4"},
        {"i8", "f8"},              {"i4", "v10"},
        {"i8", "n12_2"},           {"n", "n12_2"},
        {"n14_3", "n12_2"},        {"n12_2", "n12_0"},
        {"n12_2::int", "i4"},      {"n12_0", "i8"},
        {"(n12_2 * 10)::bigint", "i8"}, {"n12_2 / 10", "n"},
        {"n12_2", "euro"},         {"euro", "n12_2"},
        {"f8", "f4"},              {"f8::real", "f8"},
        {"f8 * 2", "f8"},          {"t", "v20"},
        {"v20", "v10"},            {"v20::varchar(10)", "v20"},
        {"t::varchar(3)", "t"},    {"c5", "t"},
        {"c5::text", "t"},         {"tz::date", "t"},
        {"tz::date", "d"},         {"d", "tz"},
        {"t::jsonb", "j"},         {"t", "j"},
        {"m::text", "t"},          {"lower(t)", "t"},
        {"t || v", "t"},           {"i4 % 7", "i4"},
        {"t", "mood"},             {"d::text", "v10"},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++)
        assert_row(!judge(rows[r][0], rows[r][1]), rows[r][0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lossless),
        cmocka_unit_test(test_lossy),
    };
    return run_unit_tests("lossless", tests);
}
