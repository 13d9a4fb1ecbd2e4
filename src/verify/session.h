/*
 * One thread's connections to both sides, and what all threads of a verification share.
 */
#ifndef VERIFY_SESSION_H
#define VERIFY_SESSION_H

#include <libpq-fe.h>

#include "mapping/mapping.h"
#include "util/stop.h"
#include "util/throttle.h"

struct verify_options {
    bool server_digest; /* hash in SQL, not here: where the network is the limit */
    bool strict;        /* a numeric's display scale counts too */
    int64_t rate_max;   /* bytes/s read from the source; 0 is no limit */
    int workers;
    bool progress; /* show it on the terminal */
    bool repair, dry_run;
    bool counts;         /* only count */
    int64_t sample;      /* only so many rows of each table; 0 is all */
    int64_t patience_us; /* how long keys that differ are followed before it is undecided */
    const char *kept_as; /* who asks, for progress that is kept (kept.h); NULL: it is not */
    bool fresh;          /* do not go on from where an earlier run was */
};

struct session {
    const struct config *config;
    const struct mapping_set *set; /* bound from config */
    bool backward; /* the target takes the application's writes, and the source follows it */
    unsigned switches; /* so far: if any, the target has been live */
    bool writes; /* repairs */
    const struct verify_options *options;
    struct stop *stop;  /* of the pass */
    struct stop *outer; /* of whoever asked for it */
    struct throttle *throttle;
    PGconn *source;
    PGconn **shards;
    unsigned shards_count;
    char *whole_tables; /* names of the mappings whose changes have lanes of their own, a line each … */
    char *lanes;        /* … from this number on; no line: there are none */
};

/* Connects; on error nothing stays open. Shared parts of `session` are set by the caller. */
bool session_open(struct session *session, struct error *err) MUST_CHECK;
void session_close(struct session *session);

/* Whether its changes have other lanes than most: those of tables copied whole. */
bool session_has_own_lanes(const struct session *session, const struct mapping *mapping);

/* Whether to give up: the pass has failed, or nobody wants it any more. */
bool session_stopped(const struct session *session);

/* Waits, at most so long; true when it is to give up. */
bool session_wait(const struct session *session, int64_t timeout_us);

/* What satisfies_hash_partition() needs, on every shard; nothing for tables without placement. */
bool session_prepare(struct session *session, const struct mapping *mapping,
                     struct error *err) MUST_CHECK;

#endif
