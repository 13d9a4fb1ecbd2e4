/*
 * What a switch makes of the sequences: those of both sides, which of them feeds which, the shape that
 * each server of the to-side gets, and what stands in the way. Reads catalogs, changes nothing.
 */
#ifndef SWITCHOVER_SEQUENCE_LOOK_H
#define SWITCHOVER_SEQUENCE_LOOK_H

#include "switchover/sequence_feeds.h"
#include "switchover/sequences.h"

/* A server and its sequences; `named` in the order of its side's first server, NULL where missing. */
struct sequence_server {
    PGconn *conn;
    char label[24]; /* source, shard 1 */
    struct sequence_list list;
    const struct sequence **named;
};

struct sequence_side {
    unsigned count;
    struct sequence_server *servers;
};

/* Where a sequence of one server stands. */
struct sequence_state {
    int64_t last;
    bool called;
};

/* One sequence of the to-side, on all of its servers. */
struct sequence_goal {
    const struct sequence *first; /* on the first server: name, own shape, columns */
    struct sequence_feeds feeds;
    int64_t end;
    /* The furthest that feeds and columns have used. Only grows: what was seen before the pause counts
     * in it too. */
    bool is_used;
    int64_t used;
    /* By server of the to-side: */
    struct sequence_state *states;
    struct sequence_shape *shapes; /* to be */
    int64_t origin;                /* of the blocks */
};

struct sequence_look {
    const struct sequences_sides *sides;
    struct arena *arena;
    struct sequence_side from, to;
    unsigned goals_count;
    struct sequence_goal *goals;
};

bool sequence_look_read(struct sequence_look *look, const struct sequences_sides *sides,
                        struct arena *arena, struct findings *findings,
                        struct error *err) MUST_CHECK;

void sequence_goal_use(struct sequence_goal *goal, int64_t used);

/* The shapes, and all that a switch would meet, by what is used so far. */
void sequence_look_decide(struct sequence_look *look, enum severity hindrance,
                          struct findings *findings);

/* Whether shards share the values of the to-side. */
static inline bool sequence_look_shared(const struct sequence_look *look)
{
    return look->to.count > 1;
}

/* A ring is interleaved in any case: blocks are used up, and it goes round in its bounds. */
bool sequence_goal_in_blocks(const struct sequence_look *look, const struct sequence_goal *goal);

/* Where server `server` has to stand now. False when there is no value left. */
bool sequence_goal_stand(const struct sequence_look *look, const struct sequence_goal *goal,
                         unsigned server, struct sequence_state *state);

#endif
