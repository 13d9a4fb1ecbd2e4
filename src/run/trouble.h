/*
 * What a thread beside the stream cannot do: said once, in log and journal, until it is another trouble or
 * none, and tried again. It ends no run. Of that thread only.
 */
#ifndef RUN_TROUBLE_H
#define RUN_TROUBLE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/error.h"

struct trouble {
    char told[1024]; /* empty: none */
};

/* Whether it is another one than was said last. */
bool trouble_is_new(struct trouble *trouble, const struct error *err);
void trouble_is_over(struct trouble *trouble);

/* An entry of the journal with problem, detail and hint; what keeps it from being written is logged. */
void trouble_journal(PGconn *control, int64_t epoch, const char *step, const struct error *err);

#endif
