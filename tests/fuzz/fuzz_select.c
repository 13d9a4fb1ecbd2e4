/*
 * Any select list and any condition is taken apart or refused; each expression of what was taken apart
 * is one by itself, of the same kind.
 */
#include "fuzz.h"

#include "mapping/select.h"
#include "pg/oid.h"

static struct column columns[] = {
    {.name = "id", .full_type = "integer", .base_type = "integer", .base_oid = OID_INT4},
    {.name = "amount", .full_type = "numeric(12,2)", .base_type = "numeric",
     .base_oid = OID_NUMERIC, .builtin = true},
    {.name = "a b", .full_type = "text", .base_type = "text"},
};
static const struct relation source = {
    .schema = "public", .name = "x", .columns_count = 3, .columns = columns};
static const struct config config = {.path = "portage.yaml"};

static const char *const seeds[] = {
    "id, (amount * 100)::bigint AS cents, \"a b\"::jsonb AS doc, 'it''s'::text AS origin",
    "id, -- a comment, with a comma\n/* and another, */ coalesce(amount, 0) + 1 AS n",
    "id, CASE WHEN amount > 0 THEN 'x' ELSE $$y, z$$ END AS sign, ARRAY[id, 1] AS list",
    "amount IS NOT NULL AND \"a b\" <> E'\\n'",
    "id AS \"sel\"\"ect'\", (id - 10) / 2.5 AS half, amount::numeric(10,1) AS one",
};

bool fuzz_seed(unsigned number, struct buffer *bytes)
{
    return fuzz_seed_of(seeds, sizeof seeds / sizeof seeds[0], number, bytes);
}

static bool take_apart(const char *written, struct arena *arena, struct select_list *list,
                       struct error *err)
{
    const struct config_text text = {.text = written, .line = 10, .column = 7, .block = true};
    return select_parse(&config, &text, &source, arena, list, err);
}

/* By itself it is one expression still, of the same kind. */
static void check_item(const struct select_item *item, struct arena *arena)
{
    struct select_list alone;
    struct error err = ERROR_INIT;
    CHECK(item->name != NULL && item->name[0] != '\0');
    CHECK(item->column >= -1 && item->column < (int)source.columns_count);
    CHECK(take_apart(arena_printf(arena, "%s AS alone", item->expr), arena, &alone, &err));
    CHECK(alone.count == 1 && alone.items[0].kind == item->kind &&
          alone.items[0].column == item->column);
}

static void check_list(const struct select_list *list, struct arena *arena)
{
    CHECK(list->count > 0);
    for (unsigned i = 0; i < list->count; i++)
        check_item(&list->items[i], arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct arena arena;
    struct select_list list;
    struct select_calls calls = {0};
    struct column_set uses = {0};
    struct error err = ERROR_INIT, condition_err = ERROR_INIT;
    arena_init(&arena, 4096);
    char *written = arena_zalloc(&arena, length + 1);
    memcpy(written, bytes, length);
    const struct config_text text = {.text = written, .line = 10, .column = 7, .block = true};
    if (take_apart(written, &arena, &list, &err))
        check_list(&list, &arena);
    else
        CHECK(err.class == ERROR_CONFIG || err.class == ERROR_LIMIT);
    if (!select_parse_condition(&config, &text, &source, &arena, &uses, &calls, &condition_err))
        CHECK(condition_err.class == ERROR_CONFIG || condition_err.class == ERROR_LIMIT);
    arena_release(&arena);
    return 0;
}
