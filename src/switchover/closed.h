/*
 * A source that stays closed after its migration. While the target is live `finish` takes away everything
 * of ours but what keeps the old source from taking writes again, from whoever still has a connection to
 * it: both sides would be open. What stays is the gate and no more:
 *
 *     the triggers portage_gate, the function portage.gate(), its row portage.gate, its sequence
 *     portage.gate_rejected, and
 *     the row `closed` of portage.setting, which says when: by it everybody knows such a source
 *
 * Nothing of ours looks after it any more; partitions that are made later have no trigger of their own.
 * `finish --open-source` takes it away; every other command refuses such a server and names it.
 */
#ifndef SWITCHOVER_CLOSED_H
#define SWITCHOVER_CLOSED_H

#include <libpq-fe.h>

#include "util/error.h"

struct closed {
    bool closed;     /* a finish has left it so; the rest is not filled otherwise */
    char since[64];  /* of the server's clock */
    unsigned tables; /* with a gate */
    unsigned others; /* relations of ours that are not of the gate: a finish died half-way */
};
bool closed_read(PGconn *conn, struct closed *closed, struct error *err) MUST_CHECK;

/* Tables with a gate, whoever keeps it. */
bool closed_count(PGconn *conn, unsigned *tables, struct error *err) MUST_CHECK;

/* Takes all else away, in one transaction. CONFIG unless the gate is sealed. Idempotent. */
bool closed_leave(PGconn *source, struct error *err) MUST_CHECK;

/* CONFIG when the server (`name`: "the source", "shard 1") is such a one: nothing may begin there. */
bool closed_refuse(PGconn *conn, const char *name, struct error *err) MUST_CHECK;

#define CLOSED_WAY_OUT                                                                             \
    "\"pgportage finish --open-source\" takes the gate away, once nobody can write there by mistake" \
    " any more."

#endif
