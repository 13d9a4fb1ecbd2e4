/*
 * What every step of a migration looks at: the connections to source and shards, their catalogs, and
 * the mappings bound to them. Control is the first shard; on the way back (backward.h), where a shard is
 * the source, it stays that. One thread.
 */
#ifndef RUN_MIGRATION_H
#define RUN_MIGRATION_H

#include "mapping/bind.h"

struct migration {
    const struct config *config;
    struct arena arena; /* of catalogs and mappings */
    PGconn *control;
    const char *suffix; /* of the settings of this direction: "", or "_back_" and the shard */
    PGconn *source;
    PGconn **shards;
    unsigned shards_count;
    struct catalog source_catalog;
    struct catalog *target_catalogs;
    struct mapping_set set;
    struct findings findings;
    char **there_before; /* on each shard, while target.schema is being applied (created.h) */
};

/* Connects, and refuses a schema portage of another version (state/schema.h). On error all that was opened is closed. */
bool migration_open(struct migration *migration, const struct config *config, const char *purpose,
                    struct error *err) MUST_CHECK;
void migration_close(struct migration *migration);

/* Reads the catalogs and binds the mappings; what is wrong is in migration->findings. */
bool migration_bind(struct migration *migration, struct error *err) MUST_CHECK;

/* Once begun: which tables keep their order in one lane, and which have the lanes of those copied whole, was
 * decided at the first start (target.h). */
bool migration_restore_lanes(struct migration *migration, struct error *err) MUST_CHECK;

/* Lanes of each shard (stream/lane.h), once that is restored. */
unsigned migration_lanes(const struct migration *migration);

/* The first finding that refuses, as an error of class CONFIG. */
bool migration_refused(const struct migration *migration, struct error *err);

#endif
