/*
 * `pgportage run`: incarnation after incarnation, as long as it may pass by itself. Waits as a
 * standby while another instance holds the lock.
 */
#ifndef RUN_RUN_H
#define RUN_RUN_H

#include "mapping/config.h"
#include "util/stop.h"

/* Returns when `stop` is requested (class CANCELLED) or when somebody must do something first. */
bool run_migration(const struct config *config, struct stop *stop, struct error *err);

#endif
