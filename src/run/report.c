#include "run/report.h"

#include <unistd.h>

#include "pg/conn.h"
#include "run/deferred.h"
#include "run/spilled.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    TERMINAL_US = 1000 * 1000,
    LOG_US = 10 * 1000 * 1000,
    LINES_MAX = 10,
    LINE_BYTES_MAX = 1024,
    TEXT_MAX = 16 * 1024,
};

/* Chunks come in lumps of about a second: a rate is an average over so many seconds, or over those
 * since the table was begun. */
static const double rate_seconds_max = 10;

struct table_report {
    int64_t rows, bytes;  /* of all shards */
    unsigned open_ranges;
    double rate;          /* rows a second … */
    double rate_seconds;  /* … over so many */
    bool known;           /* rows are those of an earlier look */
};

void report_init(struct report *report, struct migration *migration, const struct flow *flows,
                 unsigned flows_count)
{
    *report = (struct report){.migration = migration,
                              .flows = flows,
                              .flows_count = flows_count,
                              .terminal = isatty(STDERR_FILENO) == 1,
                              .told_us = clock_monotonic_us()};
    report->tables = check_calloc(migration->set.count + 1, sizeof *report->tables);
}

void report_release(struct report *report)
{
    if (report->terminal)
        log_set_status("");
    free(report->tables);
    report->tables = NULL;
}

/* ---- the copy ---- */

static struct table_report *find_table(struct report *report, const char *name)
{
    const struct mapping_set *set = &report->migration->set;
    for (unsigned m = 0; m < set->count; m++) {
        if (strcmp(set->mappings[m].name, name) == 0)
            return &report->tables[m];
    }
    return NULL;
}

static bool read_shard(struct report *report, struct table_report *now, PGconn *shard,
                       struct error *err)
{
    PGresult *result = conn_query(shard,
                                  "SELECT mapping, sum(rows), sum(bytes),"
                                  "       count(*) FILTER (WHERE NOT done)"
                                  "  FROM portage.range GROUP BY mapping",
                                  0, NULL, err);
    if (result == NULL)
        return error_context(err, "reading how far the copy is");
    for (int row = 0; row < PQntuples(result); row++) {
        const struct table_report *table = find_table(report, result_text(result, row, 0));
        if (table == NULL)
            continue;
        struct table_report *sum = &now[table - report->tables];
        sum->rows += result_int(result, row, 1);
        sum->bytes += result_int(result, row, 2);
        sum->open_ranges += (unsigned)result_int(result, row, 3);
    }
    PQclear(result);
    return true;
}

static void take_rate(struct table_report *now, const struct table_report *before, double seconds)
{
    now->known = true;
    if (!before->known || now->rows == 0)
        return;
    double rate = (double)(now->rows - before->rows) / seconds;
    now->rate_seconds = before->rate_seconds + seconds;
    if (now->rate_seconds > rate_seconds_max)
        now->rate_seconds = rate_seconds_max;
    double weight = seconds < now->rate_seconds ? seconds / now->rate_seconds : 1;
    now->rate = before->rate + (rate - before->rate) * weight;
}

static bool read_tables(struct report *report, double seconds, struct error *err)
{
    unsigned count = report->migration->set.count;
    struct table_report *now = check_calloc(count + 1, sizeof *now);
    bool ok = true;
    for (unsigned s = 0; ok && s < report->migration->shards_count; s++)
        ok = read_shard(report, now, report->migration->shards[s], err);
    for (unsigned m = 0; ok && m < count; m++)
        take_rate(&now[m], &report->tables[m], seconds);
    if (ok)
        memcpy(report->tables, now, count * sizeof *now);
    free(now);
    return ok;
}

/* Rows that are to be copied, over all shards; -1 when nobody can tell. */
static int64_t rows_expected(const struct report *report, unsigned m)
{
    const struct mapping *mapping = &report->migration->set.mappings[m];
    int64_t rows = mapping->source->rows_estimate;
    int64_t copied = report->tables[m].rows;
    if (rows < 0 || mapping->where != NULL)
        return -1;
    if (mapping->everywhere)
        rows *= report->migration->shards_count;
    return rows > copied ? rows : copied;
}

/* ---- words ---- */

static void put_duration(struct buffer *text, double seconds)
{
    long long whole = (long long)(seconds + 0.5);
    if (whole < 120)
        buffer_printf(text, "%lld s", whole);
    else if (whole < 2 * 3600)
        buffer_printf(text, "%lld min", whole / 60);
    else
        buffer_printf(text, "%lld h %lld min", whole / 3600, whole % 3600 / 60);
}

static void put_time_left(struct buffer *text, double rows_left, double rate)
{
    if (rate < 1 || rows_left <= 0)
        return;
    buffer_puts(text, ", about ");
    put_duration(text, rows_left / rate);
    buffer_puts(text, " left");
}

static void put_table(const struct report *report, unsigned m, struct buffer *text)
{
    const struct table_report *table = &report->tables[m];
    int64_t expected = rows_expected(report, m);
    buffer_printf(text, "%s: %lld", report->migration->set.mappings[m].name,
                  (long long)table->rows);
    if (expected > table->rows)
        buffer_printf(text, " of about %lld", (long long)expected);
    buffer_printf(text, " rows, %.0f/s", table->rate);
    put_time_left(text, (double)(expected - table->rows), table->rate);
}

/* The whole of the copy. One table of unknown size, and nobody knows how long it takes. */
static void put_copy(const struct report *report, struct buffer *text)
{
    unsigned count = report->migration->set.count, done = 0;
    int64_t rows = 0, bytes = 0, left = 0;
    bool known = true;
    double rate = 0;
    for (unsigned m = 0; m < count; m++) {
        const struct table_report *table = &report->tables[m];
        int64_t expected = rows_expected(report, m);
        rows += table->rows;
        bytes += table->bytes;
        rate += table->rate;
        done += table->open_ranges == 0;
        if (table->open_ranges > 0)
            left += expected - table->rows;
        known &= table->open_ranges == 0 || expected >= 0;
    }
    buffer_printf(text, "%u of %u tables, %lld rows copied (%lld MiB), %.0f/s", done, count,
                  (long long)rows, (long long)(bytes >> 20), rate);
    put_time_left(text, known ? (double)left : 0, rate);
    if (report->waits_for != NULL && report->waits_for[0] != '\0')
        buffer_printf(text, ", waits: %s", report->waits_for);
    buffer_puts(text, "; ");
}

/* The worst since it was last asked. */
static int64_t lag_us(const struct stream *stream, int64_t worst)
{
    for (unsigned l = 0; l < stream->lanes_count; l++) {
        struct lane_counts counts;
        lane_read_counts(stream->lanes[l], &counts);
        worst = counts.lag_us_max > worst ? counts.lag_us_max : worst;
    }
    return worst;
}

static void put_stream(struct report *report, double seconds, struct buffer *text)
{
    uint64_t changes = 0;
    int64_t lag = 0;
    for (unsigned f = 0; f < report->flows_count; f++) {
        changes += atomic_load(&report->flows[f].stream.changes);
        lag = lag_us(&report->flows[f].stream, lag);
    }
    double rate = (double)(changes - report->changes) / seconds;
    buffer_printf(text, "%llu changes, %.0f/s, lag %.1f ms", (unsigned long long)changes, rate,
                  (double)lag / 1000);
    int64_t spilled = spilled_bytes(&report->flows[0]);
    if (spilled > 0)
        buffer_printf(text, ", %lld MiB wait in files for tables copied whole",
                      (long long)((spilled >> 20) + 1));
    report->changes = changes;
}

/* ---- what is under way besides the stream, a line each ---- */

static void add_line(json_t *lines, struct buffer *line)
{
    json_array_append_new(lines, json_string(buffer_text(line)));
    buffer_clear(line);
}

static void add_tables(const struct report *report, json_t *lines, struct buffer *line)
{
    for (unsigned m = 0; m < report->migration->set.count; m++) {
        const struct table_report *table = &report->tables[m];
        if (table->open_ranges == 0 || table->rows == 0)
            continue;
        put_table(report, m, line);
        add_line(lines, line);
    }
}

static void put_building(json_t *item, bool shards, struct buffer *line)
{
    json_int_t shard, done, total, seconds;
    const char *kind, *name, *table, *phase;
    CHECK(json_unpack(item, "{s:I, s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "shard", &shard, "kind", &kind,
                      "name", &name, "table", &table, "phase", &phase, "done", &done, "total", &total,
                      "seconds", &seconds) == 0);
    if (shards)
        buffer_printf(line, "shard %lld, ", (long long)shard);
    buffer_printf(line, "%s %s of %s: %s", kind, name, table, phase);
    if (total > 0)
        buffer_printf(line, ", %lld %%", (long long)(100 * done / total));
    buffer_puts(line, phase[0] != '\0' ? ", for " : "for ");
    put_duration(line, (double)seconds);
}

static bool add_building(const struct report *report, json_t *lines, struct buffer *line,
                         struct error *err)
{
    const struct migration *migration = report->migration;
    json_t *building = json_array(), *item;
    size_t index;
    bool ok = true;
    for (unsigned s = 0; ok && s < migration->shards_count; s++)
        ok = deferred_under_way(migration->shards[s], s, building, err);
    json_array_foreach (building, index, item) {
        put_building(item, migration->shards_count > 1, line);
        add_line(lines, line);
    }
    json_decref(building);
    return ok;
}

static bool add_lines(const struct report *report, enum telling telling, json_t *lines,
                      struct error *err)
{
    struct buffer line;
    bool ok = true;
    buffer_init(&line, LINE_BYTES_MAX);
    if (telling == TELL_COPY)
        add_tables(report, lines, &line);
    if (telling == TELL_INDEXES)
        ok = add_building(report, lines, &line, err);
    buffer_release(&line);
    return ok;
}

/* ---- telling ---- */

static void tell_terminal(json_t *lines, struct buffer *text)
{
    size_t index, count = json_array_size(lines);
    json_t *line;
    json_array_foreach (lines, index, line) {
        if (index < LINES_MAX)
            buffer_printf(text, "\n  %s", json_string_value(line));
    }
    if (count > LINES_MAX)
        buffer_printf(text, "\n  and %zu more", count - LINES_MAX);
    log_set_status(buffer_text(text));
}

static void tell_log(const char *stage, json_t *lines, struct buffer *text)
{
    size_t index;
    json_t *line;
    log_info("%s", buffer_text(text));
    json_array_foreach (lines, index, line) {
        if (index < LINES_MAX)
            log_info("%s %s", stage, json_string_value(line));
    }
}

static void tell(struct report *report, const char *stage, bool copying, json_t *lines,
                 double seconds)
{
    struct buffer text;
    buffer_init(&text, TEXT_MAX);
    buffer_printf(&text, "%s: ", stage);
    if (copying)
        put_copy(report, &text);
    put_stream(report, seconds, &text);
    if (report->terminal)
        tell_terminal(lines, &text);
    else
        tell_log(stage, lines, &text);
    buffer_release(&text);
}

bool report_tell(struct report *report, const char *stage, enum telling telling, struct error *err)
{
    int64_t now_us = clock_monotonic_us();
    double seconds = (double)(now_us - report->told_us) / 1e6;
    if (now_us - report->told_us < (report->terminal ? TERMINAL_US : LOG_US))
        return true;
    if (telling == TELL_COPY && !read_tables(report, seconds, err))
        return false;
    report->told_us = now_us;
    json_t *lines = json_array();
    bool ok = add_lines(report, telling, lines, err);
    if (ok)
        tell(report, stage, telling == TELL_COPY, lines, seconds);
    json_decref(lines);
    return ok;
}
