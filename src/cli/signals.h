/*
 * SIGINT and SIGTERM as a stop. They are taken by a thread of their own; all others have them blocked.
 * The second one ends the process: everything durable is in the databases.
 */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

#include "util/stop.h"

/* Before any other thread starts; once. The stop lives as long as the process. */
struct stop *signals_start(void);

#endif
