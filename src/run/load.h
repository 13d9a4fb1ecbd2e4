/*
 * How loaded the source is, against the limits of `throttle:`. The supervisor looks about once a second
 * while tables are copied, and tells the copier to begin no chunk as long as it is too much. The stream
 * is never held back by it: what waits there would only grow.
 *
 * Invariant: once over a limit, the copy goes on when every value is well below its own, not before, so
 * that it does not begin and end with each look.
 */
#ifndef RUN_LOAD_H
#define RUN_LOAD_H

#include "copy/copier.h"
#include "run/migration.h"

struct load {
    struct migration *migration;
    int64_t looked_us;
    int64_t since_us;    /* when the copy began to wait */
    bool recorded;       /* what an earlier incarnation may have left is gone */
    char waits_for[256]; /* what is over its limit; empty: nothing */
};

void load_init(struct load *load, struct migration *migration);

/* Looks when it is time to, tells `copier`, the log, and the setting that `status` reads. */
bool load_watch(struct load *load, struct copier *copier, struct error *err) MUST_CHECK;

/* The copy is over, or has not begun: nothing waits. */
bool load_end(struct load *load, struct error *err) MUST_CHECK;

#endif
