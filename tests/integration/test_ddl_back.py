"""DDL on the shards while the target is live: what harms the way back stops it by its name, and never the
application; what does not, goes on (S10)."""
import contextlib
import json
import threading

import psycopg
import pytest

from harness.migration import passing
from harness.polling import wait_until
from harness.writers import TableSpec, Writers

DDL = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
ROWS = "INSERT INTO public.t SELECT g, g FROM generate_series(1, 2000) g;"
PARTITIONED = """CREATE TABLE public.t (id bigint PRIMARY KEY, n int) PARTITION BY RANGE (id);
    CREATE TABLE public.t_0 PARTITION OF public.t FOR VALUES FROM (MINVALUE) TO (1000);
    CREATE TABLE public.t_1 PARTITION OF public.t FOR VALUES FROM (1000) TO (5000);"""
BY_ID = "shard_by: id\ntables:\n  \"public.*\": identical\n"
QUICK = ("--verified-within", "86400")


def switch(carried, verb):
    done = carried.portage.command("--json", verb, *QUICK, "--max-lag", "30", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def make_live(migration, target=DDL, **more):
    carried = migration(DDL + ROWS, target, BY_ID, **more)
    carried.run_until_ready()
    carried.portage.wait_for_log("the gates are laid")
    carried.portage.wait_for_log("way back is ready")
    carried.portage.command("verify")
    switch(carried, "cutover")
    carried.portage.wait_for_phase("backward", 30)
    return carried


class ShardWriters(Writers):
    """Of one shard: each key is one that belongs there."""

    @staticmethod
    def some_key(dice, table):
        return dice.choice(table.keys)


@contextlib.contextmanager
def load(carried):
    """The application, on both shards."""
    writers = []
    for shard in range(2):
        table = TableSpec("public.t", "id", {"n": lambda dice: dice.randint(1, 999)},
                          keys=carried.keys_of(shard, 4000))
        writers.append(ShardWriters(carried.shard_servers[shard].dsn(
            carried.shard_names[shard], **passing(gated=True)), [table], seed=shard, threads=2,
            rate=100).start())
    try:
        yield writers
    finally:
        for each in writers:
            each.stop()


def seen_of(carried, shard):
    """All changes of transactions before this one were seen."""
    return carried.shard_sql(0, "SELECT value::bigint FROM portage.setting WHERE name = %s",
                             [f"ddl_seen_back_{shard}"])[0][0]


def wait_for_look(carried, shard):
    xid = carried.shard_sql(shard, "SELECT txid_current()")[0][0]
    wait_until(lambda: seen_of(carried, shard) > xid, 30, "a look at the shard",
               explain=carried.portage.explain)


def wait_until_equal(carried):
    """The load rests."""
    wait_until(lambda: carried.compare().differences == 0, 60, "the way back",
               interval=1, explain=lambda: f"{carried.compare()}\n{carried.portage.explain()}")


HARMLESS = ["ALTER TABLE public.t ADD c int DEFAULT 7", "ALTER TABLE public.t ALTER n SET STATISTICS 7",
            "VACUUM FULL public.t", "CREATE INDEX ON public.t (n)", "ALTER TABLE public.t ALTER n SET DEFAULT 1"]


@pytest.mark.parametrize("target", [DDL, PARTITIONED], ids=["plain", "partitioned"])
def test_what_no_mapping_uses_may_change_on_the_shards(migration, target):
    carried = make_live(migration, target)
    for shard in range(2):
        wait_for_look(carried, shard)
    with load(carried) as writers:
        for ddl in HARMLESS:
            for shard in (1, 0):
                carried.shard_sql(shard, ddl)
            for each in writers:
                each.wait_for_transactions(10)
            for shard in range(2):
                wait_for_look(carried, shard)
    assert carried.portage.log_contains('column "c" of public.t is new at shard 1')
    assert not carried.portage.log_contains("beginning again")
    carried.portage.check_running()
    for shard in range(2):  # what the application has of its own does not come back
        carried.shard_sql(shard, "ALTER TABLE public.t DROP c")
    wait_until_equal(carried)
    switch(carried, "rollback")
    carried.finish_load_and_compare()


COLUMN_N = 'column "n" of the table public.t of shard 1'
HARMFUL = {
    "rename": ("ALTER TABLE public.t RENAME n TO m", f"{COLUMN_N} was renamed"),
    "type": ("ALTER TABLE public.t ALTER n TYPE bigint", f"{COLUMN_N} has another type"),
    "drop": ("ALTER TABLE public.t DROP n", f"{COLUMN_N} was dropped"),
    "taken back": ("ALTER TABLE public.t ALTER n TYPE bigint USING n * 2;"
                   "ALTER TABLE public.t ALTER n TYPE int", f"{COLUMN_N} was rewritten"),
    "made again": ("ALTER TABLE public.t DROP n; ALTER TABLE public.t ADD n int", f"{COLUMN_N} was dropped"),
    "table": ("DROP TABLE public.t", "the table public.t of shard 1 was dropped"),
    "another table": ("ALTER TABLE public.t RENAME TO was; CREATE TABLE public.t (LIKE public.was INCLUDING ALL);"
                      "DROP TABLE public.was", "the table public.t of shard 1 was dropped"),
    "identity": ("ALTER TABLE public.t REPLICA IDENTITY NOTHING",
                 "the table public.t of shard 1 has lost its replica identity"),
    "unpublished": ("ALTER PUBLICATION {publication} DROP TABLE public.t",
                    "the table public.t of shard 1 is gone from the publication"),
}


@pytest.mark.parametrize("case", HARMFUL)
def test_what_harms_the_way_back_stops_it_by_its_name(migration, case):
    ddl, said = HARMFUL[case]
    carried = make_live(migration)
    wait_for_look(carried, 1)
    publication = carried.shard_sql(1, "SELECT pubname FROM pg_publication")[0][0]
    written = threading.Event()
    stopping = threading.Event()

    def write():  # on the other shard: it has nothing to do with it
        with psycopg.connect(carried.shard_servers[0].dsn(carried.shard_names[0]), autocommit=True) as conn:
            while not stopping.is_set():
                conn.execute("UPDATE public.t SET n = n + 1 WHERE id = (SELECT min(id) FROM public.t)")
                written.set()
    application = threading.Thread(target=write, daemon=True)
    application.start()
    carried.shard_sql(1, ddl.format(publication=publication))
    code = carried.portage.wait(30)
    log = carried.portage.log.read_text(encoding="utf-8")
    written.clear()
    assert written.wait(10), "the application was stopped"
    assert code == 3 and said in log and "no way back any more" in log and "pgportage finish" in log, log
    if case in ("taken back", "made again"):  # it is not forgotten
        carried.portage.start()
        assert carried.portage.wait(30) == 3
    stopping.set()
    application.join()


@contextlib.contextmanager
def transaction_ids_run(server):
    """Some hundred thousand a second, on all databases of the server."""
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as conn:
        def burn():
            with contextlib.suppress(psycopg.errors.QueryCanceled):
                conn.execute("DO $$BEGIN LOOP PERFORM txid_current(); COMMIT; END LOOP; END$$")
        newest = "SELECT txid_snapshot_xmax(txid_current_snapshot())"
        before = server.sql(newest)[0][0]
        burner = threading.Thread(target=burn, daemon=True)
        burner.start()
        try:
            wait_until(lambda: server.sql(newest)[0][0] > before + 1000, 30, "the ids to run")
            yield
            assert burner.is_alive(), "the ids did not run to the end"
        finally:
            conn.cancel()
            burner.join()


def test_a_change_that_was_the_oldest_transaction_at_the_look_before(migration):
    """Its id is the very one from which on the next look looks, while the newest id runs away."""
    carried = make_live(migration)
    wait_for_look(carried, 1)
    with psycopg.connect(carried.shard_servers[1].dsn(carried.shard_names[1])) as changing:
        xid = changing.execute("SELECT txid_current()").fetchone()[0]
        with transaction_ids_run(carried.shard_servers[1]):
            changing.execute(HARMFUL["made again"][0])
            wait_until(lambda: seen_of(carried, 1) == xid, 30, "a look while it runs",
                       explain=carried.portage.explain)
            changing.commit()
            assert carried.portage.wait(30) == 3, carried.portage.explain()
    assert carried.portage.log_contains(HARMFUL["made again"][1])


def test_what_came_while_nobody_looked(migration):
    carried = make_live(migration)
    wait_for_look(carried, 0)
    carried.portage.kill9()
    carried.shard_sql(0, "ALTER TABLE public.t ALTER n TYPE bigint USING n * 2;"
                         "ALTER TABLE public.t ALTER n TYPE int")
    carried.portage.start()
    assert carried.portage.wait(30) == 3
    assert carried.portage.log_contains('column "n" of the table public.t of shard 0 was rewritten')


@pytest.mark.parametrize("version", [12, 15])
def test_partitions_that_come_and_go(servers, migration, version):
    """Before 13 each is published for itself: one is taken up while it is empty."""
    carried = make_live(migration, PARTITIONED, targets=[servers(version, "partitions")])
    with load(carried) as writers:
        for shard in range(2):
            carried.shard_sql(shard, "SET ROLE portage; CREATE TABLE public.t_2 PARTITION OF public.t"
                                     " FOR VALUES FROM (5000) TO (9000)")
        bound = ("SELECT count(*) FROM pg_publication_rel"
                 " WHERE prrelid IN ('public.t_2'::regclass, 'public.t'::regclass)")
        wait_until(lambda: all(carried.shard_sql(shard, bound)[0][0] > 0 for shard in range(2)), 30,
                   "the partition to be published", explain=carried.portage.explain)
        for shard in range(2):
            late = [key for key in carried.keys_of(shard, 9000) if key >= 5000][:50]
            carried.shard_sql(shard, f"INSERT INTO public.t SELECT k, 1 FROM unnest(ARRAY{late}) k", gated=True)
        for each in writers:
            each.wait_for_transactions(20)
    wait_until_equal(carried)
    carried.shard_sql(1, "ALTER TABLE public.t DETACH PARTITION public.t_0")
    assert carried.portage.wait(60) == 3
    assert carried.portage.log_contains("the table public.t_0 of shard 1 was dropped, or detached")


def test_a_partition_that_was_written_to_before_it_was_published(servers, migration):
    carried = make_live(migration, PARTITIONED, targets=[servers(12, "partitions")])
    late = [key for key in carried.keys_of(0, 9000) if key >= 5000][:5]
    carried.shard_sql(0, "SET ROLE portage; CREATE TABLE public.t_2 PARTITION OF public.t FOR VALUES FROM (5000) TO (9000);"
                         f"INSERT INTO public.t SELECT k, 1 FROM unnest(ARRAY{late}) k")
    assert carried.portage.wait(30) == 3
    assert carried.portage.log_contains(
        "the partition public.t_2 of shard 0 had rows before its changes were in the stream")
