#include <unistd.h>

#include "cli/command.h"
#include "cli/show.h"
#include "run/status.h"

static void print_tables(json_t *tables)
{
    size_t index;
    json_t *table;
    if (json_array_size(tables) > 0)
        printf("\n%-44s %14s %10s %9s\n", "table", "rows", "MiB", "ranges");
    json_array_foreach (tables, index, table) {
        printf("%-44s %14lld %10lld %4lld/%-4lld\n", show_text(table, "name"),
               show_int(table, "rows"), show_int(table, "bytes") >> 20,
               show_int(table, "ranges_done"), show_int(table, "ranges"));
    }
}

static void print_lanes(json_t *lanes)
{
    size_t index;
    json_t *lane;
    if (json_array_size(lanes) > 0)
        printf("\n%-16s %-18s %14s %14s  %s\n", "shard/lane", "progress", "bytes behind", "changes",
               "source time");
    json_array_foreach (lanes, index, lane) {
        printf("%5lld/%-10lld %-18s %14lld %14lld  %s\n", show_int(lane, "shard"),
               show_int(lane, "lane"), show_text(lane, "progress"), show_int(lane, "behind_bytes"),
               show_int(lane, "changes"), show_text(lane, "source_time"));
    }
}

static void print_deferred(json_t *deferred)
{
    size_t index;
    json_t *item;
    if (json_array_size(deferred) > 0)
        printf("\n%-16s %-14s %8s %8s %10s %9s\n", "shard", "kind", "waiting", "built", "validating",
               "not valid");
    json_array_foreach (deferred, index, item) {
        printf("%-16lld %-14s %8lld %8lld %10lld %9lld\n", show_int(item, "shard"),
               show_text(item, "kind"), show_int(item, "waiting"), show_int(item, "done"),
               show_int(item, "validating"), show_int(item, "not_valid"));
    }
}

static void print_size(json_t *slot, const char *key)
{
    if (json_is_integer(json_object_get(slot, key)))
        printf(" %10lld", show_int(slot, key) >> 20);
    else
        printf(" %10s", "-");
}

/* Seconds, as somebody says them who has to plan a day. */
static void print_duration(json_t *object, const char *key)
{
    long long seconds = show_int(object, key);
    if (!json_is_integer(json_object_get(object, key)))
        printf("-");
    else if (seconds == 0)
        printf("now");
    else if (seconds < 120)
        printf("%lld s", seconds);
    else if (seconds < 2 * 3600)
        printf("%lld min", seconds / 60);
    else if (seconds < 48 * 3600)
        printf("%lld h", seconds / 3600);
    else
        printf("%lld d", seconds / 86400);
}

/* A rate below a MiB is one that nobody has to know. */
static void print_slots(json_t *slots)
{
    size_t index;
    json_t *slot;
    if (json_array_size(slots) > 0)
        printf("\n%-30s %-9s %10s %10s %10s %10s  %s\n", "slot", "on", "WAL MiB", "budget", "limit",
               "MiB/h", "full in");
    json_array_foreach (slots, index, slot) {
        printf("%-30s %-9s", show_text(slot, "slot"), show_text(slot, "on"));
        print_size(slot, "wal_retained_bytes");
        print_size(slot, "wal_budget_bytes");
        print_size(slot, "wal_limit_bytes");
        if (json_is_integer(json_object_get(slot, "wal_growth_bytes_per_second")))
            printf(" %10lld  ", show_int(slot, "wal_growth_bytes_per_second") * 3600 >> 20);
        else
            printf(" %10s  ", "-");
        print_duration(slot, "wal_full_seconds");
        printf("\n");
    }
}

static void print_unreachable(json_t *unreachable)
{
    size_t index;
    json_t *server;
    json_array_foreach (unreachable, index, server)
        printf("unreachable   %s: %s\n", show_text(server, "on"), show_text(server, "why"));
}

static void print_building(json_t *building)
{
    size_t index;
    json_t *item;
    if (json_array_size(building) > 0)
        printf("\n%-6s %-44s %8s  %s\n", "shard", "being built", "seconds", "phase");
    json_array_foreach (building, index, item) {
        long long total = show_int(item, "total");
        printf("%-6lld %-44s %8lld  %s", show_int(item, "shard"), show_text(item, "name"),
               show_int(item, "seconds"), show_text(item, "phase"));
        if (total > 0)
            printf(", %lld %%", 100 * show_int(item, "done") / total);
        putchar('\n');
    }
}

static void print_verifying(json_t *passes)
{
    size_t index;
    json_t *pass;
    json_array_foreach (passes, index, pass)
        printf("verifying     by %s: %lld tables and %lld rows are done; begun at %s, last seen at %s\n",
               show_text(pass, "by"), show_int(pass, "tables_complete"),
               show_int(pass, "source_rows"), show_text(pass, "begun_at"),
               show_text(pass, "written_at"));
}

static void print_rejected(json_t *rejected)
{
    size_t index;
    json_t *server;
    json_array_foreach (rejected, index, server)
        printf("rejected      %lld statements by the gate of %s, last told at %s\n",
               show_int(server, "statements"), show_text(server, "server"),
               show_text(server, "last_at"));
}

static void print_status(json_t *status)
{
    printf("phase         %s\n", show_text(status, "phase"));
    printf("instance      %s\n",
           json_is_true(json_object_get(status, "running")) ? "running" : "not running");
    print_unreachable(json_object_get(status, "unreachable"));
    if (json_object_get(status, "source_position") != NULL) {
        printf("source at     %s\n", show_text(status, "source_position"));
        printf("behind        %.1f s, %lld bytes of WAL\n",
               json_real_value(json_object_get(status, "lag_seconds")),
               show_int(status, "behind_bytes"));
        if (show_int(status, "spilled_bytes") > 0)
            printf("in files      %lld MiB of changes of tables copied whole\n",
                   (show_int(status, "spilled_bytes") >> 20) + 1);
        printf("WAL retained  %lld MiB\n", show_int(status, "wal_retained_bytes") >> 20);
        printf("dead letters  %lld\n", show_int(status, "dead_letters"));
    }
    if (json_object_get(status, "closed_since") != NULL)
        printf("source        closed to writes since %s, %lld tables\n",
               show_text(status, "closed_since"), show_int(status, "closed_tables"));
    const char *waits = json_string_value(json_object_get(status, "copy_waits"));
    if (waits != NULL)
        printf("copy waits    %s\n", waits);
    json_t *verify = json_object_get(status, "verify");
    if (verify != NULL)
        printf("verified      %s, %lld keys differ, at %s\n", show_text(verify, "outcome"),
               show_int(verify, "different"), show_text(verify, "at"));
    if (json_is_integer(json_object_get(status, "finish_due_seconds"))) {
        printf("finish due    ");
        print_duration(status, "finish_due_seconds");
        printf(", for slot %s\n", show_text(status, "wal_full_first"));
    }
    print_verifying(json_object_get(status, "verifying"));
    print_rejected(json_object_get(status, "rejected"));
    printf("next          %s\n", show_text(status, "next"));
    print_tables(json_object_get(status, "tables"));
    print_lanes(json_object_get(status, "lanes"));
    print_deferred(json_object_get(status, "deferred"));
    print_slots(json_object_get(status, "slots"));
    print_building(json_object_get(status, "building"));
}

static int show_once(const struct config *config, const struct command_line *line, bool clear)
{
    struct error err = ERROR_INIT;
    json_t *status = status_read(config, &err);
    if (status == NULL)
        return command_failed(&err);
    if (clear)
        printf("\033[H\033[J");
    if (line->json) {
        show_json(status);
    } else {
        print_status(status);
    }
    fflush(stdout);
    bool whole = json_array_size(json_object_get(status, "unreachable")) == 0;
    json_decref(status);
    return whole ? EXIT_OK : EXIT_FAILED;
}

int cmd_status(const struct command_line *line)
{
    struct arena arena;
    struct config config;
    struct error err = ERROR_INIT;
    bool watch = command_flag(line, "--watch");
    int code = watch && line->argc == 2 ? EXIT_OK : command_no_arguments(line);
    if (code != EXIT_OK)
        return code;
    arena_init(&arena, 64 * 1024);
    if (config_read(line->config_path, &arena, &config, &err)) {
        do {
            code = show_once(&config, line, watch && isatty(STDOUT_FILENO) == 1);
        } while (watch && (code == EXIT_OK || code == EXIT_FAILED) && sleep(1) == 0);
    } else {
        code = command_failed(&err);
    }
    arena_release(&arena);
    return code;
}
