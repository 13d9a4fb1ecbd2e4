/*
 * The arithmetic of sequences: which values a shard gives, and where a sequence must stand so that it
 * gives none that was used. Plain values, no server.
 *
 * The values of a sequence are a lattice: start, start + increment, … Its offset is kept, so that one
 * which gives only odd numbers goes on doing so. Interleaved, shard s of N has those of which the
 * quotient by the increment is s modulo N.
 */
#ifndef SWITCHOVER_SEQUENCE_VALUES_H
#define SWITCHOVER_SEQUENCE_VALUES_H

#include <stdbool.h>
#include <stdint.h>

/* As pg_sequence has it. A descending one has a negative increment. */
struct sequence_shape {
    int64_t increment, start, min, max;
    bool cycle;
};

bool sequence_shape_equal(const struct sequence_shape *a, const struct sequence_shape *b);

/* The further of two values, as the sequence goes. */
int64_t sequence_further(const struct sequence_shape *own, int64_t a, int64_t b);

/* What is used by a sequence that stands at `last`: one that was not called has not used it yet. */
int64_t sequence_used(const struct sequence_shape *own, int64_t last, bool called);

/* `value` and `count` more values of 1 each in the sequence's direction. False when no bigint. */
bool sequence_ahead(const struct sequence_shape *own, int64_t value, int64_t count,
                    int64_t *result);

/* The shape of shard `shard` of `shards`, from the one that the schema gives (`own`). False when it
 * has no value within the bounds. */
bool sequence_interleave(const struct sequence_shape *own, unsigned shard, unsigned shards,
                         struct sequence_shape *shape);

/* … or a block of `size` values; the first shard's lies behind `origin`. */
bool sequence_block(const struct sequence_shape *own, int64_t origin, int64_t size, unsigned shard,
                    struct sequence_shape *shape);

/* Whether two shapes never give the same value. */
bool sequence_disjoint(const struct sequence_shape *a, const struct sequence_shape *b);

/* Whether `value` is one that this shape gives. */
bool sequence_gives(const struct sequence_shape *shape, int64_t value);

/* Where the shape stands when it has given all up to `used` (inclusive), as setval(…, true) takes it:
 * one of its own values. `end` is the last value that its columns can hold. One that cycles begins
 * again. False when it can give none beyond. */
bool sequence_stand(const struct sequence_shape *shape, int64_t used, int64_t end, int64_t *last);

/* How much of the way to `end` is used up by `used`, in percent; more than 100 beyond it. */
int sequence_percent(const struct sequence_shape *own, int64_t used, int64_t end);

#endif
