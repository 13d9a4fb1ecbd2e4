/*
 * Which database name a customer has. The bank is a program of another team: it knows PostgreSQL's
 * hash partitioning, in which its shards are placed, but shares no code with pgportage.
 */
#ifndef BANK_SHARD_H
#define BANK_SHARD_H

#include <stdint.h>

enum { SHARDS_MAX = 64 };

/* As PARTITION BY HASH over one bigint (or integer: both hash alike) chooses the remainder. */
unsigned shard_of(int64_t customer, unsigned shards);

#endif
