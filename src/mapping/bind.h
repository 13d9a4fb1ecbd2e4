/*
 * Binds the configuration to the two catalogs, giving the mapping model, or the list of everything
 * that is wrong with it.
 *
 *   names.h       table names and patterns, as written
 *   bind_table.c  one mapping: columns, key, placement, copy mode
 *   bind.c        all of them: patterns, merges, what is left over, shards that differ
 *   bind_servers  what only servers can tell: types, functions, values over sample rows
 */
#ifndef MAPPING_BIND_H
#define MAPPING_BIND_H

#include "mapping/findings.h"
#include "mapping/mapping.h"

/* Fails only when it could not look; what is wrong with the mapping goes to `findings`. When
 * findings->refused > 0 the set must not be used. `targets` are the catalogs of all shards. */
bool bind_mappings(const struct config *config, const struct catalog *source,
                   const struct catalog *targets, unsigned shards_count, struct arena *arena,
                   struct mapping_set *set, struct findings *findings, struct error *err)
    MUST_CHECK;

/* Which functions the expressions call, and whether each expression gives the target column's type
 * by an assignment cast: both servers prepare the statements. On sample rows both must give the same,
 * and the inverses must give the rows back. Of mappings that were turned round the latter is not asked,
 * but the statements that read and put whole rows are prepared too. On both sides in a transaction,
 * which may be open: a failed statement leaves it as it was. `target` is one shard, with its tables. */
bool bind_check_servers(const struct config *config, const struct mapping_set *set, PGconn *source,
                        PGconn *target, struct arena *arena, struct findings *findings,
                        struct error *err) MUST_CHECK;

/* For bind.c: one mapping. False when it is refused; the reasons are in `findings`. */
bool bind_table(const struct config *config, unsigned shards_count,
                const struct config_mapping *from, const struct relation *source,
                const struct relation *target, bool merged, struct arena *arena,
                struct mapping *mapping, struct findings *findings);

#endif
