/*
 * The ways back: one for each shard, which is its source; the old source is where all of them end. Each
 * is a migration like any other, made by turning the mappings round (mapping/invert.h), and borrows the
 * connections and catalogs of the one that it is the reverse of. Nothing is copied.
 */
#ifndef RUN_BACKWARD_H
#define RUN_BACKWARD_H

#include "run/migration.h"

struct backward {
    unsigned count;
    struct config *configs;
    struct migration *ways; /* by shard */
};

/* `forward` is bound and outlives it. CONFIG, with the first reason, when there is no way back. */
bool backward_bind(struct backward *backward, struct migration *forward, struct error *err)
    MUST_CHECK;
void backward_release(struct backward *backward);

#endif
