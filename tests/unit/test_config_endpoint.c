#include "unit.h"

#include <unistd.h>

#include "mapping/config.h"

#define LEAST                                                                                      \
    "source: host=a dbname=shop\n"                                                                 \
    "target: {shards: host=b}\n"                                                                   \
    "tables: {\"public.*\": identical}\n"

struct reading {
    char path[64];
    struct arena arena;
    struct config config;
    struct error err;
    bool ok;
};

static void read_text(struct reading *reading, const char *text)
{
    *reading = (struct reading){.path = "/tmp/pgportage_config_XXXXXX", .err = ERROR_INIT};
    int file = mkstemp(reading->path);
    assert_true(file >= 0);
    assert_int_equal(write(file, text, strlen(text)), strlen(text));
    close(file);
    arena_init(&reading->arena, 4096);
    reading->ok = config_read(reading->path, &reading->arena, &reading->config, &reading->err);
    unlink(reading->path);
}

static const struct config *read_or_fail(struct reading *reading, const char *text)
{
    read_text(reading, text);
    if (!reading->ok)
        fail_msg("%s", reading->err.message);
    return &reading->config;
}

static void test_none(void **state)
{
    static const char *const texts[] = {LEAST, LEAST "endpoint: none\n"};
    (void)state;
    for (size_t t = 0; t < COUNT_OF(texts); t++) {
        struct reading reading;
        const struct config *config = read_or_fail(&reading, texts[t]);
        assert_int_equal(config->endpoint.kind, ENDPOINT_NONE);
        assert_int_equal(config->pause_ms, 300);
        assert_int_equal(config->pause_attempts, 10);
        assert_int_equal(config->endpoint_limit_s, 10);
        assert_int_equal(config->hooks_limit_s, 10);
        for (unsigned phase = 0; phase < HOOK_PHASES; phase++)
            assert_null(config->endpoint.hooks[phase].text);
        arena_release(&reading.arena);
    }
}

static void test_pgbouncer(void **state)
{
    struct reading reading;
    (void)state;
    const struct config *config =
        read_or_fail(&reading, LEAST
                     "endpoint:\n"
                     "  pause_ms: 150\n"
                     "  pause_attempts: 3\n"
                     "  pgbouncer:\n"
                     "    - admin: host=p0 dbname=pgbouncer\n"
                     "      file: /etc/pgbouncer/databases.ini\n"
                     "      databases:\n"
                     "        bank_0: {source: host=a dbname=bank, target: host=b dbname=bank}\n"
                     "        bank_1: {source: host=a dbname=bank, target: host=c dbname=bank}\n"
                     "    - admin: host=p1 dbname=pgbouncer\n"
                     "      file: p1.ini\n"
                     "      databases: {bank: {source: host=a, target: \"host=b user='x y'\"}}\n");
    const struct config_pooler *poolers = config->endpoint.poolers;
    assert_int_equal(config->endpoint.kind, ENDPOINT_PGBOUNCER);
    assert_int_equal(config->pause_ms, 150);
    assert_int_equal(config->pause_attempts, 3);
    assert_int_equal(config->endpoint.poolers_count, 2);
    assert_string_equal(poolers[0].admin.text, "host=p0 dbname=pgbouncer");
    assert_int_equal(poolers[0].admin.line, 8);
    assert_int_equal(poolers[0].databases_count, 2);
    assert_string_equal(poolers[0].databases[1].name.text, "bank_1");
    assert_string_equal(poolers[0].databases[1].sides[SIDE_TARGET].text, "host=c dbname=bank");
    assert_string_equal(poolers[0].file.text, "/etc/pgbouncer/databases.ini");
    assert_string_equal(poolers[1].file.text, "/tmp/p1.ini");
    arena_release(&reading.arena);
}

static void test_dns_and_hooks(void **state)
{
    struct reading reading;
    (void)state;
    const struct config *config = read_or_fail(
        &reading,
        LEAST "endpoint:\n"
              "  dns:\n"
              "    server: 192.0.2.53\n"
              "    port: 5353\n"
              "    ttl: 2\n"
              "    zone: shop.example\n"
              "    key_file: tsig.key\n"
              "    names:\n"
              "      db.shop.example: {source: 192.0.2.1, target: [192.0.2.2, '2001:db8::2']}\n"
              "hooks: {paused: echo paused, aborted: ./aborted, time_limit: 1min}\n");
    const struct config_dns *dns = &config->endpoint.dns;
    assert_int_equal(config->endpoint.kind, ENDPOINT_DNS);
    assert_string_equal(dns->server.text, "192.0.2.53");
    assert_int_equal(config->dns_port, 5353);
    assert_int_equal(config->dns_ttl_s, 2);
    assert_string_equal(dns->key_file.text, "/tmp/tsig.key");
    assert_int_equal(dns->names_count, 1);
    assert_int_equal(dns->names[0].counts[SIDE_SOURCE], 1);
    assert_int_equal(dns->names[0].counts[SIDE_TARGET], 2);
    assert_string_equal(dns->names[0].sides[SIDE_TARGET][1].text, "2001:db8::2");
    assert_string_equal(config->endpoint.hooks[HOOK_PAUSED].text, "echo paused");
    assert_string_equal(config->endpoint.hooks[HOOK_ABORTED].text, "./aborted");
    assert_null(config->endpoint.hooks[HOOK_FENCED].text);
    assert_int_equal(config->hooks_limit_s, 60);
    arena_release(&reading.arena);
}

/* The text behind LEAST (so from line 4), and the message without its path. */
static const struct {
    const char *text, *message;
} errors[] = {
    {"endpoint: haproxy\n", "4:11: \"endpoint\" must be a mapping"},
    {"endpoint: {}\n", "4:1: \"endpoint\" names no kind"},
    {"endpoint: {pause_ms: 200}\n", "4:12: \"endpoint\" names no kind"},
    {"endpoint: {haproxy: x}\n", "4:12: unknown key \"haproxy\" in endpoint"},
    {"endpoint: {command: a, dns: {}}\n", "4:24: \"endpoint\" can be of one kind only"},
    {"endpoint: {command: a, pause_ms: 1}\n",
     "4:34: \"endpoint.pause_ms\" must be between 10 and 60000, not 1"},
    {"endpoint: {command: []}\n", "4:12: \"command\" must be a text"},
    {"endpoint: {pgbouncer: x}\n", "4:23: a pooler must be a mapping"},
    {"endpoint: {pgbouncer: {admin: x}}\n", "4:24: a pooler needs admin, file and databases"},
    {"endpoint: {pgbouncer: {socket: x}}\n", "4:24: unknown key \"socket\" in a pooler"},
    {"endpoint: {pgbouncer: {databases: {}}}\n", "4:24: \"databases\" must name 1 to 64"},
    {"endpoint: {pgbouncer: {databases: {a: x}}}\n", "4:39: \"a\" must be a mapping"},
    {"endpoint: {pgbouncer: {databases: {a: {source: host=a}}}}\n",
     "4:40: \"a\" needs a source and a target"},
    {"endpoint: {pgbouncer: {databases: {a: {source: host=a, goal: host=b}}}}\n",
     "4:56: unknown key \"goal\" in an endpoint"},
    {"endpoint: {pgbouncer: {databases: {a: {source: host=a, target: host}}}}\n",
     "4:64: \"target\" is no list of key=value, from its character 1 on"},
    {"endpoint: {pgbouncer: {databases: {a: {source: host=a, target: host=a}}}}\n",
     "4:64: source and target of \"a\" are the same database"},
    {"endpoint: {pgbouncer: {databases: {\"a'\": {source: host=a, target: host=b}}}}\n",
     "4:37: \"a'\" cannot be the name of an entry"},
    {"endpoint: {dns: {server: 192.0.2.53}}\n", "4:18: \"dns\" needs a server and names"},
    {"endpoint: {dns: {server: \"a b\"}}\n", "4:27: \"a b\" is no name and no address"},
    {"endpoint: {dns: {names: {a.example: {source: 1, target: \"x\\nsend\"}}}}\n",
     "4:58: \"x\nsend\" is no name and no address"},
    {"endpoint: {dns: {tls: x}}\n", "4:18: unknown key \"tls\" in dns"},
    {"hooks: x\n", "4:8: \"hooks\" must be a mapping"},
    {"hooks: {before: x}\n", "4:9: unknown key \"before\" in hooks"},
    {"hooks: {paused: }\n", "4:9: \"paused\" must be a text"},
};

static void test_errors(void **state)
{
    (void)state;
    for (size_t e = 0; e < COUNT_OF(errors); e++) {
        struct reading reading;
        char text[1024], expected[512];
        snprintf(text, sizeof text, LEAST "%s", errors[e].text);
        read_text(&reading, text);
        snprintf(expected, sizeof expected, "%s:%s", reading.path, errors[e].message);
        if (reading.ok || strcmp(reading.err.message, expected) != 0)
            fail_msg("%s: %s", errors[e].text, reading.err.message);
        assert_int_equal(reading.err.class, ERROR_CONFIG);
        arena_release(&reading.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_pgbouncer),
        cmocka_unit_test(test_dns_and_hooks),
        cmocka_unit_test(test_errors),
    };
    return run_unit_tests("config_endpoint", tests);
}
