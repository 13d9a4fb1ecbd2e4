/*
 * portage.yaml, as written: read by libfyaml, checked for shape (unknown keys, wrong types, missing
 * ones), each text with its place in the file. What the words mean is bind.h's business.
 *
 * Owned by its arena. Read-only after config_read().
 */
#ifndef MAPPING_CONFIG_H
#define MAPPING_CONFIG_H

#include "mapping/config_endpoint.h"
#include "util/arena.h"
#include "util/error.h"

enum { CONFIG_SHARDS_MAX = 64 };

struct config_inverse {
    struct config_text column; /* of the source */
    struct config_text expr;   /* over target columns */
};

/* How one target table is made from one source table. A merge gives several for one target. */
struct config_mapping {
    struct config_text target;       /* as written: schema.table, quoted parts allowed */
    struct config_text from;         /* .text NULL: the same name */
    bool identical;                  /* `identical`, or no select */
    bool is_pattern;                 /* target holds * : for all tables not named otherwise */
    struct config_text select;
    struct config_text where;
    struct config_text shard_by;     /* a target column, or everywhere */
    bool shard_key_immutable;
    struct config_text partition_column;
    struct config_text partition_every; /* 1 day, 1 week, 1 month, 1 year, … an SQL interval */
    unsigned inverse_count;
    struct config_inverse *inverse;
    struct config_text lag_by;
    bool park_errors;                /* on_error: park; else stop */
    /* Turned round (invert.h): so many mappings together make one row of the target; 0 or 1 else. */
    unsigned parts;
    const struct mapping *origin; /* and of what it was turned round; else NULL */
};

/* A sequence of the target that takes its value from a source's of another name. */
struct config_sequence {
    struct config_text target, source;
};

enum sequence_shards {
    SEQUENCE_INTERLEAVE, /* each shard every nth value */
    SEQUENCE_RANGES,     /* each shard a block */
};

struct config {
    const char *path;
    struct config_text source; /* connection string */
    unsigned shards_count;
    struct config_text *shards;
    const char *schema_file; /* target.schema, resolved against the file's folder; NULL if none */
    unsigned shard_by_count; /* top-level shard_by: the first of these that a table has */
    struct config_text *shard_by;
    unsigned mappings_count;
    struct config_mapping *mappings; /* in the order of the file */
    struct config_endpoint endpoint;

    unsigned sequences_count; /* sequences: {target: source} */
    struct config_sequence *sequences;
    enum sequence_shards sequence_shards; /* sequence_shards: interleave */
    unsigned accept_losses_count;    /* accept_losses: what may be lost on the way back, by name: */
    struct config_text *accept_losses; /* schema.table.column or schema.table, of the source */
    bool reversed;                     /* not from a file, but made by invert_config() */

    /* limits, with their defaults (config.c has the table of names, ranges and defaults) */
    int copy_workers;              /* copy_workers: 2 */
    int index_workers;             /* index_workers: 2, per shard */
    int lanes;                     /* lanes: 2, per shard */
    int source_connections_max;    /* source_connections_max: 8 */
    int64_t source_rate_max;       /* source_rate_max: bytes/s, 0 is no limit */
    int64_t replica_lag_max_s;     /* throttle.source_replica_lag_max: 0 is no limit */
    int source_active_max;         /* throttle.source_active_max: sessions, 0 is no limit */
    int64_t row_bytes_max;         /* row_bytes_max: 32 MiB */
    int64_t queue_bytes_max;       /* queue_bytes_max: 64 MiB, over all lanes */
    int64_t spill_bytes_max;       /* spill_bytes_max: 4 GiB, on disk, over all lanes; 0: none */
    const char *spill_folder;      /* spill_dir: TMPDIR, or /tmp */
    int chunk_ms;                  /* chunk_ms: 1000, aimed-at time of one chunk */
    int64_t wal_budget;            /* wal_budget: of each slot of ours, to warn of; 0 is none */
    int64_t verify_every_s;        /* verify.every: seconds between passes, 0 is never */
    int64_t verify_rate_max;       /* verify.rate_max: bytes/s, 0 is no limit */
    int64_t sequence_margin;       /* sequence_margin: 1000, values left out at a switch */
    int64_t sequence_range;        /* sequence_range: 100000000, values of a shard's block */
    int pause_ms;                  /* endpoint.pause_ms: 300, how long transactions are waited for */
    int pause_attempts;            /* endpoint.pause_attempts: 10 */
    int64_t endpoint_limit_s;      /* endpoint.time_limit: 10, for each run of a command of ours */
    int64_t dns_ttl_s;             /* endpoint.dns.ttl: 5 */
    int dns_port;                  /* endpoint.dns.port: 53 */
    int64_t hooks_limit_s;         /* hooks.time_limit: 10, for each hook */
    const char *slot;              /* slot: pgportage */
    const char *publication;       /* publication: pgportage */
};

/* Sizes may be written as 64MiB, 32MB, 1GB. `arena` owns all of it. */
bool config_read(const char *path, struct arena *arena, struct config *config, struct error *err)
    MUST_CHECK;

/* The line and column of byte `offset` of a text, for messages. */
void config_place(const struct config_text *text, size_t offset, int *line, int *column);

#endif
