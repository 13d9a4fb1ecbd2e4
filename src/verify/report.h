/*
 * The report of a pass, as docs/reference.md describes it: what `--json` prints, what control keeps, and
 * what is drawn as a table.
 */
#ifndef VERIFY_REPORT_H
#define VERIFY_REPORT_H

#include "verify/judge.h"
#include "verify/kept.h"
#include "verify/ledger.h"

enum outcome { OUTCOME_EQUAL, OUTCOME_DIFFERENT, OUTCOME_UNDECIDED };

struct verification {
    enum outcome outcome;
    json_t *report; /* the caller releases it */
};

/* One table's part. */
struct table_result {
    const struct mapping *mapping; /* as it is compared */
    const struct mapping *whole;   /* with the columns that narrow() left out */
    struct compared compared;
    uint64_t rows_before; /* of the source, of these: read by earlier runs of the pass */
    const char *skipped;  /* why it was not looked at; NULL */
    json_t *shard_rows;   /* counted, by shard; NULL */
};

struct findings_of_pass {
    const struct table_result *const *tables;
    unsigned tables_count;
    const struct judgement *judgement;
    const struct kept *kept;
    json_t *checks;
    uint64_t checks_wrong;
    bool counts_differ;
    int64_t took_us;
};

void report_make(const struct findings_of_pass *findings, struct verification *verification);

/* Outcome of the whole; report_make() has set one. */
void report_set_outcome(struct verification *verification, enum outcome outcome);

bool report_any_skipped(const struct table_result *const *tables, unsigned tables_count);

#endif
