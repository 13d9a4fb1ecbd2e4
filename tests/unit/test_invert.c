/* Mappings turned round, and bound again. No server: catalogs are made by hand. */
#include "unit.h"

#include "mapping/bind.h"
#include "mapping/invert.h"
#include "mapping/rejoin.h"
#include "mapping/statements.h"
#include "pg/oid.h"

#define COLUMN(NAME, NUMBER, TYPE, OID, ...)                                                       \
    {                                                                                              \
        .name = (NAME), .attnum = (NUMBER), .type = (TYPE), .full_type = (TYPE),                   \
        .base_type = (TYPE), .base_full_type = (TYPE), .type_oid = (OID), .base_oid = (OID),       \
        .type_kind = 'b', .builtin = true, .bytewise = true, .collation_deterministic = true,      \
        __VA_ARGS__                                                                                \
    }
#define TABLE(NAME, NUMBER, COLUMNS, UNIQUES)                                                      \
    {                                                                                              \
        .oid = (NUMBER), .schema = "public", .name = (NAME), .kind = 'r', .replica_identity = 'd', \
        .columns_count = COUNT_OF(COLUMNS), .columns = (COLUMNS), .uniques_count = 1,              \
        .uniques = (UNIQUES)                                                                       \
    }
#define PRIMARY(...)                                                                               \
    {                                                                                              \
        {                                                                                          \
            .name = "key", .count = COUNT_OF(((int[]){__VA_ARGS__})),                              \
            .attnums = (int[]){__VA_ARGS__}, .primary = true, .immediate = true                    \
        }                                                                                          \
    }
#define TEXT(T)                                                                                    \
    {                                                                                              \
        .text = (T), .line = 1, .column = 1                                                        \
    }
#define INT4(NAME, NUMBER, ...) COLUMN(NAME, NUMBER, "integer", OID_INT4, __VA_ARGS__)
#define INT8(NAME, NUMBER, ...) COLUMN(NAME, NUMBER, "bigint", OID_INT8, __VA_ARGS__)
#define WORDS(NAME, NUMBER, ...) COLUMN(NAME, NUMBER, "text", OID_TEXT, __VA_ARGS__)

/* ---- the source ---- */

static struct column payments[] = {INT4("id", 1, .not_null = true),
                                   INT4("amount", 2, .not_null = true),
                                   WORDS("note", 3, ),
                                   WORDS("label", 4, .generated = true),
                                   WORDS("made", 5, .not_null = true),
                                   WORDS("dropped", 6, )};
static struct unique_index payments_key[] = PRIMARY(1);
static struct column people[] = {INT4("id", 1, .not_null = true), WORDS("job", 2, ),
                                 WORDS("language", 3, .not_null = true)};
static struct unique_index people_key[] = PRIMARY(1);
static struct column mails[] = {INT4("person", 1, .not_null = true),
                                WORDS("mail", 2, .not_null = true)};
static struct unique_index mails_key[] = PRIMARY(1, 2);
static struct column phones[] = {INT4("person", 1, .not_null = true),
                                 WORDS("phone", 2, .not_null = true)};
static struct unique_index phones_key[] = PRIMARY(1, 2);
static struct column colours[] = {WORDS("name", 1, .not_null = true)};
static struct unique_index colours_key[] = PRIMARY(1);

static struct relation source_tables[] = {
    TABLE("payments", 1, payments, payments_key), TABLE("people", 2, people, people_key),
    TABLE("mails", 3, mails, mails_key), TABLE("phones", 4, phones, phones_key),
    TABLE("colours", 5, colours, colours_key)};
static const struct catalog source = {
    .relations_count = COUNT_OF(source_tables), .relations = source_tables, .database = "old"};

/* ---- the target ---- */

static struct column new_payments[] = {INT8("id", 1, .not_null = true),
                                       INT8("cents", 2, .not_null = true), WORDS("note", 3, ),
                                       WORDS("made", 4, .not_null = true), WORDS("origin", 5, )};
static struct unique_index new_payments_key[] = PRIMARY(1, 4);
static struct unique_index made_key[] = PRIMARY(4);
static struct column jobs[] = {INT8("person_id", 1, .not_null = true), WORDS("job", 2, )};
static struct unique_index jobs_key[] = PRIMARY(1);
static struct column tongues[] = {INT8("person_id", 1, .not_null = true),
                                  WORDS("language", 2, .not_null = true)};
static struct unique_index tongues_key[] = PRIMARY(1);
static struct column contacts[] = {INT8("person", 1, .not_null = true),
                                   WORDS("kind", 2, .not_null = true),
                                   WORDS("value", 3, .not_null = true), WORDS("origin", 4, )};
static struct unique_index contacts_key[] = PRIMARY(1, 2, 3);
static struct relation target_tables[] = {
    TABLE("payments", 11, new_payments, new_payments_key), TABLE("jobs", 12, jobs, jobs_key),
    TABLE("tongues", 13, tongues, tongues_key), TABLE("contacts", 14, contacts, contacts_key),
    TABLE("colours", 15, colours, colours_key)};
static const struct catalog targets[] = {
    {.relations_count = COUNT_OF(target_tables), .relations = target_tables, .database = "new"},
    {.relations_count = COUNT_OF(target_tables), .relations = target_tables, .database = "new"}};

/* ---- the configuration ---- */

static struct config_inverse dropped[] = {{TEXT("dropped"), TEXT("'gone'::text -- to be read")}};
static struct config_mapping mappings[] = {
    {.target = TEXT("public.payments"),
     .shard_by = TEXT("id"),
     .shard_key_immutable = true,
     .select = TEXT("id, (amount * 100)::bigint AS cents, note, made, 'old'::text AS origin"),
     .inverse_count = 1,
     .inverse = dropped,
     .lag_by = TEXT("cents"),
     .park_errors = true},
    {.target = TEXT("jobs"),
     .from = TEXT("people"),
     .select = TEXT("id AS person_id, job"),
     .shard_by = TEXT("person_id")},
    {.target = TEXT("tongues"),
     .from = TEXT("people"),
     .shard_by = TEXT("person_id"),
     .select = TEXT("id AS person_id, language")},
    {.target = TEXT("contacts"),
     .from = TEXT("mails"),
     .shard_by = TEXT("person"),
     .select = TEXT("person, 'mail'::text AS kind, mail AS value, 'old'::text AS origin")},
    {.target = TEXT("contacts"),
     .from = TEXT("phones"),
     .shard_by = TEXT("person"),
     .select = TEXT("person, 'phone'::text AS kind, phone AS value, 'old'::text AS origin")},
    {.target = TEXT("colours"), .identical = true, .shard_by = TEXT("everywhere")}};
static struct config_text shards[] = {TEXT("dbname=new0"), TEXT("dbname=new1")};
static const struct config config = {.path = "portage.yaml",
                                     .source = TEXT("dbname=old"),
                                     .shards_count = 2,
                                     .shards = shards,
                                     .schema_file = "target.sql",
                                     .mappings_count = COUNT_OF(mappings),
                                     .mappings = mappings,
                                     .lanes = 3,
                                     .verify_every_s = 60,
                                     .slot = "pgportage",
                                     .publication = "pgportage"};

struct both {
    struct arena arena;
    struct mapping_set there, back;
    struct config reversed;
    struct findings findings; /* of the way back */
};

static void bind_or_fail(const struct config *of, const struct catalog *from,
                         const struct catalog *to, unsigned count, struct both *both,
                         struct mapping_set *set)
{
    struct error err = ERROR_INIT;
    findings_init(&both->findings, &both->arena);
    if (!bind_mappings(of, from, to, count, &both->arena, set, &both->findings, &err))
        fail_msg("%s", err.message);
    for (unsigned f = 0; f < both->findings.count; f++) {
        const struct finding *finding = &both->findings.items[f];
        if (finding->severity == SEVERITY_REFUSE)
            fail_msg("%s %s: %s", finding->code, finding->object, finding->reason);
    }
}

static void setup(struct both *both, unsigned shard)
{
    arena_init(&both->arena, 64 * 1024);
    bind_or_fail(&config, &source, targets, 2, both, &both->there);
    invert_config(&both->there, &config, shard, &both->arena, &both->reversed);
    bind_or_fail(&both->reversed, &targets[shard], &source, 1, both, &both->back);
}

static const struct mapping *find(const struct both *both, const char *name)
{
    for (unsigned m = 0; m < both->back.count; m++) {
        if (strcmp(both->back.mappings[m].name, name) == 0)
            return &both->back.mappings[m];
    }
    fail_msg("no mapping %s", name);
    return NULL;
}

/* ---- tests ---- */

static void test_configuration(void **state)
{
    struct both both;
    (void)state;
    setup(&both, 1);
    assert_string_equal(both.reversed.source.text, "dbname=new1");
    assert_int_equal(both.reversed.shards_count, 1);
    assert_string_equal(both.reversed.shards[0].text, "dbname=old");
    assert_string_equal(both.reversed.slot, "pgportage_back_1");
    assert_string_equal(both.reversed.publication, "pgportage_back");
    assert_null(both.reversed.schema_file);
    assert_int_equal(both.reversed.lanes, 3);
    assert_int_equal(both.reversed.verify_every_s, 0);
    /* a reference table comes back from shard 0 alone */
    assert_int_equal(both.reversed.mappings_count, COUNT_OF(mappings) - 1);
    const struct config_mapping *first = &both.reversed.mappings[0];
    assert_string_equal(first->target.text, "\"public\".\"payments\"");
    assert_string_equal(first->select.text,
                        "\"id\"::integer AS \"id\", (\"cents\"::numeric / (100))::integer AS"
                        " \"amount\", \"note\" AS \"note\", \"made\" AS \"made\", 'gone'::text AS"
                        " \"dropped\"");
    assert_string_equal(first->lag_by.text, "amount");
    assert_true(first->park_errors);
    assert_null(first->where.text);
    arena_release(&both.arena);
    setup(&both, 0);
    assert_int_equal(both.back.count, COUNT_OF(mappings));
    arena_release(&both.arena);
}

static void test_key_is_that_of_the_target(void **state)
{
    struct both both;
    struct statement statement;
    struct column_set present;
    (void)state;
    setup(&both, 0);
    const struct mapping *mapping = find(&both, "public.payments");
    assert_true(mapping->has_key);
    assert_int_equal(mapping->key_count, 1); /* there it is (id, made) */
    assert_int_equal(mapping->key[0].source, 0);
    assert_int_equal(mapping->key[0].item, 0);
    assert_false(mapping->serial_lane);
    assert_int_equal(mapping->parts, 1);
    memset(&present, 0xff, sizeof present);
    statement_update(mapping, &present, false, &both.arena, &statement);
    assert_null(strstr(statement.sql, "SET \"dropped\"")); /* a constant is for new rows */
    assert_null(strstr(statement.sql, ", \"dropped\" = "));
    assert_non_null(strstr(statement.sql, "WHERE portage_row.\"id\" = m.\"id\""));
    arena_release(&both.arena);
}

static void test_merge_is_told_apart(void **state)
{
    struct both both;
    struct statement statement;
    struct column_set present;
    (void)state;
    setup(&both, 0);
    const struct mapping *mapping = find(&both, "public.phones");
    assert_string_equal(mapping->where, "\"kind\" IS NOT DISTINCT FROM ('phone'::text)");
    assert_true(mapping->where_by_key);
    assert_int_equal(mapping->key_count, 3);
    assert_int_equal(mapping->key[2].item, -1);
    assert_int_equal(mapping->key[2].source, 1);
    assert_false(mapping->serial_lane);
    statement_delete(mapping, false, &both.arena, &statement);
    assert_int_equal(statement.params_count, 3);
    assert_non_null(strstr(statement.sql, "WHERE (\"kind\" IS NOT DISTINCT FROM ('phone'::text))"));
    memset(&present, 0xff, sizeof present);
    statement_update(mapping, &present, false, &both.arena, &statement);
    assert_memory_equal(statement.sql, "UPDATE ", 7);
    assert_true(statement.may_miss);
    assert_true(statement_takes_rows(mapping, true));
    arena_release(&both.arena);
}

static void test_split_is_joined(void **state)
{
    struct both both;
    struct rejoin jobs_row, tongues_row;
    (void)state;
    setup(&both, 0);
    const struct mapping *part = find(&both, "public.people<-public.jobs");
    assert_int_equal(part->parts, 2);
    assert_false(part->merged);
    rejoin_make(&both.back, part, &both.arena, &jobs_row);
    rejoin_make(&both.back, find(&both, "public.people<-public.tongues"), &both.arena,
                &tongues_row);
    assert_int_equal(jobs_row.columns_count, 3);
    assert_int_equal(tongues_row.columns_count, 3);
    assert_string_equal(
        jobs_row.read,
        "SELECT portage_part_0.\"id\", portage_part_0.\"job\", portage_part_1.\"language\" FROM"
        " (SELECT \"person_id\" AS portage_key_0, (\"person_id\"::integer)::integer AS \"id\","
        " (\"job\")::text AS \"job\" FROM ONLY \"public\".\"jobs\""
        " WHERE \"person_id\" = $1::bigint) AS portage_part_0 JOIN"
        " (SELECT \"person_id\" AS portage_key_0, (\"person_id\"::integer)::integer AS \"id\","
        " (\"language\")::text AS \"language\" FROM ONLY \"public\".\"tongues\") AS portage_part_1"
        " ON portage_part_1.portage_key_0 = portage_part_0.portage_key_0");
    assert_string_equal(
        jobs_row.put,
        "INSERT INTO \"public\".\"people\" (\"id\", \"job\", \"language\") OVERRIDING SYSTEM VALUE"
        " VALUES ($1, $2, $3) ON CONFLICT (\"id\") DO UPDATE SET \"job\" = EXCLUDED.\"job\","
        " \"language\" = EXCLUDED.\"language\"");
    assert_string_equal(tongues_row.put, jobs_row.put);
    assert_string_equal(
        jobs_row.remove,
        "DELETE FROM ONLY \"public\".\"people\" AS portage_row USING (SELECT \"person_id\"::integer"
        " AS portage_key_0 FROM (VALUES ($1::bigint)) AS \"jobs\" (\"person_id\")) AS m"
        " WHERE portage_row.\"id\" = m.portage_key_0");
    arena_release(&both.arena);
}

static void test_losses(void **state)
{
    struct both both;
    struct findings findings;
    (void)state;
    setup(&both, 0);
    findings_init(&findings, &both.arena);
    invert_check(&both.there, &config, &both.arena, &findings);
    assert_int_equal(findings.refused, 0);
    assert_false(findings_have(&findings, "no-way-back"));
    assert_true(findings_have(&findings, "accepted-loss"));
    for (unsigned f = 0; f < findings.count; f++) {
        const char *object = findings.items[f].object;
        assert_row(strcmp(object, "public.payments.dropped") == 0 ||
                       strcmp(object, "public.payments.origin") == 0 ||
                       strcmp(object, "public.contacts.origin") == 0,
                   object);
    }
    arena_release(&both.arena);
}

static void test_key_that_old_rows_do_not_tell(void **state)
{
    struct both both;
    struct findings findings;
    (void)state;
    target_tables[0].uniques = made_key;
    arena_init(&both.arena, 64 * 1024);
    bind_or_fail(&config, &source, targets, 2, &both, &both.there);
    findings_init(&findings, &both.arena);
    invert_check(&both.there, &config, &both.arena, &findings);
    assert_true(findings_have(&findings, "no-way-back"));
    target_tables[0].uniques = new_payments_key;
    arena_release(&both.arena);
}

static void test_long_names_keep_their_suffix(void **state)
{
    struct both both;
    struct config longer = config;
    (void)state;
    setup(&both, 0);
    longer.slot = "a23456789b23456789c23456789d23456789e23456789f23456789g23456789";
    invert_config(&both.there, &longer, 1, &both.arena, &both.reversed);
    assert_int_equal(strlen(both.reversed.slot), 63);
    assert_string_equal(both.reversed.slot + 63 - 7, "_back_1");
    arena_release(&both.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_key_is_that_of_the_target),
        cmocka_unit_test(test_merge_is_told_apart),
        cmocka_unit_test(test_split_is_joined),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_key_that_old_rows_do_not_tell),
        cmocka_unit_test(test_long_names_keep_their_suffix),
    };
    return run_unit_tests("invert", tests);
}
