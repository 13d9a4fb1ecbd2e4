/* What stands against leading through these poolers, before anything is touched. */
#include "endpoint/entries.h"
#include "endpoint/kind.h"
#include "endpoint/poolers.h"
#include "endpoint/textfile.h"

enum { LOGIN_RETRY_S_MAX = 1 };

struct checking {
    struct poolers *poolers;
    struct pooler *pooler;
    const struct endpoint_servers *to;
    struct findings *findings;
    enum which_side live;
    int limit_ms;
};

#define AT_POOLER(checking) (&(checking)->pooler->config->admin)
#define NAME_OF(checking) ((checking)->pooler->control.name)

static bool found_error(struct checking *checking, const char *code, const struct config_text *at,
                        const struct error *err)
{
    return findings_add(checking->findings, SEVERITY_REFUSE, code, at, NAME_OF(checking),
                        err->hint[0] != '\0' ? err->hint : NULL, "%s%s%s", err->message,
                        err->detail[0] != '\0' ? ": " : "", err->detail);
}

/* A value of SHOW CONFIG; NULL when the pooler has no such setting. */
static const char *setting(const struct console *console, const char *name)
{
    for (int row = 0; row < PQntuples(console->result); row++) {
        const char *key = console_cell(console, row, "key");
        if (key != NULL && strcmp(key, name) == 0)
            return console_cell(console, row, "value");
    }
    return NULL;
}

static bool is_session(const char *pool_mode)
{
    return pool_mode != NULL && strcmp(pool_mode, "session") == 0;
}

static void refuse_session(struct checking *checking, const char *where)
{
    findings_add(checking->findings, SEVERITY_REFUSE, "endpoint-pool-mode", AT_POOLER(checking),
                 NAME_OF(checking), "pool_mode = transaction",
                 "%s pools sessions: to pause would be to wait until every client has gone", where);
}

/* 0 is no limit. */
static void check_timeout(struct checking *checking, const char *name, const char *code,
                          enum severity severity)
{
    char fix[64];
    const char *value = setting(&checking->pooler->control, name);
    double seconds = value != NULL ? strtod(value, NULL) : 0;
    if (seconds <= 0 || seconds * 1000 > checking->limit_ms)
        return;
    snprintf(fix, sizeof fix, "%s = %d", name, 2 * (checking->limit_ms / 1000 + 1));
    findings_add(checking->findings, severity, code, AT_POOLER(checking), NAME_OF(checking), fix,
                 "%s is %s s, and a switch may take %d ms: clients would be turned away", name,
                 value, checking->limit_ms);
}

/* Should a login fail just then, clients are turned away for so long. */
static void check_login_retry(struct checking *checking)
{
    const char *value = setting(&checking->pooler->control, "server_login_retry");
    if (value == NULL || strtod(value, NULL) <= LOGIN_RETRY_S_MAX)
        return;
    findings_add(
        checking->findings, SEVERITY_WARNING, "endpoint-login-retry", AT_POOLER(checking),
        NAME_OF(checking), "server_login_retry = 1",
        "server_login_retry is %s s: after a login at a server that failed, or that the switch"
        " cut off, clients are turned away for so long",
        value);
}

/* *session: what a database does that says nothing about it. */
static bool check_settings(struct checking *checking, bool *session, struct error *err)
{
    struct console *control = &checking->pooler->control;
    if (!console_ask(control, "SHOW CONFIG", err))
        return false;
    *session = is_session(setting(control, "pool_mode"));
    check_timeout(checking, "query_wait_timeout", "endpoint-wait-timeout", SEVERITY_REFUSE);
    check_timeout(checking, "client_login_timeout", "endpoint-login-timeout", SEVERITY_WARNING);
    check_login_retry(checking);
    return true;
}

static void check_entry(struct checking *checking, const struct pooled *database, bool session)
{
    const char *name = database->config->name.text;
    const struct console *control = &checking->pooler->control;
    if (database->row < 0) {
        findings_add(checking->findings, SEVERITY_REFUSE, "endpoint-entry", &database->config->name,
                     name, NULL, "the pooler at %s has no such database", control->name);
        return;
    }
    const char *pool_mode = console_cell(control, database->row, "pool_mode");
    if (pool_mode != NULL ? is_session(pool_mode) : session)
        refuse_session(checking, name);
    if (pooled_paused(checking->pooler, database))
        findings_add(checking->findings, SEVERITY_REFUSE, "endpoint-paused",
                     &database->config->name, name, "RESUME", "the pooler at %s has paused it",
                     control->name);
}

static void check_side(struct checking *checking, const struct pooled *database)
{
    if (database->row < 0 || pooled_in_force(checking->pooler, database))
        return;
    const struct console *control = &checking->pooler->control;
    const char *host = console_cell(control, database->row, "host");
    const char *port = console_cell(control, database->row, "port");
    const char *dbname = console_cell(control, database->row, "database");
    findings_add(checking->findings, SEVERITY_REFUSE, "endpoint-side",
                 &database->config->sides[checking->live], database->config->name.text, NULL,
                 "the pooler at %s leads it to host=%s port=%s dbname=%s, which is not the %s",
                 control->name, host != NULL ? host : "", port != NULL ? port : "",
                 dbname != NULL ? dbname : "", side_name(checking->live));
}

/* Users may have a pool mode of their own: what their pools do is what counts. */
static bool check_pools(struct checking *checking, struct error *err)
{
    struct console *control = &checking->pooler->control;
    if (!console_ask(control, "SHOW POOLS", err))
        return false;
    for (int row = 0; row < PQntuples(control->result); row++) {
        const char *database = console_cell(control, row, "database");
        if (findings_have(checking->findings, "endpoint-pool-mode") || database == NULL ||
            !is_session(console_cell(control, row, "pool_mode")))
            continue;
        for (unsigned d = 0; d < checking->pooler->count; d++) {
            if (strcmp(database, checking->pooler->databases[d].config->name.text) == 0)
                refuse_session(checking, database);
        }
    }
    return true;
}

/* The entry as it stands in the file, whatever it should be, is what the pooler uses. Else it has not read
 * it since, or reads another one: its RELOAD would surprise. */
static void check_stale(struct checking *checking, const struct buffer *text,
                        const struct pooled *database)
{
    struct pooled as_written = *database;
    bool found;
    if (database->row < 0 ||
        !entries_find(text, database->config->name.text, checking->pooler->arena,
                      &as_written.wanted, &found) ||
        !found || pooled_in_force(checking->pooler, &as_written))
        return;
    findings_add(checking->findings, SEVERITY_REFUSE, "endpoint-file",
                 &checking->pooler->config->file, database->config->name.text,
                 "Correct the file, or RELOAD on the console if the pooler is to use it; or name the file"
                 " that the pooler reads.",
                 "the pooler at %s leads it elsewhere than \"%s\" says", NAME_OF(checking),
                 checking->pooler->config->file.text);
}

static void check_file(struct checking *checking)
{
    const struct config_text *at = &checking->pooler->config->file;
    struct error err = ERROR_INIT;
    struct buffer text;
    bool written;
    buffer_init(&text, TEXTFILE_MAX);
    if (!pooler_wants(checking->pooler, checking->live, &text, &written, &err))
        found_error(checking, "endpoint-file", at, &err);
    else if (!textfile_can_replace(at->text, &err))
        found_error(checking, "endpoint-file", at, &err);
    else
        for (unsigned d = 0; d < checking->pooler->count; d++) {
            check_side(checking, &checking->pooler->databases[d]);
            check_stale(checking, &text, &checking->pooler->databases[d]);
        }
    buffer_release(&text);
}

/* RESUME of what is not paused does nothing, and who may not say it is told so. */
static void check_privilege(struct checking *checking)
{
    struct pooled *database = &checking->pooler->databases[0];
    struct error err = ERROR_INIT;
    char question[128];
    if (database->row < 0 || pooled_paused(checking->pooler, database))
        return;
    snprintf(question, sizeof question, "RESUME \"%s\"", database->config->name.text);
    if (!console_ask(&database->console, question, &err) && strstr(err.detail, "admin access"))
        findings_add(checking->findings, SEVERITY_REFUSE, "endpoint-privilege", AT_POOLER(checking),
                     NAME_OF(checking), "admin_users = …",
                     "the user may look, and neither pause nor reload");
}

static bool check_pooler(struct checking *checking, struct error *err)
{
    struct pooler *pooler = checking->pooler;
    unsigned refused = checking->findings->refused;
    bool session;
    if (!console_open(&pooler->control, err) || !check_settings(checking, &session, err) ||
        !check_pools(checking, err) || !pooler_look(pooler, err))
        return false;
    for (unsigned d = 0; d < pooler->count; d++)
        check_entry(checking, &pooler->databases[d], session);
    check_file(checking);
    check_privilege(checking);
    return checking->findings->refused > refused ||
           pooler_probe(checking->poolers, pooler, side_other(checking->live), checking->to,
                        checking->findings, err);
}

bool poolers_check(void *state, enum which_side live, int switch_limit_ms,
                   const struct endpoint_servers *to, struct findings *findings,
                   struct error *err)
{
    struct poolers *poolers = state;
    arena_clear(&poolers->call);
    for (unsigned p = 0; p < poolers->count; p++) {
        struct checking checking = {.poolers = poolers,
                                    .pooler = &poolers->items[p],
                                    .to = to,
                                    .findings = findings,
                                    .live = live,
                                    .limit_ms = switch_limit_ms};
        struct error error = ERROR_INIT;
        if (stop_requested(poolers->stop))
            return stop_error(err);
        if (check_pooler(&checking, &error))
            continue;
        if (error.class == ERROR_CANCELLED)
            return stop_error(err);
        found_error(&checking, "endpoint-unreachable", AT_POOLER(&checking), &error);
    }
    return true;
}
