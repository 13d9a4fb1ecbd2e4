/* What a run would do, as findings and as a JSON object. Nothing stays changed by it: the target's
 * DDL is applied in a transaction that is rolled back. */
#ifndef RUN_PLAN_H
#define RUN_PLAN_H

#include <jansson.h>

#include "run/migration.h"

/* Opens nothing and closes nothing; `migration` is open. docs/reference.md describes the object.
 * The caller releases it. NULL on error. */
json_t *plan_make(struct migration *migration, struct error *err);

#endif
