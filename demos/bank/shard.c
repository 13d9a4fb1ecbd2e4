#include "shard.h"

/* src/common/hashfn.c (Bob Jenkins' lookup3), partbounds.c and hashfunc.c of PostgreSQL. */

static uint32_t rotated(uint32_t x, int by)
{
    return (x << by) | (x >> (32 - by));
}

struct state {
    uint32_t a, b, c;
};

static void mix(struct state *s)
{
    s->a = (s->a - s->c) ^ rotated(s->c, 4);
    s->c += s->b;
    s->b = (s->b - s->a) ^ rotated(s->a, 6);
    s->a += s->c;
    s->c = (s->c - s->b) ^ rotated(s->b, 8);
    s->b += s->a;
    s->a = (s->a - s->c) ^ rotated(s->c, 16);
    s->c += s->b;
    s->b = (s->b - s->a) ^ rotated(s->a, 19);
    s->a += s->c;
    s->c = (s->c - s->b) ^ rotated(s->b, 4);
    s->b += s->a;
}

static void finish(struct state *s)
{
    s->c = (s->c ^ s->b) - rotated(s->b, 14);
    s->a = (s->a ^ s->c) - rotated(s->c, 11);
    s->b = (s->b ^ s->a) - rotated(s->a, 25);
    s->c = (s->c ^ s->b) - rotated(s->b, 16);
    s->a = (s->a ^ s->c) - rotated(s->c, 4);
    s->b = (s->b ^ s->a) - rotated(s->a, 14);
    s->c = (s->c ^ s->b) - rotated(s->b, 24);
}

static uint64_t hash_int8(int64_t value, uint64_t seed)
{
    uint32_t low = (uint32_t)value;
    uint32_t high = (uint32_t)((uint64_t)value >> 32);
    low ^= value >= 0 ? high : ~high;

    uint32_t start = UINT32_C(0x9e3779b9) + (uint32_t)sizeof(uint32_t) + UINT32_C(3923095);
    struct state s = {start + (uint32_t)(seed >> 32), start + (uint32_t)seed, start};
    mix(&s);
    s.a += low;
    finish(&s);
    return ((uint64_t)s.b << 32) | s.c;
}

unsigned shard_of(int64_t customer, unsigned shards)
{
    const uint64_t partition_seed = UINT64_C(0x7A5B22367996DCFD);
    uint64_t hash = hash_int8(customer, partition_seed) + UINT64_C(0x49a0f4dd15e5a8e3);
    return (unsigned)(hash % shards);
}
