/*
 * Sequences of a switch by themselves, for tests/integration/test_sequences.py:
 *
 *   sequences_tool CONFIG forward|back assess|plan|set [GUARD]
 *
 * Prints {"findings": […], "checked": n, "plan_ms": …, "set_ms": …, "check_ms": …} or {"error": …}.
 */
#include <stdio.h>

#include <jansson.h>

#include "run/migration.h"
#include "switchover/sequences.h"
#include "util/clock.h"
#include "util/log.h"

static void add_findings(json_t *result, const struct findings *findings)
{
    json_t *list = json_array();
    for (unsigned f = 0; f < findings->count; f++)
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:s?}", "severity",
                            severity_name(findings->items[f].severity), "code",
                            findings->items[f].code, "object", findings->items[f].object, "reason",
                            findings->items[f].reason, "fix", findings->items[f].fix));
    json_object_set_new(result, "findings", list);
}

static void add_ms(json_t *result, const char *name, int64_t since)
{
    json_object_set_new(result, name, json_real((double)(clock_monotonic_us() - since) / 1000.0));
}

static bool set_and_check(struct sequences *sequences, json_t *result, struct error *err)
{
    unsigned checked;
    int64_t start = clock_monotonic_us();
    if (!sequences_set(sequences, err))
        return false;
    add_ms(result, "set_ms", start);
    start = clock_monotonic_us();
    if (!sequences_check(sequences, &checked, err))
        return false;
    add_ms(result, "check_ms", start);
    json_object_set_new(result, "checked", json_integer(checked));
    return true;
}

static bool act(struct migration *migration, char **argv, json_t *result, struct error *err)
{
    struct sequences *sequences = NULL;
    struct sequences_sides sides = {.config = migration->config,
                                    .set = &migration->set,
                                    .source = migration->source,
                                    .shards = migration->shards,
                                    .shards_count = migration->shards_count,
                                    .back = strcmp(argv[2], "back") == 0,
                                    .guard = argv[4]};
    if (strcmp(argv[3], "assess") == 0)
        return sequences_assess(&sides, SEVERITY_REFUSE, &migration->findings, err);
    int64_t start = clock_monotonic_us();
    bool ok = sequences_plan(&sides, &migration->findings, &sequences, err);
    add_ms(result, "plan_ms", start);
    ok = ok && (strcmp(argv[3], "plan") == 0 || set_and_check(sequences, result, err));
    sequences_free(sequences);
    return ok;
}

int main(int argc, char **argv)
{
    struct arena arena;
    struct config config;
    struct migration migration;
    struct error err = ERROR_INIT;
    json_t *result = json_object();
    if (argc < 4)
        return 2;
    arena_init(&arena, 64 * 1024);
    bool ok = config_read(argv[1], &arena, &config, &err) &&
              migration_open(&migration, &config, "sequences", &err);
    if (ok) {
        ok = migration_bind(&migration, &err) && act(&migration, argv, result, &err);
        add_findings(result, &migration.findings);
        migration_close(&migration);
    }
    if (!ok)
        json_object_set_new(result, "error",
                            json_pack("{s:s, s:s, s:s}", "message", err.message, "hint", err.hint,
                                      "context", err.context));
    json_dumpf(result, stdout, JSON_INDENT(1));
    json_decref(result);
    arena_release(&arena);
    return ok ? 0 : 1;
}
