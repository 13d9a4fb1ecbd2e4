"""Hard cases of operation (O), each by its id."""
import contextlib
import os
import pty
import re
import signal
import subprocess
import time

import pytest

from harness.carry import carry, failure
from harness.polling import wait_until
from harness.postgres import free_port
from harness.writers import TableSpec, Writers

DDL = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
ROWS = "INSERT INTO public.t SELECT g, g FROM generate_series(1, 3000) g;"
BY_ID = "shard_by: id\ntables:\n  \"public.*\": identical\n"
TABLE = TableSpec("public.t", "id", {"n": lambda dice: dice.randint(1, 999)}, keys=4000)


@pytest.fixture
def plain(migration):
    return migration(DDL + ROWS, DDL, BY_ID)


def test_O1_timeouts_of_the_role_on_the_target(plain):
    for shard, database in enumerate(plain.shard_names):
        for setting in ("statement_timeout = '20ms'", "lock_timeout = '1ms'",
                        "idle_in_transaction_session_timeout = '1ms'"):
            plain.shard_sql(shard, f"ALTER ROLE portage IN DATABASE {database} SET {setting}")
    carry(plain, [TABLE])
    assert not plain.portage.log_contains("beginning again")


def test_O3_no_secret_comes_out(plain):
    canary = "c4n4ry-s3cr3t"
    config = plain.config.read_text(encoding="utf-8")
    plain.config.write_text(config.replace("portage@", f"portage:{canary}@"), encoding="utf-8")
    assert canary in plain.config.read_text(encoding="utf-8")
    said = [plain.portage.command("plan").stdout]
    plain.run_until_ready()
    said.append(plain.portage.command("status").stdout)
    with open(f"/proc/{plain.portage.process.pid}/cmdline", encoding="utf-8") as line:
        said.append(line.read())
    plain.portage.stop()
    for shard in range(2):
        state = plain.shard_sql(shard, "SELECT string_agg(s::text, ' ') FROM portage.setting s")
        said.append(str(state))
    port = f":{plain.source_server.port}/"
    plain.config.write_text(plain.config.read_text(encoding="utf-8").replace(
        port, f":{free_port()}/", 1), encoding="utf-8")
    broken = plain.portage.command("plan", check=False)
    assert broken.returncode != 0
    said += [broken.stdout, broken.stderr, plain.portage.logs()]
    assert not any(canary in text for text in said)


def test_O4_a_pooler_is_refused(plain, folder):
    port = free_port()
    server = plain.source_server
    ini = folder / "pgbouncer.ini"
    ini.write_text(f"""[databases]
{plain.name} = host=127.0.0.1 port={server.port} dbname={plain.name}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = transaction
ignore_startup_parameters = extra_float_digits
unix_socket_dir =
""".replace(f"dbname={plain.name}", f"dbname={plain.name} user=portage"), encoding="utf-8")
    folder.chmod(0o755)
    os.chmod(ini, 0o644)
    with subprocess.Popen(["runuser", "-u", "postgres", "--", "pgbouncer", "-q", ini],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as bouncer:
        try:
            config = plain.config.read_text(encoding="utf-8")
            plain.config.write_text(config.replace(f":{server.port}/{plain.name}\"",
                                                   f":{port}/{plain.name}\"", 1), encoding="utf-8")

            def refused():
                done = plain.portage.command("plan", check=False)
                return done.returncode == 3 and "pooler" in done.stderr.lower()
            wait_until(refused, 20, "the pooler to be found out", interval=0.3,
                       explain=lambda: plain.portage.command("plan", check=False).stderr)
        finally:
            bouncer.terminate()


def test_O5_a_target_that_lost_commits_is_found_out(plain):
    plain.run_until_ready()
    plain.source_sql("UPDATE public.t SET n = n + 1")
    plain.wait_caught_up()
    plain.portage.stop()
    # As after a failover to a standby that was behind: progress and rows are of an earlier time.
    plain.shard_sql(0, "UPDATE portage.lane SET progress = '0/1000000'")
    plain.portage.start()
    assert plain.portage.wait(30) == 3
    assert "ahead of what the shards have" in plain.portage.logs()


def test_O6_the_second_instance_waits_and_takes_over(plain):
    second = plain.instance("second")
    with Writers(plain.source_server.dsn(plain.name), [TABLE], seed=6, rate=300) as writers:
        plain.run_until_ready()
        second.start()
        second.wait_for_log("waiting as a standby")
        writers.wait_for_transactions(50)
        plain.portage.kill9()
        second.wait_for_log("taking over")
        plain.portage = second
        writers.wait_for_transactions(100)
        plain.finish_load_and_compare(writers)


def test_O6_an_instance_that_slept_writes_nothing(plain):
    first, second = plain.portage, plain.instance("second")
    with Writers(plain.source_server.dsn(plain.name), [TABLE], seed=6, rate=300) as writers:
        plain.run_until_ready()
        second.start()
        second.wait_for_log("waiting as a standby")
        os.kill(first.process.pid, signal.SIGSTOP)
        # Its session is cut, as a network does it, so that the lock is free.
        plain.shard_sql(0, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                           " WHERE datname = current_database()"
                           " AND application_name = 'pgportage instance'"
                           " AND pid = (SELECT pid FROM pg_locks WHERE locktype = 'advisory'"
                           "             AND granted AND database = (SELECT oid FROM pg_database"
                           "              WHERE datname = current_database()) LIMIT 1)")
        second.wait_for_log("taking over", timeout=30)
        # The slot of the sleeper is freed as wal_sender_timeout would do it.
        wait_until(lambda: plain.source_sql(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
            " WHERE database = current_database() AND active") is not None, 10, "the slot")
        os.kill(first.process.pid, signal.SIGCONT)
        writers.wait_for_transactions(200)
        first.wait_for_log("waiting as a standby", timeout=60)
        plain.portage = second
        plain.finish_load_and_compare(writers)
    assert first.is_running()


STATUS_SQL = """SELECT mapping, phase, ranges, ranges_done, rows, bytes > 0, progress > '0/0',
    lag_seconds FROM portage.status ORDER BY mapping"""


def test_the_view_of_the_status(migration):
    ddl = DDL + "CREATE TABLE public.u (id bigint PRIMARY KEY, n int); CREATE INDEX ON public.u (n);"
    carried = migration(ddl + ROWS, ddl, "tables:\n  \"public.*\": identical\n", shards=1)
    carried.run_until_ready()
    assert [row[:-1] for row in carried.shard_sql(0, STATUS_SQL)] == [
        ("public.t", "ready", 1, 1, 3000, True, True),
        ("public.u", "ready", 1, 1, 0, False, True)]
    carried.source_sql("UPDATE public.t SET n = 0")
    carried.wait_caught_up()
    lags = [row[-1] for row in carried.shard_sql(0, STATUS_SQL)]
    assert all(0 <= lag < 60 for lag in lags)
    carried.portage.stop()
    carried.shard_sql(0, "UPDATE portage.deferred SET state = 'building';"
                         "UPDATE portage.range SET done = false WHERE mapping = 'public.t'")
    assert [row[1] for row in carried.shard_sql(0, STATUS_SQL)] == ["copying", "indexing"]


class Terminal:
    """`run` as somebody sees it who watches."""

    def __init__(self, portage):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(portage.command_line("run"), stdin=subprocess.DEVNULL,
                                        stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        os.set_blocking(self.master, False)
        self.seen = ""

    def shows(self, pattern):
        with contextlib.suppress(BlockingIOError):
            self.seen += os.read(self.master, 65536).decode()
        return re.search(pattern, self.seen) is not None

    def wait_for(self, pattern):
        wait_until(lambda: self.shows(pattern), 60, repr(pattern), explain=lambda: self.seen)

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        os.close(self.master)


def test_progress_on_a_terminal(migration):
    ddl = DDL + "CREATE TABLE public.large (id bigint PRIMARY KEY, filler text);"
    carried = migration(ddl + ROWS + """
        INSERT INTO public.large SELECT g, repeat('x', 500) FROM generate_series(1, 40000) g;
        ANALYZE public.t, public.large;""", ddl, """
        source_rate_max: 4MiB
        tables:
          "public.*": identical
    """, shards=1)
    terminal = Terminal(carried.portage)
    try:
        terminal.wait_for(r"copying: 1 of 2 tables, \d+ rows copied \(\d+ MiB\), \d+/s, about \d+ s left;"
                          r" 0 changes, 0/s, lag 0\.0 ms\n?\r?\n"
                          r"  public\.large: \d+ of about 40000 rows, \d+/s, about \d+ s left")
        terminal.wait_for(r"ready: 0 changes, 0/s, lag 0\.0 ms")
        carried.source_sql("UPDATE public.t SET n = 0")
        terminal.wait_for(r"ready: 3000 changes, \d{3,}/s, lag \d+\.\d ms")
    finally:
        terminal.close()


def test_O7_one_table_fails_and_nothing_is_ready(migration):
    ddl = DDL + "CREATE TABLE public.bad (id bigint PRIMARY KEY, n {});"
    carried = migration(ddl.format("int") + ROWS + "INSERT INTO public.bad VALUES (1, 100000);",
                        ddl.format("smallint"), """
        shard_by: id
        tables:
          public.bad: {select: "id, n"}
          "public.*": identical
    """)
    done = carried.portage.command("plan", check=False)
    assert done.returncode == 1 and "public.bad" in done.stdout
    code, _ = failure(carried)
    assert code == 3
    assert carried.portage.phase() != "ready"


def test_status_tells_the_lag_in_seconds(migration):
    """Also where other tables are written to, and nothing comes for a lane; and it grows while nobody applies."""
    carried = migration(DDL + ROWS + "CREATE TABLE public.unmapped (n int);", DDL,
                        "shard_by: id\ntables:\n  public.t: identical\n").run_until_ready()

    def lag():
        carried.source_sql("INSERT INTO public.unmapped SELECT generate_series(1, 1000)")
        return carried.portage.status()["lag_seconds"]
    before = time.monotonic()
    wait_until(lambda: time.monotonic() - before > 4 and lag() < 3, 30, "a lag below the time without changes",
               interval=0.2, explain=lag)
    carried.portage.stop()
    wait_until(lambda: lag() > 3, 30, "the lag to grow", interval=0.5, explain=lag)
    carried.portage.start()
    wait_until(lambda: lag() < 3, 30, "the lag to go", interval=0.2, explain=lag)
    carried.finish_load_and_compare()


def lanes_at(carried, shard, condition="true"):
    return carried.shard_sql(shard, "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                                    f" AND application_name ~ 'pgportage lane' AND {condition}")


def test_a_lane_that_waits_for_a_lock_ends_when_it_is_told_to(plain):
    plain.run_until_ready()
    shard = next(shard for shard in range(2) if plain.shard_sql(shard, "SELECT 1 FROM public.t WHERE id = 7"))
    with plain.shard_servers[shard].connect(plain.shard_names[shard], options="-c portage.pass=on") as holder:
        holder.autocommit = False
        holder.execute("SELECT FROM public.t WHERE id = 7 FOR UPDATE")
        plain.source_sql("UPDATE public.t SET n = -n")
        wait_until(lambda: lanes_at(plain, shard, "wait_event_type = 'Lock'"), 30, "a lane to wait",
                   explain=plain.portage.explain)
        plain.portage.stop(timeout=10)
        # Nor does its session go on waiting there, with the lane's own lock.
        wait_until(lambda: lanes_at(plain, shard) == [], 5, "the lanes' sessions to end",
                   explain=lambda: lanes_at(plain, shard))
        assert plain.shard_sql(shard, "SELECT n FROM public.t WHERE id = 7") == [(7,)]
        plain.portage.restart()
        wait_until(lambda: lanes_at(plain, shard, "wait_event_type = 'Lock'"), 30, "a lane to wait again",
                   explain=plain.portage.explain)
        holder.rollback()
    plain.finish_load_and_compare()


def test_O1_who_waits_for_a_lock_of_the_target_says_so(plain):
    plain.run_until_ready()
    plain.portage.stop()
    with plain.shard_servers[0].connect(plain.shard_names[0]) as holder, holder.transaction():
        holder.execute("LOCK TABLE public.t IN SHARE MODE")
        plain.portage.start()
        plain.portage.wait_for_log("lock timeout", 60)
        assert plain.portage.log_contains("preparing the target")
    plain.wait_ready()
    plain.finish_load_and_compare()
