/*
 * Which sequences of the from-side feed one of the to-side: by portage.yaml, by the columns that both
 * fill, or by name. Reads no server.
 */
#ifndef SWITCHOVER_SEQUENCE_FEEDS_H
#define SWITCHOVER_SEQUENCE_FEEDS_H

#include "mapping/findings.h"
#include "mapping/mapping.h"
#include "switchover/sequence_list.h"

struct sequence_feeds {
    unsigned count;
    unsigned *from; /* indexes into the from-side's list */
    bool computed;  /* a column that it fills is carried, but not as the value it has */
};

/* One of each sequence of `to`, in its order. The lists are of the source and of the first shard, as
 * is `set`; `back` says which of them is `to`. Names in portage.yaml that are no sequences go to
 * `findings`. */
struct sequence_feeds *sequence_feeds_find(const struct config *config,
                                           const struct mapping_set *set, bool back,
                                           const struct sequence_list *from,
                                           const struct sequence_list *to, struct arena *arena,
                                           struct findings *findings);

#endif
