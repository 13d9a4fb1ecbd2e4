#include "state/schema.h"

#include "pg/conn.h"

/* The role, the command, and what started it, where, as which process (pg/conn.c); then its session at the
 * server. */
#define WHO                                                                                        \
    "pg_catalog.format('%s: %s%s; server process %s%s', session_user,"                             \
    " pg_catalog.current_setting('application_name'),"                                             \
    " COALESCE(' of ' || NULLIF(pg_catalog.current_setting('portage.who', true), ''), ''),"        \
    " pg_catalog.pg_backend_pid(), ' from ' || pg_catalog.host(pg_catalog.inet_client_addr()))"

/* Two instances that start at the same moment do not make it both. */
static const char lock_sql[] =
    "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('portage.schema'))";

/* In one transaction: it is there whole or not at all. */
static const char schema_sql[] =
    "CREATE SCHEMA portage;"
    "COMMENT ON SCHEMA portage IS 'The state of a migration by pgportage. " SCHEMA_MARK "';"
    "CREATE TABLE portage.instance ("
    "  only_row bool PRIMARY KEY DEFAULT true CHECK (only_row),"
    "  epoch bigint NOT NULL);"
    "INSERT INTO portage.instance (epoch) VALUES (0);"
    "CREATE TABLE portage.lane ("
    "  stream int," /* which server's changes: 0, or on the way back the shard that they come from */
    "  lane int,"
    "  progress pg_lsn NOT NULL," /* all that committed at the source before it is durable here */
    "  source_time timestamptz,"  /* the publisher's clock when its log was there */
    "  written_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),"
    "  partial_lsn pg_lsn,"             /* a transaction that was cut by a barrier, */
    "  partial int NOT NULL DEFAULT 0," /* and how many of its changes are done */
    "  changes bigint NOT NULL DEFAULT 0,"
    "  marker bigint NOT NULL DEFAULT 0," /* the last portage.marker of that server seen by it */
    "  epoch bigint NOT NULL,"
    "  PRIMARY KEY (stream, lane)) WITH (fillfactor = 20);"
    "CREATE TABLE portage.ghost ("
    "  mapping text NOT NULL, stream int NOT NULL, lane int NOT NULL,"
    "  key text NOT NULL);" /* of the source, written as an array of texts */
    /* No primary key: keys may be longer than a btree takes. */
    "CREATE INDEX ghost_key ON portage.ghost USING hash (key);"
    "CREATE TABLE portage.dirty ("
    "  id bigint GENERATED ALWAYS AS IDENTITY," /* of the marks of a key the last one holds */
    "  mapping text NOT NULL,"
    "  key text NOT NULL," /* of the shard, written as an array of texts */
    "  owner int NOT NULL);" /* the stream that brought what stands there now */
    "CREATE INDEX dirty_key ON portage.dirty USING hash (key);"
    "CREATE TABLE portage.range ("
    "  mapping text, range int,"
    "  leaf oid," /* only this partition of the source; NULL: all in portage.leaf that are not late */
    "  lower text[], upper text[]," /* (lower, upper] of the key; NULL is the open end */
    "  cursor text[],"              /* keys up to it are done; NULL: none yet */
    "  done bool NOT NULL DEFAULT false,"
    "  rows bigint NOT NULL DEFAULT 0, bytes bigint NOT NULL DEFAULT 0,"
    "  epoch bigint NOT NULL,"
    "  PRIMARY KEY (mapping, range)) WITH (fillfactor = 50);"
    "CREATE TABLE portage.leaf ("
    "  leaf oid PRIMARY KEY, name text NOT NULL,"
    "  late bool NOT NULL,"       /* it came after the copy began */
    "  published bool NOT NULL);" /* no change of it is missing from the stream */
    "CREATE TABLE portage.file ("
    "  direction text," /* whose: of the source '', of a shard _back_N */
    "  leaf oid,"
    "  file oid NOT NULL," /* where rows were at the last look for DDL */
    "  columns text NOT NULL," /* by LEAF_COLUMNS_SQL, as `run` was bound to them last */
    "  PRIMARY KEY (direction, leaf));"
    "CREATE TABLE portage.chunk ("
    "  mapping text, range int, ordinal bigint GENERATED ALWAYS AS IDENTITY,"
    "  lower text[], upper text[],"
    "  snapshot text NOT NULL," /* txid_current_snapshot() at the source */
    "  lsn pg_lsn NOT NULL,"    /* L: the chunk is needed until progress has passed it */
    "  PRIMARY KEY (mapping, range, ordinal));"
    "CREATE TABLE portage.deferred ("
    "  ordinal int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    "  kind text NOT NULL CHECK (kind IN ('index', 'unique', 'exclusion', 'foreign key', 'trigger')),"
    "  table_schema text NOT NULL, table_name text NOT NULL, name text NOT NULL,"
    "  definition text NOT NULL,"
    "  state text NOT NULL DEFAULT 'waiting'"
    "    CHECK (state IN ('waiting', 'building', 'back', 'invalid', 'done')),"
    "  started_at timestamptz, finished_at timestamptz,"
    "  always bool NOT NULL DEFAULT false," /* a trigger that fires on what we apply, whatever our role */
    "  epoch bigint," /* of the switch that brought it back */
    "  UNIQUE (table_schema, table_name, kind, name));"
    "CREATE TABLE portage.created (" /* what our own DDL has made here */
    "  class oid, object oid, PRIMARY KEY (class, object));"
    "CREATE TABLE portage.sequence (" /* as it was before we changed it */
    "  sequence oid PRIMARY KEY, increment bigint NOT NULL, start bigint NOT NULL,"
    "  min bigint NOT NULL, max bigint NOT NULL,"
    "  origin bigint);" /* where the first shard's block begins; NULL: interleaved */
    "CREATE TABLE portage.setting (name text PRIMARY KEY, value text NOT NULL);"
    "CREATE TABLE portage.journal ("
    "  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    "  at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),"
    "  epoch bigint NOT NULL, step text NOT NULL, detail jsonb,"
    /* of a switch, whose epoch is that of portage.gate: which, begun or done, how long it took */
    "  switch text, state text, ms numeric,"
    "  who text DEFAULT " WHO ");"
    "CREATE TABLE portage.difference (" /* of the last pass of verify */
    "  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    "  at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),"
    "  table_name text NOT NULL, kind text NOT NULL, key jsonb NOT NULL, shards jsonb NOT NULL,"
    "  columns jsonb NOT NULL);"
    "CREATE TABLE portage.verification (" /* a pass of verify without an outcome yet */
    "  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    "  request text NOT NULL UNIQUE," /* what was asked for: a hash */
    "  turn bigint NOT NULL DEFAULT 1," /* of the runs that went on with it, the last one may write */
    "  begun_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),"
    "  written_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),"
    "  not_kept bigint NOT NULL DEFAULT 0);" /* suspects beyond the limits */
    "CREATE TABLE portage.verified ("
    "  verification bigint, mapping text, complete bool NOT NULL,"
    "  cursor text[]," /* the keys up to it have been compared */
    "  source_rows bigint NOT NULL, target_rows bigint NOT NULL, bytes bigint NOT NULL,"
    "  PRIMARY KEY (verification, mapping)) WITH (fillfactor = 50);"
    "CREATE TABLE portage.suspect ("
    "  verification bigint, id bigint GENERATED ALWAYS AS IDENTITY,"
    "  mapping text NOT NULL, key bytea NOT NULL,"
    "  PRIMARY KEY (verification, id));"
    "CREATE TABLE portage.marker ("
    "  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    "  at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(), purpose text NOT NULL);"
    "CREATE TABLE portage.gate ("
    "  only_row bool PRIMARY KEY DEFAULT true CHECK (only_row),"
    "  epoch bigint NOT NULL DEFAULT 0," /* of the switch that may change it */
    "  fences bigint NOT NULL DEFAULT 0," /* how many there have been: gives each its id */
    "  fence bigint,"                     /* the one that stands; NULL: open */
    "  deadline timestamptz,"             /* when it lifts itself; NULL when it is sealed */
    "  sealed_by bigint);"                /* the epoch that sealed it */
    "INSERT INTO portage.gate DEFAULT VALUES;"
    /* Everybody whom the gate rejects counts there; by name it is within reach of nobody else. */
    "CREATE SEQUENCE portage.gate_rejected;"
    "GRANT USAGE ON SEQUENCE portage.gate_rejected TO PUBLIC;"
    "CREATE VIEW portage.status AS"
    "  SELECT r.mapping, pg_catalog.count(*) AS ranges,"
    "         pg_catalog.count(*) FILTER (WHERE r.done) AS ranges_done,"
    "         pg_catalog.sum(r.rows)::bigint AS rows, pg_catalog.sum(r.bytes)::bigint AS bytes,"
    "         CASE WHEN NOT pg_catalog.bool_and(r.done) THEN 'copying'"
    "              WHEN EXISTS (SELECT FROM portage.chunk c WHERE c.mapping = r.mapping)"
    "              THEN 'catching up'"
    "              WHEN EXISTS (SELECT FROM portage.deferred d"
    "                     WHERE d.table_schema || '.' || d.table_name"
    "                           = pg_catalog.split_part(r.mapping, '<-', 1)"
    "                       AND (d.state = 'building' OR (d.state = 'waiting'"
    "                            AND d.kind IN ('index', 'unique', 'exclusion'))))"
    "              THEN 'indexing' ELSE 'ready' END AS phase,"
    "         slowest.progress,"
    /* Never too small; too large while the source writes nothing at all. */
    "         EXTRACT(epoch FROM pg_catalog.clock_timestamp() - slowest.source_time)"
    "           ::numeric(12,1) AS lag_seconds"
    "    FROM portage.range r LEFT JOIN (SELECT progress, source_time FROM portage.lane"
    "                                     ORDER BY progress LIMIT 1) AS slowest ON true"
    "   GROUP BY r.mapping, slowest.progress, slowest.source_time";

/* Nothing is written where it is there: a source may be waiting for us to confirm (S5). */
bool schema_install(PGconn *conn, struct error *err)
{
    bool exists = true;
    struct error ignored = ERROR_INIT;
    if (conn_exec(conn, lock_sql, err) && schema_exists(conn, &exists, err) &&
        (exists || conn_exec(conn, schema_sql, err)) && conn_exec(conn, "COMMIT", err))
        return true;
    if (!conn_exec(conn, "ROLLBACK", &ignored)) {
        /* the first error tells more */
    }
    error_context(err, "creating the schema portage in database \"%s\"", PQdb(conn));
    if (strcmp(err->sqlstate, "42501") == 0 && !exists)
        error_hint(err, "GRANT CREATE ON DATABASE \"%s\" TO \"%s\";", PQdb(conn), PQuser(conn));
    return false;
}

static const char version_sql[] =
    "SELECT n IS NOT NULL,"
    "       pg_catalog.substring(pg_catalog.obj_description(n, 'pg_namespace'), '" SCHEMA_MARK_PATTERN "')"
    "  FROM pg_catalog.to_regnamespace('portage') AS n";

/* Empty: a schema from before there were versions, or that somebody else has made. */
static bool refuse_version(PGconn *conn, const char *version, struct error *err)
{
    error_set(err, ERROR_CONFIG,
              "the schema portage in database \"%s\" is of %s%s, and this pgportage works with version "
              SCHEMA_VERSION, PQdb(conn), version[0] == '\0' ? "no version" : "version ", version);
    return error_hint(err, "Go on with the pgportage that began this migration; or end it with that one"
                           " (\"pgportage abort\"), and begin again with this one.");
}

bool schema_exists(PGconn *conn, bool *exists, struct error *err)
{
    PGresult *result = conn_query_row(conn, version_sql, 0, NULL, err);
    if (result == NULL)
        return false;
    const char *version = result_text(result, 0, 1);
    *exists = result_bool(result, 0, 0);
    bool ok = !*exists || strcmp(version, SCHEMA_VERSION) == 0 || refuse_version(conn, version, err);
    PQclear(result);
    return ok;
}

bool schema_check(PGconn *conn, struct error *err)
{
    bool exists;
    return schema_exists(conn, &exists, err);
}

bool schema_remove(PGconn *conn, struct error *err)
{
    return conn_exec(conn, "DROP SCHEMA IF EXISTS portage CASCADE", err);
}
