#include "cli/command.h"
#include "run/plan.h"

static const char *text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "-";
}

static void print_column(json_t *column)
{
    printf("    %-24s %-26s %-40s %-24s %-26s %s\n", text_of(column, "source"),
           text_of(column, "source_type"), text_of(column, "expression"),
           text_of(column, "target"), text_of(column, "target_type"),
           text_of(column, "inverse_is"));
}

static void print_table(json_t *table)
{
    size_t index;
    json_t *column;
    printf("\n%s from %s\n", text_of(table, "name"), text_of(table, "from"));
    printf("  %s%s%s, copied %s in %s, about %lld rows, %lld MiB%s\n",
           text_of(table, "placement"), json_object_get(table, "shard_by") != NULL ? " of " : "",
           json_object_get(table, "shard_by") != NULL ? text_of(table, "shard_by") : "",
           text_of(table, "copy"), text_of(table, "format"),
           (long long)json_integer_value(json_object_get(table, "rows")),
           (long long)json_integer_value(json_object_get(table, "bytes")) >> 20,
           json_is_true(json_object_get(table, "one_lane")) ? ", in one lane" : "");
    printf("    %-24s %-26s %-40s %-24s %-26s %s\n", "source column", "type", "expression",
           "target column", "type", "inverse");
    json_array_foreach (json_object_get(table, "columns"), index, column) {
        print_column(column);
    }
}

static void print_findings(json_t *findings, const char *path)
{
    size_t index;
    json_t *finding;
    printf("\n");
    json_array_foreach (findings, index, finding) {
        json_t *line = json_object_get(finding, "line");
        printf("%s: ", text_of(finding, "severity"));
        if (line != NULL)
            printf("%s:%lld:%lld: ", path, (long long)json_integer_value(line),
                   (long long)json_integer_value(json_object_get(finding, "column")));
        printf("%s: %s\n", text_of(finding, "object"), text_of(finding, "reason"));
        if (json_is_string(json_object_get(finding, "fix")))
            printf("    fix: %s\n", text_of(finding, "fix"));
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
        json_dumpf(plan, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        putchar('\n');
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
