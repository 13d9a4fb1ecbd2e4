#include <unistd.h>

#include "cli/command.h"
#include "run/status.h"

static const char *text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "-";
}

static long long int_of(json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static void print_tables(json_t *tables)
{
    size_t index;
    json_t *table;
    if (json_array_size(tables) > 0)
        printf("\n%-44s %14s %10s %9s\n", "table", "rows", "MiB", "ranges");
    json_array_foreach (tables, index, table) {
        printf("%-44s %14lld %10lld %4lld/%-4lld\n", text_of(table, "name"), int_of(table, "rows"),
               int_of(table, "bytes") >> 20, int_of(table, "ranges_done"),
               int_of(table, "ranges"));
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
        printf("%5lld/%-10lld %-18s %14lld %14lld  %s\n", int_of(lane, "shard"),
               int_of(lane, "lane"), text_of(lane, "progress"), int_of(lane, "behind_bytes"),
               int_of(lane, "changes"), text_of(lane, "source_time"));
    }
}

static void print_deferred(json_t *deferred)
{
    size_t index;
    json_t *item;
    if (json_array_size(deferred) > 0)
        printf("\n%-16s %-14s %8s %8s\n", "shard", "kind", "waiting", "built");
    json_array_foreach (deferred, index, item) {
        printf("%-16lld %-14s %8lld %8lld\n", int_of(item, "shard"), text_of(item, "kind"),
               int_of(item, "waiting"), int_of(item, "done"));
    }
}

static void print_status(json_t *status)
{
    printf("phase         %s\n", text_of(status, "phase"));
    printf("instance      %s\n",
           json_is_true(json_object_get(status, "running")) ? "running" : "not running");
    if (json_object_get(status, "source_position") != NULL) {
        printf("source at     %s\n", text_of(status, "source_position"));
        printf("behind        %lld bytes of WAL\n", int_of(status, "behind_bytes"));
        printf("WAL retained  %lld MiB\n", int_of(status, "wal_retained_bytes") >> 20);
        printf("dead letters  %lld\n", int_of(status, "dead_letters"));
    }
    json_t *verify = json_object_get(status, "verify");
    if (verify != NULL)
        printf("verified      %s, %lld keys differ, at %s\n", text_of(verify, "outcome"),
               int_of(verify, "different"), text_of(verify, "at"));
    printf("next          %s\n", text_of(status, "next"));
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
        json_dumpf(status, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        putchar('\n');
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
