#include "fuzz.h"

bool fuzz_seed_of(const char *const *seeds, size_t count, unsigned number, struct buffer *bytes)
{
    if (number >= count)
        return false;
    buffer_puts(bytes, seeds[number]);
    return true;
}

unsigned fuzz_touch(const void *bytes, size_t length)
{
    const unsigned char *at = bytes;
    unsigned sum = 0;
    for (size_t i = 0; i < length; i++)
        sum += at[i];
    return sum;
}
