/*
 * Applying: makes changes into statements of the lane's pipeline, many changes a statement.
 *
 * A change whose value a statement needs and the message does not carry is completed from the source
 * first (R1); a row that is gone there by then becomes a ghost (ghosts.h). Order is kept as groups.h
 * says. The target is not waited for here. On the way back the statements are others, and a table that
 * was split is put together (parts.h).
 *
 * When a statement of several changes fails on its data, which of them is to blame is not known:
 * pipeline.suspect names the position up to which everything is to be applied `alone`, by the next
 * incarnation. One thread.
 */
#ifndef STREAM_APPLY_H
#define STREAM_APPLY_H

#include "stream/bind.h"
#include "stream/ghosts.h"
#include "stream/groups.h"
#include "stream/parts.h"
#include "stream/pipeline.h"
#include "stream/readback.h"

struct applier {
    struct pipeline *pipeline;
    unsigned stream, streams;
    const char *conninfo;
    bool back; /* by the rules of the way back */
    struct groups groups;
    struct parts parts;
    struct readback *readback;
    struct ghosts ghosts;
    struct prepared *prepared; /* by kind, for one row and for many */
    struct arena arena;        /* of the statements */
    struct binding binding;    /* of the statement that is sent */
};

/* What applies the changes of a mapping set; all pointers must outlive it. */
struct applier_of {
    const struct config *config;
    const struct mapping_set *mappings;
    unsigned stream, streams; /* which of how many that end on the same servers */
    unsigned lane;
    const char *conninfo; /* of the lane's server */
    struct readback *readback;
};

void applier_init(struct applier *applier, const struct applier_of *of, struct pipeline *pipeline);
void applier_release(struct applier *applier);

/* The change, and all it points to, must live until applier_flush(), and then until the pipeline has
 * answered. `arena` is that of its batch. `alone`: in a statement of its own, at once. */
bool applier_take(struct applier *applier, struct change *change, struct arena *arena, bool alone,
                  struct error *err) MUST_CHECK;

/* Sends what waits. */
bool applier_flush(struct applier *applier, struct error *err) MUST_CHECK;

#endif
