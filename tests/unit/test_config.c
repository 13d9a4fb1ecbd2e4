#include "unit.h"

#include <unistd.h>

#include "mapping/config.h"

/* A file that lives for one reading, and what was read. */
struct reading {
    char path[64];
    struct arena arena;
    struct config config;
    struct error err;
    bool ok;
};

static void read_bytes(struct reading *reading, const char *text, size_t length)
{
    *reading = (struct reading){.path = "/tmp/pgportage_config_XXXXXX", .err = ERROR_INIT};
    int file = mkstemp(reading->path);
    assert_true(file >= 0);
    assert_int_equal(write(file, text, length), length);
    close(file);
    arena_init(&reading->arena, 4096);
    reading->ok = config_read(reading->path, &reading->arena, &reading->config, &reading->err);
    unlink(reading->path);
}

static void read_text(struct reading *reading, const char *text)
{
    read_bytes(reading, text, strlen(text));
}

static void read_or_fail(struct reading *reading, const char *text)
{
    read_text(reading, text);
    if (!reading->ok)
        fail_msg("%s", reading->err.message);
    assert_int_equal(reading->err.class, ERROR_NONE);
}

static void reading_release(struct reading *reading)
{
    arena_release(&reading->arena);
}

static void assert_text(const struct config_text *text, const char *expected, int line, int column)
{
    assert_string_equal(text->text, expected);
    assert_int_equal(text->line, line);
    assert_int_equal(text->column, column);
}

#define LEAST                                                                                      \
    "source: host=a dbname=shop\n"                                                                 \
    "target: {shards: host=b}\n"

static void test_sequences(void **state)
{
    struct reading reading;
    (void)state;
    read_or_fail(&reading, LEAST "tables: {\"public.*\": identical}\n"
                                 "sequences: {public.a: public.b}\n"
                                 "sequence_shards: ranges\nsequence_margin: 0\n"
                                 "sequence_range: 5000000000\n");
    const struct config *config = &reading.config;
    assert_int_equal(config->sequences_count, 1);
    assert_text(&config->sequences[0].target, "public.a", 4, 13);
    assert_text(&config->sequences[0].source, "public.b", 4, 23);
    assert_int_equal(config->sequence_shards, SEQUENCE_RANGES);
    assert_int_equal(config->sequence_margin, 0);
    assert_int_equal(config->sequence_range, 5000000000);
    reading_release(&reading);
    read_text(&reading, LEAST "tables: {\"public.*\": identical}\nsequence_shards: apart\n");
    assert_false(reading.ok);
    reading_release(&reading);
}

static void test_least(void **state)
{
    struct reading reading;
    (void)state;
    read_or_fail(&reading, LEAST "tables: {\"public.*\": identical}\n");
    const struct config *config = &reading.config;
    assert_string_equal(config->path, reading.path);
    assert_text(&config->source, "host=a dbname=shop", 1, 9);
    assert_int_equal(config->shards_count, 1);
    assert_text(&config->shards[0], "host=b", 2, 18);
    assert_null(config->schema_file);
    assert_int_equal(config->shard_by_count, 0);
    assert_int_equal(config->mappings_count, 1);
    assert_string_equal(config->mappings[0].target.text, "public.*");
    assert_true(config->mappings[0].is_pattern);
    assert_true(config->mappings[0].identical);
    assert_int_equal(config->copy_workers, 2);
    assert_int_equal(config->lanes, 2);
    assert_int_equal(config->source_connections_max, 8);
    assert_int_equal(config->source_rate_max, 0);
    assert_int_equal(config->row_bytes_max, 32 << 20);
    assert_int_equal(config->queue_bytes_max, 64 << 20);
    assert_true(config->spill_bytes_max == INT64_C(4) << 30);
    assert_string_equal(config->spill_folder, "/tmp");
    assert_int_equal(config->index_workers, 2);
    assert_int_equal(config->replica_lag_max_s, 0);
    assert_int_equal(config->source_active_max, 0);
    assert_int_equal(config->chunk_ms, 1000);
    assert_int_equal(config->sequences_count, 0);
    assert_int_equal(config->sequence_shards, SEQUENCE_INTERLEAVE);
    assert_int_equal(config->sequence_margin, 1000);
    assert_int_equal(config->sequence_range, 100000000);
    assert_string_equal(config->slot, "pgportage");
    assert_string_equal(config->publication, "pgportage");
    reading_release(&reading);
}

static const char full[] =
    "source: \"host=a dbname=shop\"\n"
    "target:\n"
    "  shards: [host=b, 'host=c']\n"
    "  schema: target.sql\n"
    "shard_by: [customer_id, id]\n"
    "copy_workers: 4\n"
    "lanes: 3\n"
    "source_connections_max: 12\n"
    "source_rate_max: 10MB\n"
    "row_bytes_max: 64MiB\n"
    "queue_bytes_max: 1 GiB\n"
    "chunk_ms: 500\n"
    "slot: my_slot_1\n"
    "publication: my_publication\n"
    "tables:\n"
    "  shop.orders:\n"
    "    from: public.orders\n"
    "    select: |\n"
    "      id,\n"
    "      amount * 100 AS cents\n"
    "    where: amount > 0\n"
    "    shard_by: customer_id\n"
    "    shard_key: immutable\n"
    "    partition_by: {column: created_at, every: 1 month}\n"
    "    inverse: {amount: \"cents / 100.0\", note: \"''\"}\n"
    "    lag_by: priority\n"
    "    on_error: park\n"
    "  shop.people:\n"
    "    - from: public.customers\n"
    "      select: \"id, 'c' AS kind\"\n"
    "    - {from: public.staff, on_error: stop}\n"
    "  \"*\": identical\n";

static void test_full_settings(void **state)
{
    struct reading reading;
    (void)state;
    read_or_fail(&reading, full);
    const struct config *config = &reading.config;
    assert_text(&config->source, "host=a dbname=shop", 1, 10);
    assert_int_equal(config->shards_count, 2);
    assert_text(&config->shards[1], "host=c", 3, 21);
    assert_string_equal(config->schema_file, "/tmp/target.sql");
    assert_int_equal(config->shard_by_count, 2);
    assert_text(&config->shard_by[0], "customer_id", 5, 12);
    assert_text(&config->shard_by[1], "id", 5, 25);
    assert_int_equal(config->copy_workers, 4);
    assert_int_equal(config->lanes, 3);
    assert_int_equal(config->source_connections_max, 12);
    assert_int_equal(config->source_rate_max, 10000000);
    assert_int_equal(config->row_bytes_max, 67108864);
    assert_int_equal(config->queue_bytes_max, 1073741824);
    assert_int_equal(config->chunk_ms, 500);
    assert_string_equal(config->slot, "my_slot_1");
    assert_string_equal(config->publication, "my_publication");
    reading_release(&reading);
}

static void test_spill_folder(void **state)
{
    struct reading reading;
    (void)state;
    read_or_fail(&reading, LEAST "tables: {t: identical}\n"
                                 "spill_dir: /var/spill\nspill_bytes_max: 0\n");
    assert_string_equal(reading.config.spill_folder, "/var/spill");
    assert_int_equal(reading.config.spill_bytes_max, 0);
    reading_release(&reading);
}

static void test_full_mapping(void **state)
{
    struct reading reading;
    (void)state;
    read_or_fail(&reading, full);
    assert_int_equal(reading.config.mappings_count, 4);
    const struct config_mapping *orders = &reading.config.mappings[0];
    assert_text(&orders->target, "shop.orders", 16, 3);
    assert_text(&orders->from, "public.orders", 17, 11);
    assert_false(orders->identical);
    assert_false(orders->is_pattern);
    assert_text(&orders->select, "id,\namount * 100 AS cents\n", 19, 7);
    assert_true(orders->select.block);
    assert_text(&orders->where, "amount > 0", 21, 12);
    assert_false(orders->where.block);
    assert_text(&orders->shard_by, "customer_id", 22, 15);
    assert_true(orders->shard_key_immutable);
    assert_text(&orders->partition_column, "created_at", 24, 28);
    assert_text(&orders->partition_every, "1 month", 24, 47);
    assert_int_equal(orders->inverse_count, 2);
    assert_text(&orders->inverse[0].column, "amount", 25, 15);
    assert_text(&orders->inverse[0].expr, "cents / 100.0", 25, 24);
    assert_string_equal(orders->inverse[1].column.text, "note");
    assert_string_equal(orders->inverse[1].expr.text, "''");
    assert_text(&orders->lag_by, "priority", 26, 13);
    assert_true(orders->park_errors);
    reading_release(&reading);
}

/* A merge is several mappings to one target, in the order of the file. */
static void test_full_merge(void **state)
{
    struct reading reading;
    (void)state;
    read_or_fail(&reading, full);
    const struct config_mapping *customers = &reading.config.mappings[1];
    const struct config_mapping *staff = &reading.config.mappings[2];
    assert_string_equal(customers->target.text, "shop.people");
    assert_string_equal(customers->from.text, "public.customers");
    assert_text(&customers->select, "id, 'c' AS kind", 30, 16);
    assert_false(customers->identical);
    assert_string_equal(staff->target.text, "shop.people");
    assert_string_equal(staff->from.text, "public.staff");
    assert_true(staff->identical);
    assert_false(staff->park_errors);
    assert_string_equal(reading.config.mappings[3].target.text, "*");
    assert_true(reading.config.mappings[3].is_pattern);
    assert_null(reading.config.mappings[3].from.text);
    reading_release(&reading);
}

static void test_throttle(void **state)
{
    struct reading reading;
    (void)state;
    read_or_fail(&reading, LEAST "tables: {\"*\": identical}\nindex_workers: 16\n"
                           "throttle: {source_replica_lag_max: 2 min, source_active_max: 50}\n");
    assert_int_equal(reading.config.index_workers, 16);
    assert_int_equal(reading.config.replica_lag_max_s, 120);
    assert_int_equal(reading.config.source_active_max, 50);
    reading_release(&reading);
}

static void test_sizes(void **state)
{
    static const struct {
        const char *text;
        int64_t bytes;
    } rows[] = {
        {"0", 0},          {"1", 1},           {"17B", 17},        {"2kB", 2000},
        {"2KiB", 2048},    {"32MB", 32000000}, {"64MiB", 67108864}, {"1GB", 1000000000},
        {"1GiB", 1073741824}, {"\"3 MiB\"", 3145728}, {"8589934591GiB", INT64_C(8589934591) << 30},
    };
    static const char *const wrong[] = {"MiB", "1TB", "1mb", "1.5MB", "64 MiB x", "x", "1e6",
                                        "8589934592GiB", "99999999999999999999", "0x10", "1,000"};
    char text[256];
    struct reading reading;
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        snprintf(text, sizeof text, "%stables: {\"*\": identical}\nsource_rate_max: %s\n", LEAST,
                 rows[r].text);
        read_text(&reading, text);
        assert_row(reading.ok, rows[r].text);
        assert_row(reading.config.source_rate_max == rows[r].bytes, rows[r].text);
        reading_release(&reading);
    }
    for (size_t w = 0; w < COUNT_OF(wrong); w++) {
        snprintf(text, sizeof text, "%stables: {\"*\": identical}\nsource_rate_max: \"%s\"\n", LEAST,
                 wrong[w]);
        read_text(&reading, text);
        assert_row(!reading.ok, wrong[w]);
        const char *place = reading.err.message + strlen(reading.path);
        assert_row(strncmp(place, ":4:19: \"source_rate_max\" must be a number", 41) == 0, place);
        reading_release(&reading);
    }
}

/* What follows file:, and the file is LEAST, in two lines, and the text. */
static void test_errors_name_the_place(void **state)
{
    static const char *const rows[][2] = {
        {"", ":1:1: \"tables\" is missing"},
        {"tables: {}", ":3:1: \"tables\" is empty"},
        {"tables: all", ":3:9: \"tables\" must be a mapping from target tables"},
        {"tables: {t: all}", ":3:13: table \"t\" is neither \"identical\" nor a mapping"},
        {"tables: {t: }", ":3:10: table \"t\" is neither \"identical\" nor a mapping"},
        {"tables:\n  t:\n    form: u\n", ":5:5: unknown key \"form\" in a table's mapping"},
        {"tables:\n  t:\n    from: [u]\n", ":5:12: \"from\" must be a text"},
        {"tables:\n  t:\n    select: ''\n", ":5:14: \"select\" is empty"},
        {"tables:\n  t:\n    select: \"  \"\n", ":5:14: \"select\" is empty"},
        {"tables:\n  t:\n    select: {a: b}\n", ":5:14: \"select\" must be a text"},
        {"tables: {t: {shard_key: mutable}}", ":3:25: \"shard_key\" cannot be \"mutable\""},
        {"tables: {t: {on_error: skip}}", ":3:24: \"on_error\" cannot be \"skip\""},
        {"tables: {t: {inverse: x}}", ":3:23: \"inverse\" must be a mapping"},
        {"tables: {t: {partition_by: x}}", ":3:28: \"partition_by\" must be a mapping"},
        {"tables: {t: {partition_by: {column: x}}}",
         ":3:29: \"partition_by\" needs a column and its step"},
        {"tables: {t: {partition_by: {col: x}}}", ":3:29: unknown key \"col\" in partition_by"},
        {"tables: {\"s.*\": {select: id}}",
         ":3:18: the pattern \"s.*\" cannot have a select or a from"},
        {"tables: {\"s.*\": {from: t}}",
         ":3:18: the pattern \"s.*\" cannot have a select or a from"},
        {"tables:\n  t:\n    - {from: a}\n    - {select: id}\n",
         ":6:8: each part of the merge \"t\" needs a from"},
        {"tabels: {t: identical}", ":3:1: unknown key \"tabels\" at the top level"},
        {"lanes: 0", ":3:8: \"lanes\" must be between 1 and 64, not 0"},
        {"lanes: 65", ":3:8: \"lanes\" must be between 1 and 64, not 65"},
        {"lanes: -1", ":3:8: \"lanes\" must be between 1 and 64, not -1"},
        {"lanes: many", ":3:8: \"lanes\" must be a number, not \"many\""},
        {"lanes: 2MB", ":3:8: \"lanes\" must be a number, not \"2MB\""},
        {"lanes: [2]", ":3:9: \"lanes\" must be a text"},
        {"lanes:", ":3:1: \"lanes\" must be a text"},
        {"row_bytes_max: 1GiB",
         ":3:16: \"row_bytes_max\" must be between 8192 and 1073741823, not 1073741824"},
        {"queue_bytes_max: 1kB",
         ":3:18: \"queue_bytes_max\" must be between 1048576 and 68719476736, not 1000"},
        {"spill_bytes_max: -1",
         ":3:18: \"spill_bytes_max\" must be between 0 and 17592186044416, not -1"},
        {"spill_dir: [a]", ":3:13: \"spill_dir\" must be a text"},
        {"source_rate_max: -1",
         ":3:18: \"source_rate_max\" must be between 0 and 9223372036854775807, not -1"},
        {"tables: {t: identical}\nsource_connections_max: 3",
         ":4:25: \"source_connections_max\" must be between 4 and 1000, not 3"},
        {"tables: {t: identical}\nsource_connections_max: 5\nverify: {every: 1h}",
         ":4:25: \"source_connections_max\" must be at least 6 with \"verify.every\""},
        {"throttle: fast", ":3:11: \"throttle\" must be a mapping"},
        {"throttle: {source_lag: 1s}", ":3:12: unknown key \"source_lag\" in throttle"},
        {"throttle: {source_replica_lag_max: soon}",
         ":3:36: \"throttle.source_replica_lag_max\" must be a number, not \"soon\""},
        {"throttle: {source_replica_lag_max: 2d}",
         ":3:36: \"throttle.source_replica_lag_max\" must be between 0 and 86400, not 172800"},
        {"throttle: {source_active_max: 10s}",
         ":3:31: \"throttle.source_active_max\" must be a number, not \"10s\""},
        {"throttle: {source_active_max: -1}",
         ":3:31: \"throttle.source_active_max\" must be between 0 and 100000, not -1"},
        {"throttle.source_active_max: 1",
         ":3:1: unknown key \"throttle.source_active_max\" at the top level"},
        {"index_workers: 0", ":3:16: \"index_workers\" must be between 1 and 16, not 0"},
        {"chunk_ms: 5", ":3:11: \"chunk_ms\" must be between 10 and 60000, not 5"},
        {"slot: My-Slot", ":3:7: \"slot\" cannot be My-Slot"},
        {"shard_by: []", ":3:1: \"shard_by\" is empty"},
        {"shard_by: [[a]]", ":3:13: \"shard_by\" must be a text"},
    };
    char text[512];
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct reading reading;
        snprintf(text, sizeof text, "%s%s\n", LEAST, rows[r][0]);
        read_text(&reading, text);
        assert_row(!reading.ok, rows[r][0]);
        assert_int_equal(reading.err.class, ERROR_CONFIG);
        assert_memory_equal(reading.err.message, reading.path, strlen(reading.path));
        if (strcmp(reading.err.message + strlen(reading.path), rows[r][1]) != 0)
            fail_msg("%s: %s", rows[r][0], reading.err.message + strlen(reading.path));
        reading_release(&reading);
    }
}

static void test_errors_of_whole_files(void **state)
{
    static const char *const rows[][2] = {
        {"", ": cannot be read as YAML"},
        {"- a\n", ":1:1: the file holds no mapping"},
        {"%YAML 1.1\n", ":1:1: a line begins with %"},
        {"source: a\n%\xE9\x59", ":2:1: a line begins with %"},
        {"tables: {t: identical}\ntarget: {shards: a}\n", ":1:1: \"source\" is missing"},
        {"source: a\ntables: {t: identical}\n", ":1:1: \"target\" is missing"},
        {"target: {schema: a}\n", ":1:10: \"target\" has no shards"},
        {"target: {shards: []}\n", ":1:10: \"shards\" is empty"},
        {"target: b\n", ":1:9: \"target\" must be a mapping"},
        {"target: {shard: b}\n", ":1:10: unknown key \"shard\" in target"},
        {"source: [a]\n", ":1:10: \"source\" must be a text"},
        {"source:\n", ":1:1: \"source\" must be a text"},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct reading reading;
        read_text(&reading, rows[r][0]);
        assert_row(!reading.ok, rows[r][0]);
        assert_int_equal(reading.err.class, ERROR_CONFIG);
        if (strcmp(reading.err.message + strlen(reading.path), rows[r][1]) != 0)
            fail_msg("%s: %s", rows[r][0], reading.err.message + strlen(reading.path));
        reading_release(&reading);
    }
}

/* The words are libfyaml's, the place is ours to show. */
static void test_syntax_errors(void **state)
{
    static const char *const rows[][2] = {
        {"source: \"open\ntables: {}\n", ":1:9: "},
        {"source: a\n  target: b\n", ":1:9: "},
        {"tables: {a: b\nsource: c\n", ":2:7: "},
        {"source: a\nsource: b\n", ":2:1: "},
        {"source: *nowhere\n", ":1:10: "},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct reading reading;
        read_text(&reading, rows[r][0]);
        assert_row(!reading.ok, rows[r][0]);
        assert_int_equal(reading.err.class, ERROR_CONFIG);
        const char *place = reading.err.message + strlen(reading.path);
        if (strncmp(place, rows[r][1], strlen(rows[r][1])) != 0)
            fail_msg("%s: %s", rows[r][0], place);
        reading_release(&reading);
    }
}

/* What is written once and used again; places are those of what is used. */
static void test_aliases(void **state)
{
    struct reading reading;
    (void)state;
    read_or_fail(&reading, LEAST "tables:\n"
                                 "  a: &a {from: x, select: &list \"id\"}\n"
                                 "  b: *a\n"
                                 "  c: {<<: *a, from: y}\n"
                                 "  d: {select: *list}\n");
    assert_int_equal(reading.config.mappings_count, 4);
    assert_string_equal(reading.config.mappings[1].from.text, "x");
    assert_string_equal(reading.config.mappings[2].from.text, "y");
    assert_null(reading.config.mappings[3].from.text);
    for (int m = 0; m < 4; m++)
        assert_text(&reading.config.mappings[m].select, "id", 4, 34);
    reading_release(&reading);
}

/* Keys that are no texts, wherever a key can stand. */
static void test_keys_that_are_no_texts(void **state)
{
    static const char *const rows[] = {
        "[a]: b\n",
        "{a: b}: c\n",
        "~: b\n",
        "target: {[a]: b}\n",
        "target: {~: b}\n",
        "tables: {[a]: identical}\n",
        "tables: {~: identical}\n",
        "tables: {t: {[a]: b}}\n",
        "tables: {t: {~: b}}\n",
        "tables: {t: {partition_by: {[a]: b}}}\n",
        "tables: {t: {inverse: {[a]: b}}}\n",
        "tables: {t: {inverse: {a: [b]}}}\n",
        "tables: {t: [[a]]}\n",
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct reading reading;
        read_text(&reading, rows[r]);
        assert_row(!reading.ok, rows[r]);
        assert_int_equal(reading.err.class, ERROR_CONFIG);
        reading_release(&reading);
    }
}

static void test_no_file(void **state)
{
    struct arena arena;
    struct config config;
    struct error err = ERROR_INIT;
    (void)state;
    arena_init(&arena, 256);
    assert_false(config_read("/nowhere/portage.yaml", &arena, &config, &err));
    assert_int_equal(err.class, ERROR_CONFIG);
    assert_string_equal(err.message,
                        "cannot open \"/nowhere/portage.yaml\": No such file or directory");
    assert_false(config_read("/", &arena, &config, &err));
    assert_int_equal(err.class, ERROR_CONFIG);
    arena_release(&arena);
}

/* A megabyte is the most; a byte more is refused, not cut. */
static void test_file_too_large(void **state)
{
    enum { LARGE = (1 << 20) + 1 };
    static const char head[] = LEAST "tables: {t: identical}\n#";
    char *text = check_malloc(LARGE);
    struct reading reading;
    (void)state;
    memset(text, 'x', LARGE);
    memcpy(text, head, sizeof head - 1);
    read_bytes(&reading, text, LARGE - 1);
    assert_true(reading.ok);
    reading_release(&reading);
    read_bytes(&reading, text, LARGE);
    assert_false(reading.ok);
    assert_non_null(strstr(reading.err.message, "is larger than 1048576 bytes"));
    reading_release(&reading);
    free(text);
}

static void test_place(void **state)
{
    const struct config_text flow = {.text = "id,\namount", .line = 20, .column = 7};
    struct config_text block = flow;
    int line, column;
    (void)state;
    block.block = true;
    config_place(&block, 0, &line, &column);
    assert_int_equal(line, 20);
    assert_int_equal(column, 7);
    config_place(&block, 3, &line, &column);
    assert_int_equal(line, 20);
    assert_int_equal(column, 10);
    config_place(&block, 6, &line, &column);
    assert_int_equal(line, 21);
    assert_int_equal(column, 9);
    config_place(&flow, 6, &line, &column);
    assert_int_equal(line, 21);
    assert_int_equal(column, 3);
}

int main(void)
{
    unsetenv("TMPDIR"); /* a default depends on it */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_least),
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_full_settings),
        cmocka_unit_test(test_spill_folder),
        cmocka_unit_test(test_full_mapping),
        cmocka_unit_test(test_full_merge),
        cmocka_unit_test(test_throttle),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_errors_name_the_place),
        cmocka_unit_test(test_errors_of_whole_files),
        cmocka_unit_test(test_syntax_errors),
        cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_keys_that_are_no_texts),
        cmocka_unit_test(test_no_file),
        cmocka_unit_test(test_file_too_large),
        cmocka_unit_test(test_place),
    };
    return run_unit_tests("config", tests);
}
