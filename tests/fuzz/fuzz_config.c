/*
 * Any portage.yaml is read or refused: with class CONFIG or LIMIT, a message that names the file, and
 * all that was read in the arena.
 */
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include "mapping/config.h"

static const char *const seeds[] = {
    "source: \"host=a dbname=shop\"\ntarget: {shards: [host=b, 'host=c'], schema: target.sql}\n"
    "shard_by: [customer_id, id]\nlanes: 3\nsource_rate_max: 10MB\nqueue_bytes_max: 1 GiB\n"
    "tables:\n  shop.orders:\n    from: public.orders\n    select: |\n      id,\n"
    "      amount * 100 AS cents\n    where: amount IS NOT NULL\n    shard_by: id\n"
    "    shard_key: immutable\n    partition_by: {column: created_at, every: 1 month}\n"
    "    inverse: {amount: \"cents / 100.0\"}\n    lag_by: status\n    on_error: park\n"
    "  \"public.*\": identical\n",
    "source: postgresql://portage@old/shop\ntarget:\n  shards: [postgresql://portage@new/shop]\n"
    "tables:\n  public.payments:\n    - {from: public.cards, select: \"'card' AS kind, id\"}\n"
    "    - {from: public.cash, select: \"'cash' AS kind, id\"}\n"
    "sequences: {public.a_seq: public.b_seq}\nsequence_shards: ranges\nsequence_margin: 5\n"
    "accept_losses: [public.t.n]\nverify: {every: 1h, rate_max: 1MB}\n",
    "source: host=a\ntarget: {shards: [host=b]}\nendpoint:\n  pgbouncer:\n"
    "    - admin: host=c port=6432 dbname=pgbouncer\n      file: databases.ini\n"
    "      databases: {shop: {source: host=a dbname=s, target: host=b dbname=s}}\n"
    "  pause_ms: 200\nhooks: {paused: echo paused, time_limit: 3}\ntables: {\"*.*\": identical}\n",
    "source: host=a\ntarget: {shards: [host=b]}\nendpoint:\n  dns:\n    server: 192.0.2.53\n"
    "    key_file: tsig.key\n    ttl: 2\n    names: {db.example: {source: 192.0.2.1, target:"
    " [192.0.2.2, \"2001:db8::2\"]}}\ntables: {public.t: identical}\n",
};

bool fuzz_seed(unsigned number, struct buffer *bytes)
{
    return fuzz_seed_of(seeds, sizeof seeds / sizeof seeds[0], number, bytes);
}

static void read_path(const char *path)
{
    struct arena arena;
    struct config config;
    struct error err = ERROR_INIT;
    arena_init(&arena, 4096);
    bool ok = config_read(path, &arena, &config, &err);
    CHECK(ok ? err.class == ERROR_NONE : err.class == ERROR_CONFIG || err.class == ERROR_LIMIT);
    CHECK(ok || strstr(err.message, path) != NULL);
    CHECK(!ok || (config.shards_count > 0 && config.source.text[0] != '\0'));
    arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    char path[64];
    int file = memfd_create("portage.yaml", 0);
    CHECK(file >= 0 && write(file, bytes, length) == (ssize_t)length);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    read_path(path);
    close(file);
    return 0;
}
