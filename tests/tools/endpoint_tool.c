/*
 * Calls of endpoint.h, one after the other, from a command line:
 *
 *     endpoint_tool portage.yaml check:source pause:target lead:target resume:target …
 *     endpoint_tool portage.yaml hook:paused:target
 *
 * Each prints a line: its name, "ok" or "failed", milliseconds. Findings are lines before it. The first
 * With ENDPOINT_TOOL_SERVERS set a check knows the servers that the configuration names. The first
 * failure ends it with 1, except in a call that is written with a ? at its end.
 */
#include <signal.h>

#include "endpoint/endpoint.h"
#include "pg/conn.h"
#include "util/clock.h"
#include "util/log.h"

enum { SERVERS_MAX = 64 };

static struct stop stop;

static enum which_side side_of(const char *text)
{
    CHECK(text != NULL);
    return strncmp(text, "source", 6) == 0 ? SIDE_SOURCE : SIDE_TARGET;
}

static struct config config;

/* Of the side that is not live. */
static bool connect_to(enum which_side live, PGconn **conns, struct endpoint_servers *to,
                       struct error *err)
{
    const struct config_text *texts = live == SIDE_SOURCE ? config.shards : &config.source;
    unsigned count = live == SIDE_SOURCE ? config.shards_count : 1;
    *to = (struct endpoint_servers){.conns = conns};
    if (getenv("ENDPOINT_TOOL_SERVERS") == NULL)
        return true;
    for (; to->count < count; to->count++) {
        conns[to->count] = conn_open(texts[to->count].text, CONN_SESSION, "tool", err);
        if (conns[to->count] == NULL)
            return false;
    }
    return true;
}

static bool check(struct endpoint *endpoint, enum which_side live, struct error *err)
{
    PGconn *conns[SERVERS_MAX];
    struct endpoint_servers to;
    struct arena arena;
    struct findings findings;
    arena_init(&arena, 4096);
    findings_init(&findings, &arena);
    bool ok = connect_to(live, conns, &to, err) &&
              endpoint_check(endpoint, live, 5000, &to, &findings, err);
    while (to.count > 0)
        conn_close(conns[--to.count]);
    for (unsigned f = 0; f < findings.count; f++)
        printf("finding %s %s %s: %s\n", severity_name(findings.items[f].severity),
               findings.items[f].code, findings.items[f].object, findings.items[f].reason);
    arena_release(&arena);
    return ok;
}

static bool hook(struct endpoint *endpoint, const char *text, struct error *err)
{
    for (enum hook_phase phase = 0; phase < HOOK_PHASES; phase++) {
        size_t length = strlen(hook_phase_name(phase));
        if (strncmp(text, hook_phase_name(phase), length) == 0 && text[length] == ':')
            return endpoint_hook(endpoint, phase, side_of(text + length + 1), err);
    }
    return error_set(err, ERROR_CONFIG, "no such phase: %s", text);
}

static bool call(struct endpoint *endpoint, const char *text, struct error *err)
{
    const char *colon = strchr(text, ':');
    CHECK(colon != NULL);
    size_t length = (size_t)(colon - text);
    enum which_side side = side_of(colon + 1);
    if (strncmp(text, "check", length) == 0)
        return check(endpoint, side, err);
    if (strncmp(text, "pause", length) == 0)
        return endpoint_pause(endpoint, side, err);
    if (strncmp(text, "lead", length) == 0)
        return endpoint_lead(endpoint, side, err);
    if (strncmp(text, "resume", length) == 0)
        return endpoint_resume(endpoint, side, err);
    if (strncmp(text, "restore", length) == 0)
        return endpoint_restore(endpoint, side, err);
    return hook(endpoint, colon + 1, err);
}

static bool call_and_tell(struct endpoint *endpoint, const char *text)
{
    struct error err = ERROR_INIT;
    int64_t since_us = clock_monotonic_us();
    bool ok = call(endpoint, text, &err);
    printf("%s %s %.1f\n", text, ok ? "ok" : "failed",
           (double)(clock_monotonic_us() - since_us) / 1000);
    fflush(stdout);
    if (!ok)
        log_error(&err);
    return ok || text[strlen(text) - 1] == '?';
}

int main(int argc, char **argv)
{
    struct arena arena;
    struct error err = ERROR_INIT;
    bool ok = true;
    CHECK(argc > 1);
    signal(SIGPIPE, SIG_IGN);
    stop_init(&stop);
    arena_init(&arena, 4096);
    if (!config_read(argv[1], &arena, &config, &err)) {
        log_error(&err);
        return 3;
    }
    struct endpoint *endpoint = endpoint_open(&config, &stop);
    for (int a = 2; a < argc && ok; a++)
        ok = call_and_tell(endpoint, argv[a]);
    endpoint_close(endpoint);
    arena_release(&arena);
    stop_release(&stop);
    return ok ? 0 : 1;
}
