/*
 * Names that are led by dynamic updates (RFC 2136). nsupdate speaks them, dig looks: both are BIND's, and
 * know every kind of key. There is nothing to pause: clients find the fence until they follow the name.
 *
 * Resolvers keep an old answer for as long as its time to live said: lead returns when that is over.
 */
#include <arpa/inet.h>
#include <sys/socket.h>

#include "endpoint/kind.h"
#include "endpoint/runner.h"
#include "util/log.h"

enum { OUTPUT_MAX = 64 * 1024 };

struct names {
    const struct config *config;
    const struct config_dns *dns;
    struct stop *stop;
};

static void *names_open(const struct config *config, struct stop *stop)
{
    struct names *names = check_calloc(1, sizeof *names);
    *names = (struct names){config, &config->endpoint.dns, stop};
    return names;
}

static const char *record_type(const char *address)
{
    unsigned char bytes[16];
    if (inet_pton(AF_INET, address, bytes) == 1)
        return "A";
    return inet_pton(AF_INET6, address, bytes) == 1 ? "AAAA" : "CNAME";
}

/* Names are absolute, whatever search list there is. */
static const char *final_dot(const char *name)
{
    return name[strlen(name) - 1] == '.' ? "" : ".";
}

static const char *record_dot(const char *address)
{
    return strcmp(record_type(address), "CNAME") == 0 ? final_dot(address) : "";
}

/* ---- looking ---- */

struct answer {
    unsigned matching; /* records that a side names */
    unsigned others;
    long ttl_s; /* the longest */
};

/* 2001:db8:0::1 and 2001:db8::1 are one address; names differ by no case and no final dot. */
static bool same_address(const char *one, const char *other)
{
    unsigned char bytes[2][16];
    for (int family = AF_INET;; family = AF_INET6) {
        bool parsed = inet_pton(family, one, bytes[0]) == 1;
        if (parsed && inet_pton(family, other, bytes[1]) == 1)
            return memcmp(bytes[0], bytes[1], family == AF_INET ? 4 : 16) == 0;
        if (family == AF_INET6)
            break;
    }
    size_t length = strlen(one) - (one[strlen(one) - 1] == '.');
    return length == strlen(other) - (other[strlen(other) - 1] == '.') &&
           strncasecmp(one, other, length) == 0;
}

static void count_record(const struct config_name *name, enum which_side side,
                         const char *address, struct answer *answer)
{
    for (unsigned a = 0; a < name->counts[side]; a++) {
        if (same_address(name->sides[side][a].text, address)) {
            answer->matching++;
            return;
        }
    }
    answer->others++;
}

/* `name ttl IN type address` on each line that is no comment. An alias may be followed by records of
 * other names: those are not ours. */
static void read_answer(const char *text, const struct config_name *name, enum which_side side,
                        struct answer *answer)
{
    char owner[256], type[16], address[256];
    long ttl_s;
    *answer = (struct answer){0};
    for (const char *line = text; *line != '\0';
         line += strcspn(line, "\n"), line += *line == '\n') {
        if (*line == ';' ||
            sscanf(line, "%255s %ld IN %15s %255s", owner, &ttl_s, type, address) != 4 ||
            !same_address(owner, name->name.text))
            continue;
        if (strcmp(type, "A") != 0 && strcmp(type, "AAAA") != 0 && strcmp(type, "CNAME") != 0)
            continue;
        count_record(name, side, address, answer);
        answer->ttl_s = ttl_s > answer->ttl_s ? ttl_s : answer->ttl_s;
    }
}

static bool dig(const struct names *names, const struct config_name *name, enum which_side side,
                struct answer *answer, struct error *err)
{
    char server[300], port[16], full[300];
    struct buffer output;
    snprintf(server, sizeof server, "@%s", names->dns->server.text);
    snprintf(port, sizeof port, "%d", names->config->dns_port);
    snprintf(full, sizeof full, "%s%s", name->name.text, final_dot(name->name.text));
    const char *argv[] = {"dig",    "-r",      server,       "-p",       port,
                          "+noall", "+answer", "+norecurse", "+tries=2", "+time=2",
                          full,     "A",       full,         "AAAA",     NULL};
    buffer_init(&output, OUTPUT_MAX);
    const struct runner runner = {
        .what = "dig", .argv = argv, .output = &output, .limit_s = names->config->endpoint_limit_s};
    bool ok = runner_run(&runner, err);
    if (ok)
        read_answer(buffer_text(&output), name, side, answer);
    buffer_release(&output);
    return ok;
}

static bool leads(const struct config_name *name, enum which_side side,
                  const struct answer *answer)
{
    return answer->others == 0 && answer->matching >= name->counts[side];
}

static bool all_lead(const struct names *names, enum which_side side, bool *all,
                     struct error *err)
{
    struct answer answer;
    *all = true;
    for (unsigned n = 0; n < names->dns->names_count; n++) {
        const struct config_name *name = &names->dns->names[n];
        if (!dig(names, name, side, &answer, err))
            return false;
        *all = *all && leads(name, side, &answer);
    }
    return true;
}

/* ---- updating ---- */

static void add_records(struct buffer *script, const struct names *names,
                        const struct config_name *name, enum which_side side)
{
    for (unsigned a = 0; a < name->counts[side]; a++) {
        const char *address = name->sides[side][a].text;
        buffer_printf(script, "update add %s%s %lld IN %s %s%s\n", name->name.text,
                      final_dot(name->name.text), (long long)names->config->dns_ttl_s,
                      record_type(address), address, record_dot(address));
    }
}

static void replace_records(struct buffer *script, const struct config_name *name)
{
    static const char *const types[] = {"A", "AAAA", "CNAME"};
    for (unsigned t = 0; t < 3; t++)
        buffer_printf(script, "update delete %s%s %s\n", name->name.text,
                      final_dot(name->name.text), types[t]);
}

/* Without a zone each name is sent alone, for they may be of different ones; else all at once. */
static void write_script(struct buffer *script, const struct names *names, enum which_side side,
                         bool replace)
{
    const struct config_dns *dns = names->dns;
    buffer_printf(script, "server %s %d\n", dns->server.text, names->config->dns_port);
    for (unsigned n = 0; n < dns->names_count; n++) {
        if (dns->zone.text != NULL && n == 0)
            buffer_printf(script, "zone %s\n", dns->zone.text);
        if (replace)
            replace_records(script, &dns->names[n]);
        add_records(script, names, &dns->names[n], side);
        if (dns->zone.text == NULL)
            buffer_puts(script, "send\n");
    }
    if (dns->zone.text != NULL)
        buffer_puts(script, "send\n");
}

static bool update(const struct names *names, enum which_side side, bool replace,
                   struct error *err)
{
    const char *key_file = names->dns->key_file.text;
    const char *argv[] = {"nsupdate", "-t", "5", key_file != NULL ? "-k" : NULL, key_file, NULL};
    struct buffer script;
    buffer_init(&script, OUTPUT_MAX);
    write_script(&script, names, side, replace);
    const struct runner runner = {.what = "nsupdate",
                                  .argv = argv,
                                  .input = buffer_text(&script),
                                  .limit_s = names->config->endpoint_limit_s};
    bool ok = buffer_failed(&script) ? error_set(err, ERROR_LIMIT, "too many names for one update")
                                     : runner_run(&runner, err);
    buffer_release(&script);
    return ok;
}

static bool update_and_look(const struct names *names, enum which_side side, struct error *err)
{
    bool all;
    if (!update(names, side, true, err) || !all_lead(names, side, &all, err))
        return false;
    return all || error_set(err, ERROR_RETRY, "the name server at %s does not lead to the %s yet",
                            names->dns->server.text, side_name(side));
}

/* Cut short by a stop: who wants to end need not wait for other people's caches. */
static void wait_for_caches(struct names *names)
{
    if (names->config->dns_ttl_s == 0)
        return;
    log_info("endpoint: waiting %lld s, the time to live of the old answers",
             (long long)names->config->dns_ttl_s);
    stop_wait(names->stop, names->config->dns_ttl_s * 1000000);
}

/* ---- the calls ---- */

static void check_name(struct names *names, const struct config_name *name, enum which_side live,
                       struct findings *findings, bool *exact)
{
    struct answer answer;
    struct error err = ERROR_INIT;
    *exact = false;
    if (!dig(names, name, live, &answer, &err)) {
        findings_add(findings, SEVERITY_REFUSE, "endpoint-unreachable", &names->dns->server,
                     name->name.text, NULL, "%s: %s", err.message, err.detail);
        return;
    }
    if (!leads(name, live, &answer)) {
        findings_add(findings, SEVERITY_REFUSE, "endpoint-side", &name->name, name->name.text, NULL,
                     "the name does not lead to the %s", side_name(live));
        return;
    }
    *exact = answer.ttl_s == names->config->dns_ttl_s;
    if (answer.ttl_s > names->config->dns_ttl_s)
        findings_add(
            findings, SEVERITY_WARNING, "endpoint-ttl", &name->name, name->name.text,
            "Lower it, and wait for the old one to be over.",
            "its time to live is %ld s, and endpoint.dns.ttl is %lld s: for so long clients"
            " may go to the old side",
            answer.ttl_s, (long long)names->config->dns_ttl_s);
}

/* To add what is there already changes nothing, and tells whether we may. */
static bool names_check(void *state, enum which_side live, int switch_limit_ms,
                        const struct endpoint_servers *to, struct findings *findings,
                        struct error *err)
{
    struct names *names = state;
    struct error error = ERROR_INIT;
    bool exact, all_exact = true;
    (void)to;
    (void)switch_limit_ms;
    for (unsigned n = 0; n < names->dns->names_count; n++) {
        if (stop_requested(names->stop))
            return stop_error(err);
        check_name(names, &names->dns->names[n], live, findings, &exact);
        all_exact = all_exact && exact;
    }
    if (all_exact && !update(names, live, false, &error))
        findings_add(findings, SEVERITY_REFUSE, "endpoint-privilege", &names->dns->server,
                     names->dns->server.text, NULL, "%s: %s", error.message, error.detail);
    return true;
}

static bool names_pause(void *state, enum which_side to, struct error *err)
{
    (void)state;
    (void)to;
    (void)err;
    return true;
}

/* Also when the name leads there already: since when is not known. */
static bool names_lead(void *state, enum which_side side, struct error *err)
{
    if (!update_and_look(state, side, err))
        return false;
    wait_for_caches(state);
    return true;
}

static bool names_restore(void *state, enum which_side live, struct error *err)
{
    bool all;
    if (all_lead(state, live, &all, err) && all)
        return true;
    error_clear(err);
    return names_lead(state, live, err);
}

const struct endpoint_ops endpoint_dns = {
    .open = names_open,
    .close = free,
    .check = names_check,
    .pause = names_pause,
    .lead = names_lead,
    .resume = names_pause,
    .restore = names_restore,
};
