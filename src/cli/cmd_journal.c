#include "cli/command.h"
#include "cli/show.h"
#include "pg/conn.h"
#include "state/schema.h"

static const char entries_sql[] =
    "SELECT pg_catalog.jsonb_build_object('at', at, 'switch', switch, 'step', step, 'state', state,"
    "  'epoch', epoch, 'ms', ms, 'detail', detail, 'who', who)"
    "  FROM portage.journal ORDER BY id";

/* NULL on error. */
static json_t *read_entries(PGconn *control, struct error *err)
{
    bool exists;
    json_t *entries = json_array();
    PGresult *result = NULL;
    bool ok = schema_exists(control, &exists, err) &&
              (!exists || (result = conn_query(control, entries_sql, 0, NULL, err)) != NULL);
    for (int row = 0; result != NULL && row < PQntuples(result); row++)
        json_array_append_new(entries, json_loads(result_text(result, row, 0), 0, NULL));
    PQclear(result);
    if (ok)
        return entries;
    json_decref(entries);
    return NULL;
}

/* Who has done it, where it is another one than before. */
static void print_entry(json_t *entry, json_t *before)
{
    char ms[32] = "";
    json_t *who = json_object_get(entry, "who");
    json_t *detail = json_object_get(entry, "detail");
    char *text = json_is_object(detail) ? json_dumps(detail, JSON_SORT_KEYS) : NULL;
    if (json_is_number(json_object_get(entry, "ms")))
        snprintf(ms, sizeof ms, "%.1f ms", json_number_value(json_object_get(entry, "ms")));
    printf("%-32.32s %6lld  %-9s %-10s %-6s %12s  %s\n", show_text(entry, "at"),
           show_int(entry, "epoch"), show_text(entry, "switch"), show_text(entry, "step"),
           show_text(entry, "state"), ms, text != NULL ? text : "");
    if (json_is_string(who) && (before == NULL || !json_equal(who, before)))
        printf("    by %s\n", json_string_value(who));
    free(text);
}

static void print_entries(json_t *entries)
{
    size_t index;
    json_t *entry, *before = NULL;
    printf("%-32s %6s  %-9s %-10s %-6s %12s\n", "time", "epoch", "switch", "step", "state", "took");
    json_array_foreach (entries, index, entry) {
        print_entry(entry, before);
        before = json_object_get(entry, "who");
    }
}

int cmd_journal(const struct command_line *line)
{
    struct arena arena;
    struct config config;
    struct error err = ERROR_INIT;
    json_t *entries = NULL;
    int code = command_no_arguments(line);
    if (code != EXIT_OK)
        return code;
    arena_init(&arena, 64 * 1024);
    PGconn *control = config_read(line->config_path, &arena, &config, &err)
                          ? conn_open(config.shards[0].text, CONN_SESSION, "journal", &err)
                          : NULL;
    if (control != NULL)
        entries = read_entries(control, &err);
    if (entries == NULL)
        code = command_failed(&err);
    else if (line->json)
        show_json(entries);
    else
        print_entries(entries);
    json_decref(entries);
    conn_close(control);
    arena_release(&arena);
    return code;
}
