"""The SQL of `coordinator --ddl`, run: one database in front of the shards, by stock postgres_fdw."""
import re

import psycopg
import pytest

from harness import bank
from harness.portage import Portage

SOURCE = """
    CREATE SCHEMA ref;
    CREATE TYPE public.mood AS ENUM ('low', 'it''s high');
    CREATE DOMAIN public.email AS text CHECK (VALUE LIKE '_%@_%');
    CREATE TYPE ref.place AS (street text, mood public.mood);
    CREATE TABLE ref.countries (code char(2) PRIMARY KEY, name text NOT NULL);
    CREATE TABLE public.users (id bigint PRIMARY KEY, name text NOT NULL, mood public.mood,
        mails public.email[], home ref.place, note text DEFAULT 'it''s "new"',
        born date DEFAULT '2000-01-01', "é""x" text COLLATE "C");
    CREATE TABLE public.payments (id bigserial PRIMARY KEY, user_id bigint NOT NULL, cents bigint,
        doubled bigint GENERATED ALWAYS AS (cents * 2) STORED,
        at timestamptz NOT NULL DEFAULT '2026-03-01');
    CREATE TABLE public.tokens (token text PRIMARY KEY, uses int);
    INSERT INTO ref.countries VALUES ('DE', 'Germany'), ('PE', 'Peru');
    INSERT INTO public.users SELECT i, 'user ' || i, 'it''s high', ARRAY['a@b'], ROW('street', 'low')::ref.place
      FROM generate_series(1, 500) AS i;
    INSERT INTO public.payments (user_id, cents) SELECT i % 500, i FROM generate_series(1, 900) AS i;
    INSERT INTO public.tokens SELECT 'token ' || i, i FROM generate_series(1, 300) AS i;
"""
TARGET = re.sub(r"INSERT[^;]*;", "", SOURCE).replace(
    "public.payments (id bigserial PRIMARY KEY", "public.payments (id bigserial").replace(
    "DEFAULT '2026-03-01');", "DEFAULT '2026-03-01', PRIMARY KEY (id, at)) PARTITION BY RANGE (at);")
MAPPING = """
    tables:
      ref.countries: {shard_by: everywhere}
      public.users: {shard_by: id}
      public.payments: {shard_by: user_id, shard_key: immutable,
                        partition_by: {column: at, every: 1 month}}
      public.tokens: {shard_by: token}
"""


class Coordinator:
    """A database on a server of version 15, which has postgres_fdw."""

    def __init__(self, server, name, ddl):
        self.server, self.name = server, name
        server.create_database(name)
        self.sql(ddl)

    def sql(self, query, parameters=None):
        return self.server.sql(query, parameters, self.name)

    def plan(self, query):
        return "\n".join(line for line, in self.sql("EXPLAIN (VERBOSE, COSTS OFF) " + query))


@pytest.fixture
def coordinated(migration, target_server):
    carried = migration(SOURCE, TARGET, MAPPING)
    before = carried.portage.command("coordinator", "--ddl").stdout
    assert not carried.shard_sql(0, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'")
    carried.run_until_ready()
    carried.wait_caught_up()
    carried.portage.stop()
    path = carried.folder / "coordinator.sql"
    assert not carried.portage.command("coordinator", "--ddl", "--output", path).stdout
    ddl = path.read_text(encoding="utf-8")
    assert ddl == before
    assert "password '@PASSWORD@'" in ddl and "user '@USER@'" in ddl
    # A superuser needs no password: the servers of the tests trust.
    ddl = ddl.replace("user '@USER@', password '@PASSWORD@'", "user 'postgres'")
    name = carried.name + "_coordinator"
    try:
        yield carried, Coordinator(target_server, name, ddl), ddl
    finally:
        target_server.drop_database(name)


def shard_of(carried, query):
    """On which shards the query finds a row."""
    return [shard for shard in range(2) if carried.shard_sql(shard, query)]



def test_reads_see_all_and_the_placement_is_ours(coordinated):
    carried, coordinator, _ = coordinated
    for table, key in [("public.users", "id"), ("public.payments", "user_id"), ("public.tokens", "token")]:
        rows = f"SELECT * FROM {table} ORDER BY 1"
        assert coordinator.sql(rows) == carried.source_sql(rows)
        for shard in range(2):
            mine = f'shard_{shard}."{table}"'
            # What pgportage put on this shard is what PARTITION BY HASH puts there.
            assert coordinator.sql(f"SELECT count(*) FROM {mine}") != [(0,)]
            # Asked here: postgres_fdw would send the function, with an OID that is ours, to the shard.
            assert coordinator.sql(f"WITH t AS MATERIALIZED (SELECT {key} FROM {mine}) SELECT count(*)"
                                   f" FROM t WHERE NOT satisfies_hash_partition("
                                   f"'{table}'::regclass, 2, {shard}, t.{key})") == [(0,)]
    assert coordinator.sql("SELECT * FROM ref.countries ORDER BY 1") == [("DE", "Germany"), ("PE", "Peru")]
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        coordinator.sql("INSERT INTO ref.countries VALUES ('FR', 'France')")


def test_one_key_is_one_shard(coordinated):
    carried, coordinator, _ = coordinated
    for user in (1, 2, 3, 4, 5):
        (shard,) = shard_of(carried, f"SELECT 1 FROM public.users WHERE id = {user}")
        plan = coordinator.plan(f"SELECT name FROM public.users WHERE id = {user}")
        assert f'shard_{shard}."public.users"' in plan and f"shard_{1 - shard}" not in plan
        plan = coordinator.plan(f"UPDATE public.payments SET cents = 0 WHERE user_id = {user}")
        assert f"shard_{1 - shard}" not in plan
    (shard,) = shard_of(carried, "SELECT 1 FROM public.tokens WHERE token = 'token 7'")
    assert f"shard_{1 - shard}" not in coordinator.plan("SELECT FROM public.tokens WHERE token = 'token 7'")


def test_writes_go_where_the_row_belongs(coordinated):
    carried, coordinator, _ = coordinated
    for user in range(1001, 1021):
        coordinator.sql("INSERT INTO public.users (id, name, mood) VALUES (%s, 'new', 'low')", [user])
        coordinator.sql("INSERT INTO public.payments (id, user_id, cents) VALUES (%s, %s, 4)", [user, user])
        (shard,) = shard_of(carried, f"SELECT 1 FROM public.users WHERE id = {user}")
        assert shard_of(carried, f"SELECT 1 FROM public.payments WHERE id = {user}") == [shard]
        assert coordinator.sql("SELECT satisfies_hash_partition('public.users'::regclass, 2, %s, %s::bigint)",
                               [shard, user]) == [(True,)]
        assert carried.shard_sql(shard, f"SELECT note FROM public.users WHERE id = {user}") == [('it\'s "new"',)]
        assert carried.shard_sql(shard, f"SELECT doubled FROM public.payments WHERE id = {user}") == [(8,)]
        coordinator.sql("UPDATE public.users SET name = 'newer' WHERE id = %s", [user])
        assert carried.shard_sql(shard, f"SELECT name FROM public.users WHERE id = {user}") == [("newer",)]
        coordinator.sql("DELETE FROM public.users WHERE id = %s", [user])
        assert not shard_of(carried, f"SELECT 1 FROM public.users WHERE id = {user}")


def test_a_changed_shard_key_is_refused_where_the_shards_check(coordinated):
    carried, coordinator, ddl = coordinated
    move = "UPDATE public.users SET id = id + 5000 WHERE id <= 20"
    _, *parts = re.split(r"^-- On shard \d+:$", ddl, flags=re.MULTILINE)
    assert len(parts) == 2
    for shard, part in enumerate(parts):
        carried.shard_sql(shard, re.sub(r"^-- ?", "", part, flags=re.MULTILINE))
    with pytest.raises(psycopg.errors.CheckViolation):
        coordinator.sql(move)
    coordinator.sql("INSERT INTO public.users (id, name) VALUES (6001, 'right'), (6002, 'right')")
    # The checks are those of the rows that pgportage carried, too.
    for shard in range(2):
        assert carried.shard_sql(shard, "SELECT count(*) FROM pg_constraint WHERE conname = 'placement'"
                                        " AND conparentid = 0 AND coninhcount = 0 AND NOT convalidated") == [(0,)]


def test_the_bank_has_one_too(folder, source_server, target_server):
    """Domains over domains, composite types, names that must be quoted, 41 tables; nothing applied yet."""
    names = ["bank", "bank_0", "bank_1", "bank_coordinator"]
    try:
        bank.create_source(source_server, names[0])
        for name in names[1:3]:
            bank.create_shard(target_server, name)
        config = folder / "portage.yaml"
        bank.write_config(config, source_server.dsn(names[0], "portage"),
                          [target_server.dsn(name, "portage") for name in names[1:3]])
        ddl = Portage(config, folder).command("coordinator", "--ddl").stdout
        coordinator = Coordinator(target_server, names[3], ddl)
        (count,), = coordinator.sql("SELECT count(*) FROM pg_class WHERE relkind = 'p'")
        (foreign,), = coordinator.sql("SELECT count(*) FROM pg_class WHERE relkind = 'f'")
        (reference,), = coordinator.sql("SELECT count(*) FROM pg_class WHERE relkind = 'f'"
                                        " AND relnamespace = 'ref'::regnamespace")
        assert reference == 9 and foreign == 2 * count + reference and count > 25
    finally:
        source_server.drop_database(names[0])
        for name in names[1:]:
            target_server.drop_database(name)


def test_wrong_usage(migration):
    carried = migration("", "", "tables: {}\n", shards=1)
    assert carried.portage.command("coordinator", check=False).returncode == 2
    assert carried.portage.command("coordinator", "--ddl", "--output", check=False).returncode == 2
