/* `cutover` and `rollback`: the same command in two directions. */
#include <errno.h>

#include "cli/command.h"
#include "cli/show.h"
#include "cli/signals.h"
#include "run/proof.h"
#include "state/journal.h"
#include "switchover/switch.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    SECONDS_MAX = 86400,
    SETTLE_ATTEMPTS = 20,
    SETTLE_AGAIN_US = 500 * 1000,
    VERIFY_PATIENCE_US = 120 * 1000 * 1000,
};

struct arguments {
    struct switch_options options;
    bool verify, abort, json;
};

/* ---- the command line ---- */

static bool read_seconds(const char *option, const char *text, int least, int *seconds)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < least || value > SECONDS_MAX) {
        fprintf(stderr, "pgportage: %s takes a number of seconds, %d to %d, not \"%s\"\n", option,
                least, SECONDS_MAX, text);
        return false;
    }
    *seconds = (int)value;
    return true;
}

static bool take_value(const char *option, const char *value, struct switch_options *options,
                       bool *known)
{
    const struct {
        const char *name;
        int least;
        int *seconds;
    } numbers[] = {{"--max-lag", 0, &options->max_lag_s},
                   {"--timeout", 1, &options->timeout_s},
                   {"--verified-within", 1, &options->verify_age_s},
                   {"--kill-blockers-after", 0, &options->kill_after_s}};
    for (size_t n = 0; n < sizeof numbers / sizeof numbers[0]; n++) {
        *known = strcmp(option, numbers[n].name) == 0;
        if (*known && value == NULL)
            fprintf(stderr, "pgportage: a value is missing after %s\n", option);
        if (*known)
            return value != NULL &&
                   read_seconds(option, value, numbers[n].least, numbers[n].seconds);
    }
    return true;
}

static bool take_arguments(const struct command_line *line, struct arguments *arguments)
{
    struct switch_options *options = &arguments->options;
    *arguments = (struct arguments){.json = line->json,
                                    .options = {.max_lag_s = 10,
                                                .timeout_s = 30,
                                                .kill_after_s = -1,
                                                .verify_age_s = 3600,
                                                .dry_run = line->dry_run}};
    for (int i = 1; i < line->argc; i++) {
        bool known;
        if (!take_value(line->argv[i], i + 1 < line->argc ? line->argv[i + 1] : NULL, options,
                        &known))
            return false;
        if (known) {
            i++;
        } else if (strcmp(line->argv[i], "--verify") == 0) {
            arguments->verify = true;
        } else if (strcmp(line->argv[i], "--no-way-back") == 0) {
            options->without_way_back = true;
        } else if (strcmp(line->argv[i], "--abort") == 0) {
            arguments->abort = true;
        } else {
            fprintf(stderr, "pgportage %s: unknown argument \"%s\"; see pgportage %s --help\n",
                    line->argv[0], line->argv[i], line->argv[0]);
            return false;
        }
    }
    return true;
}

/* ---- what is told ---- */

static json_t *findings_json(const struct findings *findings)
{
    json_t *list = json_array();
    for (unsigned f = 0; f < findings->count; f++) {
        const struct finding *finding = &findings->items[f];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s?}", "severity",
                                              severity_name(finding->severity), "code",
                                              finding->code, "object", finding->object, "reason",
                                              finding->reason, "fix", finding->fix));
    }
    return list;
}

static void print_findings(const struct findings *findings)
{
    for (unsigned f = 0; f < findings->count; f++) {
        const struct finding *finding = &findings->items[f];
        printf("%-8s %s: %s  [%s]\n", severity_name(finding->severity), finding->object,
               finding->reason, finding->code);
        if (finding->fix != NULL)
            printf("         %s\n", finding->fix);
    }
}

static const char *outcome_name(enum switch_outcome outcome)
{
    static const char *const names[] = {"switched", "already live", "ready", "refused", "restored"};
    return names[outcome];
}

static void print_done(const struct switch_result *result, const char *goal)
{
    printf("The %s is live. No database took writes for %.0f ms, from the fence to the open gates.\n",
           goal, (double)result->closed_us / 1000);
    if (result->paused_us > 0)
        printf("The application waited for %.0f ms, from PAUSE to RESUME.\n",
               (double)result->paused_us / 1000);
}

/* What it would do, and how long each step may take. */
static void print_plan(const json_t *steps)
{
    size_t index;
    json_t *row;
    double total = 0;
    bool known = true;
    printf("%-9s %12s  %-9s  %s\n", "step", "expected", "from", "what it does");
    json_array_foreach (steps, index, row) {
        json_t *expected = json_object_get(row, "expected_ms");
        char ms[32] = "-";
        if (json_is_number(expected))
            snprintf(ms, sizeof ms, "%.1f ms", json_number_value(expected));
        total += json_number_value(expected);
        known = known && json_is_number(expected);
        printf("%-9s %12s  %-9s  %s\n", show_text(row, "step"), ms, show_text(row, "from"),
               show_text(row, "does"));
    }
    printf("%-9s %9.1f ms%s\n", "together", total, known ? "" : ", without those that are not known");
}

static void print_result(const struct switching *switching, const struct switch_result *result)
{
    const char *goal = side_name(switching->goal);
    const char *verb = switch_verb(switching->goal);
    print_findings(switching->findings);
    switch (result->outcome) {
    case SWITCH_DONE:
        print_done(result, goal);
        break;
    case SWITCH_ALREADY:
        printf("The %s is live.\n", goal);
        break;
    case SWITCH_READY:
        printf("Ready for the %s; nothing was changed.\n\n", verb);
        print_plan(result->steps);
        break;
    case SWITCH_REFUSED:
        printf("The %s is refused: %u reason%s. Nothing was touched.\n", verb,
               switching->findings->refused, switching->findings->refused == 1 ? "" : "s");
        break;
    case SWITCH_RESTORED:
        printf("The %s is live and takes writes.\n",
               side_name(side_other(switching->goal)));
        break;
    }
}

static json_t *ms_or_null(int64_t us)
{
    return us > 0 ? json_real((double)us / 1000) : json_null();
}

static void show(const struct switching *switching, const struct switch_result *result, bool json)
{
    if (!json) {
        print_result(switching, result);
        return;
    }
    json_t *object =
        json_pack("{s:s, s:s, s:I, s:o, s:o, s:O, s:o}", "outcome", outcome_name(result->outcome),
                  "switch", switch_verb(switching->goal), "epoch", (json_int_t)result->epoch,
                  "closed_ms", ms_or_null(result->closed_us), "paused_ms",
                  ms_or_null(result->paused_us), "steps", result->steps, "findings",
                  findings_json(switching->findings));
    show_json(object);
    json_decref(object);
}

/* ---- what is done ---- */

static bool prove(struct migration *migration, struct stop *stop, struct error *err)
{
    struct verification verification;
    const struct verify_options options = {.workers = 4, .patience_us = VERIFY_PATIENCE_US};
    const struct mapping_set *set = &migration->set;
    const struct mapping **tables =
        arena_alloc(&migration->arena, (set->count + 1) * sizeof *tables);
    for (unsigned m = 0; m < set->count; m++)
        tables[m] = &set->mappings[m];
    log_info("verifying all tables first");
    if (!verify_tables(migration->config, set, tables, set->count, &options, stop, &verification,
                       err))
        return false;
    bool ok = proof_record(migration->shards[0], &verification, err);
    json_decref(verification.report);
    return ok;
}

/* On connections of its own. The result's steps are the caller's, also when it fails. */
static bool attempt(const struct config *config, enum which_side goal,
                    const struct arguments *arguments, bool settle, struct stop *stop,
                    struct switch_result *result, struct error *err)
{
    struct migration migration;
    const char *purpose = switch_verb(goal);
    if (!migration_open(&migration, config, purpose, err))
        return false;
    struct switching switching = {.config = config,
                                  .set = &migration.set,
                                  .source = migration.source,
                                  .shards = migration.shards,
                                  .shards_count = migration.shards_count,
                                  .goal = goal,
                                  .options = arguments->options,
                                  .stop = stop,
                                  .findings = &migration.findings};
    bool ok = migration_bind(&migration, err) &&
              (migration.findings.refused == 0 || migration_refused(&migration, err));
    if (ok) { /* what the mapping is worth is for plan to say */
        migration.findings.count = 0;
        ok =
            (!arguments->verify || settle || prove(&migration, stop, err)) &&
            (settle ? switch_settle(&switching, result, err) : switch_run(&switching, result, err));
    }
    if (ok)
        show(&switching, result, arguments->json);
    migration_close(&migration);
    return ok;
}

static bool settle_patiently(const struct config *config, enum which_side goal,
                             const struct arguments *arguments, struct stop *undisturbed,
                             struct switch_result *result, struct error *err)
{
    for (int i = 0; i < SETTLE_ATTEMPTS; i++) {
        log_error_as(LOG_WARNING, err);
        log_info("looking where it stands");
        error_clear(err);
        json_decref(result->steps);
        *result = (struct switch_result){0};
        if (attempt(config, goal, arguments, true, undisturbed, result, err))
            return true;
        if (journal_is_superseded(err) || (err->class != ERROR_RETRY && !result->unsettled))
            return false;
        stop_wait(undisturbed, SETTLE_AGAIN_US);
    }
    return error_hint(err, "Run \"pgportage %s\" again: it finishes, or restores, by the journal.",
                      switch_verb(goal));
}

/* The connections may be gone, the application waits: until somebody knows where it stands. Who has asked
 * to stop waits for that, too; a second signal ends it. */
static bool settle(const struct config *config, enum which_side goal,
                   const struct arguments *arguments, struct switch_result *result,
                   struct error *err)
{
    struct stop undisturbed;
    stop_init(&undisturbed);
    bool ok = settle_patiently(config, goal, arguments, &undisturbed, result, err);
    stop_release(&undisturbed);
    return ok;
}

static int run(const struct config *config, enum which_side goal,
               const struct arguments *arguments)
{
    struct stop *stop = signals_start();
    struct switch_result result = {0};
    struct error err = ERROR_INIT;
    bool ok = attempt(config, goal, arguments, arguments->abort, stop, &result, &err);
    if (!ok && result.unsettled)
        ok = settle(config, goal, arguments, &result, &err);
    json_decref(result.steps);
    if (!ok)
        return command_failed(&err);
    bool wanted = arguments->abort
                      ? result.outcome == SWITCH_RESTORED
                      : result.outcome != SWITCH_REFUSED && result.outcome != SWITCH_RESTORED;
    return wanted ? EXIT_OK : EXIT_REFUSED;
}

static int switch_to(const struct command_line *line, enum which_side goal)
{
    struct arena arena;
    struct config config;
    struct arguments arguments;
    struct error err = ERROR_INIT;
    if (!take_arguments(line, &arguments))
        return EXIT_USAGE;
    arena_init(&arena, 64 * 1024);
    log_set_subject(line->argv[0]);
    int code = config_read(line->config_path, &arena, &config, &err)
                   ? run(&config, goal, &arguments)
                   : command_failed(&err);
    arena_release(&arena);
    return code;
}

int cmd_cutover(const struct command_line *line)
{
    return switch_to(line, SIDE_TARGET);
}

int cmd_rollback(const struct command_line *line)
{
    return switch_to(line, SIDE_SOURCE);
}
