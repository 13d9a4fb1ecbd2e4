/*
 * Whether a pooler will come through to the other side: tried, because what a switch finds wrong there it
 * finds behind the point of no return. Each database gets a second entry for the moment, with what its own
 * will say then:
 *
 *     file ── pgportage_probe_0 = host=new …  ──RELOAD──> SHOW DATABASES has it: it is the file that is read
 *     a client ──pooler──> pgportage_probe_0               it is let in, and the pooler is let in there
 *     which server and database that is                    is one of the side that will be live
 *
 * and is taken away again. The entries of the application stay as they are, byte by byte; RELOAD does what
 * it will do in the switch, so it is not asked for while the pooler uses another text than the file's.
 * What a process that died has left in the file, the next one takes away.
 *
 * Without `login` nobody is known who may come through; then we connect ourselves, from here, with what
 * the entry says.
 */
#include "endpoint/entries.h"
#include "endpoint/kind.h"
#include "endpoint/poolers.h"
#include "endpoint/textfile.h"
#include "pg/conn.h"

#define PROBE "pgportage_probe_"

enum { PROBE_NAME_MAX = 64, IDENTITY_MAX = 64 };

static const char identity_sql[] =
    "SELECT system_identifier || '/' || (SELECT oid FROM pg_catalog.pg_database"
    "  WHERE datname = pg_catalog.current_database()) FROM pg_catalog.pg_control_system()";

struct probing {
    struct poolers *poolers;
    struct pooler *pooler;
    enum which_side to;
    const struct endpoint_servers *servers;
    char (*identities)[IDENTITY_MAX]; /* of the servers */
    bool *led_to;                     /* by server: some entry leads there */
    unsigned unseen;                  /* entries of which nobody could tell where they lead */
    struct findings *findings;
};

static const char *probe_name(unsigned number, char name[PROBE_NAME_MAX])
{
    snprintf(name, PROBE_NAME_MAX, PROBE "%u", number);
    return name;
}

static bool found(struct probing *probing, enum severity severity, const char *code,
                  const struct pooled *database, const char *reason, const struct error *err,
                  const char *fix)
{
    const char *hint = err->hint[0] != '\0' ? err->hint : NULL;
    return findings_add(probing->findings, severity, code, &database->config->sides[probing->to],
                        database->config->name.text, fix != NULL ? fix : hint, "%s: %s%s%s", reason,
                        err->message, err->detail[0] != '\0' ? ": " : "", err->detail);
}

/* ---- connection strings ---- */

static void put_option(struct buffer *text, const char *keyword, const char *value)
{
    buffer_printf(text, "%s%s='", text->length > 0 ? " " : "", keyword);
    for (; *value != '\0'; value++) {
        if (*value == '\'' || *value == '\\')
            buffer_putc(text, '\\');
        buffer_putc(text, *value);
    }
    buffer_putc(text, '\'');
}

/* What comes later counts. */
static bool put_conninfo(struct buffer *text, const char *conninfo, struct error *err)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    if (options == NULL)
        return error_set(err, ERROR_CONFIG, "a connection string cannot be parsed");
    for (PQconninfoOption *option = options; option->keyword != NULL; option++) {
        if (option->val != NULL)
            put_option(text, option->keyword, option->val);
    }
    PQconninfoFree(options);
    return true;
}

/* ---- which server it is ---- */

static bool read_identities(struct probing *probing, struct error *err)
{
    for (unsigned s = 0; s < probing->servers->count; s++) {
        PGresult *result = conn_query_row(probing->servers->conns[s], identity_sql, 0, NULL, err);
        if (result == NULL)
            return error_context(err, "asking which server it is");
        snprintf(probing->identities[s], IDENTITY_MAX, "%s", result_text(result, 0, 0));
        PQclear(result);
    }
    return true;
}

static void compare(struct probing *probing, const struct pooled *database, const char *identity)
{
    unsigned s = 0;
    while (s < probing->servers->count && strcmp(probing->identities[s], identity) != 0)
        s++;
    if (s < probing->servers->count)
        probing->led_to[s] = true;
    else if (probing->servers->count > 0)
        findings_add(probing->findings, SEVERITY_REFUSE, "endpoint-target",
                     &database->config->sides[probing->to], database->config->name.text,
                     "Correct the entry: host, port and dbname.",
                     "its entry for the %s leads to a database that is none of the %s's",
                     side_name(probing->to), side_name(probing->to));
}

static void check_all_led_to(struct probing *probing)
{
    for (unsigned s = 0; probing->unseen == 0 && s < probing->servers->count; s++) {
        if (!probing->led_to[s] && !findings_have(probing->findings, "endpoint-target"))
            findings_add(probing->findings, SEVERITY_WARNING, "endpoint-target",
                         &probing->pooler->config->admin, probing->pooler->control.name, NULL,
                         "none of the entries for the %s leads to database \"%s\"",
                         side_name(probing->to), PQdb(probing->servers->conns[s]));
    }
}

/* ---- through the pooler ---- */

static bool ask_through(struct probing *probing, unsigned number, char identity[IDENTITY_MAX],
                        struct error *err)
{
    const struct config_pooler *config = probing->pooler->config;
    struct buffer conninfo;
    struct console client;
    char name[PROBE_NAME_MAX];
    buffer_init(&conninfo, 64 * 1024);
    bool ok = put_conninfo(&conninfo, config->admin.text, err);
    put_option(&conninfo, "password", ""); /* that of the console is nobody else's */
    ok = ok && put_conninfo(&conninfo, config->login.text, err);
    put_option(&conninfo, "dbname", probe_name(number, name));
    if (!ok) {
        buffer_release(&conninfo);
        return false;
    }
    console_init(&client, buffer_text(&conninfo));
    ok = console_ask(&client, identity_sql, err);
    if (ok)
        snprintf(identity, IDENTITY_MAX, "%s", PQgetvalue(client.result, 0, 0));
    console_release(&client);
    buffer_release(&conninfo);
    return ok;
}

static void log_in(struct probing *probing, unsigned number)
{
    struct error err = ERROR_INIT;
    char identity[IDENTITY_MAX];
    const struct pooled *database = &probing->pooler->databases[number];
    if (ask_through(probing, number, identity, &err)) {
        compare(probing, database, identity);
        return;
    }
    probing->unseen++;
    found(probing, SEVERITY_REFUSE, "endpoint-login", database,
          "no login at the other side through the pooler", &err,
          "Look at the pooler's log; at its auth_file or auth_query; at pg_hba.conf there; at the entry.");
}

/* ---- ourselves, from here ---- */

/* Ours, but where the entry says, and as whom it forces everybody to come. */
static bool own_conninfo(struct probing *probing, const struct pooled *database,
                         struct buffer *conninfo, struct error *err)
{
    static const char *const taken[] = {"host", "port", "dbname", "user", "password"};
    static const char *const preset[] = {"", "5432", NULL, NULL, NULL};
    const struct config *config = probing->poolers->config;
    const char *own = probing->to == SIDE_SOURCE ? config->source.text : config->shards[0].text;
    if (!put_conninfo(conninfo, own, err))
        return false;
    put_option(conninfo, "hostaddr", "");
    for (size_t t = 0; t < sizeof taken / sizeof taken[0]; t++) {
        const char *value = pairs_get(&database->wanted, taken[t]);
        if (value != NULL || preset[t] != NULL)
            put_option(conninfo, taken[t], value != NULL ? value : preset[t]);
    }
    return true;
}

static void look_ourselves(struct probing *probing, unsigned number)
{
    struct error err = ERROR_INIT;
    struct buffer conninfo;
    const struct pooled *database = &probing->pooler->databases[number];
    PGresult *result = NULL;
    PGconn *conn = NULL;
    buffer_init(&conninfo, 64 * 1024);
    if (own_conninfo(probing, database, &conninfo, &err))
        conn = conn_open(buffer_text(&conninfo), CONN_SESSION, "endpoint", &err);
    if (conn != NULL)
        result = conn_query_row(conn, identity_sql, 0, NULL, &err);
    if (result != NULL) {
        compare(probing, database, result_text(result, 0, 0));
    } else {
        probing->unseen++;
        found(probing, SEVERITY_WARNING, "endpoint-target", database,
              "where its entry leads to could not be seen from here", &err, NULL);
    }
    PQclear(result);
    conn_close(conn);
    buffer_release(&conninfo);
}

static void say_untried(struct probing *probing)
{
    findings_add(probing->findings, SEVERITY_WARNING, "endpoint-login",
                 &probing->pooler->config->admin, probing->pooler->control.name,
                 "login: user=… password=…, of somebody whom the pooler lets in",
                 "whether the pooler can log in at the %s was not tried: it has no \"login\"",
                 side_name(probing->to));
}

/* ---- the entries ---- */

/* An entry without dbname means its own name. */
static bool name_database(struct pooled *database, struct error *err)
{
    struct pairs *wanted = &database->wanted;
    if (pairs_get(wanted, "dbname") != NULL)
        return true;
    if (wanted->count == PAIRS_MAX)
        return error_set(err, ERROR_LIMIT, "the entry of \"%s\" has too many keys",
                         database->config->name.text);
    wanted->items[wanted->count++] =
        (struct pair){.key = "dbname", .value = database->config->name.text};
    return true;
}

/* The file with the probes in it, instead of what stands there. */
static bool add_probes(struct probing *probing, struct buffer *text, struct error *err)
{
    struct pooler *pooler = probing->pooler;
    char name[PROBE_NAME_MAX];
    for (unsigned d = 0; d < pooler->count; d++) {
        struct pooled *database = &pooler->databases[d];
        struct buffer next;
        if (!name_database(database, err))
            return false;
        buffer_init(&next, TEXTFILE_MAX);
        entries_add(text, database->config->name.text, probe_name(d, name), &database->wanted,
                    &next);
        buffer_release(text);
        *text = next;
    }
    return !buffer_failed(text) ||
           error_set(err, ERROR_LIMIT, "\"%s\" would be larger than %d bytes",
                     pooler->config->file.text, TEXTFILE_MAX);
}

/* Of this one or of one that died. `clean` is the file without them. */
static bool remove_probes(struct probing *probing, struct buffer *clean, bool *removed,
                          struct error *err)
{
    const char *path = probing->pooler->config->file.text;
    struct buffer text;
    buffer_init(&text, TEXTFILE_MAX);
    bool ok = textfile_read(path, &text, err);
    if (ok) {
        entries_without(&text, PROBE, clean);
        *removed = clean->length != text.length;
        ok = !*removed || textfile_replace(path, clean, err);
    }
    buffer_release(&text);
    return ok;
}

static bool reload(struct probing *probing, struct error *err)
{
    return console_ask(&probing->pooler->control, "RELOAD", err);
}

static bool put_probes(struct probing *probing, struct error *err)
{
    struct buffer text, clean;
    bool written, removed;
    buffer_init(&text, TEXTFILE_MAX);
    buffer_init(&clean, TEXTFILE_MAX);
    bool ok = pooler_wants(probing->pooler, probing->to, &text, &written, err) &&
              remove_probes(probing, &clean, &removed, err) && add_probes(probing, &clean, err) &&
              textfile_replace(probing->pooler->config->file.text, &clean, err) &&
              reload(probing, err);
    buffer_release(&text);
    buffer_release(&clean);
    return ok;
}

static bool take_probes(struct probing *probing, struct error *err)
{
    struct buffer clean;
    bool removed;
    buffer_init(&clean, TEXTFILE_MAX);
    bool ok = remove_probes(probing, &clean, &removed, err) && (!removed || reload(probing, err));
    buffer_release(&clean);
    return ok;
}

/* Whether the pooler has read what has just been written. */
static bool are_in_force(struct probing *probing, bool *do_reach, struct error *err)
{
    struct pooler *pooler = probing->pooler;
    if (!console_ask(&pooler->control, "SHOW DATABASES", err))
        return false;
    *do_reach = true;
    for (unsigned d = 0; d < pooler->count; d++) {
        struct pooled *database = &pooler->databases[d];
        char name[PROBE_NAME_MAX];
        database->row = pooler_row(pooler, probe_name(d, name));
        *do_reach &= pooled_in_force(pooler, database);
    }
    return true;
}

static bool try_probes(struct probing *probing, struct error *err)
{
    bool do_reach;
    const struct config_pooler *config = probing->pooler->config;
    if (!are_in_force(probing, &do_reach, err))
        return false;
    if (!do_reach) {
        findings_add(probing->findings, SEVERITY_REFUSE, "endpoint-file", &config->file,
                     probing->pooler->control.name,
                     "Name the file that its %include takes in; its log says why a RELOAD failed.",
                     "does not take up what is written to \"%s\"", config->file.text);
        return true;
    }
    for (unsigned d = 0; d < probing->pooler->count; d++) {
        if (stop_requested(probing->poolers->stop))
            return stop_error(err);
        (config->login.text != NULL ? log_in : look_ourselves)(probing, d);
    }
    if (config->login.text == NULL)
        say_untried(probing);
    check_all_led_to(probing);
    return true;
}

bool pooler_probe(struct poolers *poolers, struct pooler *pooler, enum which_side to,
                  const struct endpoint_servers *servers, struct findings *findings,
                  struct error *err)
{
    struct error failed = ERROR_INIT;
    struct probing probing = {
        .poolers = poolers, .pooler = pooler, .to = to, .servers = servers, .findings = findings};
    probing.identities = arena_zalloc(&poolers->call, (servers->count + 1) * IDENTITY_MAX);
    probing.led_to = arena_zalloc(&poolers->call, (servers->count + 1) * sizeof(bool));
    bool ok = read_identities(&probing, err) && put_probes(&probing, err) &&
              try_probes(&probing, err);
    if (take_probes(&probing, ok ? err : &failed))
        return ok;
    return ok ? error_context(err, "taking the probes away") : false;
}
