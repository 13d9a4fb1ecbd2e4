#include <errno.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/show.h"
#include "cli/signals.h"
#include "mapping/names.h"
#include "run/proof.h"
#include "util/log.h"

enum {
    EXIT_UNDECIDED = 2, /* what wrong usage is too: nothing has been decided */
    SHOWN_DIFFERENCES = 20,
    WORKERS_MAX = 64,
};

struct arguments {
    struct verify_options options;
    const char *tables[1024];
    unsigned tables_count;
};

/* ---- the command line ---- */

static bool usage(const char *what, const char *argument)
{
    fprintf(stderr, "pgportage verify: %s \"%s\"; see pgportage verify --help\n", what, argument);
    return false;
}

static bool read_number(const char *text, int64_t least, int64_t most, int64_t *number)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || errno != 0)
        return usage("not a number:", text);
    static const struct {
        const char *name;
        int shift;
    } units[] = {{"", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        if (strcmp(end, units[u].name) != 0)
            continue;
        if (value < least || value > most >> units[u].shift)
            return usage("out of range:", text);
        *number = (int64_t)value << units[u].shift;
        return true;
    }
    return usage("not a number:", text);
}

static bool take_option(const char *name, const char *value, struct verify_options *options)
{
    int64_t number;
    if (strcmp(name, "--digest") == 0) {
        options->server_digest = strcmp(value, "server") == 0;
        return options->server_digest || strcmp(value, "stream") == 0 ||
               usage("--digest is stream or server, not", value);
    }
    if (strcmp(name, "--rate-max") == 0)
        return read_number(value, 0, INT64_C(1) << 50, &options->rate_max);
    if (strcmp(name, "--workers") == 0) {
        if (!read_number(value, 1, WORKERS_MAX, &number))
            return false;
        options->workers = (int)number;
        return true;
    }
    if (!read_number(value, 1, 1000000, &number))
        return false;
    if (strcmp(name, "--sample") == 0)
        options->sample = number;
    else
        options->patience_us = number * 1000000;
    return true;
}

static bool take_arguments(const struct command_line *line, struct arguments *arguments)
{
    static const char *const with_value[] = {"--digest", "--rate-max", "--workers", "--patience",
                                             "--sample"};
    *arguments = (struct arguments){.options = {.workers = 4,
                                                .kept_as = "verify",
                                                .progress = isatty(STDERR_FILENO) == 1,
                                                .patience_us = INT64_C(120) * 1000 * 1000}};
    for (int i = 1; i < line->argc; i++) {
        const char *argument = line->argv[i];
        bool known = false;
        for (size_t o = 0; o < sizeof with_value / sizeof with_value[0]; o++)
            known |= strcmp(argument, with_value[o]) == 0;
        if (known && i + 1 == line->argc)
            return usage("a value is missing after", argument);
        if (known) {
            if (!take_option(argument, line->argv[++i], &arguments->options))
                return false;
        } else if (strcmp(argument, "--strict") == 0) {
            arguments->options.strict = true;
        } else if (strcmp(argument, "--fresh") == 0) {
            arguments->options.fresh = true;
        } else if (strcmp(argument, "--counts") == 0) {
            arguments->options.counts = true;
        } else if (strcmp(argument, "--repair") == 0) {
            arguments->options.repair = true;
            arguments->options.dry_run = line->dry_run;
        } else if (argument[0] == '-') {
            return usage("unknown option", argument);
        } else if (arguments->tables_count ==
                   sizeof arguments->tables / sizeof arguments->tables[0]) {
            return usage("too many tables:", argument);
        } else {
            arguments->tables[arguments->tables_count++] = argument;
        }
    }
    return true;
}

/* ---- what is verified ---- */

static bool is_wanted(const struct arguments *arguments, const struct mapping *mapping, bool *found)
{
    bool wanted = arguments->tables_count == 0;
    for (unsigned t = 0; t < arguments->tables_count; t++) {
        if (!name_matches(arguments->tables[t], mapping->target->schema, mapping->target->name))
            continue;
        found[t] = true;
        wanted = true;
    }
    return wanted;
}

/* Gives the mappings that are asked for; the array lives in the arena. */
static bool choose_tables(const struct arguments *arguments, const struct mapping_set *set,
                          struct arena *arena, const struct mapping ***tables, unsigned *count,
                          struct error *err)
{
    bool *found = arena_zalloc(arena, (arguments->tables_count + 1) * sizeof *found);
    *tables = arena_alloc(arena, (set->count + 1) * sizeof **tables);
    *count = 0;
    for (unsigned m = 0; m < set->count; m++) {
        if (is_wanted(arguments, &set->mappings[m], found))
            (*tables)[(*count)++] = &set->mappings[m];
    }
    for (unsigned t = 0; t < arguments->tables_count; t++) {
        if (found[t])
            continue;
        error_set(err, ERROR_CONFIG, "no table that is carried is called \"%s\"",
                  arguments->tables[t]);
        return error_hint(err, "Name tables of the target as schema.table; \"pgportage plan\" lists"
                               " them. * stands for any text.");
    }
    return true;
}

/* ---- what is told ---- */

static void print_difference(json_t *difference)
{
    size_t index;
    json_t *column;
    char *key = json_dumps(json_object_get(difference, "key"), JSON_PRESERVE_ORDER);
    char *shards = json_dumps(json_object_get(difference, "shards"), 0);
    printf("%-11s %s %s, on shards %s\n", show_text(difference, "kind"),
           show_text(difference, "table"), key, shards);
    json_array_foreach (json_object_get(difference, "columns"), index, column) {
        printf("            %s: source %.60s, shard %lld %.60s   (%s)\n",
               show_text(column, "column"), show_value(column, "source"), show_int(column, "shard"),
               show_value(column, "target"), show_text(column, "expression"));
    }
    free(key);
    free(shards);
}

/* "origin (constant), note (not mapped)" */
static void print_not_compared(json_t *table)
{
    size_t index;
    json_t *column;
    json_array_foreach (json_object_get(table, "not_compared"), index, column)
        printf("%s%s (%s)", index == 0 ? "    not compared: " : ", ", show_text(column, "column"),
               show_text(column, "why"));
    if (index > 0)
        putchar('\n');
}

static void print_tables(json_t *report)
{
    size_t index;
    json_t *table;
    printf("%-44s %14s %14s %12s\n", "table", "source rows", "target rows", "differences");
    json_array_foreach (json_object_get(report, "tables"), index, table) {
        printf("%-44s %14lld %14lld %12lld%s%s\n", show_text(table, "name"),
               show_int(table, "source_rows"), show_int(table, "target_rows"),
               show_int(table, "differences"),
               json_object_get(table, "skipped") ? "  left out: " : "",
               json_object_get(table, "skipped") ? show_text(table, "skipped") : "");
        print_not_compared(table);
    }
    putchar('\n');
}

static void print_continued(json_t *continued)
{
    if (json_is_object(continued))
        printf("continued the pass begun at %s, in which %lld tables and %lld rows were done\n",
               show_text(continued, "begun_at"), show_int(continued, "tables_complete"),
               show_int(continued, "source_rows"));
}

static void print_report(json_t *report)
{
    size_t index;
    json_t *difference, *check;
    json_t *differences = json_object_get(report, "differences");
    print_tables(report);
    json_array_foreach (differences, index, difference) {
        if (index < SHOWN_DIFFERENCES)
            print_difference(difference);
    }
    if (json_array_size(differences) > SHOWN_DIFFERENCES)
        printf("… and %zu more; --json has all of them\n",
               json_array_size(differences) - SHOWN_DIFFERENCES);
    json_array_foreach (json_object_get(report, "checks"), index, check) {
        printf("shard %lld: %s: %s\n", show_int(check, "shard"), show_text(check, "object"),
               show_text(check, "check"));
    }
    if (json_object_get(report, "repaired") != NULL)
        printf("repaired: %lld; left: %lld\n", show_int(report, "repaired"),
               show_int(report, "left"));
    if (json_object_get(report, "would_repair") != NULL)
        printf("dry run: %lld keys would be repaired; nothing was changed\n",
               show_int(report, "would_repair"));
    if (show_int(report, "undecided") > 0)
        printf("undecided: %lld keys; %s\n", show_int(report, "undecided"),
               show_text(report, "why_undecided"));
    print_continued(json_object_get(report, "continued"));
    printf("%s, %.1f s; %lld rows were in flight and arrived equal\n", show_text(report, "outcome"),
           json_real_value(json_object_get(report, "seconds")), show_int(report, "in_flight"));
}

static int show(const struct verification *verification, bool json)
{
    static const int codes[] = {EXIT_OK, EXIT_REFUSED, EXIT_UNDECIDED};
    if (json) {
        show_json(verification->report);
    } else {
        print_report(verification->report);
    }
    json_decref(verification->report);
    return codes[verification->outcome];
}

/* Whatever went wrong, nothing is decided. */
static int failed(const struct error *err)
{
    return command_failed(err) == EXIT_STOPPED ? EXIT_STOPPED : EXIT_UNDECIDED;
}

static int verify(const struct config *config, const struct arguments *arguments, bool json,
                  struct stop *stop)
{
    struct migration migration;
    struct verification verification;
    const struct mapping **tables;
    unsigned count;
    struct error err = ERROR_INIT;
    if (!migration_open(&migration, config, "verify", &err))
        return failed(&err);
    bool ok = migration_bind(&migration, &err) &&
              (migration.findings.refused == 0 || migration_refused(&migration, &err)) &&
              choose_tables(arguments, &migration.set, &migration.arena, &tables, &count, &err) &&
              verify_tables(config, &migration.set, tables, count, &arguments->options, stop,
                            &verification, &err);
    bool whole = arguments->tables_count == 0 && !arguments->options.counts &&
                 arguments->options.sample == 0;
    if (ok && whole && !proof_record(migration.shards[0], &verification, &err)) {
        json_decref(verification.report);
        ok = false;
    }
    int code = ok ? show(&verification, json) : failed(&err);
    migration_close(&migration);
    return code;
}

int cmd_verify(const struct command_line *line)
{
    struct arena arena;
    struct config config;
    struct arguments *arguments = check_calloc(1, sizeof *arguments);
    struct error err = ERROR_INIT;
    int code = EXIT_USAGE;
    if (take_arguments(line, arguments)) {
        struct stop *stop = signals_start();
        arena_init(&arena, 64 * 1024);
        log_set_subject("verify");
        code = config_read(line->config_path, &arena, &config, &err)
                   ? verify(&config, arguments, line->json, stop)
                   : failed(&err);
        arena_release(&arena);
    }
    free(arguments);
    return code;
}
