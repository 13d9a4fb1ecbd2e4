/*
 * Groups: changes of one lane that wait to be applied together, one statement for many rows.
 *
 * A statement for 64 rows costs the server a fraction of 64 statements. Changes of one transaction of
 * ours may change places as long as each key keeps its order, and each table whose rows are tied
 * together by more than the key (`serial_lane`, or no key) keeps the order of all its changes.
 *
 * Invariants
 *  1. No key is in two waiting changes: an update of a row that waits is merged into it, anything else
 *     must wait until the groups have been sent (groups_admit()).
 *  2. An ordered table has at most one group, and within a group the order is that of arrival.
 *
 * Groups point to changes and own none; these must live until groups_clear(). One thread.
 */
#ifndef STREAM_GROUPS_H
#define STREAM_GROUPS_H

#include "stream/change.h"

enum { GROUP_ROWS_MAX = 128 };

/* Changes that one statement can carry. */
struct group_kind {
    const struct mapping *mapping;
    enum change_op op;
    bool may_miss;             /* a change of it may touch no row */
    struct column_set present; /* of updates only: the source columns that are there */
};

struct group {
    struct group *next; /* in order of arrival */
    struct group_kind kind;
    unsigned count;
    struct change *changes[GROUP_ROWS_MAX];
};

struct groups {
    struct group *first;
    struct group **last;
    struct group_member *by_key;
    struct arena arena;
};

void groups_init(struct groups *groups);
void groups_release(struct groups *groups);

/* False: `change` must not overtake what waits; send that first. */
bool groups_admit(const struct groups *groups, const struct change *change) MUST_CHECK;

/* Takes an admitted change, or merges it into the one that waits. Returns its group when that is
 * full: to be sent, and then emptied by group_sent(). */
struct group *groups_add(struct groups *groups, struct change *change);
void group_sent(struct groups *groups, struct group *group);

/* Forgets all groups; they have been sent. */
void groups_clear(struct groups *groups);

/* Whether all changes of the table keep their order, not only those of a key. */
bool group_is_ordered(const struct mapping *mapping);

struct column_set change_present(const struct change *change);

#endif
