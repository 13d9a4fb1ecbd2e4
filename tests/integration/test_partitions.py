"""Partitions of the source that come and go while it is carried (R12, S1)."""
import datetime
import random
import threading
import time

import psycopg
import pytest

from harness.polling import wait_until
from harness.writers import TableSpec, Undo, Writers

BY_ID = "shard_by: id\ntables:\n  \"public.*\": identical\n"
SOURCE = """CREATE TABLE public.events (id bigint, at date NOT NULL, n int, PRIMARY KEY (id, at))
        PARTITION BY RANGE (at);
    CREATE TABLE public.events_1 PARTITION OF public.events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    INSERT INTO public.events SELECT g, date '2024-01-01' + g % 360, g FROM generate_series(1, 5000) g;
"""
FLAT = "CREATE TABLE public.events (id bigint, at date NOT NULL, n int, PRIMARY KEY (id, at));"
MONTHS = """CREATE TABLE public.events (id bigint, at date NOT NULL, n int, PRIMARY KEY (id, at))
    PARTITION BY RANGE (at);"""
BY_MONTH = """shard_by: id
tables:
  public.events: {partition_by: {column: at, every: 1 month}}
"""


def year(number):
    return f"public.events_{number} FOR VALUES FROM ('{number}-01-01') TO ('{number + 1}-01-01')"


def create(number):
    partition, bounds = year(number).split(" ", 1)
    return (f"CREATE TABLE {partition} PARTITION OF public.events {bounds};"
            f"ALTER TABLE {partition} OWNER TO app_owner;")


def attach(number, rows):
    """A table with rows, and more of them in the transaction that attaches it."""
    partition, bounds = year(number).split(" ", 1)
    row = f"SELECT g, date '{number}-01-01' + g % 360, -g FROM generate_series"
    return f"""CREATE TABLE {partition} (n int, gone int, at date NOT NULL, id bigint,
            PRIMARY KEY (id, at));
        ALTER TABLE {partition} DROP gone;
        ALTER TABLE {partition} OWNER TO app_owner;
        INSERT INTO {partition} (id, at, n) {row}(1, {rows}) g;
        BEGIN; ALTER TABLE public.events ATTACH PARTITION {partition} {bounds};
        INSERT INTO public.events {row}({rows + 1}, {rows + 100}) g; COMMIT;"""


def taken_up(carried, count):
    def all_copied():
        carried.portage.check_running()
        return all(
            carried.shard_sql(shard, "SELECT count(*) FILTER (WHERE done) >= %s AND bool_and(done)"
                                     "  FROM portage.range WHERE leaf IS NOT NULL", [count])[0][0]
            for shard in range(len(carried.shard_names)))
    wait_until(all_copied, 60, f"{count} late ranges to be copied", explain=carried.portage.explain)


class Years(Writers):
    """Writers whose rows move between the years that there are."""

    def __init__(self, dsn, years, seed):
        self.years = years
        table = TableSpec("public.events", "id", {"at": self.some_day,
                                                  "n": lambda dice: dice.randint(1, 999)}, keys=6000)
        super().__init__(dsn, [table], seed=seed, rate=300)

    def some_day(self, dice):
        return datetime.date(dice.choice(self.years), dice.randint(1, 12), dice.randint(1, 28))

    def step(self, conn, dice):
        """A transaction that has used the table before a partition was attached (which locks out nobody) does
        not find that one."""
        try:
            return super().step(conn, dice)
        except psycopg.errors.CheckViolation as error:
            raise Undo from error

    def insert(self, conn, dice, table):
        return conn.execute("INSERT INTO public.events VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                            [self.some_key(dice, table), self.some_day(dice), 5]).rowcount


@pytest.fixture
def writers():
    started = []

    def start(carried, years=(2024,), seed=1):
        started.append(Years(carried.source_server.dsn(carried.name), list(years), seed).start())
        return started[-1]
    yield start
    for one in started:
        one.stopping.set()
        one.join()


def test_S1_partitions_that_appear_are_carried(migration, writers):
    carried = migration(SOURCE, FLAT, BY_ID)
    carried.run_until_ready()
    load = writers(carried)
    carried.source_sql(create(2025))
    load.years.append(2025)  # written to from its first moment
    carried.source_sql(attach(2026, 3000))
    load.years.append(2026)
    load.wait_for_transactions(200)
    taken_up(carried, 2)
    load.wait_for_transactions(200)
    carried.finish_load_and_compare(load)
    assert carried.portage.phase() == "ready"


def test_S1_a_partition_is_taken_up_when_nobody_writes_to_it(migration, writers):
    """A transaction that has written to it before it was published, and writes to it again later."""
    carried = migration(SOURCE, FLAT, BY_ID)
    carried.run_until_ready()
    load = writers(carried)
    carried.source_sql(create(2025))
    with psycopg.connect(carried.source_server.dsn(carried.name)) as early:
        early.execute("INSERT INTO public.events VALUES (9001, '2025-03-03', 1)")
        carried.portage.wait_for_log("1 new partitions of the source wait")
        load.wait_for_transactions(100)
        early.execute("INSERT INTO public.events VALUES (9002, '2025-03-04', 2)")
        assert carried.shard_sql(0, "SELECT count(*) FROM portage.leaf WHERE late")[0][0] == 0
    taken_up(carried, 1)
    carried.finish_load_and_compare(load)


def test_S1_a_partition_that_appears_during_the_copy_or_while_nobody_looks(migration, writers):
    carried = migration(SOURCE, FLAT, BY_ID + "chunk_ms: 20\n")
    carried.source_sql("INSERT INTO public.events SELECT g, date '2024-01-01' + g % 360, g"
                       "  FROM generate_series(7000, 300000) g; ANALYZE public.events")
    load = writers(carried)
    carried.portage.start()
    carried.portage.wait_for_phase("copying", 60)
    carried.source_sql(attach(2025, 3000))
    load.years.append(2025)
    carried.wait_ready()
    taken_up(carried, 1)
    carried.portage.stop()
    carried.source_sql(create(2026))
    load.years.append(2026)
    load.wait_for_transactions(100)
    carried.portage.start()
    taken_up(carried, 2)
    carried.finish_load_and_compare(load)


def test_D11_names_that_the_server_would_cut(migration, writers):
    """Of a partitioned table, its partitions and their indexes; and names that look like SQL."""
    name = "x" + "é" * 28  # 57 bytes, and byte 40 is within a letter
    table = f'public."{name}"'
    carried = migration(
        f"""CREATE TABLE {table} (id bigint PRIMARY KEY, at date NOT NULL, n int);
        CREATE TABLE public.child (id bigint PRIMARY KEY, "a NOT VALID" bigint);
        INSERT INTO {table} SELECT g, date '2024-01-01' + g % 210, g FROM generate_series(1, 1000) g;
        INSERT INTO public.child SELECT g, g FROM generate_series(1, 100) g""",
        f"""CREATE TABLE {table} (id bigint, at date NOT NULL, n int, PRIMARY KEY (id, at))
            PARTITION BY RANGE (at);
        CREATE INDEX "a USING b" ON {table} (n);
        CREATE TABLE public.child (id bigint PRIMARY KEY, "a NOT VALID" bigint REFERENCES public.child);
        CREATE TABLE public."{"x" + "é" * 27}_2024_03" (id int)""",
        f"""tables:
          {table}: {{shard_by: everywhere, partition_by: {{column: at, every: 1 month}}}}
          public.child: {{shard_by: id}}
        """)
    carried.run_until_ready()
    carried.portage.stop()  # nothing is made twice
    carried.run_until_ready()
    for shard in range(2):
        counts = dict(carried.shard_sql(
            shard, "SELECT pg_get_expr(c.relpartbound, c.oid), (xpath('/row/n/text()', query_to_xml("
                   "  'SELECT count(*) AS n FROM ' || c.oid::regclass, false, true, '')))[1]"
                   "  ::text::int FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
                   " WHERE i.inhparent = %s::regclass", [table]))
        assert counts.pop("DEFAULT") == 0
        with_rows = [bound for bound, count in counts.items() if count > 0]
        assert len(with_rows) == 7 and sum(counts.values()) == 1000
        assert carried.shard_sql(shard, "SELECT bool_and(indisvalid), count(*) FROM pg_index i"
                                        "  JOIN pg_inherits h ON h.inhrelid = i.indexrelid"
                                        " WHERE h.inhparent = 'public.\"a USING b\"'::regclass"
                                 ) == [(True, len(counts) + 1)]
        wait_until(lambda shard=shard: carried.shard_sql(
            shard, "SELECT convalidated FROM pg_constraint WHERE contype = 'f'") == [(True,)], 30,
            "the key to be validated", explain=carried.portage.explain)
    carried.finish_load_and_compare()


def test_S1_target_partitions_follow(migration, writers):
    carried = migration(SOURCE, MONTHS, BY_MONTH)
    carried.run_until_ready()
    load = writers(carried)
    carried.source_sql(attach(2023, 1000) + attach(2041, 1000))
    load.years += [2023, 2041]
    taken_up(carried, 2)
    load.wait_for_transactions(100)
    carried.finish_load_and_compare(load)
    for shard in range(2):
        assert carried.shard_sql(shard, "SELECT count(*) FROM public.events_default")[0][0] == 0
        assert carried.shard_sql(shard, "SELECT count(*) > 0 FROM public.events_2041_07")[0][0]


def test_S1_new_partitions_and_kills(migration, writers):
    """A partition every second or so, and a kill -9 at any moment, under load."""
    dice = random.Random(12)
    carried = migration(SOURCE, FLAT, BY_ID)
    carried.run_until_ready()
    load = writers(carried)
    stopping = threading.Event()

    def kill():
        while not stopping.wait(dice.choice([0.1, 0.5, 2, 4]) * dice.random()):
            carried.portage.kill9()
            carried.portage.start()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for number in range(2025, 2037):
            carried.source_sql(create(number) if number % 2 else attach(number, 500))
            load.years.append(number)
            time.sleep(dice.random() * 1.5)  # the moment is what is tested
    finally:
        stopping.set()
        killer.join()
    taken_up(carried, 12)
    carried.finish_load_and_compare(load)
    assert carried.portage.kills > 5


def test_R13_partitions_truncated_by_themselves(migration, writers):
    """While the copy goes on, and when everything is steady; with kills between."""
    carried = migration(SOURCE + create(2025), MONTHS, BY_MONTH + "chunk_ms: 20\n")
    carried.source_sql("INSERT INTO public.events SELECT g, date '2024-01-01' + g % 700, g"
                       "  FROM generate_series(7000, 200000) g; ANALYZE public.events")
    load = writers(carried, [2024, 2025])
    carried.portage.start()
    carried.portage.wait_for_phase("copying", 60)
    carried.source_sql("TRUNCATE public.events_2025")
    carried.wait_ready()
    load.wait_for_transactions(50)
    carried.source_sql("BEGIN; UPDATE public.events SET n = 6 WHERE id = 6; TRUNCATE public.events_1;"
                       "INSERT INTO public.events VALUES (90001, '2024-05-05', 1),"
                       " (90001, '2025-05-05', 1); COMMIT")
    carried.portage.wait_for_log("(?s)truncated by itself.*truncated by itself")
    carried.portage.kill9()
    carried.portage.start()
    load.wait_for_transactions(50)
    carried.source_sql("TRUNCATE public.events_2025")
    load.wait_for_transactions(50)
    carried.source_sql("TRUNCATE public.events")
    load.wait_for_transactions(50)
    carried.finish_load_and_compare(load)


def test_R3_a_new_partition_without_an_identity_is_not_published(migration):
    carried = migration("""CREATE TABLE public.events (id bigint NOT NULL, at date NOT NULL, n int)
            PARTITION BY RANGE (at);
        CREATE TABLE public.events_1 PARTITION OF public.events
            FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
        ALTER TABLE public.events REPLICA IDENTITY FULL;
        ALTER TABLE public.events_1 REPLICA IDENTITY FULL;
        INSERT INTO public.events SELECT g, '2024-02-02', g FROM generate_series(1, 100) g;""",
                        "CREATE TABLE public.events (id bigint NOT NULL, at date NOT NULL, n int);",
                        BY_ID)
    carried.run_until_ready()
    carried.source_sql(create(2025) + "INSERT INTO public.events VALUES (1, '2025-02-02', 3)")
    assert carried.portage.wait(60) == 3
    assert "public.events_2025 of the source has not the replica identity" in carried.portage.logs()
    carried.source_sql("UPDATE public.events SET n = 4 WHERE at = '2025-02-02';"
                       "ALTER TABLE public.events_2025 REPLICA IDENTITY FULL")
    carried.portage.start()
    taken_up(carried, 1)
    carried.finish_load_and_compare()


class Tokens(Writers):
    """Each token is in one row at a time and travels between the partitions."""

    def __init__(self, dsn, years):
        self.years, self.holders = years, {}
        super().__init__(dsn, [], threads=1, rate=400)

    def transaction(self, conn, dice):
        token = f"t{dice.randint(1, 40)}"
        conn.execute("UPDATE public.events SET v = NULL WHERE v = %s", [token])
        conn.execute("UPDATE public.events SET v = %s WHERE (id, at) = (%s, %s) AND v IS NULL",
                     [token, dice.randint(1, 30), datetime.date(dice.choice(self.years), 1, 1)])
        conn.commit()
        with self.lock:
            self.counts.committed += 1


def test_S1_unique_values_travel_into_a_new_partition(migration):
    """Only the target says that they are unique: such an index is built again after the copy."""
    rows = "INSERT INTO public.events SELECT g, '{}-01-01' FROM generate_series(1, 30) g;"
    carried = migration("""CREATE TABLE public.events (id bigint, at date, v text, PRIMARY KEY (id, at))
            PARTITION BY RANGE (at);
        CREATE TABLE public.events_2024 PARTITION OF public.events
            FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');""" + rows.format(2024), """
        CREATE TABLE public.events (id bigint, at date, v text UNIQUE, PRIMARY KEY (id, at));
        CREATE TABLE public.notes (id bigint PRIMARY KEY, v text REFERENCES public.events (v));""", """
        tables:
          public.events: {shard_by: everywhere}
    """)
    carried.run_until_ready()
    unique = "SELECT count(*) FROM pg_constraint WHERE contype IN ('u', 'f') AND connamespace = 'public'::regnamespace"
    assert carried.shard_sql(0, unique)[0][0] == 2
    with Tokens(carried.source_server.dsn(carried.name), [2024]) as tokens:
        for number in range(2025, 2031):
            carried.source_sql(create(number) + rows.format(number))
            tokens.years.append(number)
            tokens.wait_for_transactions(500)
            taken_up(carried, number - 2024)
        carried.finish_load_and_compare(tokens)
    wait_until(lambda: all(carried.shard_sql(s, unique)[0][0] == 2 for s in range(2)), 30,
               "the unique constraint and the key that needs it", explain=carried.portage.explain)


GONE = "of the source was dropped, or detached"


def ended(carried):
    code = carried.portage.wait(60)
    return code, carried.portage.log.read_text(encoding="utf-8")


def test_R12_a_detached_partition_stops_the_run_until_it_is_attached(migration, writers):
    carried = migration(SOURCE + create(2025), FLAT, BY_ID)
    carried.run_until_ready()
    load = writers(carried, [2024, 2025])
    load.wait_for_transactions(50)
    load.stop()
    carried.source_sql("ALTER TABLE public.events DETACH PARTITION public.events_2025")
    code, log = ended(carried)
    assert code == 3 and f"public.events_2025 {GONE}" in log and "attach it again" in log
    carried.portage.start()  # the same at the start
    code, log = ended(carried)
    assert code == 3 and f"public.events_2025 {GONE}" in log
    # It stays published meanwhile: what is written to it comes.
    carried.source_sql("INSERT INTO public.events_2025 VALUES (90001, '2025-05-05', 1);"
                       "ALTER TABLE public.events ATTACH PARTITION public.events_2025"
                       " FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')")
    carried.portage.start()
    carried.finish_load_and_compare()


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("table", ["events_2025", "notes"])
def test_R12_a_dropped_table_stops_the_run(migration, table, running):
    notes = "CREATE TABLE public.notes (id bigint PRIMARY KEY);"
    carried = migration(SOURCE + create(2025) + notes, FLAT + notes, BY_ID)
    carried.run_until_ready()
    if not running:
        carried.portage.stop()
    carried.source_sql(f"INSERT INTO public.events VALUES (90001, '2025-05-05', 1);"
                       f"DROP TABLE public.{table}")
    if not running:
        carried.portage.start()
    code, log = ended(carried)
    assert code == 3 and f"public.{table} {GONE}" in log and "pgportage abort" in log


@pytest.mark.parametrize("away, said", [
    ("DROP TABLE public.notes", f"public.notes {GONE}"),
    ("ALTER TABLE public.notes RENAME TO old_notes", "public.notes of the source is another one"),
])
def test_R12_a_table_that_was_replaced(migration, away, said):
    notes = "CREATE TABLE public.notes (id bigint PRIMARY KEY);"
    carried = migration(notes, notes, BY_ID)
    carried.run_until_ready()
    carried.portage.stop()
    carried.source_sql(f"{away}; {notes} INSERT INTO public.notes VALUES (1);"
                       "ALTER TABLE public.notes OWNER TO app_owner")
    carried.portage.start()
    code, log = ended(carried)
    assert code == 3 and said in log
