/*
 * Where a migration stands, read from the databases alone, whether or not an instance is running.
 */
#ifndef RUN_STATUS_H
#define RUN_STATUS_H

#include <jansson.h>

#include "mapping/config.h"
#include "util/error.h"

/* A JSON object, released by the caller; NULL on error. docs/reference.md ("status") lists its keys. */
json_t *status_read(const struct config *config, struct error *err);

#endif
