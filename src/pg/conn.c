#include "pg/conn.h"

#include <poll.h>
#include <pwd.h>
#include <unistd.h>

#include "pg/quote.h"
#include "util/log.h"

/*
 * Settings are set by name through pg_settings, so that one this version does not know is left out.
 * set_config() in the session wins over ALTER ROLE and ALTER DATABASE … SET.
 */
static const char pin_settings_sql[] =
    "SELECT pg_catalog.set_config(s.name, v.value, false)"
    "  FROM (VALUES ('datestyle', 'ISO, YMD'), ('intervalstyle', 'postgres'),"
    "               ('timezone', 'UTC'), ('extra_float_digits', '3'), ('bytea_output', 'hex'),"
    "               ('lc_monetary', 'C'), ('xmloption', 'content'), ('client_encoding', 'UTF8'),"
    "               ('standard_conforming_strings', 'on'), ('row_security', 'off'),"
    "               ('statement_timeout', '0'), ('lock_timeout', '0'),"
    "               ('idle_in_transaction_session_timeout', '0'), ('idle_session_timeout', '0'),"
    "               ('transaction_timeout', '0'), ('wal_sender_timeout', '0'),"
    "               ('default_transaction_isolation', 'read committed'),"
    "               ('default_transaction_read_only', 'off'),"
    "               ('default_transaction_deferrable', 'off'), ('client_min_messages', 'warning'),"
    "               ('jit', 'off'), ('search_path', ''))"
    "       AS v(name, value)"
    "  JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name) = v.name"
    /* What we confirm, and what the journal says, must outlive a crash of the server. Whoever waits for
       standbys goes on doing so, and nobody else begins to. */
    " UNION ALL SELECT pg_catalog.set_config('synchronous_commit', 'local', false)"
    "  WHERE pg_catalog.current_setting('synchronous_commit') = 'off'";

/*
 * Plans of what is applied: made once, and by key whatever the statistics of a table say that was
 * empty a moment ago. Rows are looked up one by one in the order that they were sent in.
 */
static const char pin_plans_sql[] =
    "SELECT pg_catalog.set_config(s.name, v.value, false)"
    "  FROM (VALUES ('plan_cache_mode', 'force_generic_plan'), ('enable_seqscan', 'off'),"
    "               ('enable_bitmapscan', 'off'), ('enable_hashjoin', 'off'),"
    "               ('enable_mergejoin', 'off'), ('enable_material', 'off'),"
    "               ('enable_memoize', 'off'), ('max_parallel_workers_per_gather', '0'))"
    "       AS v(name, value)"
    "  JOIN pg_catalog.pg_settings s ON s.name = v.name";

/* A pooler answers with a backend PID of its own invention. */
static const char backend_pid_sql[] = "SELECT pg_catalog.pg_backend_pid()";

/* Which class an SQLSTATE belongs to (DESIGN.md, "Errors"). */
static enum error_class class_of(const char *sqlstate)
{
    static const char *const retry[] = {"08", "40", "53", "55", "57", "58"};
    if (strcmp(sqlstate, "25006") == 0) /* read-only: a standby before its promotion */
        return ERROR_RETRY;
    for (size_t i = 0; i < sizeof retry / sizeof retry[0]; i++) {
        if (strncmp(sqlstate, retry[i], 2) == 0)
            return ERROR_RETRY;
    }
    if (strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "23", 2) == 0)
        return ERROR_DATA;
    if (strncmp(sqlstate, "42", 2) == 0 || strncmp(sqlstate, "28", 2) == 0 ||
        strncmp(sqlstate, "3D", 2) == 0)
        return ERROR_CONFIG;
    return ERROR_FATAL;
}

/* Copies a message of the server or libpq without its trailing newline. */
static void copy_trimmed(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text != NULL ? text : "");
    size_t length = strlen(out);
    while (length > 0 && (out[length - 1] == '\n' || out[length - 1] == ' '))
        out[--length] = '\0';
}

static const char *result_field(const PGresult *result, int field)
{
    const char *text = PQresultErrorField(result, field);
    return text != NULL ? text : "";
}

bool conn_error(PGconn *conn, struct error *err)
{
    char text[1024];
    copy_trimmed(text, sizeof text, PQerrorMessage(conn));
    const char *database = PQdb(conn);
    error_set(err, ERROR_RETRY, "connection to database \"%s\" was lost",
              database != NULL ? database : "");
    return error_detail(err, "%s", text);
}

bool conn_result_error(PGconn *conn, const PGresult *result, struct error *err)
{
    if (result == NULL)
        return conn_error(conn, err);
    const char *sqlstate = result_field(result, PG_DIAG_SQLSTATE);
    if (sqlstate[0] == '\0') {
        if (PQstatus(conn) == CONNECTION_BAD)
            return conn_error(conn, err);
        error_set(err, ERROR_FATAL, "unexpected answer of the server: %s",
                  PQresStatus(PQresultStatus(result)));
        char text[1024];
        copy_trimmed(text, sizeof text, PQresultErrorMessage(result));
        return error_detail(err, "%s", text);
    }
    error_set(err, class_of(sqlstate), "%s", result_field(result, PG_DIAG_MESSAGE_PRIMARY));
    snprintf(err->sqlstate, sizeof err->sqlstate, "%s", sqlstate);
    snprintf(err->detail, sizeof err->detail, "%s", result_field(result, PG_DIAG_MESSAGE_DETAIL));
    snprintf(err->hint, sizeof err->hint, "%s", result_field(result, PG_DIAG_MESSAGE_HINT));
    const char *context = result_field(result, PG_DIAG_CONTEXT);
    if (context[0] != '\0')
        error_context(err, "%s", context);
    return false;
}

bool conn_exec(PGconn *conn, const char *sql, struct error *err)
{
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
    if (!ok)
        conn_result_error(conn, result, err);
    PQclear(result);
    return ok;
}

void conn_cancel(PGconn *conn)
{
    char text[256];
    PGcancel *request = PQgetCancel(conn);
    if (request == NULL || PQcancel(request, text, sizeof text) != 1) {
        /* it ends with the statement */
    }
    PQfreeCancel(request);
}

/* The next result of what was sent; NULL: none. */
static PGresult *next_result(PGconn *conn, struct stop *stop, bool *cancelled)
{
    enum { POLL_MS = 50 };
    while (PQconsumeInput(conn) == 1 && PQisBusy(conn)) {
        struct pollfd answer = {.fd = PQsocket(conn), .events = POLLIN};
        if (stop_requested(stop) && !*cancelled) {
            conn_cancel(conn);
            *cancelled = true;
        }
        if (poll(&answer, 1, POLL_MS) < 0) {
            /* a signal: look again */
        }
    }
    return PQgetResult(conn);
}

bool conn_exec_until(PGconn *conn, const char *sql, struct stop *stop, struct error *err)
{
    PGresult *result;
    bool ok = true, cancelled = false;
    if (PQsendQuery(conn, sql) != 1)
        return conn_error(conn, err);
    while ((result = next_result(conn, stop, &cancelled)) != NULL) {
        ExecStatusType status = PQresultStatus(result);
        if (ok && status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
            ok = conn_result_error(conn, result, err);
        PQclear(result);
    }
    if (ok || !cancelled)
        return ok;
    error_clear(err);
    return stop_error(err);
}

bool conn_run(PGconn *conn, const char *sql, int count, const char *const *values,
              struct error *err)
{
    PGresult *result = conn_query(conn, sql, count, values, err);
    PQclear(result);
    return result != NULL;
}

PGresult *conn_query(PGconn *conn, const char *sql, int count, const char *const *values,
                     struct error *err)
{
    PGresult *result = count > 0 ? PQexecParams(conn, sql, count, NULL, values, NULL, NULL, 0)
                                 : PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
        return result;
    conn_result_error(conn, result, err);
    PQclear(result);
    return NULL;
}

PGresult *conn_query_row(PGconn *conn, const char *sql, int count, const char *const *values,
                         struct error *err)
{
    PGresult *result = conn_query(conn, sql, count, values, err);
    if (result != NULL && PQntuples(result) != 1) {
        error_set(err, ERROR_FATAL, "a query that must return one row returned %d",
                  PQntuples(result));
        error_detail(err, "%.900s", sql);
        PQclear(result);
        return NULL;
    }
    return result;
}

const char *result_text(const PGresult *result, int row, int column)
{
    return PQgetvalue(result, row, column);
}

int64_t result_int(const PGresult *result, int row, int column)
{
    return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

bool result_bool(const PGresult *result, int row, int column)
{
    return PQgetvalue(result, row, column)[0] == 't';
}

bool result_lsn(const PGresult *result, int row, int column, lsn_t *lsn, struct error *err)
{
    const char *text = PQgetvalue(result, row, column);
    if (!lsn_parse(text, lsn))
        return error_set(err, ERROR_FATAL, "not a WAL position: \"%.60s\"", text);
    return true;
}

/* The options of a connection string; NULL when it cannot be parsed (libpq's message would quote it,
 * password and all). */
static PQconninfoOption *conn_options(const char *conninfo)
{
    return PQconninfoParse(conninfo, NULL);
}

static const char *conn_option(const PQconninfoOption *options, const char *keyword)
{
    for (; options->keyword != NULL; options++) {
        if (strcmp(options->keyword, keyword) == 0)
            return options->val != NULL ? options->val : "";
    }
    return "";
}

bool conn_holds_password(const char *conninfo)
{
    PQconninfoOption *options = conn_options(conninfo);
    bool holds = options != NULL && conn_option(options, "password")[0] != '\0';
    PQconninfoFree(options);
    return holds;
}

char *conn_redact(const char *conninfo)
{
    static const char *const shown[] = {"host", "port", "dbname", "user"};
    struct buffer text;
    buffer_init(&text, 4096);
    PQconninfoOption *options = conn_options(conninfo);
    for (size_t i = 0; options != NULL && i < sizeof shown / sizeof shown[0]; i++) {
        const char *value = conn_option(options, shown[i]);
        if (value[0] != '\0')
            buffer_printf(&text, "%s%s=%s", text.length > 0 ? " " : "", shown[i], value);
    }
    PQconninfoFree(options);
    return buffer_detach(&text);
}

/* Blanks every occurrence of the password in a text of libpq. */
static void conn_blank_password(char *text, const char *password)
{
    size_t length = strlen(password);
    for (char *at = text; length > 0 && (at = strstr(at, password)) != NULL; at += length)
        memset(at, '*', length);
}

/* A login that no waiting mends. libpq gives no SQLSTATE here; these words are the server's, and not
 * translated for a client that has not logged in under lc_messages of its own. */
static bool login_refused(const char *message)
{
    static const char *const refusals[] = {"authentication failed", "does not exist",
                                           "no pg_hba.conf entry", "is not permitted to log in"};
    for (size_t r = 0; r < sizeof refusals / sizeof refusals[0]; r++) {
        if (strstr(message, "FATAL:") != NULL && strstr(message, refusals[r]) != NULL)
            return true;
    }
    return false;
}

static bool conn_open_error(PGconn *conn, const char *conninfo, struct error *err)
{
    char text[1024];
    const char *password = PQpass(conn);
    char *where = conn_redact(conninfo);
    copy_trimmed(text, sizeof text, PQerrorMessage(conn));
    conn_blank_password(text, password != NULL ? password : "");
    error_set(err, login_refused(text) ? ERROR_CONFIG : ERROR_RETRY, "could not connect to %s", where);
    error_detail(err, "%s", text);
    free(where);
    return false;
}

static bool conn_refuse_pooler(PGconn *conn, struct error *err)
{
    PGresult *result = conn_query_row(conn, backend_pid_sql, 0, NULL, err);
    if (result == NULL)
        return false;
    bool direct = result_int(result, 0, 0) == PQbackendPID(conn);
    PQclear(result);
    if (direct)
        return true;
    error_set(err, ERROR_CONFIG, "the connection to database \"%s\" goes through a pooler",
              PQdb(conn));
    error_detail(err, "The backend process id that the connection was given is not the server's.");
    return error_hint(err, "Name the address of the PostgreSQL server itself.");
}

/* session_replication_role = replica keeps user triggers and foreign keys from firing on what we
 * apply. It needs a privilege (superuser, or GRANT SET ON PARAMETER since 15): without it apply works
 * as well, and foreign keys are added later. */
static bool conn_try_replica_role(PGconn *conn, struct error *err)
{
    struct error denied = ERROR_INIT;
    if (!conn_exec(conn, "SET session_replication_role = replica", &denied) &&
        strcmp(denied.sqlstate, "42501") != 0) {
        *err = denied;
        return false;
    }
    return true;
}

bool conn_pin_plans(PGconn *conn, struct error *err)
{
    return conn_exec(conn, pin_plans_sql, err);
}

bool conn_is_replica_role(PGconn *conn)
{
    PGresult *result = PQexec(conn, "SHOW session_replication_role");
    bool replica = PQresultStatus(result) == PGRES_TUPLES_OK &&
                   strcmp(PQgetvalue(result, 0, 0), "replica") == 0;
    PQclear(result);
    return replica;
}

/* Who starts us, for the journal: user, host, process. */
static bool conn_say_who(PGconn *conn, struct error *err)
{
    char host[256] = "?", who[512], user[128] = "?", names[1024];
    struct passwd entry, *found = NULL;
    struct buffer sql;
    gethostname(host, sizeof host - 1);
    if (getpwuid_r(geteuid(), &entry, names, sizeof names, &found) == 0 && found != NULL)
        snprintf(user, sizeof user, "%s", entry.pw_name);
    snprintf(who, sizeof who, "%s@%s, pid %d", user, host, (int)getpid());
    buffer_init(&sql, 4096);
    buffer_puts(&sql, "SET portage.who = ");
    quote_literal(&sql, who);
    bool ok = conn_exec(conn, buffer_text(&sql), err);
    buffer_release(&sql);
    return ok;
}

static bool conn_prepare_session(PGconn *conn, enum conn_kind kind, struct error *err)
{
    /* First what could cut short the pinning itself (O1, S3), and what lets us pass our own gate. */
    if (!conn_exec(conn, "SET statement_timeout = 0; SET portage.pass = 'on'", err) ||
        !conn_exec(conn, pin_settings_sql, err) || !conn_say_who(conn, err))
        return false;
    if (!conn_refuse_pooler(conn, err))
        return false;
    return kind != CONN_APPLY || conn_try_replica_role(conn, err);
}

PGconn *conn_open(const char *conninfo, enum conn_kind kind, const char *purpose,
                  struct error *err)
{
    char application[64];
    snprintf(application, sizeof application, "pgportage %s", purpose);
    const char *const keywords[] = {"dbname",     "application_name", "connect_timeout",
                                    "keepalives_idle", "keepalives_interval", "keepalives_count",
                                    "tcp_user_timeout",
                                    kind == CONN_REPLICATION ? "replication" : NULL, NULL};
    const char *const values[] = {conninfo, application, "10", "10", "5", "4", "30000",
                                  "database", NULL};
    PQconninfoOption *options = conn_options(conninfo);
    if (options == NULL) {
        error_set(err, ERROR_CONFIG, "a connection string cannot be parsed");
        error_hint(err, "Write postgresql://user@host:port/database or host=… dbname=… user=….");
        return NULL;
    }
    PQconninfoFree(options);
    PGconn *conn = PQconnectdbParams(keywords, values, 1);
    if (PQstatus(conn) != CONNECTION_OK) {
        conn_open_error(conn, conninfo, err);
        PQfinish(conn);
        return NULL;
    }
    if (!conn_prepare_session(conn, kind, err)) {
        error_context(err, "connecting to database \"%s\"", PQdb(conn));
        PQfinish(conn);
        return NULL;
    }
    return conn;
}

void conn_close(PGconn *conn)
{
    if (conn != NULL)
        PQfinish(conn);
}
