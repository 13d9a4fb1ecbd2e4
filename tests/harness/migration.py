"""A migration of a small schema: databases, role, portage.yaml, pgportage, and the proof."""
import pathlib
import textwrap

import psycopg

from .compare import compare
from .polling import wait_until
from .portage import Portage

READY_TIMEOUT = 120
CATCHUP_TIMEOUT = 60
ROLE = "portage"

# What `plan` prints as needed, and nothing more. No superuser anywhere.
ROLE_SQL = f"""
DO $$
BEGIN
    IF to_regrole('{ROLE}') IS NULL THEN
        CREATE ROLE {ROLE} LOGIN REPLICATION;
        GRANT pg_read_all_stats TO {ROLE};
    END IF;
    IF to_regrole('app_owner') IS NULL THEN
        CREATE ROLE app_owner NOLOGIN;
    END IF;
END $$;
"""
# The application's owner owns the tables; who may publish them is a member of it.
SOURCE_GRANTS_SQL = f"""
DO $$
DECLARE
    object record;
BEGIN
    EXECUTE format('GRANT CREATE ON DATABASE %I TO {ROLE}', current_database());
    FOR object IN
        SELECT 'SCHEMA ' || quote_ident(nspname) AS name FROM pg_namespace
         WHERE nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('information_schema', 'public')
        UNION ALL
        SELECT 'TABLE ' || c.oid::regclass FROM pg_class c
         WHERE c.relkind IN ('r', 'p') AND c.relnamespace::regnamespace::text
               NOT IN ('pg_catalog', 'information_schema') AND c.relnamespace::regnamespace::text
               NOT LIKE 'pg\\_%'
    LOOP
        EXECUTE 'ALTER ' || object.name || ' OWNER TO app_owner';
    END LOOP;
    FOR object IN
        SELECT quote_ident(nspname) AS name FROM pg_namespace
         WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
    LOOP
        EXECUTE 'GRANT USAGE ON SCHEMA ' || object.name || ' TO {ROLE}, app_owner';
        EXECUTE 'GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA '
                || object.name || ' TO {ROLE}';
        EXECUTE 'GRANT SELECT, UPDATE, USAGE ON ALL SEQUENCES IN SCHEMA '
                || object.name || ' TO {ROLE}';
    END LOOP;
    GRANT app_owner TO {ROLE};
END $$;
"""
# Whoever owns a table makes its partitions; since version 15 nobody may by default.
AS_OWNER = "GRANT CREATE ON SCHEMA public TO app_owner; SET ROLE app_owner;"
TARGET_GRANTS_SQL = f"""
DO $$
BEGIN
    EXECUTE format('GRANT CREATE ON DATABASE %I TO {ROLE}', current_database());
    GRANT USAGE, CREATE ON SCHEMA public TO {ROLE};
    IF current_setting('server_version_num')::int >= 150000 THEN
        EXECUTE 'GRANT SET ON PARAMETER session_replication_role TO {ROLE}';
    END IF;
END $$;
"""
PLACE_SQL = """
CREATE TEMP TABLE place (k {kind}) PARTITION BY HASH (k);
SELECT n FROM generate_series(1, {upto}) AS n
 WHERE satisfies_hash_partition('place'::regclass, {shards}, {shard}, n::{kind});
"""
LANES_SQL = "SELECT lane, progress FROM portage.lane ORDER BY lane"


class Migration:
    """Databases of its own on servers that others use too.

    mapping_yaml is the text of `tables:` and of top-level keys besides source and target."""

    def __init__(self, folder, source_server, target_servers, source_sql, target_sql, mapping_yaml,
                 shards=2, name="app"):
        self.folder = pathlib.Path(folder) / name
        self.folder.mkdir()
        self.name = name
        self.source_server = source_server
        # One server may hold several shards.
        self.shard_servers = [target_servers[i % len(target_servers)] for i in range(shards)]
        self.shard_names = [f"{name}_{i}" for i in range(shards)]
        self.create_databases(source_sql)
        self.config = self.write_config(target_sql, mapping_yaml)
        self.instances = []
        self.portage = self.instance("portage")

    def create_databases(self, source_sql):
        self.source_server.create_database(self.name)
        self.source_sql(ROLE_SQL)
        self.source_sql(source_sql)
        self.source_sql(SOURCE_GRANTS_SQL)
        for shard, server in enumerate(self.shard_servers):
            server.create_database(self.shard_names[shard])
            self.shard_sql(shard, ROLE_SQL)
            self.shard_sql(shard, TARGET_GRANTS_SQL)

    def write_config(self, target_sql, mapping_yaml):
        schema = self.folder / "target.sql"
        schema.write_text(textwrap.dedent(target_sql), encoding="utf-8")
        shards = "".join(f'    - "{uri}"\n' for uri in self.shard_uris(ROLE))
        config = self.folder / "portage.yaml"
        config.write_text(
            f'source: "{self.source_server.uri(self.name, ROLE)}"\n'
            f"target:\n  shards:\n{shards}  schema: {schema.name}\n"
            # Slots are the server's, not the database's: tests share servers.
            f"slot: pgportage_{self.name}\n"
            f"{textwrap.dedent(mapping_yaml)}", encoding="utf-8")
        return config

    def shard_uris(self, user="postgres"):
        return [server.uri(name, user) for server, name in zip(self.shard_servers, self.shard_names)]

    def instance(self, name, env=None):
        """Another pgportage with the same configuration."""
        self.instances.append(Portage(self.config, self.folder, name, env=env))
        return self.instances[-1]

    def source_sql(self, query, parameters=None, gated=False):
        """Passes the gate, as shard_sql() does."""
        return self.source_server.sql(query, parameters, self.name, **passing(gated))

    def shard_sql(self, shard, query, parameters=None, gated=False):
        """Passes the gate: tests change rows there to see what comes of it. With gated=True, as the
        application would."""
        return self.shard_servers[shard].sql(query, parameters, self.shard_names[shard],
                                             **passing(gated))

    def keys_of(self, shard, upto, kind="bigint"):
        """Which keys belong on a shard, by the server's own hash."""
        return [key for key, in self.shard_sql(shard, PLACE_SQL.format(
            kind=kind, upto=upto, shards=len(self.shard_names), shard=shard))]

    def run_until_ready(self, timeout=READY_TIMEOUT):
        self.portage.start()
        self.wait_ready(timeout)
        for shard in range(len(self.shard_names)):
            assert self.shard_sql(shard, "SELECT * FROM portage.chunk") == [], "a cutover would refuse"
        return self

    def wait_ready(self, timeout=READY_TIMEOUT):
        self.portage.wait_for_phase("ready", timeout)

    def source_position(self):
        return self.source_server.value("SELECT pg_current_wal_insert_lsn()")

    def progress(self):
        """Of all lanes of all shards; empty while there are none."""
        rows = []
        for shard in range(len(self.shard_names)):
            try:
                rows += [progress for _, progress in self.shard_sql(shard, LANES_SQL)]
            except psycopg.errors.UndefinedTable:
                return []
        return rows

    def wait_caught_up(self, timeout=CATCHUP_TIMEOUT, position=None):
        """All lanes have durably applied what the source wrote so far. The load must rest: its
        position is taken here."""
        position = position or self.source_position()
        wanted = lsn(position)

        def caught_up():
            self.portage.check_running()
            lanes = self.progress()
            return bool(lanes) and all(lsn(progress) >= wanted for progress in lanes)
        wait_until(caught_up, timeout, f"all lanes to pass {position}", interval=0.1,
                   explain=lambda: f"lanes: {self.progress()}\n{self.portage.explain()}")

    def compare(self):
        return compare(self.config, self.source_server.uri(self.name), self.shard_uris(),
                       folder=self.folder)

    def assert_equal(self):
        """By a comparison that knows nothing of the program, and by the program's own, which must
        say the same."""
        comparison = self.compare()
        assert comparison.differences == 0, str(comparison)
        verify = self.portage.command("--json", "verify", check=False)
        assert verify.returncode == 0, f"{verify.stdout}{verify.stderr}"
        return comparison

    def finish_load_and_compare(self, load=None, timeout=CATCHUP_TIMEOUT):
        """The end of every test: the load rests, the stream arrives, both sides are equal."""
        if load is not None:
            load.stop()
        self.wait_caught_up(timeout)
        return self.assert_equal()

    def leftovers(self):
        """What of ours is still there (S9); empty after `finish` and `abort`."""
        ours = ("SELECT 'slot ' || slot_name FROM pg_replication_slots"
                " WHERE database = current_database()"
                " UNION ALL SELECT 'publication ' || pubname FROM pg_publication"
                " UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname = 'portage'")
        found = self.source_sql(ours)
        for shard in range(len(self.shard_names)):
            found += self.shard_sql(shard, ours)
        return [what for what, in found]

    def close(self):
        for portage in self.instances:
            portage.close()
        self.source_server.drop_database(self.name)
        for server, name in zip(self.shard_servers, self.shard_names):
            server.drop_database(name)


def lsn(text):
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def passing(gated):
    """What lets a session pass a closed gate."""
    return {} if gated else {"options": "-c portage.pass=on"}
