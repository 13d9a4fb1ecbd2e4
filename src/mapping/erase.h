/*
 * What a TRUNCATE of a shard's table takes away at the old source, whose table has the rows of all
 * shards: those that the mapping there took from it (its `where`) and that belong to the shard, by
 * PostgreSQL's own hash of the shard key. That is what deleting each row of the shard's table would take
 * away; rows that moved to another shard, and have come by its stream already, are that shard's by
 * their key and stay. Of a split the row goes, and its key is marked in portage.dirty, as by the delete
 * of one part (stream/parts.h).
 */
#ifndef MAPPING_ERASE_H
#define MAPPING_ERASE_H

#include "mapping/mapping.h"

/* Which shard of how many. */
struct erase_of {
    unsigned shard, shards;
};

/* `back` is turned round. Whether the rows can be told; and, `by_key`, their keys. The error names the
 * column. */
bool erase_check(const struct mapping *back, struct erase_of of, bool by_key,
                 struct error *err) MUST_CHECK;

/* Whether other rows may stand in the source's table. If not, it may be emptied. */
bool erase_is_part(const struct mapping *back, struct erase_of of);

/* A temporary table that the statements ask about, made once a session; NULL if it needs none. */
const char *erase_place(const struct mapping *back, struct erase_of of, struct arena *arena);

/* The DELETE. No parameters. Done again it finds nothing. */
const char *erase_rows(const struct mapping *back, struct erase_of of, struct arena *arena);

/* At the source, a SELECT of their keys, as portage.dirty knows them: the key's columns as texts. */
const char *erase_keys(const struct mapping *back, struct erase_of of, struct arena *arena);
#endif
