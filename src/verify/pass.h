/*
 * A pass: all tables that are asked for, interval by interval, by some workers; then the judge over what
 * differed. No snapshot outlives an interval; one takes about half a second. A pass that was interrupted
 * goes on where it was (kept.h), if its options say under which name it is kept.
 */
#ifndef VERIFY_PASS_H
#define VERIFY_PASS_H

#include "verify/report.h"
#include "verify/session.h"

/* `tables` are of the set, which was bound from config. Any thread; starts threads of its own and ends
 * them. */
bool verify_tables(const struct config *config, const struct mapping_set *set,
                   const struct mapping *const *tables, unsigned tables_count,
                   const struct verify_options *options, struct stop *stop,
                   struct verification *verification, struct error *err) MUST_CHECK;

#endif
