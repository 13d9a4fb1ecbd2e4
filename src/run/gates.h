/*
 * The gates, kept by `run` (switchover/gate.h): on the source before all tables once it is ready, and on
 * both sides before whatever has come since. A table at a time, so that no writer waits for long; what
 * cannot be locked now is tried again. And what a switch has left behind that died: its fence is
 * lifted, or its side opened, as the journal says.
 */
#ifndef RUN_GATES_H
#define RUN_GATES_H

#include "run/migration.h"

struct gates {
    struct migration *migration;
    struct arena arena;
    const char *source_tables, *target_tables;
    int64_t look_again_us, restore_again_us;
    bool told;   /* that all are there */
    bool denied; /* told that the role may not lay one */
    unsigned waiting;
};

void gates_init(struct gates *gates, struct migration *migration);
void gates_release(struct gates *gates);

/* Some of what is to be done, in at most some tenths of a second. */
bool gates_tend(struct gates *gates, struct error *err) MUST_CHECK;

/* In the open transaction that has made tables on a shard: closed before anybody sees them. */
bool gates_close_new(PGconn *shard, const struct mapping_set *set, struct error *err) MUST_CHECK;

#endif
