"""Tables that are copied whole: lanes of their own, and what waits for these in files."""
import contextlib
import os
import threading

import psycopg
import pytest

from harness.carry import carry, failure
from harness.migration import lsn
from harness.polling import wait_until
from harness.writers import TableSpec, Writers

LANES = 2  # of each kind, on each shard
# A numeric key has no order of bytes.
DDL = """
CREATE TABLE public.held (id numeric(12,0) PRIMARY KEY, n int NOT NULL, note text NOT NULL);
CREATE TABLE public.held_too (id numeric(12,0) PRIMARY KEY, n int NOT NULL, note text NOT NULL);
CREATE TABLE public.near (id bigint PRIMARY KEY, n int, note text);
CREATE TABLE public.emptied (id bigint PRIMARY KEY, n int);
"""
HELD_ROWS = 24000  # of half a kilobyte
TOO_ROWS = 11000  # another one, which is next by its size
NEAR_ROWS = 1000
ROWS = f"""
INSERT INTO public.held SELECT g, 0, repeat(md5(g::text), 16) FROM generate_series(1, {HELD_ROWS}) g;
INSERT INTO public.held_too SELECT g, 0, repeat(md5(g::text), 16) FROM generate_series(1, {TOO_ROWS}) g;
INSERT INTO public.near SELECT g, 0, repeat(md5(g::text), 16) FROM generate_series(1, {NEAR_ROWS}) g;
INSERT INTO public.emptied SELECT g, g FROM generate_series(1, 500) g;
ANALYZE;
"""
YAML = """
shard_by: id
tables:
  "public.*": identical
queue_bytes_max: 1MiB
"""
SLOW = "source_rate_max: 500kB\n"
TABLES = [
    TableSpec("public.held", "id", {"n": lambda dice: dice.randint(1, 999),
                                    "note": lambda dice: "x" * dice.randint(1, 3000)}),
    TableSpec("public.near", "id", {"n": lambda dice: dice.randint(1, 999),
                                    "note": lambda dice: "y" * dice.randint(1, 3000)}),
]


class Churn:
    """Updates many rows of a table at once, until its end."""

    def __init__(self, carried, table="public.held", rows=400):
        self.dsn, self.table, self.rows = carried.source_server.dsn(carried.name), table, rows
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping.set()
        self.thread.join(60)
        assert not self.thread.is_alive()

    def work(self):
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            low = 0
            while not self.stopping.is_set():
                low = (low + self.rows) % HELD_ROWS
                with contextlib.suppress(psycopg.errors.DeadlockDetected):
                    conn.execute(f"UPDATE {self.table} SET n = n + 1, note = reverse(note)"
                                 " WHERE id > %s AND id <= %s", [low, low + self.rows])


@pytest.fixture
def spilling(migration, folder):
    """A table that takes long to be copied, and others beside it."""
    spill = folder / "spill"
    spill.mkdir()

    def make(settings):
        return migration(DDL + ROWS, DDL, f"{YAML}{settings}spill_dir: {spill}\n")
    return make


@pytest.fixture
def slow(spilling):
    return spilling(SLOW)


@pytest.fixture
def seconds(spilling):
    return spilling("source_rate_max: 3MB\n")


def is_copied(carried, table):
    """On all shards; None while there are no ranges yet."""
    done = []
    for shard in range(len(carried.shard_names)):
        with contextlib.suppress(psycopg.errors.UndefinedTable):
            done += [row[0] for row in carried.shard_sql(
                shard, "SELECT done FROM portage.range WHERE mapping = %s", [table])]
    return all(done) if done else None


def wait_on_hold(carried):
    """Until the table is being read: it is on hold then, and its lanes meet changes of it."""
    reading = ("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
               " AND application_name LIKE 'pgportage copy%' AND query LIKE 'COPY%held%'")
    wait_until(lambda: carried.portage.check_running() or carried.source_sql(reading)[0][0],
               60, "the copy of public.held", explain=carried.portage.explain)


def positions(carried, kind):
    """Progress of the lanes of one kind."""
    first = 0 if kind == "others" else LANES
    return [lsn(lane["progress"]) for lane in carried.portage.status()["lanes"]
            if first <= lane["lane"] < first + LANES]


def wait_passed(carried, position, explain="the other tables' lanes"):
    wait_until(lambda: min(positions(carried, "others")) >= lsn(position), 30,
               f"{explain} to pass {position}", explain=carried.portage.explain)


def assert_still_on_hold(carried, position):
    assert min(positions(carried, "whole")) < lsn(position)
    assert is_copied(carried, "public.held") is False, "the copy was faster than the test"


def hurry(carried):
    """Enough has been seen: killed, to go on at full speed."""
    carried.portage.kill9()
    config = carried.config.read_text(encoding="utf-8")
    assert SLOW in config
    carried.config.write_text(config.replace(SLOW, ""), encoding="utf-8")


def test_other_tables_flow_while_one_is_on_hold(slow):
    """… are copied, changed, emptied, through a kill; what waits is in files, which leave nothing."""
    dsn = slow.source_server.dsn(slow.name)
    with Writers(dsn, TABLES, rate=100) as writers, Churn(slow) as churn:
        writers.wait_for_transactions(20)
        slow.portage.start()
        wait_on_hold(slow)
        wait_until(lambda: slow.portage.status()["spilled_bytes"] > 1 << 20, 30,
                   "changes to wait in files", explain=slow.portage.explain)
        position = slow.source_position()
        wait_passed(slow, position)
        assert_still_on_hold(slow, position)
        slow.portage.kill9()
        assert os.listdir(slow.folder.parent / "spill") == []
        assert slow.portage.status()["spilled_bytes"] == 0

        slow.portage.restart()
        wait_on_hold(slow)
        wait_until(lambda: is_copied(slow, "public.near") and is_copied(slow, "public.emptied"), 60,
                   "the copy of the other tables", explain=slow.portage.explain)
        writers.wait_for_transactions(5)
        slow.source_sql("TRUNCATE public.emptied")
        slow.source_sql("INSERT INTO public.emptied VALUES (7, 7)")
        position = slow.source_position()
        wait_passed(slow, position)
        rows = [row for shard in range(2) for row in slow.shard_sql(
            shard, "SELECT id, n FROM public.emptied")]
        assert rows == [(7, 7)]
        assert_still_on_hold(slow, position)
        churn.stop()
        hurry(slow)
        slow.portage.restart()
        slow.wait_ready()
        writers.wait_for_transactions(100)
        slow.finish_load_and_compare(writers)
    status = slow.portage.status()
    assert status["spilled_bytes"] == 0
    assert [lane["lane"] for lane in status["lanes"]] == 2 * list(range(2 * LANES))
    assert os.listdir(slow.folder.parent / "spill") == []


def test_a_truncate_of_another_one_while_one_is_on_hold(migration, folder):
    """What came before it is applied all the same, and the log says what waits for what."""
    wiped = "CREATE TABLE public.wiped (id numeric(12,0) PRIMARY KEY, n int);"
    carried = migration(DDL + wiped + ROWS + "INSERT INTO public.wiped VALUES (1, 1);", DDL + wiped,
                        f"{YAML}{SLOW}spill_dir: {folder}\n")
    dsn = carried.source_server.dsn(carried.name)
    with Writers(dsn, TABLES, rate=100) as writers, Churn(carried) as churn:
        writers.wait_for_transactions(20)
        carried.portage.start()
        wait_on_hold(carried)
        wait_until(lambda: carried.portage.status()["spilled_bytes"] > 1 << 20, 30,
                   "changes to wait behind the hold", explain=carried.portage.explain)
        # One at a time: the last ones are in a batch that is not full.
        with carried.source_server.connect(carried.name) as conn:
            for n in range(1, 201):
                conn.execute("UPDATE public.near SET n = %s WHERE id = 1", [-n])
            position = carried.source_position()
            conn.execute("UPDATE public.near SET n = -1000 WHERE id = 1")
            conn.execute("TRUNCATE public.wiped")
        carried.portage.wait_for_log(
            "a TRUNCATE of public.wiped waits while public.held is being copied", 40)
        wait_passed(carried, position)
        assert_still_on_hold(carried, position)
        behind = carried.source_position()
        assert min(positions(carried, "others")) < lsn(behind)
        churn.stop()
        hurry(carried)
        carried.portage.restart()
        carried.wait_ready()
        carried.finish_load_and_compare(writers)
    assert carried.source_sql("SELECT count(*) FROM public.wiped") == [(0,)]


def carry_under_churn(carried):
    with Writers(carried.source_server.dsn(carried.name), TABLES, rate=100) as writers:
        with Churn(carried):
            carried.portage.start()
            wait_on_hold(carried)
            yield
        # To its end, in this one run: what was refused for want of room has not been lost.
        carried.wait_ready()
        carried.finish_load_and_compare(writers)


under_churn = contextlib.contextmanager(carry_under_churn)


def test_the_bound_of_the_files(seconds):
    """Then the stream stands still until the copy is through, and says why."""
    with open(seconds.config, "a", encoding="utf-8") as config:
        config.write("spill_bytes_max: 600kB\n")
    with under_churn(seconds):
        seconds.portage.wait_for_log(r"fill spill_bytes_max \(600000 bytes")
        assert seconds.portage.status()["spilled_bytes"] <= 600000
    assert seconds.portage.log_contains("the stream stands still")
    assert "beginning again" not in seconds.portage.logs()


def test_a_disk_that_is_full(seconds, folder):
    """Is as the bound: what waits in memory and in files goes on, and nothing begins again."""
    limited = folder / "limited"
    limited.write_text("#!/bin/sh\ntrap '' XFSZ\nulimit -f 1000\n"  # blocks of 512 bytes
                       f"exec {seconds.portage.program} \"$@\"\n", encoding="ascii")
    limited.chmod(0o755)
    seconds.portage.program = limited
    with under_churn(seconds):
        seconds.portage.wait_for_log("could not write to a file in .*spill.*: File too large")
        assert seconds.portage.log_contains("spill_dir")
    assert "beginning again" not in seconds.portage.logs()


def test_a_folder_that_is_not_there(migration):
    carried = migration(DDL + ROWS, DDL, YAML + "spill_dir: /nowhere/at/all\n")
    code, log = failure(carried)
    assert code == 3
    assert 'could not make a file in "/nowhere/at/all"' in log
    assert "spill_dir" in log


def test_no_files_at_all(migration):
    """Memory alone, as a folder is not looked at then."""
    carried = migration(DDL + ROWS, DDL, YAML + "spill_bytes_max: 0\nspill_dir: /nowhere\n")
    carry(carried, TABLES, rate=100)


def test_without_such_tables_there_are_no_such_lanes(migration):
    ddl = "CREATE TABLE public.near (id bigint PRIMARY KEY, n int, note text);"
    carried = migration(ddl, ddl, YAML)
    carry(carried, TABLES[1:], rate=100)
    assert len(carried.portage.status()["lanes"]) == 2 * LANES


def test_a_migration_that_an_earlier_version_began(migration):
    """Has no such lanes, and gets none: it goes on as it began."""
    carried = migration(DDL + ROWS, DDL, YAML)
    carry(carried, TABLES, rate=100)
    carried.portage.stop()
    for shard in range(2):
        carried.shard_sql(shard, "DELETE FROM portage.setting WHERE name = 'whole_tables'")
        carried.shard_sql(shard, "DELETE FROM portage.lane WHERE lane >= %s", [LANES])
    with Writers(carried.source_server.dsn(carried.name), TABLES, seed=2, rate=100) as writers:
        writers.wait_for_transactions(100)
        carried.portage.restart()
        writers.wait_for_transactions(100)
        carried.finish_load_and_compare(writers)
    assert len(carried.portage.status()["lanes"]) == 2 * LANES


def test_parts_of_a_merge_keep_to_lanes_of_one_kind(migration):
    """A unique value moves between rows that come from a table copied whole and one that is not."""
    source = """
        CREATE TABLE public.a (id bigint PRIMARY KEY, v int);
        CREATE TABLE public.b (id numeric(12,0) PRIMARY KEY, v int);
        INSERT INTO public.a SELECT g, g FROM generate_series(1, 300) g;
        INSERT INTO public.b SELECT g, -g FROM generate_series(1, 300) g;"""
    target = """
        CREATE TABLE public.m (kind text, id text, v int UNIQUE, PRIMARY KEY (kind, id));"""
    carried = migration(source, target, """
        tables:
          public.m:
            - {from: public.a, select: "'a'::text AS kind, id::text AS id, v"}
            - {from: public.b, select: "'b'::text AS kind, id::text AS id, v"}
        """, shards=1)
    carried.run_until_ready()
    names = carried.shard_sql(0, "SELECT value FROM portage.setting WHERE name = 'whole_tables'")
    assert names == [("public.m<-public.a\npublic.m<-public.b\n",)]
    with carried.source_server.connect(carried.name) as conn:
        for step in range(200):
            giver, taker = ("a", "b") if step % 2 == 0 else ("b", "a")
            conn.execute(f"UPDATE public.{giver} SET v = NULL WHERE id = 5")
            conn.execute(f"UPDATE public.{taker} SET v = 5 WHERE id = 5")
    carried.wait_caught_up()
    assert carried.shard_sql(0, "SELECT kind FROM public.m WHERE v = 5") == [("a",)]
    assert "beginning again" not in carried.portage.logs()


def test_a_switch_there_and_back(migration):
    """Its marker goes by all lanes; on the way back there is one kind of them."""
    carried = migration(DDL + ROWS, DDL, YAML)
    carry(carried, TABLES, rate=100)
    carried.portage.wait_for_log("the gates are laid")
    carried.portage.wait_for_log("way back is ready")
    for verb in ("cutover", "rollback"):
        carried.portage.command(verb, "--verified-within", "86400")
        write = carried.shard_sql if verb == "cutover" else lambda _, sql: carried.source_sql(sql)
        for shard in range(2 if verb == "cutover" else 1):
            write(shard, f"UPDATE public.held SET n = -n - {shard} WHERE n > 0")
        carried.portage.wait_for_phase("backward" if verb == "cutover" else "ready", 60)
        lanes = carried.portage.status()["lanes"]
        assert len(lanes) == (2 * LANES if verb == "cutover" else 4 * LANES)
    carried.finish_load_and_compare()
