/*
 * A batch as bytes, for the spill (spill.h), and back. For this process alone, which wrote them: a
 * mapping is its number in the set, and what does not add up is a bug of ours.
 */
#ifndef STREAM_PACKING_H
#define STREAM_PACKING_H

#include "stream/change.h"

void batch_pack(const struct batch *batch, struct buffer *bytes); /* appends */

/* Whoever reads the bytes puts them into the new batch's own arena (batch_new()), to which values and
 * keys then point. */
void batch_unpack(struct batch *batch, const char *bytes, size_t length,
                  const struct mapping_set *set);

#endif
