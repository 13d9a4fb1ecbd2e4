#include "run/preflight.h"

#include "pg/conn.h"
#include "switchover/closed.h"

/* A question to a server: each row of the answer is a finding. */
struct question {
    enum severity severity;
    const char *code;
    int since;       /* server version that the question needs */
    const char *sql; /* object, reason, fix; $1 is the slot's name */
};

enum { KEY_PERCENT = 80 };

#define BAD SEVERITY_REFUSE
#define ODD SEVERITY_WARNING
#define SAY SEVERITY_NOTE
#define RLS_FIX                                                                                    \
    " CASE WHEN pg_has_role(current_user, c.relowner, 'USAGE')"                                    \
    "  THEN format('ALTER TABLE %I.%I NO FORCE ROW LEVEL SECURITY;', n.nspname, c.relname)"        \
    "  ELSE format('ALTER ROLE %I BYPASSRLS;', current_user) END"
#define USER_TABLES                                                                                \
    "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"               \
    " WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'portage') AND n.nspname !~ '^pg_'"

/* pg_subscription_rel is the database's own; which of its rows is which subscription's we may not see. */
#define SUBSCRIPTION_SQL                                                                           \
    "SELECT s.subname::text, 'is a subscription and writes here (' || COALESCE((SELECT"            \
    "         string_agg(r.srrelid::regclass::text, ', ') FROM (SELECT srrelid FROM"               \
    "         pg_subscription_rel ORDER BY srrelid LIMIT 5) AS r), 'no table yet') || '): no gate'\n" \
    "       ' of a switch stops it', format('ALTER SUBSCRIPTION %I DISABLE;', s.subname)"          \
    "  FROM pg_subscription s WHERE s.subenabled AND s.subdbid ="                                  \
    "       (SELECT oid FROM pg_database WHERE datname = current_database())"

static const struct question source_questions[] = {
    {BAD, "wal-level", 0,
     "SELECT 'wal_level', 'is ' || current_setting('wal_level') || ', and logical decoding needs'\n"
     "       ' logical', 'ALTER SYSTEM SET wal_level = logical; then restart the server'"
     " WHERE current_setting('wal_level') <> 'logical'"},
    {BAD, "no-slot-free", 0,
     "SELECT 'max_replication_slots', 'all ' || current_setting('max_replication_slots')"
     "       || ' slots are in use', 'ALTER SYSTEM SET max_replication_slots = 20; then restart'"
     " WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)"
     "   AND (SELECT count(*) FROM pg_replication_slots)"
     "       >= current_setting('max_replication_slots')::int"},
    {BAD, "no-sender-free", 0,
     "SELECT 'max_wal_senders', 'all ' || current_setting('max_wal_senders') || ' are in use',"
     "       'ALTER SYSTEM SET max_wal_senders = 20; then restart'"
     " WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active)"
     "   AND (SELECT count(*) FROM pg_stat_replication)"
     "       >= current_setting('max_wal_senders')::int"},
    {BAD, "no-replication-right", 0,
     "SELECT current_user::text, 'may not use replication slots',"
     "       format('ALTER ROLE %I REPLICATION;', current_user)"
     " WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = current_user"
     "                     AND (rolreplication OR rolsuper))"},
    {BAD, "no-create-right", 0,
     "SELECT current_database()::text, 'the role may not create a schema and a publication here',"
     "       format('GRANT CREATE ON DATABASE %I TO %I;', current_database(), current_user)"
     " WHERE NOT has_database_privilege(current_database(), 'CREATE')"},
    {ODD, "no-temporary-right", 0,
     "SELECT current_database()::text, 'the role may make no temporary table here: a TRUNCATE on a shard'\n"
     "       ' ends the way back', format('GRANT TEMPORARY ON DATABASE %I TO %I;', current_database(),"
     "       current_user)"
     " WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')"},
    {ODD, "no-stats-right", 0,
     "SELECT current_user::text, 'cannot see which transactions of others are idle: the start waits'\n"
     "       ' for all of them', format('GRANT pg_read_all_stats TO %I;', current_user)"
     " WHERE NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"},
    {BAD, "not-owner", 0,
     "SELECT format('%I.%I', n.nspname, c.relname), 'a table is published by its owner, '"
     "       || pg_get_userbyid(c.relowner), format('GRANT %I TO %I;',"
     "       pg_get_userbyid(c.relowner), current_user)"
     "  FROM " USER_TABLES " AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'"
     "   AND NOT pg_has_role(current_user, c.relowner, 'USAGE')"},
    {BAD, "row-security", 0,
     "SELECT format('%I.%I', n.nspname, c.relname), 'row level security would hide rows from us'," RLS_FIX
     "  FROM " USER_TABLES " AND row_security_active(c.oid)"},
    {ODD, "prepared-transaction", 0,
     "SELECT gid, 'a prepared transaction of database ' || database || ', ' || date_trunc('second', clock_timestamp() - prepared)"
     "       || ' old: the slot waits for its end', format('ROLLBACK PREPARED %L;', gid)"
     "  FROM pg_prepared_xacts"},
    {ODD, "long-transaction", 0,
     "SELECT 'pid ' || pid, 'a transaction of ' || usename || ', '"
     "       || date_trunc('second', clock_timestamp() - xact_start) || ' old: the slot waits for'\n"
     "       ' its end', format('SELECT pg_terminate_backend(%s);', pid)"
     "  FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
     "   AND xact_start < clock_timestamp() - interval '1 minute'"},
    {ODD, "slot-timeout", 180000,
     "SELECT 'idle_replication_slot_timeout', 'is ' || current_setting('idle_replication_slot_timeout')"
     "       || ': the slot is lost when nobody reads it for so long',"
     "       'ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();'"
     " WHERE current_setting('idle_replication_slot_timeout') <> '0'"},
    {SAY, "disk", 0,
     "SELECT current_database()::text, 'its tables hold ' || pg_size_pretty(sum(pg_table_size(c.oid)))"
     "       || ', their indexes ' || pg_size_pretty(sum(pg_indexes_size(c.oid))) || ': the shards need as'\n"
     "       ' much together, what goes everywhere on each of them; free space cannot be asked for here', NULL"
     "  FROM " USER_TABLES " AND c.relkind = 'r' HAVING count(*) > 0"},
    {ODD, "wal-limit", 130000,
     "SELECT 'max_slot_wal_keep_size', 'is ' || current_setting('max_slot_wal_keep_size')"
     "       || ': the slot is lost when the stream falls behind by more',"
     "       'ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf();'"
     " WHERE current_setting('max_slot_wal_keep_size') <> '-1'"},
    {SAY, "role-settings", 0,
     "SELECT COALESCE(r.rolname, 'all roles'), 'sets ' || array_to_string(s.setconfig, ', ')"
     "       || '; our sessions pin what matters', NULL"
     "  FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole"
     " WHERE s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user))"},
    {ODD, "sql-ascii", 0,
     "SELECT current_database()::text, 'its encoding is SQL_ASCII: bytes that are not UTF-8 stop the'\n"
     "       ' copy', NULL WHERE getdatabaseencoding() = 'SQL_ASCII'"},
    {ODD, "sequence-end", 0,
     "SELECT format('%I.%I', schemaname, sequencename), 'has used '"
     "       || round(100.0 * last_value / max_value) || ' % of its range',"
     "       CASE WHEN max_value < 9223372036854775807 THEN"
     "         format('ALTER SEQUENCE %I.%I AS bigint NO MAXVALUE;', schemaname, sequencename) END"
     "  FROM pg_sequences WHERE increment_by > 0 AND last_value > 0.8 * max_value"
     " UNION ALL "
     "SELECT format('%I.%I', schemaname, sequencename), 'counts down, and has used '"
     "       || round(100.0 * last_value / min_value) || ' % of its range',"
     "       CASE WHEN min_value > -9223372036854775807 THEN"
     "         format('ALTER SEQUENCE %I.%I AS bigint NO MINVALUE;', schemaname, sequencename) END"
     "  FROM pg_sequences WHERE increment_by < 0 AND min_value < 0 AND last_value < 0.8 * min_value"},
    {ODD, "large-values", 0,
     "SELECT format('%I.%I', n.nspname, c.relname), 'its largest values may not fit the text form of'\n"
     "       ' the stream (512 MB of bytea): TOAST holds ' || pg_size_pretty(pg_relation_size(c.reltoastrelid)),"
     "       format('SELECT max(octet_length(column)) FROM %I.%I;', n.nspname, c.relname)"
     "  FROM " USER_TABLES " AND c.relkind = 'r' AND c.reltoastrelid <> 0"
     "   AND pg_relation_size(c.reltoastrelid) > 512 * 1024 * 1024"},
    {SAY, "large-objects", 0,
     "SELECT 'large objects', 'are not in the stream: ' || count(*) || ' of them; and no gate stops'\n"
     "       ' who writes to them in a switch', NULL"
     "  FROM pg_largeobject_metadata HAVING count(*) > 0"},
    {SAY, "not-fenced", 0,
     "SELECT 'DDL', 'passes the gate of a switch: until its last check a change of tables is noticed'\n"
     "       ' and aborts it, behind that nothing notices', 'Let nobody change tables during a switch.'"
     " UNION ALL "
     "SELECT 'nextval()', 'passes the gate of a switch: who draws a value meanwhile may use it on the'\n"
     "       ' other side', 'sequence_margin is for that.' WHERE EXISTS (SELECT FROM pg_sequences)"},
    {ODD, "subscription", 0, SUBSCRIPTION_SQL},
    {SAY, "materialized-view", 0,
     "SELECT format('%I.%I', n.nspname, c.relname), 'is refreshed on the target, not carried', NULL"
     "  FROM " USER_TABLES " AND c.relkind = 'm'"},
};

static const struct question shard_questions[] = {
    {BAD, "no-create-right", 0,
     "SELECT current_database()::text, 'the role may not create a schema here',"
     "       format('GRANT CREATE ON DATABASE %I TO %I;', current_database(), current_user)"
     " WHERE NOT has_database_privilege(current_database(), 'CREATE')"},
    {BAD, "encoding", 0,
     "SELECT current_database()::text, 'its encoding is ' || getdatabaseencoding(),"
     "       'Create the database with ENCODING ''UTF8''.'"
     " WHERE getdatabaseencoding() NOT IN ('UTF8', 'SQL_ASCII')"},
    {SAY, "no-replica-role", 0,
     "SELECT current_user::text, 'may not set session_replication_role, before 15 only a superuser may:'\n"
     "       ' foreign keys and triggers come with the cutover, and keys are validated after it', NULL"
     "  FROM pg_roles WHERE rolname = current_user AND NOT rolsuper"
     "   AND current_setting('server_version_num')::int < 150000"},
    {ODD, "no-replica-role", 150000,
     "SELECT current_user::text, 'may not set session_replication_role: foreign keys and triggers'\n"
     "       ' come with the cutover, and keys are validated after it', format('GRANT SET ON PARAMETER session_replication_role TO %I;',"
     "       current_user)"
     " WHERE NOT has_parameter_privilege(current_user, 'session_replication_role', 'SET')"},
    {ODD, "subscription", 0, SUBSCRIPTION_SQL},
    {BAD, "standby", 0,
     "SELECT current_database()::text, 'the server is a standby', NULL WHERE pg_is_in_recovery()"},
    {SAY, "role-settings", 0,
     "SELECT COALESCE(r.rolname, 'all roles'), 'sets ' || array_to_string(s.setconfig, ', ')"
     "       || '; our sessions pin what matters', NULL"
     "  FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole"
     " WHERE s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user))"},
};

/* For the way back a shard is a source; what keeps it from being one keeps nobody from going there. */
static const struct question way_back_questions[] = {
    {ODD, "wal-level", 0,
     "SELECT 'wal_level', 'is ' || current_setting('wal_level') || ': there is no way back without'\n"
     "       ' logical', 'ALTER SYSTEM SET wal_level = logical; then restart the server'"
     " WHERE current_setting('wal_level') <> 'logical'"},
    {ODD, "no-slot-free", 0,
     "SELECT 'max_replication_slots', 'all ' || current_setting('max_replication_slots')"
     "       || ' slots are in use: the way back needs one',"
     "       'ALTER SYSTEM SET max_replication_slots = 20; then restart'"
     " WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE starts_with(slot_name, $1))"
     "   AND (SELECT count(*) FROM pg_replication_slots)"
     "       >= current_setting('max_replication_slots')::int"},
    {ODD, "no-sender-free", 0,
     "SELECT 'max_wal_senders', 'all ' || current_setting('max_wal_senders') || ' are in use: the way'\n"
     "       ' back needs one', 'ALTER SYSTEM SET max_wal_senders = 20; then restart'"
     " WHERE (SELECT count(*) FROM pg_stat_replication)"
     "       >= current_setting('max_wal_senders')::int"},
    {ODD, "no-replication-right", 0,
     "SELECT current_user::text, 'may not use replication slots: there is no way back without',"
     "       format('ALTER ROLE %I REPLICATION;', current_user)"
     " WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = current_user"
     "                     AND (rolreplication OR rolsuper))"},
};

/* Of the target's tables, as its DDL leaves them; those of extensions are nobody's business. */
#define NO_EXTENSION                                                                               \
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.objid = c.oid"                    \
    "  AND e.classid = 'pg_catalog.pg_class'::regclass AND e.deptype = 'e')"

static const struct question table_questions[] = {
    {BAD, "not-owner", 0,
     "SELECT format('%I.%I', n.nspname, c.relname), 'its indexes and keys are put aside by its owner, '"
     "       || pg_get_userbyid(c.relowner), format('GRANT %I TO %I;',"
     "       pg_get_userbyid(c.relowner), current_user)"
     "  FROM " USER_TABLES " AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'"
     "   AND NOT pg_has_role(current_user, c.relowner, 'USAGE')" NO_EXTENSION},
    {BAD, "row-security", 0,
     "SELECT format('%I.%I', n.nspname, c.relname), 'row level security would hide rows from us'," RLS_FIX
     "  FROM " USER_TABLES " AND row_security_active(c.oid)"},
    {ODD, "trigger-fires", 0,
     "SELECT format('%I.%I', n.nspname, c.relname), 'its trigger ' || quote_ident(g.tgname)"
     "       || ' is ENABLE REPLICA: it fires on carried rows, and may write what comes anyway',"
     "       format('ALTER TABLE %I.%I ENABLE TRIGGER %I;', n.nspname, c.relname, g.tgname)"
     "  FROM pg_trigger g, " USER_TABLES " AND g.tgrelid = c.oid AND g.tgenabled = 'R' AND NOT g.tgisinternal"
     "   AND g.tgname <> 'portage_gate'"},
};

/* What we may not ask is told, and no reason to stop. */
static bool not_looked_at(struct migration *migration, const char *side,
                          const struct question *question, struct error *err)
{
    if (strcmp(err->sqlstate, "42501") != 0)
        return false;
    findings_add(&migration->findings, ODD, "not-looked-at", NULL,
                 arena_printf(&migration->arena, "%s, %s", side, question->code), NULL,
                 "the role may not look for it: %s", err->message);
    error_clear(err);
    return true;
}

static bool ask(struct migration *migration, PGconn *conn, const char *side,
                const struct question *question, struct error *err)
{
    const char *slot = migration->config->slot;
    bool has_parameter = strstr(question->sql, "$1") != NULL;
    if (PQserverVersion(conn) < question->since)
        return true;
    PGresult *result = conn_query(conn, question->sql, has_parameter, &slot, err);
    if (result == NULL)
        return not_looked_at(migration, side, question, err) ||
               error_context(err, "looking for \"%s\" on the %s", question->code, side);
    for (int row = 0; row < PQntuples(result); row++)
        findings_add(&migration->findings, question->severity, question->code, NULL,
                     arena_printf(&migration->arena, "%s, %s", side, result_text(result, row, 0)),
                     PQgetisnull(result, row, 2) ? NULL : result_text(result, row, 2), "%s",
                     result_text(result, row, 1));
    PQclear(result);
    return true;
}

static bool check_closed(struct migration *migration, PGconn *conn, const char *side,
                         struct error *err)
{
    struct closed closed;
    if (!closed_read(conn, &closed, err))
        return error_context(err, "looking for \"closed\" on the %s", side);
    if (closed.closed)
        findings_add(&migration->findings, BAD, "closed", NULL,
                     arena_printf(&migration->arena, "%s, %s", side, PQdb(conn)), CLOSED_WAY_OUT,
                     "is closed to writes: \"pgportage finish\" of an earlier migration, whose target"
                     " had taken over, left it so at %s (%u tables)", closed.since, closed.tables);
    return true;
}

static bool ask_all(struct migration *migration, PGconn *conn, const char *side,
                    const struct question *questions, size_t count, struct error *err)
{
    for (size_t q = 0; q < count; q++) {
        if (!ask(migration, conn, side, &questions[q], err))
            return false;
    }
    return true;
}

#define ASK_ALL(migration, conn, side, questions, err)                                             \
    ask_all(migration, conn, side, questions, sizeof(questions) / sizeof(questions)[0], err)

/* Object, type, and how to ask for the part of the type's values that its keys have used. */
static const char integer_keys_sql[] =
    "SELECT format('%I.%I.%I', n.nspname, c.relname, a.attname), format_type(a.atttypid, NULL),"
    "       format('SELECT GREATEST(max(%I), -min(%I)::numeric) * 100 / %s FROM %I.%I', a.attname,"
    "              a.attname, CASE a.atttypid WHEN 'int2'::regtype THEN '32767'"
    "              WHEN 'int4'::regtype THEN '2147483647' ELSE '9223372036854775807' END,"
    "              n.nspname, c.relname),"
    "       format('ALTER TABLE %I.%I ALTER %I TYPE bigint;', n.nspname, c.relname, a.attname)"
    "  FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0],"
    "       " USER_TABLES " AND c.oid = i.indrelid AND i.indisprimary AND NOT c.relispartition"
    "   AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)"
    "   AND has_table_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid) ORDER BY 1";

/* Their indexes begin with them: the largest is found at once. */
static bool check_integer_key(struct migration *migration, const PGresult *keys, int row,
                              struct error *err)
{
    PGresult *result = conn_query_row(migration->source, result_text(keys, row, 2), 0, NULL, err);
    if (result == NULL)
        return false;
    int64_t percent = result_int(result, 0, 0);
    bool is_bigint = strcmp(result_text(keys, row, 1), "bigint") == 0;
    if (percent > KEY_PERCENT)
        findings_add(&migration->findings, ODD, "integer-key-end", NULL,
                     arena_printf(&migration->arena, "source, %s", result_text(keys, row, 0)),
                     is_bigint ? NULL : result_text(keys, row, 3),
                     "has used %lld %% of what %s holds; the target's column may be a bigint at once",
                     (long long)percent, result_text(keys, row, 1));
    PQclear(result);
    return true;
}

static bool check_integer_keys(struct migration *migration, struct error *err)
{
    PGresult *keys = conn_query(migration->source, integer_keys_sql, 0, NULL, err);
    bool ok = keys != NULL;
    for (int row = 0; ok && row < PQntuples(keys); row++)
        ok = check_integer_key(migration, keys, row, err) ||
             error_context(err, "looking at the keys of %s", result_text(keys, row, 0));
    PQclear(keys);
    return ok;
}

/* Without it we see sessions and standbys, but not what they do. */
static bool check_throttle(struct migration *migration, struct error *err)
{
    const struct config *config = migration->config;
    static const char sql[] =
        "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),"
        "       current_user, format('GRANT pg_read_all_stats TO %I;', current_user)";
    if (config->replica_lag_max_s == 0 && config->source_active_max == 0)
        return true;
    PGresult *result = conn_query_row(migration->source, sql, 0, NULL, err);
    if (result == NULL)
        return false;
    if (!result_bool(result, 0, 0))
        findings_add(&migration->findings, BAD, "throttle-blind", NULL,
                     arena_printf(&migration->arena, "source, %s", result_text(result, 0, 1)),
                     result_text(result, 0, 2),
                     "cannot see how far standbys are and which sessions are active, as \"throttle\""
                     " asks for");
    PQclear(result);
    return true;
}

static void check_version(struct migration *migration, PGconn *conn, const char *side, int least)
{
    int version = PQserverVersion(conn) / 10000;
    if (version < least || version > 18)
        findings_add(&migration->findings, version < least ? BAD : ODD, "version", NULL, side, NULL,
                     "PostgreSQL %d is %s: %d to 18 are tested", version,
                     version < least ? "not supported" : "newer than what we know", least);
}

/* Two shards in one database would be the same shard twice. */
static bool check_same_database(struct migration *migration, struct error *err)
{
    static const char sql[] = "SELECT system_identifier || '/' || (SELECT oid FROM pg_database"
                              " WHERE datname = current_database()) FROM pg_control_system()";
    char **seen = arena_zalloc(&migration->arena, (migration->shards_count + 1) * sizeof *seen);
    for (unsigned d = 0; d <= migration->shards_count; d++) {
        PGconn *conn = d == 0 ? migration->source : migration->shards[d - 1];
        PGresult *result = conn_query_row(conn, sql, 0, NULL, err);
        if (result == NULL)
            return false;
        seen[d] = arena_strdup(&migration->arena, result_text(result, 0, 0));
        PQclear(result);
        for (unsigned other = 0; other < d; other++) {
            if (strcmp(seen[other], seen[d]) == 0)
                findings_add(&migration->findings, BAD, "same-database",
                             &migration->config->shards[d - 1], PQdb(conn),
                             "Give each shard a database of its own.",
                             "shard %u is the same database as %s", d - 1,
                             other == 0 ? "the source" : "another shard");
        }
    }
    return true;
}

bool preflight(struct migration *migration, struct error *err)
{
    char side[32];
    check_version(migration, migration->source, "source", 12);
    if (!check_closed(migration, migration->source, "source", err) ||
        !ASK_ALL(migration, migration->source, "source", source_questions, err) ||
        !check_integer_keys(migration, err))
        return false;
    for (unsigned s = 0; s < migration->shards_count; s++) {
        snprintf(side, sizeof side, "shard %u", s);
        check_version(migration, migration->shards[s], side, 12);
        if (!check_closed(migration, migration->shards[s], side, err) ||
            !ASK_ALL(migration, migration->shards[s], side, shard_questions, err) ||
            !ASK_ALL(migration, migration->shards[s], side, way_back_questions, err))
            return false;
    }
    return check_throttle(migration, err) && check_same_database(migration, err);
}

bool preflight_tables(struct migration *migration, struct error *err)
{
    char side[32];
    for (unsigned s = 0; s < migration->shards_count; s++) {
        snprintf(side, sizeof side, "shard %u", s);
        if (!ASK_ALL(migration, migration->shards[s], side, table_questions, err))
            return false;
    }
    return true;
}
