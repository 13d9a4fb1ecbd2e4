/* The partitions that partition_by asks for, on one shard: from the least to the largest value that
 * the source has, some steps on, and a default partition for whatever lies outside. */
#ifndef RUN_PARTITIONS_H
#define RUN_PARTITIONS_H

#include "mapping/mapping.h"

/* In the shard's open transaction. Partitions that exist are left alone. */
bool partitions_create(PGconn *source, PGconn *shard, const struct mapping *mapping,
                       struct error *err) MUST_CHECK;

#endif
