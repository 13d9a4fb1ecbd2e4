/*
 * A pass: all tables that are asked for, interval by interval, by some workers; then the judge over what
 * differed. No snapshot outlives an interval; one takes about half a second.
 */
#ifndef VERIFY_PASS_H
#define VERIFY_PASS_H

#include <jansson.h>

#include "verify/session.h"

enum outcome { OUTCOME_EQUAL, OUTCOME_DIFFERENT, OUTCOME_UNDECIDED };

struct verification {
    enum outcome outcome;
    json_t *report; /* docs/reference.md describes it; the caller releases it */
};

/* `tables` are of config's mapping set. Any thread; starts threads of its own and ends them. */
bool verify_tables(const struct config *config, const struct mapping *const *tables,
                   unsigned tables_count, const struct verify_options *options, struct stop *stop,
                   struct verification *verification, struct error *err) MUST_CHECK;

#endif
