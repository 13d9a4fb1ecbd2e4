#include "fuzz.h"

void fuzz_touch(const void *bytes, size_t length)
{
    static volatile unsigned char sink;
    const unsigned char *at = bytes;
    for (size_t i = 0; i < length; i++)
        sink ^= at[i];
}
