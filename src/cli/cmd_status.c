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
        printf("\n%-16s %-14s %8s %8s\n", "shard", "kind", "waiting", "built");
    json_array_foreach (deferred, index, item) {
        printf("%-16lld %-14s %8lld %8lld\n", show_int(item, "shard"), show_text(item, "kind"),
               show_int(item, "waiting"), show_int(item, "done"));
    }
}

static void print_status(json_t *status)
{
    printf("phase         %s\n", show_text(status, "phase"));
    printf("instance      %s\n",
           json_is_true(json_object_get(status, "running")) ? "running" : "not running");
    if (json_object_get(status, "source_position") != NULL) {
        printf("source at     %s\n", show_text(status, "source_position"));
        printf("behind        %lld bytes of WAL\n", show_int(status, "behind_bytes"));
        printf("WAL retained  %lld MiB\n", show_int(status, "wal_retained_bytes") >> 20);
        printf("dead letters  %lld\n", show_int(status, "dead_letters"));
    }
    if (json_object_get(status, "closed_since") != NULL)
        printf("source        closed to writes since %s, %lld tables\n",
               show_text(status, "closed_since"), show_int(status, "closed_tables"));
    json_t *verify = json_object_get(status, "verify");
    if (verify != NULL)
        printf("verified      %s, %lld keys differ, at %s\n", show_text(verify, "outcome"),
               show_int(verify, "different"), show_text(verify, "at"));
    printf("next          %s\n", show_text(status, "next"));
    print_tables(json_object_get(status, "tables"));
    print_lanes(json_object_get(status, "lanes"));
    print_deferred(json_object_get(status, "deferred"));
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
    json_decref(status);
    return EXIT_OK;
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
        } while (watch && code == EXIT_OK && sleep(1) == 0);
    } else {
        code = command_failed(&err);
    }
    arena_release(&arena);
    return code;
}
