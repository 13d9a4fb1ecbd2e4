/* `bank load`: fills an empty source, or tells why not. */
#ifndef BANK_LOAD_H
#define BANK_LOAD_H

#include <stdint.h>

#include "util/error.h"

struct load_options {
    const char *dsn;
    int64_t rows; /* transactions; everything else is in proportion */
    int64_t seed;
};

bool load_run(const struct load_options *options, struct error *err) MUST_CHECK;

#endif
