#include "verify/report.h"

static uint64_t differences_of(const struct judgement *judgement, const struct mapping *mapping)
{
    uint64_t count = 0;
    for (const struct suspect *guilty = judgement->guilty; guilty != NULL; guilty = guilty->next)
        count += guilty->mapping == mapping;
    return count;
}

/* ---- columns that are not compared ---- */

static json_t *not_compared(const struct table_result *table)
{
    json_t *columns = json_array();
    const struct relation *target = table->whole->target;
    for (unsigned c = 0; c < target->columns_count; c++) {
        const struct column *column = &target->columns[c];
        bool mapped = mapping_has_item(table->whole, column);
        if (mapped && mapping_has_item(table->mapping, column))
            continue;
        json_array_append_new(columns, json_pack("{s:s, s:s}", "column", column->name, "why",
                                                 mapped ? "constant" : "not mapped"));
    }
    return columns;
}

/* ---- tables ---- */

static json_t *report_table(const struct table_result *table, const struct judgement *judgement)
{
    json_t *object =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "name", table->mapping->name, "source_rows",
                  (json_int_t)table->compared.source_rows, "target_rows",
                  (json_int_t)table->compared.target_rows, "rows_before",
                  (json_int_t)table->rows_before, "differences",
                  (json_int_t)differences_of(judgement, table->mapping), "not_compared",
                  not_compared(table));
    if (table->skipped != NULL)
        json_object_set_new(object, "skipped", json_string(table->skipped));
    if (table->shard_rows != NULL)
        json_object_set(object, "shard_rows", table->shard_rows);
    return object;
}

static json_t *report_tables(const struct findings_of_pass *findings)
{
    json_t *tables = json_array();
    for (unsigned t = 0; t < findings->tables_count; t++)
        json_array_append_new(tables, report_table(findings->tables[t], findings->judgement));
    return tables;
}

bool report_any_skipped(const struct table_result *const *tables, unsigned tables_count)
{
    for (unsigned t = 0; t < tables_count; t++) {
        if (tables[t]->skipped != NULL)
            return true;
    }
    return false;
}

/* What earlier runs had done; null when there were none. */
static json_t *report_continued(const struct kept *kept)
{
    json_int_t rows = 0, complete = 0;
    if (!kept->continued)
        return json_null();
    for (unsigned t = 0; t < kept->tables_count; t++) {
        rows += (json_int_t)kept->tables[t].before.source_rows;
        complete += kept->tables[t].complete_before;
    }
    return json_pack("{s:s, s:I, s:I}", "begun_at", kept->begun_at, "tables_complete", complete,
                     "source_rows", rows);
}

/* ---- the whole ---- */

void report_set_outcome(struct verification *verification, enum outcome outcome)
{
    static const char *const names[] = {"equal", "different", "undecided"};
    verification->outcome = outcome;
    json_object_set_new(verification->report, "outcome", json_string(names[outcome]));
}

void report_make(const struct findings_of_pass *findings, struct verification *verification)
{
    const struct judgement *judgement = findings->judgement;
    bool undecided = judgement->undecided > 0 || findings->counts_differ ||
                     report_any_skipped(findings->tables, findings->tables_count);
    enum outcome outcome =
        judgement->different > 0 || findings->checks_wrong > 0 ? OUTCOME_DIFFERENT
        : undecided                                            ? OUTCOME_UNDECIDED
                                                               : OUTCOME_EQUAL;
    verification->report = json_pack(
        "{s:s, s:f, s:I, s:I, s:I, s:s, s:o, s:o, s:O, s:O}", "outcome", "", "seconds",
        (double)findings->took_us / 1e6, "in_flight", (json_int_t)judgement->equal, "different",
        (json_int_t)judgement->different, "undecided", (json_int_t)judgement->undecided,
        "why_undecided", judgement->why_undecided, "continued", report_continued(findings->kept),
        "tables", report_tables(findings), "checks", findings->checks, "differences",
        judgement->differences);
    CHECK(verification->report != NULL);
    report_set_outcome(verification, outcome);
}
