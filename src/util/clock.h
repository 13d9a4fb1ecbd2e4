/* Time. Durations come from the monotonic clock; wall time is only shown or compared with servers'. */
#ifndef UTIL_CLOCK_H
#define UTIL_CLOCK_H

#include <stdint.h>
#include <time.h>

int64_t clock_monotonic_us(void);
int64_t clock_wall_us(void); /* since 1970-01-01 UTC */

/* A point of the monotonic clock, `us` from now, for pthread_cond_clockwait(). */
struct timespec clock_deadline(int64_t us);

#endif
