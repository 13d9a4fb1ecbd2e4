/*
 * What a fuzz target gives: libFuzzer's entry point, and the valid inputs that the plain program
 * (driver.c) starts from, which libFuzzer does without.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "util/buffer.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* Appends valid input number `number`; false when there are no more. */
bool fuzz_seed(unsigned number, struct buffer *bytes) MUST_CHECK;

/* fuzz_seed() of targets whose inputs are texts. */
bool fuzz_seed_of(const char *const *seeds, size_t count, unsigned number,
                  struct buffer *bytes) MUST_CHECK;

/* Reads every byte, so that AddressSanitizer sees those that are not ours. The sum is there for the
 * compiler, which else would leave the reading out. */
unsigned fuzz_touch(const void *bytes, size_t length);

#endif
