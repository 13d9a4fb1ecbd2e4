/*
 * How far it is, told while it runs: on a terminal every second, as lines that stay below the log;
 * in the log every ten seconds. While tables are copied each of them with its rows, rate and time
 * left; then the indexes and keys that are being built; always the changes a second and the lag. One
 * thread.
 */
#ifndef RUN_REPORT_H
#define RUN_REPORT_H

#include "run/flow.h"

/* What there is besides the stream; the shards are asked for it. */
enum telling { TELL_STREAM, TELL_COPY, TELL_INDEXES };

struct report {
    struct migration *migration;
    const struct flow *flows;
    unsigned flows_count;
    struct table_report *tables; /* by mapping */
    const char *waits_for; /* why the copy waits; NULL or empty: it does not */
    bool terminal;
    int64_t told_us;
    uint64_t changes; /* when it was last told */
};

/* `migration` is that of the way there: its tables are told. Both must outlive it. */
void report_init(struct report *report, struct migration *migration, const struct flow *flows,
                 unsigned flows_count);
void report_release(struct report *report); /* takes its lines off the terminal */

/* Tells, when it is time to. */
bool report_tell(struct report *report, const char *stage, enum telling telling, struct error *err)
    MUST_CHECK;

#endif
