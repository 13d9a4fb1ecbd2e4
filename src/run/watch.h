/*
 * What may change where rows come from while they are carried, and does not come with the stream: a
 * partition that appears or goes (R12), a table taken out of the publication, a replica identity that is
 * lost (R3), DDL (ddl.h). Looked at every few seconds: at the source, or while the target is live at each
 * shard, whose way back it is then. A partition that appears is an error of class RETRY: the next
 * incarnation takes it up (leaves.h; slot.h). What cannot be carried is of class CONFIG and names it.
 */
#ifndef RUN_WATCH_H
#define RUN_WATCH_H

#include "run/ddl.h"

struct watch {
    struct migration *migration;
    char *leaves; /* OIDs that the mappings were bound to, as an array literal */
    char *roots;
    int64_t looked_us;
    struct ddl ddl;
    int waiting;    /* partitions that have been told of */
    int64_t marker; /* the last one that a look came behind */
};

void watch_init(struct watch *watch, struct migration *migration);
void watch_release(struct watch *watch);

/* Looks when it is time to, or a switch waits for it: behind a new marker. That it has looked, and what it
 * saw is carried, is put on record then (SETTING_LOOKED). `quiet`: no copy and no index build would have
 * to begin again. */
bool watch_source(struct watch *watch, bool quiet, int64_t marker, struct error *err) MUST_CHECK;
/* Looks now. */
bool watch_look(struct watch *watch, bool quiet, struct error *err) MUST_CHECK;

#endif
