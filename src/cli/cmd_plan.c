#include <ctype.h>

#include "cli/command.h"
#include "cli/show.h"
#include "run/plan.h"

/* ---- the columns, side by side ---- */

enum { FIELDS = 7, WIDTH_MAX = 48 };

static const char *const headings[FIELDS] = {"source column", "type", "expression", "target column",
                                             "type", "inverse", "values"};

static int width_of(const char *text)
{
    int width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

/* An expression may stand on several lines of portage.yaml. */
static const char *on_one_line(struct arena *arena, const char *text)
{
    char *line = arena_strdup(arena, text), *end = line;
    for (const char *at = text; *at != '\0'; at++) {
        bool space = isspace((unsigned char)*at);
        if (!space || (end > line && end[-1] != ' '))
            *end++ = space ? ' ' : *at;
    }
    *end = '\0';
    return line;
}

static void read_cells(json_t *column, struct arena *arena, const char *cells[FIELDS])
{
    static const char *const keys[] = {"source", "source_type", "expression", "target",
                                       "target_type", "inverse_is"};
    for (unsigned f = 0; f < FIELDS - 1; f++)
        cells[f] = on_one_line(arena, show_text(column, keys[f]));
    cells[FIELDS - 1] = json_is_true(json_object_get(column, "lossless")) ? "lossless" : "lossy";
}

static void widen(int widths[FIELDS], const char *const cells[FIELDS])
{
    for (unsigned f = 0; f < FIELDS; f++) {
        int width = width_of(cells[f]);
        if (width > widths[f] && width <= WIDTH_MAX)
            widths[f] = width;
    }
}

static void print_cells(const int widths[FIELDS], const char *const cells[FIELDS])
{
    printf("   ");
    for (unsigned f = 0; f < FIELDS; f++) {
        int blanks = f + 1 < FIELDS ? widths[f] - width_of(cells[f]) : 0;
        printf(" %s%*s", cells[f], blanks > 0 ? blanks + 1 : f + 1 < FIELDS, "");
    }
    printf("\n");
}

static void print_columns(json_t *columns)
{
    struct arena arena;
    size_t index;
    json_t *column;
    const char *cells[FIELDS];
    int widths[FIELDS] = {0};
    arena_init(&arena, 16 * 1024);
    widen(widths, headings);
    json_array_foreach (columns, index, column) {
        read_cells(column, &arena, cells);
        widen(widths, cells);
    }
    print_cells(widths, headings);
    json_array_foreach (columns, index, column) {
        read_cells(column, &arena, cells);
        print_cells(widths, cells);
    }
    arena_release(&arena);
}

/* ---- a table ---- */

static void print_deferred(json_t *deferred)
{
    size_t index;
    json_t *item;
    if (json_array_size(deferred) > 0)
        printf("  after the copy:\n");
    json_array_foreach (deferred, index, item) {
        printf("    %-12s %s: %s\n", show_text(item, "kind"), show_text(item, "name"),
               show_text(item, "definition"));
    }
}

/* Only what was not derived: the rest stands beside its column. */
static void print_back(json_t *back)
{
    size_t index;
    json_t *column;
    json_array_foreach (back, index, column) {
        if (strcmp(show_text(column, "inverse_is"), "derived") != 0)
            printf("  way back of %s: %s%s%s\n", show_text(column, "source"),
                   show_text(column, "inverse_is"),
                   json_is_string(json_object_get(column, "inverse")) ? ", " : "",
                   json_is_string(json_object_get(column, "inverse")) ? show_text(column, "inverse")
                                                                      : "");
    }
}

static void print_table(json_t *table)
{
    json_t *shard_by = json_object_get(table, "shard_by");
    printf("\n%s from %s\n", show_text(table, "name"), show_text(table, "from"));
    printf("  %s%s%s, copied %s in %s, about %lld rows, %lld MiB%s\n",
           show_text(table, "placement"), shard_by != NULL ? " of " : "",
           shard_by != NULL ? json_string_value(shard_by) : "", show_text(table, "copy"),
           show_text(table, "format"),
           (long long)json_integer_value(json_object_get(table, "rows")),
           (long long)json_integer_value(json_object_get(table, "bytes")) >> 20,
           json_is_true(json_object_get(table, "one_lane")) ? ", in one lane" : "");
    print_columns(json_object_get(table, "columns"));
    print_back(json_object_get(table, "back"));
    print_deferred(json_object_get(table, "deferred"));
}

static void print_findings(json_t *findings, const char *path)
{
    size_t index;
    json_t *finding;
    if (json_array_size(findings) > 0)
        printf("\n");
    json_array_foreach (findings, index, finding) {
        json_t *line = json_object_get(finding, "line");
        printf("%s: ", show_text(finding, "severity"));
        if (line != NULL)
            printf("%s:%lld:%lld: ", path, (long long)json_integer_value(line),
                   (long long)json_integer_value(json_object_get(finding, "column")));
        printf("%s: %s\n", show_text(finding, "object"), show_text(finding, "reason"));
        if (json_is_string(json_object_get(finding, "fix")))
            printf("    fix: %s\n", show_text(finding, "fix"));
    }
}

static void print_plan(json_t *plan, const char *path)
{
    size_t index;
    json_t *table;
    printf("From PostgreSQL %lld to PostgreSQL %lld on %lld shard(s).\n",
           (long long)json_integer_value(json_object_get(plan, "source_version")),
           (long long)json_integer_value(json_object_get(plan, "target_version")),
           (long long)json_integer_value(json_object_get(plan, "shards")));
    json_array_foreach (json_object_get(plan, "tables"), index, table) {
        print_table(table);
    }
    print_findings(json_object_get(plan, "findings"), path);
    printf("\n%s\n", json_is_true(json_object_get(plan, "refused"))
                         ? "Refused: see above for what stands in the way."
                         : "Nothing stands in the way.");
}

static int show(const struct config *config, const struct command_line *line, struct error *err)
{
    struct migration migration;
    if (!migration_open(&migration, config, "plan", err))
        return command_failed(err);
    json_t *plan = plan_make(&migration, err);
    migration_close(&migration);
    if (plan == NULL)
        return command_failed(err);
    if (line->json) {
        show_json(plan);
    } else {
        print_plan(plan, config->path);
    }
    int code = json_is_true(json_object_get(plan, "refused")) ? EXIT_REFUSED : EXIT_OK;
    json_decref(plan);
    return code;
}

int cmd_plan(const struct command_line *line)
{
    struct arena arena;
    struct config config;
    struct error err = ERROR_INIT;
    int code = command_no_arguments(line);
    if (code != EXIT_OK)
        return code;
    arena_init(&arena, 64 * 1024);
    code = config_read(line->config_path, &arena, &config, &err) ? show(&config, line, &err)
                                                                  : command_failed(&err);
    arena_release(&arena);
    return code;
}
