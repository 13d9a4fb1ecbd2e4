/* The partitions that partition_by asks for, on one shard: from the least to the largest value that
 * the source has, some steps on, and a default partition for whatever lies outside. Once there are
 * some, the steps go on from them. */
#ifndef RUN_PARTITIONS_H
#define RUN_PARTITIONS_H

#include "mapping/mapping.h"

/* In the shard's open transaction, for the rows of one leaf of the source, or of all (NULL). Partitions
 * that exist are left alone, and rows that the default partition has stay there. */
bool partitions_create(PGconn *source, PGconn *shard, const struct mapping *mapping,
                       const struct leaf *leaf, struct error *err) MUST_CHECK;

#endif
