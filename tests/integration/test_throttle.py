"""The copy waits while the source is over a limit; the stream does not."""
import contextlib
import re
import shutil
import subprocess

import psycopg
import pytest

from conftest import SOURCE_VERSION
from harness.carry import refusal
from harness.polling import wait_until
from harness.postgres import Postgres
from harness.writers import TableSpec, Writers

DDL = """CREATE TABLE public.t (id bigint PRIMARY KEY, n int);
    CREATE TABLE public.large (id bigint PRIMARY KEY, filler text);"""
ROWS = """INSERT INTO public.t SELECT g, g FROM generate_series(1, 1000) g;
    INSERT INTO public.large SELECT g, repeat('x', 500) FROM generate_series(1, 60000) g;
    ANALYZE;"""
TABLE = TableSpec("public.t", "id", {"n": lambda dice: dice.randint(1, 999)}, keys=2000)
COPIED_SQL = "SELECT coalesce(sum(rows), 0)::bigint FROM portage.range WHERE mapping = 'public.large'"


def mapping(throttle):
    # Chunks of about 8000 rows, so that there is always a next one.
    return f"chunk_ms: 10\nsource_rate_max: 4MiB\nthrottle: {throttle}\ntables:\n  \"public.*\": identical\n"


def copied(carried):
    return carried.shard_sql(0, COPIED_SQL)[0][0]


def start_copying(carried):
    carried.portage.start()

    def begun():
        carried.portage.check_running()
        with contextlib.suppress(psycopg.errors.UndefinedTable):
            return copied(carried) > 0
        return False
    wait_until(begun, 60, "the copy to begin", interval=0.02, explain=carried.portage.explain)


def assert_waits(carried, why, writers):
    """Says so, copies nothing, and goes on to apply what is written."""
    carried.portage.wait_for_log(r"the copy waits: " + why)
    wait_until(lambda: carried.source_sql(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgportage copy%%'"
        " AND state <> 'idle' AND datname = current_database()") == [(0,)], 30, "chunks under way to end")
    rows = copied(carried)
    assert rows < 60000
    status = carried.portage.status()
    assert status["phase"] == "copying" and re.search(why, status["copy_waits"])
    assert f"copy waits    {status['copy_waits']}" in carried.portage.command("status").stdout
    writers.wait_for_transactions(50)
    carried.portage.wait_for_log(r"copying: .*, waits: " + why)
    assert copied(carried) == rows
    assert carried.portage.status()["copy_waits"]


@pytest.fixture
def source(postgres):
    """Of its own: other tests' sessions do not count."""
    return postgres(SOURCE_VERSION)


@pytest.fixture
def standby(source):
    """A streaming standby, and the server that it follows."""
    source.sql("CREATE ROLE replica LOGIN REPLICATION")
    with open(source.data / "pg_hba.conf", "a", encoding="utf-8") as hba:
        hba.write("host replication all 127.0.0.1/32 trust\n")
    source.sql("SELECT pg_reload_conf()")
    made = Standby(source)
    try:
        yield made.start()
    finally:
        made.close()


class Standby(Postgres):
    def __init__(self, primary):
        self.primary = primary
        super().__init__(primary.version, name="standby")

    def initdb(self):
        """As pg_basebackup does it; not every version of the tests' servers comes with that."""
        old = self.version < 15
        with self.primary.connect() as conn:
            conn.execute("SELECT pg_start_backup('standby', true, false)" if old
                         else "SELECT pg_backup_start('standby', true)")
            # Files that go away meanwhile are no error of ours.
            subprocess.run(["cp", "-a", self.primary.data, self.data], check=False, stderr=subprocess.DEVNULL)
            label, = conn.execute("SELECT labelfile FROM pg_stop_backup(false, false)" if old
                                  else "SELECT labelfile FROM pg_backup_stop(false)").fetchone()
        (self.data / "postmaster.pid").unlink()
        (self.data / "backup_label").write_text(label, encoding="utf-8")
        (self.data / "standby.signal").touch()
        shutil.chown(self.folder, "postgres", "postgres")
        shutil.chown(self.data / "backup_label", "postgres", "postgres")

    def configure(self, settings):
        follow = f"host=127.0.0.1 port={self.primary.port} user=replica application_name=near"
        super().configure({**settings, "hot_standby": "on", "primary_conninfo": f"'{follow}'",
                           "wal_receiver_status_interval": "'1s'"})


def test_a_standby_that_falls_behind(source, standby, migration):
    carried = migration(DDL + ROWS, DDL, mapping("{source_replica_lag_max: 2s}"), shards=1, source=source)
    position = source.value("SELECT pg_current_wal_lsn()")
    wait_until(lambda: standby.sql("SELECT pg_last_wal_replay_lsn() >= %s", [position]) == [(True,)], 60,
               "the standby")
    with Writers(source.dsn(carried.name), [TABLE], seed=21, rate=200) as writers:
        writers.wait_for_transactions(20)
        standby.sql("SELECT pg_wal_replay_pause()")
        start_copying(carried)
        assert_waits(carried, r"the source's standby near replays \d", writers)
        standby.sql("SELECT pg_wal_replay_resume()")
        carried.portage.wait_for_log(r"the copy goes on, after \d+\.\d s")
        carried.wait_ready()
        assert carried.portage.status()["copy_waits"] is None
        carried.finish_load_and_compare(writers)


def test_too_many_active_sessions(source, migration):
    carried = migration(DDL + ROWS, DDL, mapping("{source_active_max: 7}"), shards=1, source=source)
    with contextlib.ExitStack() as stack:
        writers = stack.enter_context(Writers(source.dsn(carried.name), [TABLE], seed=22, rate=100))
        start_copying(carried)
        assert not carried.portage.log_contains("the copy waits")
        sleepers = [stack.enter_context(psycopg.connect(source.dsn(), autocommit=True)) for _ in range(12)]
        for sleeper in sleepers:
            sleeper.pgconn.send_query(b"SELECT pg_sleep(600)")
        assert_waits(carried, "1[2-9] sessions of others are active", writers)
        for sleeper in sleepers:
            sleeper.pgconn.finish()
        source.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)'"
                   " AND pid <> pg_backend_pid()")
        carried.portage.wait_for_log(r"the copy goes on, after \d+\.\d s")
        carried.wait_ready()
        carried.finish_load_and_compare(writers)


def test_a_limit_that_cannot_be_seen_is_refused(source, migration):
    carried = migration(DDL, DDL, mapping("{source_active_max: 50}"), shards=1, source=source)
    carried.source_sql("REVOKE pg_read_all_stats FROM portage")
    try:
        assert refusal(carried)["throttle-blind"]["fix"] == "GRANT pg_read_all_stats TO portage;"
    finally:
        carried.source_sql("GRANT pg_read_all_stats TO portage")
