"""Hard cases of source, slot and snapshot (S), each by its id."""
import threading
import time

import psycopg
import pytest

from harness.carry import carry
from harness.polling import wait_until
from harness.writers import TableSpec, Writers

DDL = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
ROWS = "INSERT INTO public.t SELECT g, g FROM generate_series(1, 3000) g;"
BY_ID = "shard_by: id\ntables:\n  \"public.*\": identical\n"
TABLE = TableSpec("public.t", "id", {"n": lambda dice: dice.randint(1, 999)}, keys=4000)


def test_S1_S2_a_transaction_is_open_while_we_begin(migration):
    carried = migration(DDL + ROWS, DDL, BY_ID)
    with psycopg.connect(carried.source_server.dsn(carried.name)) as early:
        early.execute("UPDATE public.t SET n = -1 WHERE id <= 100")
        carried.portage.start()
        # It says whom it waits for.
        carried.portage.wait_for_log(r"the slot waits for a transaction of postgres", timeout=40)
        early.execute("INSERT INTO public.t SELECT g, g FROM generate_series(9000, 9100) g")
        early.commit()
    carried.wait_ready()
    carried.finish_load_and_compare()


def test_S3_timeouts_of_the_role_do_not_end_our_sessions(migration):
    carried = migration(DDL + ROWS, DDL, BY_ID)
    settings = ["idle_in_transaction_session_timeout = '300ms'", "statement_timeout = '300ms'",
                "lock_timeout = '100ms'"]
    for setting in settings:
        carried.source_sql(f"ALTER ROLE portage IN DATABASE {carried.name} SET {setting}")
    carry(carried, [TABLE], after=500)
    assert not carried.portage.log_contains("beginning again")


class HeldCommit:
    """A commit that is in the WAL, and delivered by the stream, but not visible to snapshots: its
    backend waits for a synchronous standby that does not exist."""

    def __init__(self, server, database, statement):
        self.server, self.database, self.statement = server, database, statement
        self.thread = threading.Thread(target=self.commit, daemon=True)

    def commit(self):
        with psycopg.connect(self.server.dsn(self.database), autocommit=True) as conn:
            conn.execute("SET application_name = 'held'")
            conn.execute(self.statement)

    def set_names(self, names):
        with psycopg.connect(self.server.dsn(), autocommit=True) as conn:
            conn.execute("SET synchronous_commit = local")
            conn.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
            conn.execute("SELECT pg_reload_conf()")
        wait_until(lambda: self.server.value("SHOW synchronous_standby_names") == names, 10,
                   "the setting to be read")

    def __enter__(self):
        self.set_names("nobody")
        self.thread.start()
        wait_until(lambda: self.server.value(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'held'"
            " AND wait_event = 'SyncRep'") == 1, 10, "the commit to wait for its standby")
        return self

    def __exit__(self, *_):
        self.set_names("")
        self.thread.join(timeout=10)
        assert not self.thread.is_alive()


@pytest.fixture
def own_source(postgres, migration):
    from conftest import SOURCE_VERSION
    source = postgres(SOURCE_VERSION)
    made = migration(DDL + ROWS, DDL, BY_ID + "chunk_ms: 50\n", source=source)
    yield made
    made.portage.close()


def test_S5_a_commit_that_the_stream_shows_before_snapshots_do(own_source):
    """The narrow window of the copy, held open: no chunk may be taken from a snapshot that misses a
    transaction which the stream has skipped."""
    own_source.portage.start()
    own_source.wait_ready()
    # A table that is copied again from its beginning, with the commit held meanwhile.
    own_source.portage.stop()
    for shard in range(2):
        own_source.shard_sql(shard, "TRUNCATE public.t; DELETE FROM portage.chunk;"
                                    "UPDATE portage.range SET cursor = NULL, done = false, rows = 0")
    with HeldCommit(own_source.source_server, own_source.name,
                    "UPDATE public.t SET n = -5 WHERE id % 10 = 0"):
        own_source.portage.start()
        own_source.portage.wait_for_log("0 rows copied", timeout=30)
        rows = sum(own_source.shard_sql(s, "SELECT sum(rows)::bigint FROM portage.range")[0][0]
                   for s in range(2))
        assert rows == 0
    wait_until(lambda: own_source.shard_sql(0, "SELECT bool_and(done) FROM portage.range")[0][0], 60,
               "the copy", explain=own_source.portage.explain)
    own_source.finish_load_and_compare()


def test_S5_skipped_while_running_and_not_yet_visible(own_source):
    """The same without a restart: the commit comes while a large table is being copied."""
    own_source.source_sql("INSERT INTO public.t SELECT g, g FROM generate_series(10000, 400000) g;"
                          "ANALYZE public.t")
    own_source.portage.start()
    wait_until(lambda: own_source.progress() and sum(
        own_source.shard_sql(s, "SELECT coalesce(sum(rows), 0)::bigint FROM portage.range")[0][0]
        for s in range(2)) > 0, 30, "the copy to begin", interval=0.01)
    with HeldCommit(own_source.source_server, own_source.name,
                    "UPDATE public.t SET n = -5 WHERE id % 1000 = 0"):
        before = own_source.shard_sql(0, "SELECT bool_and(done) FROM portage.range")[0][0]
        threading.Event().wait(2)
        after = own_source.shard_sql(0, "SELECT bool_and(done) FROM portage.range")[0][0]
        assert before or not after, "the copy went on over a commit that it could not see"
    own_source.wait_ready()
    own_source.finish_load_and_compare()


def test_S5_a_source_that_waits_for_us_never_stands_still(own_source):
    """We are its synchronous standby: what is on hold must not keep from us what we wait for."""
    own_source.source_sql("INSERT INTO public.t SELECT g, g FROM generate_series(10000, 40000) g;"
                          "ANALYZE public.t")
    own_source.portage.start()
    wait_until(lambda: own_source.source_server.value(
        "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pgportage receiver'"), 30,
        "the stream")
    HeldCommit(own_source.source_server, own_source.name, "").set_names('"pgportage receiver"')
    longest, writes = 0.0, 0
    with psycopg.connect(own_source.source_server.dsn(own_source.name), autocommit=True) as conn:
        while own_source.portage.phase() != "ready":
            own_source.portage.check_running()
            for _ in range(20):
                begun = time.monotonic()
                # A row of the beginning and one of the end: on hold, and far behind it.
                conn.execute("UPDATE public.t SET n = n + 1 WHERE id IN (%s, %s)",
                             [writes * 37 % 40000, 40000 - writes * 41 % 40000])
                longest, writes = max(longest, time.monotonic() - begun), writes + 1
    HeldCommit(own_source.source_server, own_source.name, "").set_names("")
    assert longest < 8, f"a commit waited {longest:.1f} s"  # less than the time after which a hold ends
    own_source.finish_load_and_compare()


def test_S5_R1_a_value_is_read_back_before_snapshots_show_it(postgres, migration):
    """What is read back must be no older than the change that needs it."""
    from conftest import SOURCE_VERSION
    source = """CREATE TABLE public.t (id bigint PRIMARY KEY, body text, note text);
        ALTER TABLE public.t ALTER body SET STORAGE EXTERNAL;
        INSERT INTO public.t SELECT g, repeat('a', 5000), 'n' FROM generate_series(1, 3) g;"""
    target = "CREATE TABLE public.t (id bigint PRIMARY KEY, both_of_them text);"
    carried = migration(source, target, """
        tables:
          public.t: {select: "id, body || note AS both_of_them"}
    """, shards=1, source=postgres(SOURCE_VERSION))
    try:
        carried.run_until_ready()
        with HeldCommit(carried.source_server, carried.name, """
                UPDATE public.t SET body = repeat('b', 5000); UPDATE public.t SET note = 'm';
                UPDATE public.t SET id = 13 WHERE id = 3"""):
            threading.Event().wait(2)  # enough to read the old value, if it does
        carried.finish_load_and_compare()
        assert carried.shard_sql(0, "SELECT count(*) FROM portage.ghost")[0][0] == 0
    finally:
        carried.portage.close()


def test_S7_the_slot_was_made_again(migration):
    carried = migration(DDL + ROWS, DDL, BY_ID)
    carried.run_until_ready()
    carried.portage.stop()
    slot = f"pgportage_{carried.name}"
    carried.source_sql("SELECT pg_drop_replication_slot(%s)", [slot])
    carried.source_sql("UPDATE public.t SET n = 0 WHERE id < 10")
    carried.portage.start()
    assert carried.portage.wait(30) == 3
    assert "is gone" in carried.portage.logs()
    carried.source_sql("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    carried.portage.start()
    assert carried.portage.wait(30) == 3
    assert "ahead of what the shards have" in carried.portage.logs()


def test_S9_nothing_is_left_behind(migration):
    carried = migration(DDL + ROWS, DDL, BY_ID)
    carried.portage.start()
    carried.portage.wait_for_log("phase: copying")
    carried.portage.kill9()
    assert carried.leftovers()
    carried.portage.abort()
    assert carried.leftovers() == []


def test_S9_a_slot_of_somebody_else_is_left_alone(migration):
    carried = migration(DDL + ROWS, DDL, BY_ID)
    slot = f"pgportage_{carried.name}"
    carried.source_sql("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", [slot])
    carried.portage.start()
    assert carried.portage.wait(30) == 3
    assert "is not of this migration" in carried.portage.logs()
    carried.portage.abort()
    assert carried.source_sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s",
                              [slot])[0][0] == 1
    carried.source_sql("SELECT pg_drop_replication_slot(%s)", [slot])


def test_snapshots_are_short(migration, request):
    """No snapshot of ours is older than one chunk, also on a table of some size."""
    rows = 2000000 if request.config.getoption("--full") else 300000
    carried = migration(DDL, DDL, BY_ID)
    carried.source_sql(f"INSERT INTO public.t SELECT g, g FROM generate_series(1, {rows}) g; ANALYZE")
    oldest = 0
    stopping = threading.Event()

    def watch():
        nonlocal oldest
        with psycopg.connect(carried.source_server.dsn(carried.name), autocommit=True) as conn:
            while not stopping.wait(0.05):
                age = conn.execute(
                    "SELECT COALESCE(max(EXTRACT(epoch FROM clock_timestamp() - xact_start)), 0)"
                    "  FROM pg_stat_activity WHERE application_name LIKE 'pgportage copy%%'"
                    "   AND backend_xmin IS NOT NULL").fetchone()[0]
                oldest = max(oldest, float(age))
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with Writers(carried.source_server.dsn(carried.name), [TABLE], seed=4, rate=300) as writers:
            carried.run_until_ready(600)
            carried.finish_load_and_compare(writers)
    finally:
        stopping.set()
        watcher.join()
    print(f"oldest snapshot: {oldest:.2f} s")
    assert 0 < oldest < 5
