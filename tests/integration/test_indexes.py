"""Indexes and keys of the target: built after the copy, several at a time, and whole in the end."""
import threading

import psycopg

from harness.polling import wait_until
from harness.writers import TableSpec, Writers

SOURCE = """CREATE TABLE public.parent (id bigint PRIMARY KEY, code int, n int);
    CREATE TABLE public.child (id bigint PRIMARY KEY, parent bigint, n int);
    CREATE TABLE public.parts (id bigint PRIMARY KEY, n int);
    INSERT INTO public.parent SELECT g, g, g FROM generate_series(1, 2000) g;
    INSERT INTO public.child SELECT g, g, g FROM generate_series(1, 2000) g;
    INSERT INTO public.parts SELECT g, g FROM generate_series(1, 2000) g;
    ANALYZE;"""
# An index over public.slow() takes as long as we like.
SLOW = """CREATE FUNCTION public.slow(int) RETURNS int LANGUAGE plpgsql IMMUTABLE
    AS 'BEGIN PERFORM pg_catalog.pg_sleep({}); RETURN $1; END';"""
TARGET = """
    CREATE TABLE public.parent (id bigint PRIMARY KEY, code int UNIQUE, n int);
    CREATE TABLE public.child (id bigint PRIMARY KEY, parent bigint, n int);
    CREATE TABLE public.parts (id bigint PRIMARY KEY, n int) PARTITION BY RANGE (id);
    CREATE TABLE public.parts_low PARTITION OF public.parts FOR VALUES FROM (MINVALUE) TO (1000);
    CREATE TABLE public.parts_high PARTITION OF public.parts FOR VALUES FROM (1000) TO (MAXVALUE);
    CREATE INDEX parent_slow ON public.parent (public.slow(n));
    CREATE UNIQUE INDEX parent_code ON public.parent (code, id);
    CREATE INDEX child_slow ON public.child (public.slow(n));
    CREATE INDEX child_n ON public.child (n);
    CREATE INDEX parts_slow ON public.parts (public.slow(n));
    CREATE INDEX parts_n ON public.parts (n);
    ALTER TABLE public.child ADD CONSTRAINT child_parent FOREIGN KEY (parent)
        REFERENCES public.parent (code) ON UPDATE CASCADE ON DELETE CASCADE;
    ALTER TABLE public.parts ADD CONSTRAINT parts_n FOREIGN KEY (n) REFERENCES public.parent (code)
        ON UPDATE CASCADE ON DELETE CASCADE;"""
MAPPING = "tables:\n  \"public.*\": identical\n"
EVERYWHERE = "tables:\n  \"public.*\": {shard_by: everywhere}\n"
# Nobody refers to rows that these delete; `code` never changes.
TABLES = [TableSpec("public.child", "id", {"n": lambda dice: dice.randint(1, 999)}, keys=4000)]

BUILDS_SQL = "SELECT relid::regclass::text, pid FROM pg_stat_progress_create_index WHERE datname = %s"
INDEXES_SQL = """SELECT pg_get_indexdef(i.indexrelid), i.indisvalid FROM pg_index i
    JOIN pg_class x ON x.oid = i.indexrelid
    WHERE x.relnamespace = 'public'::regnamespace AND NOT x.relispartition ORDER BY 1"""
# Their names are ours.
LEAF_INDEXES_SQL = """SELECT i.indrelid::regclass::text, h.inhparent::regclass::text, i.indisvalid
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid
    WHERE x.relnamespace = 'public'::regnamespace
      AND i.indrelid IN ('public.parts_low'::regclass, 'public.parts_high'::regclass) ORDER BY 1, 2"""
CONSTRAINTS_SQL = """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conparentid = 0 ORDER BY 1, 2"""


def target(seconds):
    return SLOW.format(seconds) + TARGET


def what_there_is(sql):
    return [sql(query) for query in (INDEXES_SQL, LEAF_INDEXES_SQL, CONSTRAINTS_SQL)]


def assert_all_built(carried):
    """Each shard has what the user's DDL makes by itself: nothing less, nothing more, all valid."""
    server, name = carried.shard_servers[0], f"{carried.name}_plain"
    server.create_database(name)
    try:
        server.sql((carried.folder / "target.sql").read_text(encoding="utf-8"), database=name)
        wanted = what_there_is(lambda query: server.sql(query, database=name))
    finally:
        server.drop_database(name)
    for shard in range(len(carried.shard_names)):
        assert what_there_is(lambda query: carried.shard_sql(shard, query)) == wanted
    assert carried.portage.status()["building"] == []


class Watch:
    """Looks at what the shard builds, until it is closed."""

    def __init__(self, carried):
        self.carried, self.stopping = carried, threading.Event()
        self.most, self.doubled = 0, []
        self.thread = threading.Thread(target=self.look)

    def look(self):
        server, name = self.carried.shard_servers[0], self.carried.shard_names[0]
        with psycopg.connect(server.dsn(name), autocommit=True) as conn:
            while not self.stopping.wait(0.02):
                tables = [table for table, _ in conn.execute(BUILDS_SQL, [name])]
                self.most = max(self.most, len(set(tables)))
                if len(set(tables)) < len(tables):
                    self.doubled.append(tables)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()


def wait_for_builds(carried, count, timeout=60):
    """So many at this moment."""
    def building():
        carried.portage.check_running()
        return len(carried.shard_sql(0, BUILDS_SQL, [carried.shard_names[0]])) >= count
    wait_until(building, timeout, f"{count} indexes to be built", interval=0.02,
               explain=carried.portage.explain)


def wait_for_status(carried, wanted):
    found = []

    def reached():
        carried.portage.check_running()
        found.append(carried.portage.status())
        return wanted(found[-1])
    wait_until(reached, 60, "the status", interval=0.02, explain=carried.portage.explain)
    return found[-1]


def test_two_tables_at_once_and_one_index_a_table(migration):
    carried = migration(SOURCE, target(0.003), MAPPING, shards=1)
    with Watch(carried) as watch, Writers(carried.source_server.dsn(carried.name), TABLES, seed=11,
                                          rate=100) as writers:
        carried.portage.start()
        building = wait_for_status(carried, lambda status: len(status["building"]) == 2)["building"]
        wait_until(lambda: "being built" in carried.portage.command("status").stdout, 60, "it to be shown")
        carried.wait_ready()
        carried.finish_load_and_compare(writers)
    assert watch.most == 2
    assert not watch.doubled
    assert len({item["table"] for item in building}) == len(building) == 2
    assert any(item["phase"] and item["kind"] == "index" for item in building), building
    assert carried.portage.log_contains(r"foreign key child_parent of public\.\w+ is in place")
    for name in ("child_slow", "parts_slow", "parent_code_key"):
        assert carried.portage.log_contains(rf"built [a-z ]+ {name} of public\.\w+ in \d+\.\d s")
    assert_all_built(carried)


def test_one_worker_builds_one_after_the_other(migration):
    carried = migration(SOURCE, target(0.0005), "index_workers: 1\n" + MAPPING, shards=1)
    with Watch(carried) as watch:
        carried.run_until_ready()
    assert watch.most == 1
    assert_all_built(carried)
    carried.finish_load_and_compare()


def test_killed_again_and_again_while_it_builds(migration):
    """The servers go on with what a dead instance had begun: its successor neither doubles it nor
    stumbles over it."""
    carried = migration(SOURCE, target(0.001), "index_workers: 3\n" + EVERYWHERE, shards=2)
    carried.source_sql("CREATE INDEX ON public.parent (n)")
    with Writers(carried.source_server.dsn(carried.name), TABLES, seed=12, rate=100) as writers:
        for kill in range(4):
            carried.portage.start()
            wait_for_builds(carried, 1 + kill % 2)
            writers.wait_for_transactions(10 * kill + 1)
            carried.portage.kill9()
        carried.portage.start()
        carried.wait_ready()
        carried.finish_load_and_compare(writers)
    assert_all_built(carried)


def test_a_stop_does_not_wait_for_an_index(migration):
    carried = migration(SOURCE, target(0.05), MAPPING, shards=1)
    carried.portage.start()
    wait_for_builds(carried, 2)
    assert carried.portage.stop(timeout=20) == 5
    assert carried.shard_sql(0, "SELECT indexrelid::regclass FROM pg_index x JOIN pg_class c"
                                " ON c.oid = indexrelid WHERE NOT indisvalid AND relkind = 'i'") == []


def test_an_index_that_failed_is_gone_at_once(migration):
    """It would go on to refuse rows, also when nobody is there to try again."""
    source = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
    carried = migration(source + "INSERT INTO public.t VALUES (1, 7), (2, 7);",
                        source + "CREATE UNIQUE INDEX t_n ON public.t (n);", MAPPING, shards=1)
    carried.portage.start()
    assert carried.portage.wait(60) == 4
    assert "t_n" in carried.portage.logs()
    assert carried.shard_sql(0, "SELECT to_regclass('public.t_n')") == [(None,)]
    carried.source_sql("UPDATE public.t SET n = 8 WHERE id = 2")
    carried.portage.start()
    carried.wait_ready()
    carried.finish_load_and_compare()
    assert carried.shard_sql(0, "SELECT indisvalid FROM pg_index"
                                " WHERE indexrelid = 'public.t_n'::regclass") == [(True,)]
