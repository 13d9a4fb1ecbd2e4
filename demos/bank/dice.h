/* Seeded pseudo-random numbers (splitmix64). One a thread. */
#ifndef BANK_DICE_H
#define BANK_DICE_H

#include <stdint.h>

struct dice {
    uint64_t state;
};

static inline uint64_t dice_next(struct dice *dice)
{
    uint64_t z = dice->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* From 0 up to, not including, `below`. */
static inline int64_t dice_below(struct dice *dice, int64_t below)
{
    return (int64_t)(dice_next(dice) % (uint64_t)below);
}

#endif
