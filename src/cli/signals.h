/*
 * SIGINT and SIGTERM as a stop. They are taken by a thread of their own; all others have them blocked.
 * The second one ends the process at once, with 128 + its number, whatever the process is waiting for:
 * everything durable is in the databases. A switch that ends so is one whose process has died.
 */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

#include "util/stop.h"

/* Before any other thread starts; once. The stop lives as long as the process. */
struct stop *signals_start(void);

#endif
