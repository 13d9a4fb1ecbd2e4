"""Cases of a switch, each by the name that it has in the list of them, and each kind of endpoint at work."""
import contextlib
import itertools
import json
import os
import signal
import threading
import time

import psycopg
import pytest

from harness.cutover import BY_ID, CLOSED, DDL, QUICK, ROWS, live, make, prove, switch
from harness.named import Named
from harness.pgbouncer import PgBouncer, entry_of
from harness.polling import wait_until


def journal(carried):
    return json.loads(carried.portage.command("--json", "journal").stdout)


def add_to_config(carried, **keys):
    """What `run` has not read: for the next command alone."""
    with open(carried.config, "a", encoding="utf-8") as config:
        config.writelines(f"\n{key}: {json.dumps(value)}\n" for key, value in keys.items())


def psql(server, database, sql):
    return f"psql -X -q -v ON_ERROR_STOP=1 -d '{server.dsn(database)}' -c '{sql}'"


class Command:
    """A switch that is at work while the test looks on."""

    def __init__(self, carried, verb, *options):
        self.done = None
        self.thread = threading.Thread(target=self.run, args=[carried, verb, options], daemon=True)
        self.thread.start()

    def run(self, carried, verb, options):
        self.done = switch(carried, verb, *options, check=False, timeout=120)

    def wait(self, code=0):
        self.thread.join(120)
        assert self.done is not None and self.done.returncode == code, self.done
        return json.loads(self.done.stdout) if code == 0 else None


def wait_for_step(carried, step, state="begun"):
    wait_until(lambda: any((entry["step"], entry["state"]) == (step, state)
                           for entry in journal(carried)), 60, f"{step} {state}",
               explain=carried.portage.explain)


def test_O10_idle_and_without_lag_it_is_a_marker_behind_the_fence_that_counts(migration):
    """By every number the stream is up to date when the switch looks. Then it stands, and something is
    written: the drain sees that a shard has not got the marker, and waits."""
    carried = prove(make(migration))
    pid = carried.portage.process.pid
    rows = psql(carried.source_server, carried.name,
                "INSERT INTO public.t SELECT g, -1 FROM generate_series(900001, 900050) g")
    add_to_config(carried, hooks={"before_pause": f"kill -STOP {pid}; {rows}"})
    command = Command(carried, "cutover")
    try:
        wait_for_step(carried, "drain")
        begun = time.monotonic()
        wait_until(lambda: time.monotonic() - begun > 2, 5, "it to have had every chance")
        assert live(carried) == "source"
        assert all(entry["step"] != "check" for entry in journal(carried))
    finally:
        os.kill(pid, signal.SIGCONT)
    command.wait()
    counts = [carried.shard_sql(shard, "SELECT count(*) FROM public.t WHERE id > 900000")[0][0]
              for shard in range(2)]
    assert sum(counts) == 50 and all(counts)


def test_O13_the_way_back_begins_with_the_first_write_and_not_before(migration):
    """The first write on the target comes while nobody streams back yet: the slot has it. And nothing of
    what came forward goes back: as many changes are brought as the application has made."""
    carried = prove(make(migration))
    slots = ("SELECT confirmed_flush_lsn <= %s::pg_lsn FROM pg_replication_slots"
             " WHERE database = current_database()")
    pid = carried.portage.process.pid
    first = "; ".join(psql(server, name, "UPDATE public.t SET n = -n")
                      for server, name in zip(carried.shard_servers, carried.shard_names))
    add_to_config(carried, hooks={"drained": f"kill -STOP {pid}", "switched": first})
    config = carried.config.read_text(encoding="utf-8").partition("\nhooks:")[0]
    before = carried.source_sql("SELECT COALESCE(sum(changes), 0) FROM portage.lane")[0][0]
    switch(carried, "cutover")
    entry, = (entry for entry in journal(carried) if entry["step"] == "switched")
    for shard in range(2):
        position = entry["detail"]["positions"][f"shard {shard}"]
        assert carried.shard_sql(shard, slots, [position]) == [(True,)]
        assert carried.shard_sql(shard, "SELECT bool_and(n <= 0) FROM public.t") == [(True,)]
    carried.config.write_text(config, encoding="utf-8")
    carried.portage.kill9()
    carried.portage.start()
    wait_until(lambda: carried.source_sql("SELECT bool_and(n <= 0) FROM public.t") == [(True,)], 60,
               "the first writes to come back", explain=carried.portage.explain)
    after = carried.source_sql("SELECT sum(changes) FROM portage.lane")[0][0]
    assert after - before == 2000
    switch(carried, "rollback")
    assert carried.source_sql("SELECT count(*), bool_and(n = -id) FROM public.t") == [(2000, True)]
    carried.finish_load_and_compare()


def test_O14_clients_that_keep_their_connection(migration):
    """Whatever name leads where: the old server refuses them. A prepared statement, a snapshot from before,
    a cursor that is open."""
    carried = prove(make(migration))
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(carried.source_server.connect(carried.name)) for _ in range(3)]
        kept[0].execute("PREPARE w AS UPDATE public.t SET n = n WHERE id = $1")
        kept[0].execute("EXECUTE w(1)")
        kept[1].execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM public.t")
        kept[2].execute("BEGIN; DECLARE c CURSOR FOR SELECT * FROM public.t; FETCH 5 FROM c")
        switch(carried, "cutover")
        for conn, write in zip(kept, ("EXECUTE w(1)", "UPDATE public.t SET n = 0 WHERE id = 1",
                                      "DELETE FROM public.t WHERE CURRENT OF c")):
            with pytest.raises(psycopg.Error) as error:
                conn.execute(write)
            assert error.value.sqlstate == CLOSED and "target is live" in error.value.diag.message_detail
            with contextlib.suppress(psycopg.Error):
                conn.execute("ROLLBACK")
        assert kept[0].execute("SELECT count(*) FROM public.t").fetchone() == (2000,)  # reading it may


def other_key(carried, shard, above):
    """Keys above, that live on the same shard."""
    carried.shard_sql(0, "CREATE TABLE IF NOT EXISTS public.placement (k bigint) PARTITION BY HASH (k)")
    carried.shard_sql(0, "ALTER TABLE public.placement OWNER TO portage")  # of whom `run` wants to be one
    found = carried.shard_sql(0, "SELECT k FROM generate_series(%s, %s + 200) k WHERE"
                                 " satisfies_hash_partition('public.placement'::regclass, 2, %s, k::bigint)",
                              [above, above, shard])
    return [key for key, in found]


def test_R6_reversed_keys_change_while_the_target_is_live(migration):
    """On one shard, by way of another key and back in one transaction, and from shard to shard."""
    carried = prove(make(migration))
    switch(carried, "cutover")
    carried.portage.wait_for_phase("backward", 60)
    for shard in range(2):
        first, second, third, fourth = other_key(carried, shard, 5000)[:4]
        there, = carried.shard_sql(shard, "SELECT min(id), max(id) FROM public.t")
        carried.shard_sql(shard, f"""BEGIN;
            UPDATE public.t SET id = {first}, n = {there[0]} WHERE id = {there[0]}; COMMIT; BEGIN;
            UPDATE public.t SET id = {second} WHERE id = {there[1]};
            UPDATE public.t SET id = {third} WHERE id = {second};
            UPDATE public.t SET id = {there[1]}, n = -7 WHERE id = {third}; COMMIT; BEGIN;
            UPDATE public.t SET id = {fourth} WHERE id = {first};
            INSERT INTO public.t VALUES ({first}, -8); COMMIT""", gated=True)
        wanted = {fourth: there[0], there[1]: -7, first: -8, there[0]: None, second: None, third: None}
        wait_until(lambda keys=tuple(wanted), wanted=wanted: {**dict.fromkeys(keys), **dict(
            carried.source_sql("SELECT id, n FROM public.t WHERE id = ANY(%s)", [list(keys)]))} == wanted,
            60, f"the changes of shard {shard}", explain=carried.portage.explain)
    carried.shard_sql(0, "DROP TABLE public.placement")
    switch(carried, "rollback")
    carried.wait_ready()
    assert carried.source_sql("SELECT count(*) FROM public.t") == [(2002,)]
    carried.finish_load_and_compare()


# ---- kinds of endpoints ----

class DirectWriter:
    """Writes to the source all the time over one connection, led by nobody."""

    def __init__(self, carried):
        self.dsn = carried.source_server.dsn(carried.name)
        self.acknowledged, self.refused, self.wrong = [], [], []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def work(self):
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            for key in itertools.count(1_000_000):
                if self.stopping.is_set():
                    break
                try:
                    conn.execute("INSERT INTO public.t VALUES (%s, 1)", [key])
                    self.acknowledged.append(key)
                except psycopg.Error as error:
                    (self.refused if error.sqlstate == CLOSED else self.wrong).append((key, str(error)))
                self.stopping.wait(0.002)

    def __enter__(self):
        self.thread.start()
        wait_until(lambda: len(self.acknowledged) > 20, 30, "writes")
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(30)


def test_a_command_leads_and_late_writes_are_refused(migration):
    """The phases in their order; and who is not led writes nothing any more, and loses nothing."""
    carried = prove(make(migration))
    told = carried.folder / "told"
    add_to_config(carried, endpoint={"command": f"echo $PGPORTAGE_PHASE $PGPORTAGE_SIDE >>{told}"})
    with DirectWriter(carried) as writer:
        report = json.loads(switch(carried, "cutover").stdout)
        wait_until(lambda: len(writer.refused) > 20, 30, "writes behind the fence")
    assert told.read_text(encoding="utf-8").splitlines() == [
        "check source", "pause target", "lead target", "resume target"]
    assert report["paused_ms"] > report["closed_ms"] > 0, report
    assert not writer.wrong and max(writer.acknowledged) < min(key for key, _ in writer.refused)
    there = {key for shard in range(2)
             for key, in carried.shard_sql(shard, "SELECT id FROM public.t WHERE id >= 1000000")}
    assert there == set(writer.acknowledged)
    assert {key for key, in carried.source_sql("SELECT id FROM public.t WHERE id >= 1000000")} == there
    switch(carried, "rollback")


@pytest.fixture
def named(folder):
    server = Named(["db 2 IN A 192.0.2.1"], folder=folder / "named").start()
    yield server
    server.close()


def test_a_name_leads(migration, named):
    carried = prove(make(migration))
    add_to_config(carried, endpoint={"dns": {
        "server": "127.0.0.1", "port": named.port, "ttl": "2", "key_file": str(named.key_file),
        "names": {"db.shop.example": {"source": "192.0.2.1", "target": "192.0.2.2"}}}})
    report = json.loads(switch(carried, "cutover").stdout)
    assert named.lookup("db", "A") == ["192.0.2.2"]
    assert report["paused_ms"] is None and report["closed_ms"] > 0  # nobody is made to wait
    for shard in range(2):
        carried.shard_sql(shard, "UPDATE public.t SET n = -n", gated=True)
    carried.portage.wait_for_phase("backward", 60)
    switch(carried, "rollback")
    assert named.lookup("db", "A") == ["192.0.2.1"]
    assert carried.source_sql("SELECT bool_and(n = -id) FROM public.t") == [(True,)]


@pytest.fixture
def poolers(folder):
    made = []

    def make_two(entry):
        for number in range(2):
            made.append(PgBouncer({"shop": entry}, folder=folder / f"pooler{number}",
                                  name=f"pooler{number}").start())
        return made
    yield make_two
    for one in made:
        one.close()


def test_one_of_two_poolers_fails_behind_the_point_of_no_return(migration, poolers):
    """It is gone when it is to be led. The command does not give up, and the other one's clients go on; when
    it is back it is led too."""
    carried = prove(make(migration, DDL + ROWS, DDL, BY_ID, shards=1))
    sides = (entry_of(carried.source_server, carried.name),
             entry_of(carried.shard_servers[0], carried.shard_names[0]))
    both = poolers(sides[0])
    entries = [pooler.portage_entry({"shop": sides}) for pooler in both]
    pid = both[1].process.pid
    add_to_config(carried, endpoint={"pgbouncer": entries},
                  hooks={"drained": f"kill -STOP {pid}"})
    with psycopg.connect(both[0].dsn("shop"), autocommit=True, prepare_threshold=None) as client:
        client.execute("UPDATE public.t SET n = 1 WHERE id = 1")
        command = Command(carried, "cutover")
        wait_for_step(carried, "switched", "done")
        client.execute("UPDATE public.t SET n = 2 WHERE id = 1")  # waits, and is served
        assert both[0].leads_to("shop")[2] == carried.shard_names[0]
        both[1].thaw()
        command.wait()
    assert both[1].leads_to("shop")[2] == carried.shard_names[0] and not both[1].is_paused("shop")
    assert carried.shard_sql(0, "SELECT n FROM public.t WHERE id = 1") == [(2,)]
    assert live(carried) == "target"


def test_one_of_two_poolers_cannot_be_paused(migration, poolers):
    """Before the point of no return: the other one is let go, and nothing has happened."""
    carried = prove(make(migration, DDL + ROWS, DDL, BY_ID, shards=1))
    sides = (entry_of(carried.source_server, carried.name),
             entry_of(carried.shard_servers[0], carried.shard_names[0]))
    both = poolers(sides[0])
    entries = [pooler.portage_entry({"shop": sides}) for pooler in both]
    add_to_config(carried, endpoint={"pgbouncer": entries, "pause_ms": 100, "pause_attempts": 2})
    with psycopg.connect(both[1].dsn("shop"), prepare_threshold=None) as holder:
        holder.execute("UPDATE public.t SET n = 5 WHERE id = 5")
        done = switch(carried, "cutover", *QUICK, check=False)
        assert done.returncode == 3 and "could not be paused" in done.stderr, done.stderr
        assert live(carried) == "source"
        assert not any(pooler.is_paused("shop") for pooler in both)
        holder.commit()
    with psycopg.connect(both[0].dsn("shop"), autocommit=True, prepare_threshold=None) as client:
        client.execute("UPDATE public.t SET n = 6 WHERE id = 6")
    switch(carried, "cutover")
    assert both[0].leads_to("shop")[2] == both[1].leads_to("shop")[2] == carried.shard_names[0]


def test_what_stands_on_every_shard_comes_back_from_the_first(migration):
    """The second shard has nothing else, and so brings nothing."""
    carried = prove(make(migration, mapping="tables:\n  \"public.*\": {shard_by: everywhere}\n"))
    switch(carried, "cutover")
    for shard in range(2):
        carried.shard_sql(shard, "UPDATE public.t SET n = -n WHERE id < 100; DELETE FROM public.t WHERE id > 1900",
                          gated=True)
    switch(carried, "rollback")
    assert carried.source_sql("SELECT count(*), count(*) FILTER (WHERE n < 0) FROM public.t") == [(1900, 99)]
    carried.finish_load_and_compare()
