/*
 * What repair writes for one key, in its transaction, once nothing of the key is on its way: the side that
 * follows gets what the live one makes of it. The two directions share nothing but this.
 *
 * *brought is false when what the live side has cannot be had on the other (reason in the log).
 */
#ifndef VERIFY_BRING_H
#define VERIFY_BRING_H

#include "verify/seen.h"
#include "verify/ways.h"

/* The target, by the mapping. */
bool bring_forward(struct session *session, const struct suspect *suspect,
                   const struct seen *source, const struct seen *target, struct arena *arena,
                   struct error *err) MUST_CHECK;

/* The source, by the way back. The key is marked in portage.dirty, as a lane does: a switch reads it
 * again, and the shard whose row it is by now may remove it. */
bool bring_back(struct session *session, const struct ways *ways, const struct suspect *suspect,
                const struct seen *source, const struct seen *target, struct arena *arena,
                bool *brought, struct error *err) MUST_CHECK;

#endif
