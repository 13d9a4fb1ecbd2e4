/*
 * The endpoint: how the application reaches the database, and is led to the other side.
 *
 *     check    before a switch: findings, changes nothing for the application
 *     pause    no transaction of the application runs, its requests wait         (takes some time)
 *     lead     the endpoint names the servers of a side
 *     resume   the requests that waited go on, to that side
 *     restore  what an abort does: lead back to the side that is live, and resume everywhere
 *
 * It is convenience, never safety: what stops writes is the fence in the databases. So a pooler that
 * was forgotten, or that could not be reached, gives the application errors, and never loses a row.
 *
 * Invariants:
 * 1. Nothing is remembered between calls but connections. What a pooler, a name server or a file says is
 *    looked at each time, so that a process that was started anew goes on where another one died.
 * 2. Each call may be made again, whether it succeeded, failed, or was never heard of again. What is
 *    already as it should be is left alone.
 * 3. pause is all or nothing: when it fails everything that was paused has been resumed, as far as it
 *    could be reached. lead, resume and restore do all that they can, and then return the first error:
 *    behind the point of no return they are called again until they succeed.
 *
 * Which side is live is for the journal to say, and the caller says it in each call. One thread.
 */
#ifndef ENDPOINT_ENDPOINT_H
#define ENDPOINT_ENDPOINT_H

#include <libpq-fe.h>

#include "mapping/findings.h"
#include "util/stop.h"

struct endpoint;

/* Connects to nothing. `config` and `stop` outlive it. */
struct endpoint *endpoint_open(const struct config *config, struct stop *stop);
void endpoint_close(struct endpoint *endpoint); /* NULL is fine. Leaves poolers as they are */

/* What kind portage.yaml names: "pgbouncer", "dns", "command", "none". */
const char *endpoint_name(const struct config *config);

/* Whether there is something that we lead: with `none` the user does, and is told what to do. */
bool endpoint_is_ours(const struct endpoint *endpoint);

/* The servers of the side that will be led to, so that they are known again; with none nobody is compared. */
struct endpoint_servers {
    unsigned count;
    PGconn *const *conns;
};

/*
 * What stands against leading from `live` to the other side, or would be a pity. `switch_limit_ms` is how
 * long requests may have to wait. Not while paused: what a dead process left is restored first.
 * False only when it could not look (a time limit, a request to stop); what is wrong is a finding:
 * endpoint-unreachable, endpoint-privilege, endpoint-pool-mode, endpoint-wait-timeout, endpoint-login-timeout,
 * endpoint-login-retry, endpoint-paused, endpoint-file, endpoint-entry, endpoint-side, endpoint-ttl, endpoint-command,
 * endpoint-login, endpoint-target, endpoint-none.
 *
 * Poolers are tried: for a moment they get an entry more (pgbouncer_probe.c), which the application does
 * not see.
 */
bool endpoint_check(struct endpoint *endpoint, enum which_side live, int switch_limit_ms,
                    const struct endpoint_servers *to, struct findings *findings, struct error *err) MUST_CHECK;

/* `to` is where the application will be led. Waits for its transactions no longer than endpoint.pause_ms,
 * lets it go on, and tries again (endpoint.pause_attempts). LIMIT when there was always one that took
 * longer; the detail names it. */
bool endpoint_pause(struct endpoint *endpoint, enum which_side to, struct error *err) MUST_CHECK;

/* Since when requests wait, by the monotonic clock: the beginning of the try that succeeded. 0 when this
 * endpoint has paused nothing, or another process had. */
int64_t endpoint_paused_since_us(const struct endpoint *endpoint);

/* Poolers stay paused. Returns when the side is in force: reloaded and looked at, for names when the
 * old answer cannot be in a cache any more. */
bool endpoint_lead(struct endpoint *endpoint, enum which_side side,
                   struct error *err) MUST_CHECK;

/* Only what leads to `side`: a pooler that could not be led there stays paused, and is the error. */
bool endpoint_resume(struct endpoint *endpoint, enum which_side side,
                     struct error *err) MUST_CHECK;

/* Also what could not be led back is resumed: it may never have led elsewhere. */
bool endpoint_restore(struct endpoint *endpoint, enum which_side live,
                      struct error *err) MUST_CHECK;

/* Runs the hook of this phase, if there is one; false when it fails or takes too long. `to` as above.
 * From HOOK_SWITCHED on its failure is for the log. */
bool endpoint_hook(struct endpoint *endpoint, enum hook_phase phase, enum which_side to,
                   struct error *err) MUST_CHECK;

#endif
