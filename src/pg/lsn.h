/* A position in a write-ahead log. Zero is no position. Text form as PostgreSQL prints it: 16/B374D848. */
#ifndef PG_LSN_H
#define PG_LSN_H

#include <stdbool.h>
#include <stdint.h>

#include "util/check.h"

typedef uint64_t lsn_t;

#define LSN_NONE ((lsn_t)0)
#define LSN_FORMAT "%X/%X"
#define LSN_ARGS(lsn) (unsigned)((lsn) >> 32), (unsigned)(lsn)

enum { LSN_TEXT_SIZE = 18 };

bool lsn_parse(const char *text, lsn_t *lsn) MUST_CHECK;
const char *lsn_text(lsn_t lsn, char text[LSN_TEXT_SIZE]); /* returns text */

#endif
