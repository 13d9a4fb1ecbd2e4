#include "stream/groups.h"

#include <uthash.h>

/* What a change is found by: a merge's parts meet in their target. The hash stands for the key; who
 * finds compares the keys too. */
struct member_key {
    const struct relation *target;
    uint64_t key_hash;
};

struct group_member {
    struct member_key key;
    struct group *group;
    struct change *change;
    UT_hash_handle hh;
};

void groups_init(struct groups *groups)
{
    *groups = (struct groups){0};
    groups->last = &groups->first;
    arena_init(&groups->arena, 64 * 1024);
}

void groups_release(struct groups *groups)
{
    groups_clear(groups);
    arena_release(&groups->arena);
}

void groups_clear(struct groups *groups)
{
    HASH_CLEAR(hh, groups->by_key);
    arena_clear(&groups->arena);
    groups->first = NULL;
    groups->last = &groups->first;
}

struct column_set change_present(const struct change *change)
{
    struct column_set present = {{0}};
    for (unsigned c = 0; c < change->new_row.count; c++) {
        if (change->new_row.values[c].kind != VALUE_UNCHANGED)
            column_set_add(&present, c);
    }
    return present;
}

static struct group_kind kind_of(const struct change *change)
{
    struct group_kind kind = {
        .mapping = change->mapping, .op = change->op, .may_miss = change->may_miss};
    if (change->op == CHANGE_UPDATE)
        kind.present = change_present(change);
    return kind;
}

static bool kind_equal(const struct group_kind *a, const struct group_kind *b)
{
    return a->mapping == b->mapping && a->op == b->op && a->may_miss == b->may_miss &&
           memcmp(&a->present, &b->present, sizeof a->present) == 0;
}

bool group_is_ordered(const struct mapping *mapping)
{
    return mapping->serial_lane || !mapping->has_key;
}

static struct group_member *member_find(const struct groups *groups, const struct change *change)
{
    struct group_member *found;
    struct member_key key = {.target = change->mapping->target, .key_hash = change->key_hash};
    HASH_FIND(hh, groups->by_key, &key, sizeof key, found);
    return found;
}

/* An update of a row that waits becomes part of it, when the same statement can still carry it. */
static bool may_merge(const struct group_member *member, const struct change *change)
{
    const struct group_kind *kind = &member->group->kind;
    if (change->op != CHANGE_UPDATE || kind->op == CHANGE_DELETE ||
        kind->mapping != change->mapping || group_is_ordered(change->mapping) ||
        !tuple_same_key(change->mapping, &member->change->new_row, &change->new_row))
        return false;
    struct column_set present = change_present(change);
    return kind->op == CHANGE_INSERT || column_set_within(&present, &kind->present);
}

/* What an ordered table has waiting is of another kind. */
static bool breaks_order(const struct groups *groups, const struct change *change)
{
    if (!group_is_ordered(change->mapping))
        return false;
    struct group_kind kind = kind_of(change);
    for (const struct group *group = groups->first; group != NULL; group = group->next) {
        if (group->kind.mapping->target == change->mapping->target && group->count > 0 &&
            !kind_equal(&group->kind, &kind))
            return true;
    }
    return false;
}

bool groups_admit(const struct groups *groups, const struct change *change)
{
    const struct group_member *member =
        change->mapping->has_key ? member_find(groups, change) : NULL;
    if (member != NULL)
        return may_merge(member, change);
    return !breaks_order(groups, change);
}

static void merge(struct change *into, const struct change *change)
{
    for (unsigned c = 0; c < into->new_row.count; c++) {
        if (change->new_row.values[c].kind != VALUE_UNCHANGED)
            into->new_row.values[c] = change->new_row.values[c];
    }
}

/* The group of this kind; a new one at the end if there is none. */
static struct group *group_for(struct groups *groups, const struct change *change)
{
    struct group_kind kind = kind_of(change);
    for (struct group *group = groups->first; group != NULL; group = group->next) {
        if (kind_equal(&group->kind, &kind))
            return group;
    }
    struct group *group = arena_zalloc(&groups->arena, sizeof *group);
    group->kind = kind;
    *groups->last = group;
    groups->last = &group->next;
    return group;
}

static void member_add(struct groups *groups, struct group *group, struct change *change)
{
    struct group_member *member = arena_zalloc(&groups->arena, sizeof *member);
    member->key =
        (struct member_key){.target = change->mapping->target, .key_hash = change->key_hash};
    member->group = group;
    member->change = change;
    HASH_ADD(hh, groups->by_key, key, sizeof member->key, member);
}

struct group *groups_add(struct groups *groups, struct change *change)
{
    struct group_member *member = change->mapping->has_key ? member_find(groups, change) : NULL;
    if (member != NULL) {
        merge(member->change, change);
        return NULL;
    }
    struct group *group = group_for(groups, change);
    group->changes[group->count++] = change;
    if (change->mapping->has_key)
        member_add(groups, group, change);
    return group->count == GROUP_ROWS_MAX ? group : NULL;
}

void group_sent(struct groups *groups, struct group *group)
{
    for (unsigned c = 0; c < group->count; c++) {
        struct group_member *member = member_find(groups, group->changes[c]);
        if (member != NULL)
            HASH_DEL(groups->by_key, member);
    }
    group->count = 0;
}
