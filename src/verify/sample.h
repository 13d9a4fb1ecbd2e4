/*
 * Quick answers: a sample of rows, both ways, and exact counts. Neither proves that all is equal.
 */
#ifndef VERIFY_SAMPLE_H
#define VERIFY_SAMPLE_H

#include <jansson.h>

#include "verify/compare.h"

/* About `rows` random rows of the source and of each shard, by pages; all of them become suspects, so
 * that the judge looks at each on both sides. */
bool sample_table(struct session *session, const struct mapping *mapping, int64_t rows,
                  struct suspects *suspects, struct compared *compared,
                  struct error *err) MUST_CHECK;

/* Counts the table's rows at the source and on each shard; `shards` is an array of counts, the
 * caller's. Under load both move. */
bool count_table(struct session *session, const struct mapping *mapping, struct compared *compared,
                 json_t *shards, struct error *err) MUST_CHECK;

#endif
