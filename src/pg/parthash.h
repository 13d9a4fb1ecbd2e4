/*
 * The shard of a value, chosen as PostgreSQL's PARTITION BY HASH does: the extended hash function of
 * the type's hash operator class with HASH_PARTITION_SEED, combined over the columns (one here),
 * modulo the number of shards. satisfies_hash_partition() agrees (tested with a million values a
 * type), so a coordinator of foreign partitions finds every row.
 *
 * Sources: src/backend/partitioning/partbounds.c (compute_partition_hash_value),
 * src/common/hashfn.c, and the hash functions of the types (hashfunc.c, numeric.c, uuid.c, date.c,
 * timestamp.c, varchar.c).
 *
 * NULL hashes to nothing: the row hash is 0 and it goes to remainder 0.
 */
#ifndef PG_PARTHASH_H
#define PG_PARTHASH_H

#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

enum parthash_type {
    PARTHASH_NONE = 0, /* not supported as a shard key */
    PARTHASH_BOOL,
    PARTHASH_INT2,
    PARTHASH_INT4,
    PARTHASH_INT8,
    PARTHASH_TEXT, /* text, varchar: deterministic collations only */
    PARTHASH_BPCHAR,
    PARTHASH_UUID,
    PARTHASH_NUMERIC,
    PARTHASH_DATE,
    PARTHASH_TIMESTAMP, /* and timestamptz: both hash their int64 */
    PARTHASH_BYTEA,
};

/* By the OID of a built-in type; PARTHASH_NONE for all others (enums hash their OID: D19). */
enum parthash_type parthash_type_of(uint32_t type_oid);

/* The row hash of one value in the type's binary (send function) or text (output function) form.
 * Text forms are those of pinned settings (pg/conn.h: ISO dates, bytea hex). Fails, class DATA, on
 * bytes that are not of the type. */
bool parthash_binary(enum parthash_type type, const char *bytes, size_t length, uint64_t *hash,
                     struct error *err) MUST_CHECK;
bool parthash_text(enum parthash_type type, const char *text, size_t length, uint64_t *hash,
                   struct error *err) MUST_CHECK;

uint64_t parthash_int8(int64_t value); /* the row hash of an integer of any width */

static inline uint64_t parthash_null(void)
{
    return 0;
}

static inline unsigned parthash_shard(uint64_t hash, unsigned shards)
{
    return (unsigned)(hash % shards);
}

#endif
