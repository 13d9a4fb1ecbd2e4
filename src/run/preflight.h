/*
 * Whether source and targets are such that a migration can go well: settings, privileges, and what
 * would break half-way. Only looks.
 */
#ifndef RUN_PREFLIGHT_H
#define RUN_PREFLIGHT_H

#include "run/migration.h"

/* To migration->findings. The mappings need not be bound. Fails only when it could not look. */
bool preflight(struct migration *migration, struct error *err) MUST_CHECK;

/* The tables of the shards, when target.schema has been applied, if only to try it. */
bool preflight_tables(struct migration *migration, struct error *err) MUST_CHECK;

#endif
