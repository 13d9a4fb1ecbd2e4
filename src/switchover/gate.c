#include "switchover/gate.h"

#include "pg/conn.h"
#include "state/journal.h"
#include "switchover/gate_sql.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    POLL_US = 2 * 1000,
    TELL_AFTER_US = 1000 * 1000,
    NAMED_MAX = 5, /* blockers in a message */
};

struct gate_words gate_words_live(const char *live)
{
    struct gate_words words;
    snprintf(words.detail, sizeof words.detail, "The %s is live.", live);
    snprintf(words.hint, sizeof words.hint, "Connect to the %s.", live);
    return words;
}

struct gate_words gate_words_moving(const char *from, const char *to)
{
    struct gate_words words;
    snprintf(words.detail, sizeof words.detail, "The %s is handing over to the %s.", from, to);
    snprintf(words.hint, sizeof words.hint, "Try again in a moment.");
    return words;
}

/* ---- changing it ---- */

/* A transaction that changes the row if it may, and then the function. */
#define CHANGE(set, where, make)                                                                   \
    "BEGIN; DO $portage$ DECLARE r portage.gate; BEGIN"                                            \
    " UPDATE portage.gate SET " set " WHERE epoch = {epoch}" where " RETURNING * INTO r;"          \
    " IF NOT FOUND THEN RAISE EXCEPTION USING ERRCODE = '" JOURNAL_SUPERSEDED "', MESSAGE ="       \
    "  'the gate belongs to another switch'; END IF;"                                              \
    " EXECUTE " make "; END $portage$; COMMIT;"

static const char fence_sql[] =
    CHANGE("fences = fences + 1, fence = fences + 1, sealed_by = NULL,"
           " deadline = pg_catalog.clock_timestamp() + interval '{ms} milliseconds'",
           " AND sealed_by IS DISTINCT FROM epoch",
           GATE_MAKE_CLOSED("r.deadline")) "SELECT fence FROM portage.gate WHERE epoch = {epoch}";

/* The deadline stays in the row, to be compared once the COMMIT is through: until then others ran the
 * function that lets them pass behind it. */
static const char seal_sql[] = CHANGE(
    "sealed_by = epoch", " AND fence = {fence} AND deadline > pg_catalog.clock_timestamp()",
    GATE_MAKE_CLOSED(
        "'infinity'::timestamptz")) "SELECT pg_catalog.clock_timestamp() < deadline FROM portage.gate"
                                    " WHERE epoch = {epoch} AND fence = {fence} AND sealed_by = epoch";

static const char shut_sql[] =
    CHANGE("fences = fences + 1, fence = fences + 1, deadline = NULL, sealed_by = epoch", "",
           GATE_MAKE_CLOSED("'infinity'::timestamptz")) "SELECT FROM portage.gate";

static const char open_sql[] = CHANGE("fence = NULL, deadline = NULL, sealed_by = NULL", "",
                                      GATE_MAKE_OPEN) "SELECT FROM portage.gate";

/* NULL on error; then no transaction is open. */
static PGresult *change(PGconn *conn, const char *text, const struct gate_blank *blanks,
                        struct error *err)
{
    struct buffer sql;
    struct error ignored = ERROR_INIT;
    buffer_init(&sql, 65536);
    gate_fill(&sql, text, blanks);
    PGresult *result = conn_query(conn, buffer_text(&sql), 0, NULL, err);
    buffer_release(&sql);
    if (result != NULL)
        return result;
    if (PQstatus(conn) == CONNECTION_OK && !conn_exec(conn, "ROLLBACK", &ignored))
        *err = ignored;
    if (journal_is_superseded(err))
        journal_superseded(conn, err);
    return NULL;
}

static const char *number(char text[24], int64_t value)
{
    snprintf(text, 24, "%lld", (long long)value);
    return text;
}

bool gate_fence(PGconn *conn, int64_t epoch, const struct gate_words *words, int deadline_ms,
                int64_t *fence, struct error *err)
{
    char epoch_text[24], ms_text[24];
    const struct gate_blank blanks[] = {{"{name}", "portage.gate"},
                                        {"{epoch}", number(epoch_text, epoch)},
                                        {"{ms}", number(ms_text, deadline_ms)},
                                        {"{detail}", words->detail},
                                        {"{hint}", words->hint},
                                        {0}};
    PGresult *result = change(conn, fence_sql, blanks, err);
    if (result == NULL)
        return error_context(err, "fencing database \"%s\"", PQdb(conn));
    bool ok = PQntuples(result) == 1;
    if (ok)
        *fence = result_int(result, 0, 0);
    PQclear(result);
    return ok || journal_superseded(conn, err);
}

static bool too_late(PGconn *conn, struct error *err)
{
    error_set(err, ERROR_LIMIT,
              "the fence of database \"%s\" had lifted itself before it was sealed", PQdb(conn));
    return error_hint(err, "Give it more time: --timeout.");
}

/* Whose the gate is: why it could not be sealed. */
static bool not_sealed(PGconn *conn, int64_t epoch, struct error *err)
{
    struct gate_state state;
    error_clear(err);
    if (!gate_read(conn, &state, err))
        return false;
    return state.epoch == epoch ? too_late(conn, err) : journal_superseded(conn, err);
}

bool gate_seal(PGconn *conn, int64_t epoch, int64_t fence, const struct gate_words *words,
               struct error *err)
{
    char epoch_text[24], fence_text[24];
    const struct gate_blank blanks[] = {{"{name}", "portage.gate"},
                                        {"{epoch}", number(epoch_text, epoch)},
                                        {"{fence}", number(fence_text, fence)},
                                        {"{detail}", words->detail},
                                        {"{hint}", words->hint},
                                        {0}};
    PGresult *result = change(conn, seal_sql, blanks, err);
    if (result == NULL)
        return journal_is_superseded(err)
                   ? not_sealed(conn, epoch, err)
                   : error_context(err, "sealing the fence of database \"%s\"", PQdb(conn));
    bool in_time = PQntuples(result) == 1 && result_bool(result, 0, 0);
    PQclear(result);
    return in_time || not_sealed(conn, epoch, err);
}

static bool set_plain(PGconn *conn, const char *text, int64_t epoch, const struct gate_words *words,
                      struct error *err)
{
    char epoch_text[24];
    const struct gate_blank blanks[] = {{"{name}", "portage.gate"},
                                        {"{epoch}", number(epoch_text, epoch)},
                                        {"{detail}", words->detail},
                                        {"{hint}", words->hint},
                                        {0}};
    PGresult *result = change(conn, text, blanks, err);
    PQclear(result);
    return result != NULL;
}

bool gate_open(PGconn *conn, int64_t epoch, struct error *err)
{
    const struct gate_words none = {0};
    return set_plain(conn, open_sql, epoch, &none, err) ||
           error_context(err, "opening the gate of database \"%s\"", PQdb(conn));
}

bool gate_shut(PGconn *conn, int64_t epoch, const struct gate_words *words, struct error *err)
{
    return set_plain(conn, shut_sql, epoch, words, err) ||
           error_context(err, "closing the gate of database \"%s\"", PQdb(conn));
}

bool gate_read(PGconn *conn, struct gate_state *state, struct error *err)
{
    *state = (struct gate_state){0};
    PGresult *result = conn_query(conn,
                                  "SELECT pg_catalog.to_regclass('portage.gate') IS NOT NULL"
                                  "   AND pg_catalog.to_regprocedure('portage.gate()') IS NOT NULL",
                                  0, NULL, err);
    state->exists = result != NULL && result_bool(result, 0, 0);
    PQclear(result);
    if (result == NULL || !state->exists)
        return result != NULL;
    result = conn_query_row(conn,
                            "SELECT epoch, fence IS NOT NULL AND (sealed_by IS NOT NULL"
                            "       OR deadline > pg_catalog.clock_timestamp()),"
                            "       sealed_by IS NOT NULL FROM portage.gate",
                            0, NULL, err);
    if (result == NULL)
        return false;
    state->epoch = result_int(result, 0, 0);
    state->closed = result_bool(result, 0, 1);
    state->sealed = result_bool(result, 0, 2);
    PQclear(result);
    return true;
}

/* ---- waiting for writers ---- */

/* Who may have written, or may write by a lock that it has already. VACUUM and index builds hold other
 * modes. A prepared transaction has no pid. */
static const char writers_sql[] =
    "SELECT pg_catalog.array_agg(DISTINCT l.virtualtransaction),"
    "       pg_catalog.bool_or(l.pid IS NULL)"
    "  FROM pg_catalog.pg_locks l"
    " WHERE l.locktype = 'relation' AND l.granted"
    "   AND l.database = (SELECT oid FROM pg_catalog.pg_database"
    "                      WHERE datname = pg_catalog.current_database())"
    "   AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock',"
    "                  'AccessExclusiveLock')"
    "   AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()"
    "   AND l.relation IN (SELECT tgrelid FROM pg_catalog.pg_trigger"
    "                       WHERE tgname = 'portage_gate')";

/* Each transaction holds the lock of its own id as long as it lives. */
static const char left_sql[] =
    "SELECT l.pid, a.usename, a.application_name, a.state, a.query_start"
    "  FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
    " WHERE l.locktype = 'virtualxid' AND l.granted AND l.virtualtransaction = ANY ($1::text[])"
    " ORDER BY a.xact_start";

static const char terminate_sql[] =
    "SELECT l.pid, pg_catalog.pg_terminate_backend(l.pid)"
    "  FROM pg_catalog.pg_locks l"
    " WHERE l.locktype = 'virtualxid' AND l.granted AND l.virtualtransaction = ANY ($1::text[])";

static void name_blockers(const PGresult *left, struct buffer *names)
{
    int count = PQntuples(left);
    for (int row = 0; row < count && row < NAMED_MAX; row++)
        buffer_printf(names, "%spid %s (user %s, application \"%s\", %s, last statement at %s)",
                      row > 0 ? "; " : "", result_text(left, row, 0), result_text(left, row, 1),
                      result_text(left, row, 2), result_text(left, row, 3),
                      result_text(left, row, 4));
    if (count > NAMED_MAX)
        buffer_printf(names, "; and %d more", count - NAMED_MAX);
}

static bool out_of_patience(const struct gate_patience *patience, const PGresult *left,
                            struct error *err)
{
    struct buffer names;
    buffer_init(&names, 8192);
    name_blockers(left, &names);
    error_set(err, ERROR_LIMIT, "%d transactions that write to the %s have not ended in time",
              PQntuples(left), patience->server);
    error_detail(err, "%s", buffer_text(&names));
    error_hint(err, "End them, or let the switch do it: --kill-blockers-after S.");
    buffer_release(&names);
    return false;
}

static bool terminate(PGconn *conn, const char *transactions, struct error *err)
{
    PGresult *result = conn_query(conn, terminate_sql, 1, &transactions, err);
    if (result == NULL && strcmp(err->sqlstate, "42501") == 0)
        return error_hint(err, "GRANT pg_signal_backend TO \"%s\";", PQuser(conn));
    for (int row = 0; result != NULL && row < PQntuples(result); row++)
        log_warning("ended session %s, which was in the way", result_text(result, row, 0));
    PQclear(result);
    return result != NULL;
}

struct waiting {
    const struct gate_patience *patience;
    int64_t began_us;
    bool told, terminated;
};

static bool look_again(PGconn *conn, const char *transactions, struct waiting *waiting, bool *over,
                       struct error *err)
{
    const struct gate_patience *patience = waiting->patience;
    PGresult *left = conn_query(conn, left_sql, 1, &transactions, err);
    if (left == NULL)
        return false;
    int64_t now_us = clock_monotonic_us();
    bool ok = true;
    *over = PQntuples(left) == 0;
    if (!*over && now_us >= patience->until_us)
        ok = out_of_patience(patience, left, err);
    if (!*over && !waiting->told && now_us - waiting->began_us > TELL_AFTER_US) {
        struct buffer names;
        buffer_init(&names, 8192);
        name_blockers(left, &names);
        log_info("waiting for writers of the %s: %s", patience->server, buffer_text(&names));
        buffer_release(&names);
        waiting->told = true;
    }
    PQclear(left);
    if (ok && !*over && !waiting->terminated && patience->terminate_us > 0 &&
        now_us >= patience->terminate_us) {
        waiting->terminated = true;
        ok = terminate(conn, transactions, err);
    }
    return ok;
}

static bool is_prepared(const struct gate_patience *patience, struct error *err)
{
    error_set(err, ERROR_CONFIG, "a prepared transaction has written to the %s and has not ended",
              patience->server);
    return error_hint(err, "Look into pg_prepared_xacts; COMMIT PREPARED or ROLLBACK PREPARED.");
}

static bool wait_for(PGconn *conn, const char *transactions, const struct gate_patience *patience,
                     struct error *err)
{
    struct waiting waiting = {.patience = patience, .began_us = clock_monotonic_us()};
    bool over = false;
    for (;;) {
        if (!look_again(conn, transactions, &waiting, &over, err))
            return false;
        if (over)
            return true;
        if (stop_wait(patience->stop, POLL_US))
            return stop_error(err);
    }
}

/* Who may have written, as a list for wait_for(); NULL on error, a row that
 * is NULL when there is nobody. */
static PGresult *find_writers(PGconn *conn, const struct gate_patience *patience, struct error *err)
{
    PGresult *writers = conn_query_row(conn, writers_sql, 0, NULL, err);
    if (writers == NULL || !result_bool(writers, 0, 1))
        return writers;
    PQclear(writers);
    is_prepared(patience, err);
    return NULL;
}

/* A transaction that was waited for may have ended by PREPARE: it is no session's any more, keeps its
 * locks, and would commit behind the marker. */
static bool none_prepared(PGconn *conn, const struct gate_patience *patience, struct error *err)
{
    PGresult *writers = find_writers(conn, patience, err);
    PQclear(writers);
    return writers != NULL;
}

bool gate_wait(PGconn *conn, const struct gate_patience *patience, struct error *err)
{
    PGresult *writers = find_writers(conn, patience, err);
    if (writers == NULL)
        return false;
    bool ok = PQgetisnull(writers, 0, 0) ||
              (wait_for(conn, result_text(writers, 0, 0), patience, err) &&
               none_prepared(conn, patience, err));
    PQclear(writers);
    return ok;
}

/* ---- what it rejected ---- */

static const char rejected_sql[] =
    "SELECT COALESCE(pg_catalog.pg_sequence_last_value("
    "                  pg_catalog.to_regclass('portage.gate_rejected')), 0)";

bool gate_rejected(PGconn *conn, int64_t *count, struct error *err)
{
    PGresult *result = conn_query_row(conn, rejected_sql, 0, NULL, err);
    if (result == NULL)
        return error_context(err, "reading how much the gate has rejected");
    *count = result_int(result, 0, 0);
    PQclear(result);
    return true;
}

/* ---- rehearsal ---- */

static const char rehearse_sql[] = "CREATE TABLE portage.rehearsal ();"
                                   "DO $portage$ BEGIN EXECUTE " GATE_MAKE_OPEN
                                   "; END $portage$;" GATE_CREATE_TRIGGER GATE_ENABLE_TRIGGER;
static const char rehearse_close_sql[] =
    "DO $portage$ BEGIN EXECUTE " GATE_MAKE_CLOSED("'infinity'::timestamptz") "; END $portage$;";
static const char rehearse_open_sql[] =
    "DO $portage$ BEGIN EXECUTE " GATE_MAKE_OPEN "; END $portage$;";
static const char rehearse_end_sql[] =
    "SET portage.pass = 'on'; DROP TABLE IF EXISTS portage.rehearsal;"
    "DROP FUNCTION IF EXISTS portage.rehearsal();";

static bool rehearse_run(PGconn *conn, const char *text, struct error *err)
{
    static const struct gate_blank blanks[] = {{"{name}", "portage.rehearsal"},
                                               {"{table}", "portage.rehearsal"},
                                               {"{detail}", "A rehearsal."},
                                               {"{hint}", ""},
                                               {0}};
    PGresult *result = change(conn, text, blanks, err);
    PQclear(result);
    return result != NULL;
}

/* The application's view of it: without the pass. */
static bool rehearse_write(PGconn *conn, bool must_pass, struct error *err)
{
    struct error refused = ERROR_INIT;
    bool passed = conn_exec(conn, "INSERT INTO portage.rehearsal DEFAULT VALUES", &refused);
    if (passed == must_pass && (passed || strcmp(refused.sqlstate, GATE_SQLSTATE) == 0))
        return true;
    if (!passed && strcmp(refused.sqlstate, GATE_SQLSTATE) != 0)
        *err = refused;
    else
        error_set(err, ERROR_FATAL, "the gate of database \"%s\" %s", PQdb(conn),
                  must_pass ? "does not open" : "lets writes pass when it is closed");
    return false;
}

bool gate_rehearse(PGconn *conn, int64_t *us, struct error *err)
{
    struct error ignored = ERROR_INIT;
    bool ok = rehearse_run(conn, rehearse_end_sql, err) && rehearse_run(conn, rehearse_sql, err) &&
              conn_exec(conn, "SET portage.pass = 'off'", err);
    int64_t began_us = clock_monotonic_us();
    ok = ok && rehearse_run(conn, rehearse_close_sql, err) && rehearse_write(conn, false, err) &&
         rehearse_run(conn, rehearse_open_sql, err) && rehearse_write(conn, true, err);
    *us = clock_monotonic_us() - began_us;
    if (!rehearse_run(conn, rehearse_end_sql, ok ? err : &ignored))
        ok = false;
    return ok || error_context(err, "rehearsing the fence in database \"%s\"", PQdb(conn));
}
