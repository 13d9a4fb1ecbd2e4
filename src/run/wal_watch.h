/*
 * Looks after the WAL that our slots keep, of both directions, while it runs (state/wal.h): every ten
 * seconds it is seen, and warned of, in the log and in the journal, when a slot keeps 80 % of what it may,
 * and again at 100 %. It never drops a slot: what would be lost with it is for somebody to decide, who is
 * told what it is. One thread.
 */
#ifndef RUN_WAL_WATCH_H
#define RUN_WAL_WATCH_H

#include "mapping/sides.h"
#include "run/migration.h"

struct wal_watch {
    struct migration *migration; /* of the way there */
    enum which_side live;
    int64_t epoch;
    int64_t look_again_us;
};

/* Looks when it is time to. */
bool wal_watch_look(struct wal_watch *watch, struct error *err) MUST_CHECK;

#endif
