/*
 * What target.schema and partition_by have made on a shard: on record in portage.created, in the
 * transaction of the DDL, so that `abort` can take away exactly that. By OID: what was dropped and made
 * again by somebody else is theirs.
 */
#ifndef RUN_CREATED_H
#define RUN_CREATED_H

#include <libpq-fe.h>

#include "util/error.h"

/* What there is before the DDL; the caller frees it. NULL on error. */
char *created_before(PGconn *shard, struct error *err) MUST_CHECK;
/* Puts what has come since on record, before COMMIT. */
bool created_record(PGconn *shard, const char *before, struct error *err) MUST_CHECK;

/* On stdout: what `abort` drops, and which mapped tables were there before. */
bool created_tell(PGconn *shard, unsigned number, struct error *err) MUST_CHECK;
/* In an open transaction. CONFIG when something that is not ours depends on it. */
bool created_drop(PGconn *shard, struct error *err) MUST_CHECK;

#endif
