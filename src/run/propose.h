/* `pgportage init`: a first portage.yaml from what both sides hold. What matches by name and type is
 * identical; what nearly matches gets a select list; the rest is marked to be decided. */
#ifndef RUN_PROPOSE_H
#define RUN_PROPOSE_H

#include "util/buffer.h"
#include "util/error.h"

/* Appends the file's text. Only reads; the target's tables must be there. */
bool propose(const char *source, const char *const *shards, unsigned shards_count,
             struct buffer *yaml, struct error *err) MUST_CHECK;

#endif
