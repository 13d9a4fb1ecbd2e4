#include "switchover/sequence_values.h"

#include "util/check.h"

/* Everything is computed as if it ascended, in numbers that do not overflow. */
__extension__ typedef __int128 wide;

static wide sign_of(const struct sequence_shape *shape)
{
    return shape->increment < 0 ? -1 : 1;
}

static bool narrow(wide value, int64_t *result)
{
    *result = (int64_t)value;
    return value >= INT64_MIN && value <= INT64_MAX;
}

static wide modulo(wide value, wide by)
{
    wide rest = value % by;
    return rest < 0 ? rest + by : rest;
}

/* The least value from `at` on that is `rest` modulo `step`. */
static wide align(wide at, wide step, wide rest)
{
    return at + modulo(rest - at, step);
}

bool sequence_shape_equal(const struct sequence_shape *a, const struct sequence_shape *b)
{
    return a->increment == b->increment && a->start == b->start && a->min == b->min &&
           a->max == b->max && a->cycle == b->cycle;
}

int64_t sequence_further(const struct sequence_shape *own, int64_t a, int64_t b)
{
    return (own->increment < 0) == (a < b) ? a : b;
}

int64_t sequence_used(const struct sequence_shape *own, int64_t last, bool called)
{
    int64_t used;
    if (called)
        return last;
    return narrow((wide)last - own->increment, &used) ? used : last;
}

bool sequence_ahead(const struct sequence_shape *own, int64_t value, int64_t count, int64_t *result)
{
    return narrow(value + sign_of(own) * count, result);
}

/* The bounds of a shape as they are for one that ascends. */
static wide first_of(const struct sequence_shape *shape)
{
    return shape->increment < 0 ? -(wide)shape->max : shape->min;
}

static wide last_of(const struct sequence_shape *shape)
{
    return shape->increment < 0 ? -(wide)shape->min : shape->max;
}

static wide step_of(const struct sequence_shape *shape)
{
    return sign_of(shape) * shape->increment;
}

/* One that cycles begins again at its first bound, which therefore has to be the shard's own. */
static bool set_first(struct sequence_shape *shape, wide first)
{
    return narrow(sign_of(shape) * first, shape->increment < 0 ? &shape->max : &shape->min);
}

bool sequence_interleave(const struct sequence_shape *own, unsigned shard, unsigned shards,
                         struct sequence_shape *shape)
{
    wide sign = sign_of(own), step = step_of(own) * shards;
    CHECK(shard < shards && own->increment != 0);
    wide rest = modulo(sign * own->start, step_of(own)) + step_of(own) * shard;
    wide start = align(sign * own->start, step, rest);
    wide first = align(first_of(own), step, rest);
    *shape = *own;
    return narrow(sign * step, &shape->increment) && start <= last_of(own) &&
           narrow(sign * start, &shape->start) && (!own->cycle || set_first(shape, first));
}

bool sequence_block(const struct sequence_shape *own, int64_t origin, int64_t size, unsigned shard,
                    struct sequence_shape *shape)
{
    wide sign = sign_of(own), below = sign * origin + (wide)size * shard;
    CHECK(own->increment != 0 && size > 0);
    wide start = align(below + 1, step_of(own), modulo(sign * own->start, step_of(own)));
    wide last = below + size;
    *shape = *own;
    return start >= first_of(own) && last <= last_of(own) && start <= last &&
           set_first(shape, start) && narrow(sign * start, &shape->start) &&
           narrow(sign * last, own->increment < 0 ? &shape->min : &shape->max);
}

bool sequence_disjoint(const struct sequence_shape *a, const struct sequence_shape *b)
{
    if (a->max < b->min || b->max < a->min)
        return true;
    return a->increment == b->increment && modulo((wide)a->start - b->start, step_of(a)) != 0;
}

bool sequence_gives(const struct sequence_shape *shape, int64_t value)
{
    return value >= shape->min && value <= shape->max &&
           modulo((wide)value - shape->start, step_of(shape)) == 0;
}

bool sequence_stand(const struct sequence_shape *shape, int64_t used, int64_t end, int64_t *last)
{
    wide sign = sign_of(shape), step = step_of(shape), first = first_of(shape);
    wide most = last_of(shape) < sign * end ? last_of(shape) : sign * end;
    wide from = sign * used, rest = modulo(sign * shape->start, step);
    if (shape->cycle && from > last_of(shape))
        from = first + modulo(from - last_of(shape) - 1, last_of(shape) - first + 1);
    wide at = align(from > first ? from : first, step, rest);
    if (shape->cycle && at > last_of(shape))
        at = align(first, step, rest);
    return at <= most && (shape->cycle || at + step <= most) && narrow(sign * at, last);
}

int sequence_percent(const struct sequence_shape *own, int64_t used, int64_t end)
{
    wide sign = sign_of(own), first = first_of(own), room = sign * end - first + 1;
    wide gone = sign * used - first + 1;
    if (gone <= 0)
        return 0;
    wide percent = room <= 0 ? 101 : gone * 100 / room;
    return percent > 101 ? 101 : (int)percent;
}
