"""What `plan` finds on the servers: each finding with its object, its reason, and the SQL that mends it."""
import json

import psycopg
import pytest

from conftest import SOURCE_VERSION, TARGET_VERSION
from harness.polling import wait_until

DDL = "CREATE TABLE public.t (id int PRIMARY KEY, n int);"
MAPPING = "tables:\n  \"public.*\": identical\n"


def plan(carried):
    done = carried.portage.command("--json", "plan", check=False)
    assert done.returncode in (0, 1), f"{done.stdout}{done.stderr}"
    findings = json.loads(done.stdout)["findings"]
    assert done.returncode == any(finding["severity"] == "refuse" for finding in findings)
    assert all(finding["object"] and finding["reason"] for finding in findings)
    return findings


def found(carried, code, side):
    return [finding for finding in plan(carried)
            if finding["code"] == code and finding["object"].startswith(side)]


class Encoded:
    """A server whose databases have another encoding."""

    def __init__(self, server, encoding):
        self.server, self.encoding = server, encoding

    def __getattr__(self, name):
        return getattr(self.server, name)

    def create_database(self, name):
        self.server.sql(f'CREATE DATABASE "{name}" ENCODING {self.encoding} TEMPLATE template0')
        return name


@pytest.fixture
def own_servers(servers):
    """Roles are the server's: what is taken from ours, other tests must not miss."""
    return servers(SOURCE_VERSION, "preflight_source"), servers(TARGET_VERSION, "preflight_target")


# What an administrator does on the source; the finding; its severity, its object, and what mends it.
SOURCE = [
    ("REVOKE CREATE ON DATABASE {database} FROM portage", "no-create-right", "refuse", "{database}",
     'GRANT CREATE ON DATABASE {database} TO portage;'),
    ("REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC, portage", "no-temporary-right", "warning",
     "{database}", "GRANT TEMPORARY ON DATABASE {database} TO portage;"),
    ("ALTER ROLE portage NOREPLICATION", "no-replication-right", "refuse", "portage",
     "ALTER ROLE portage REPLICATION;"),
    ("REVOKE pg_read_all_stats FROM portage", "no-stats-right", "warning", "portage",
     "GRANT pg_read_all_stats TO portage;"),
    ("CREATE ROLE stranger; ALTER TABLE public.t OWNER TO stranger", "not-owner", "refuse", "public.t",
     "GRANT stranger TO portage;"),
    ("ALTER TABLE public.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", "row-security", "refuse",
     "public.t", "ALTER TABLE public.t NO FORCE ROW LEVEL SECURITY;"),
    ("BEGIN; DELETE FROM public.t; PREPARE TRANSACTION '{database}'", "prepared-transaction", "warning",
     "{database}", "ROLLBACK PREPARED '{database}';"),
    ("CREATE SEQUENCE public.up MAXVALUE 100; SELECT setval('public.up', 90);"
     "GRANT SELECT ON SEQUENCE public.up TO portage", "sequence-end", "warning", "public.up",
     "ALTER SEQUENCE public.up AS bigint NO MAXVALUE;"),
    ("CREATE SEQUENCE public.down INCREMENT -1 MINVALUE -100; SELECT setval('public.down', -90);"
     "GRANT SELECT ON SEQUENCE public.down TO portage", "sequence-end", "warning", "public.down",
     "ALTER SEQUENCE public.down AS bigint NO MINVALUE;"),
    ("INSERT INTO public.t VALUES (2000000000)", "integer-key-end", "warning", "public.t.id",
     "ALTER TABLE public.t ALTER id TYPE bigint;"),
    ("INSERT INTO public.t VALUES (-2000000000)", "integer-key-end", "warning", "public.t.id",
     "ALTER TABLE public.t ALTER id TYPE bigint;"),
    ("SELECT lo_create(0)", "large-objects", "note", "large objects", None),
    ("CREATE MATERIALIZED VIEW public.m AS SELECT 1 AS one", "materialized-view", "note", "public.m", None),
    ("ALTER ROLE portage IN DATABASE {database} SET statement_timeout = '5s'", "role-settings", "note",
     "portage", None),
]


@pytest.mark.parametrize("setup, code, severity, name, fix", SOURCE,
                         ids=[f"{row[1]}-{number}" for number, row in enumerate(SOURCE)])
def test_what_is_wrong_at_the_source(migration, own_servers, setup, code, severity, name, fix):
    source, target = own_servers
    carried = migration(DDL, DDL, MAPPING, shards=1, source=source, targets=[target])
    words = {"database": carried.name}
    assert found(carried, code, "source") == []
    try:
        carried.source_sql(setup.format(**words))
        finding, = found(carried, code, "source")
        assert finding["severity"] == severity
        assert finding["object"] == f"source, {name.format(**words)}"
        assert finding["fix"] == (fix and fix.format(**words))
        if fix:
            carried.source_sql(finding["fix"])
            assert found(carried, code, "source") == []
    finally:
        source.sql("ALTER ROLE portage REPLICATION; GRANT pg_read_all_stats TO portage")
    assert carried.leftovers() == []


# The same of the first shard: what is in the way there, in target.sql or before.
SHARD = [
    ("REVOKE CREATE ON DATABASE {shard} FROM portage", "", "no-create-right", "refuse", "{shard}",
     "GRANT CREATE ON DATABASE {shard} TO portage;"),
    ("ALTER ROLE portage NOREPLICATION", "", "no-replication-right", "warning", "portage",
     "ALTER ROLE portage REPLICATION;"),
    ("CREATE ROLE stranger; CREATE TABLE public.theirs (id int); ALTER TABLE public.theirs OWNER TO stranger",
     "", "not-owner", "refuse", "public.theirs", "GRANT stranger TO portage;"),
    ("SELECT 1", "ALTER TABLE public.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;",
     "row-security", "refuse", "public.t", "ALTER TABLE public.t NO FORCE ROW LEVEL SECURITY;"),
    ("SELECT 1", """CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER touch BEFORE UPDATE ON public.t FOR EACH ROW EXECUTE FUNCTION public.touch();
        ALTER TABLE public.t ENABLE REPLICA TRIGGER touch;""",
     "trigger-fires", "warning", "public.t", "ALTER TABLE public.t ENABLE TRIGGER touch;"),
]


@pytest.mark.parametrize("setup, ddl, code, severity, name, fix", SHARD, ids=[row[2] for row in SHARD])
def test_what_is_wrong_on_a_shard(migration, own_servers, setup, ddl, code, severity, name, fix):
    source, target = own_servers
    carried = migration(DDL, DDL + ddl, MAPPING, shards=1, source=source, targets=[target])
    words = {"shard": carried.shard_names[0]}
    try:
        carried.shard_sql(0, setup.format(**words))
        finding, = found(carried, code, "shard 0")
        assert finding["severity"] == severity
        assert finding["object"] == f"shard 0, {name.format(**words)}"
        assert finding["fix"] == fix.format(**words)
        if ddl:
            with open(carried.folder / "target.sql", "a", encoding="utf-8") as schema:
                schema.write(finding["fix"])
        else:
            carried.shard_sql(0, finding["fix"])
        assert found(carried, code, "shard 0") == []
    finally:
        target.sql("ALTER ROLE portage REPLICATION")
    assert carried.leftovers() == []


def test_the_right_to_bypass_keys(migration, own_servers):
    source, target = own_servers
    carried = migration(DDL, DDL, MAPPING, shards=1, source=source, targets=[target])
    assert found(carried, "no-replica-role", "shard 0") == []
    carried.shard_sql(0, "REVOKE SET ON PARAMETER session_replication_role FROM portage")
    finding, = found(carried, "no-replica-role", "shard 0")
    assert finding["severity"] == "warning"
    carried.shard_sql(0, finding["fix"])
    assert found(carried, "no-replica-role", "shard 0") == []


def test_encodings(migration, own_servers):
    source, target = own_servers
    carried = migration(DDL, DDL, MAPPING, shards=1, source=Encoded(source, "SQL_ASCII"),
                        targets=[Encoded(target, "LATIN1")])
    findings = {(finding["code"], finding["severity"], finding["object"]): finding["reason"]
                for finding in plan(carried)}
    assert "SQL_ASCII" in findings["sql-ascii", "warning", f"source, {carried.name}"]
    assert "LATIN1" in findings["encoding", "refuse", f"shard 0, {carried.shard_names[0]}"]


SETTINGS = {"wal_level": "replica", "max_replication_slots": "1", "max_wal_senders": "1",
            "max_slot_wal_keep_size": "'1GB'"}
EXPECTED = {"wal-level": "wal_level = logical", "no-slot-free": "max_replication_slots = 20",
            "no-sender-free": "max_wal_senders = 20"}


def test_settings_of_the_servers(migration, servers):
    """What refuses at the source stands on a shard in the way of the way back only."""
    server = servers(TARGET_VERSION, "settings", settings=SETTINGS)
    carried = migration(DDL, DDL, MAPPING, shards=1, source=server, targets=[server])
    server.sql("SELECT pg_create_physical_replication_slot('taken')")
    with psycopg.connect(server.dsn(replication="database"), autocommit=True):
        findings = {(finding["object"].split(",")[0], finding["code"]): finding for finding in plan(carried)}
    for code, fix in EXPECTED.items():
        assert findings["source", code]["severity"] == "refuse"
        assert findings["shard 0", code]["severity"] == "warning"
        assert fix in findings["source", code]["fix"] and fix in findings["shard 0", code]["fix"]
    assert findings["source", "wal-limit"]["severity"] == "warning"
    assert "1GB" in findings["source", "wal-limit"]["reason"]
    server.sql("SELECT pg_drop_replication_slot('taken')")
    findings = {finding["code"] for finding in plan(carried)}
    assert not findings & {"no-slot-free", "no-sender-free"}


def test_a_slot_that_would_time_out(migration, servers):
    server = servers(18, "timeout", settings={"idle_replication_slot_timeout": "'1d'"})
    carried = migration(DDL, DDL, MAPPING, shards=1, source=server, targets=[server])
    finding, = found(carried, "slot-timeout", "source")
    assert finding["severity"] == "warning"
    for statement in finding["fix"].split(";")[:2]:
        server.sql(statement)
    wait_until(lambda: server.value("SHOW idle_replication_slot_timeout") == "0", 10, "the setting")
    assert found(carried, "slot-timeout", "source") == []


def test_how_much_room_it_takes(migration):
    carried = migration(DDL + "INSERT INTO public.t SELECT g FROM generate_series(1, 1000) g;", DDL, MAPPING,
                        shards=1)
    finding, = found(carried, "disk", "source")
    assert finding["severity"] == "note" and " kB, their indexes " in finding["reason"]


@pytest.mark.full
def test_a_long_transaction(migration, own_servers):
    source, target = own_servers
    carried = migration(DDL, DDL, MAPPING, shards=1, source=source, targets=[target])
    conn = psycopg.connect(source.dsn(carried.name))
    try:
        conn.execute("INSERT INTO public.t VALUES (1)")
        pid = conn.info.backend_pid
        wait_until(lambda: found(carried, "long-transaction", "source"), 90, "the transaction to be old")
        finding, = found(carried, "long-transaction", "source")
        assert (finding["object"], finding["severity"]) == (f"source, pid {pid}", "warning")
        source.sql(finding["fix"])
        assert found(carried, "long-transaction", "source") == []
    finally:
        conn.close()


@pytest.mark.full
def test_D13_values_too_large_for_texts(migration, own_servers):
    source, target = own_servers
    ddl = "CREATE TABLE public.large (id int PRIMARY KEY, body bytea);"
    carried = migration(ddl + "ALTER TABLE public.large ALTER body SET STORAGE EXTERNAL;", ddl, MAPPING,
                        shards=1, source=source, targets=[target])
    carried.source_sql("INSERT INTO public.large SELECT g, decode(repeat('ab', 1048576), 'hex')"
                       "  FROM generate_series(1, 400) g")
    assert found(carried, "large-values", "source") == []
    carried.source_sql("INSERT INTO public.large SELECT g, decode(repeat('ab', 1048576), 'hex')"
                       "  FROM generate_series(401, 560) g")
    finding, = found(carried, "large-values", "source")
    assert (finding["object"], finding["severity"]) == ("source, public.large", "warning")


def test_the_state_of_a_trigger_is_carried(migration):
    """pg_get_triggerdef() does not tell it. What fires always waits for the cutover."""
    carried = migration(DDL, DDL + """
        CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER usual BEFORE UPDATE ON public.t FOR EACH ROW EXECUTE FUNCTION public.touch();
        CREATE TRIGGER "Off" BEFORE UPDATE ON public.t FOR EACH ROW EXECUTE FUNCTION public.touch();
        ALTER TABLE public.t DISABLE TRIGGER "Off";
        CREATE TRIGGER always BEFORE UPDATE ON public.t FOR EACH ROW EXECUTE FUNCTION public.touch();
        ALTER TABLE public.t ENABLE ALWAYS TRIGGER always;
        CREATE TRIGGER replica BEFORE UPDATE ON public.t FOR EACH ROW EXECUTE FUNCTION public.touch();
        ALTER TABLE public.t ENABLE REPLICA TRIGGER replica;""", MAPPING, shards=1)
    carried.run_until_ready()
    assert carried.shard_sql(0, "SELECT tgname, tgenabled FROM pg_trigger"
                                " WHERE tgrelid = 'public.t'::regclass AND tgname <> 'portage_gate'"
                                "   AND NOT tgisinternal ORDER BY 1") == [
        ("Off", "D"), ("always", "D"), ("replica", "R"), ("usual", "O")]
    assert carried.shard_sql(0, "SELECT name, state, always FROM portage.deferred WHERE kind = 'trigger'"
                                " ORDER BY 1") == [("always", "waiting", True), ("usual", "done", False)]
    carried.finish_load_and_compare()
