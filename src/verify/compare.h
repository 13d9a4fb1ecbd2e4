/*
 * Comparing one interval of a table, or a whole one: first by sums of digests, a bucket of keys at a
 * time, for what is equal costs least; then, in the buckets that differ, key by key. What is left
 * are suspects.
 *
 * Sums do not depend on order, so no collation matters. Both sides are asked at the same time and read
 * one after the other. One thread a session.
 */
#ifndef VERIFY_COMPARE_H
#define VERIFY_COMPARE_H

#include "verify/ledger.h"
#include "verify/reading.h"
#include "verify/session.h"
#include "verify/suspects.h"

/* Adds to `compared`. */
bool compare_interval(struct session *session, const struct mapping *mapping, struct bounds bounds,
                      struct suspects *suspects, struct compared *compared,
                      struct error *err) MUST_CHECK;

#endif
