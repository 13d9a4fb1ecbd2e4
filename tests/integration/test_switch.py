"""Cutover and rollback: the gate, the steps, and what each failure leaves behind."""
import contextlib
import json
import signal
import threading
import time

import psycopg
import pytest

from harness.cutover import (BY_ID, CLOSED, DDL, QUICK, ROWS, InBackground, is_open, live, make,
                             open_sides, prove, refused, switch, wait_closed, writer)
from harness.migration import AS_OWNER
from harness.polling import wait_until

PARTITIONED = """
CREATE TABLE public.p (id bigint, day date NOT NULL, n int, PRIMARY KEY (id, day))
    PARTITION BY RANGE (day);
CREATE TABLE public.p_old PARTITION OF public.p FOR VALUES FROM (MINVALUE) TO ('2026-01-01')
    PARTITION BY RANGE (day);
CREATE TABLE public.p_old_leaf PARTITION OF public.p_old DEFAULT;
CREATE TABLE public.p_new PARTITION OF public.p DEFAULT;
"""


def test_cutover_and_rollback(migration):
    carried = prove(make(migration))
    assert open_sides(carried) == {"source"}
    report = json.loads(switch(carried, "cutover").stdout)
    assert report["outcome"] == "switched"
    assert open_sides(carried) == {"target"} and live(carried) == "target"
    entry = carried.shard_sql(0, "SELECT detail FROM portage.journal WHERE step = 'switched'")[0][0]
    assert entry["live"] == "target" and set(entry["positions"]) == {"shard 0", "shard 1"}
    print(json.dumps(report["steps"]), report["closed_ms"])
    again = json.loads(switch(carried, "cutover").stdout)
    assert again["outcome"] == "already live"
    for shard in range(2):
        carried.shard_sql(shard, "UPDATE public.t SET n = -n", gated=True)
    report = json.loads(switch(carried, "rollback").stdout)
    assert report["outcome"] == "switched"
    assert open_sides(carried) == {"source"} and live(carried) == "source"
    assert carried.source_sql("SELECT count(*) FROM public.t WHERE n < 0") == [(2000,)]
    print(json.dumps(report["steps"]), report["closed_ms"])


# ---- the gate ----

@pytest.fixture
def wide(migration):
    """With partitions, of which the application writes to leaves too."""
    return prove(make(migration, DDL + PARTITIONED + ROWS +
                      "INSERT INTO public.p SELECT g, '2025-12-01'::date + g, g"
                      " FROM generate_series(1, 100) g;", DDL + PARTITIONED))


def copy_in(conn):
    with conn.cursor().copy("COPY public.t (id, n) FROM STDIN") as copy:
        copy.write_row((9001, 1))


WRITES = [
    "INSERT INTO public.t VALUES (9000, 1)", "UPDATE public.t SET n = 0", "DELETE FROM public.t",
    "TRUNCATE public.t", "INSERT INTO public.p VALUES (9000, '2026-02-01', 1)",
    "UPDATE public.p_old SET n = 0", "UPDATE public.p_old_leaf SET n = 0",
    "DELETE FROM public.p_new", "TRUNCATE public.p_old_leaf",
    "WITH gone AS (DELETE FROM public.t RETURNING id) SELECT count(*) FROM gone",
]


def test_the_gate_stops_everybody(wide):
    with contextlib.ExitStack() as stack:
        connect = [wide.source_server.connect(wide.name) for _ in range(4)]
        superuser, replica, prepared, old = [stack.enter_context(conn) for conn in connect]
        replica.execute("SET session_replication_role = replica")
        prepared.execute("PREPARE w AS UPDATE public.t SET n = n WHERE id = $1")
        for _ in range(8):
            prepared.execute("EXECUTE w(1)")
        old.autocommit = False
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT count(*) FROM public.t").fetchall()  # its snapshot sees an open gate
        switch(wide, "cutover")
        refused(prepared.execute, "EXECUTE w(1)")
        refused(old.execute, "UPDATE public.t SET n = 0 WHERE id = 1")
        old.rollback()
        for write in WRITES:
            for conn in (superuser, replica):
                error = refused(conn.execute, write)
                assert "takes no writes here" in str(error)
        refused(copy_in, superuser)
        assert error.diag.message_detail == "The target is live.", error.diag.message_detail
        assert superuser.execute("SELECT count(*) FROM public.t").fetchone() == (2000,)


def test_O9_rogue_writes_to_the_target_are_rejected(migration):
    carried = migration(DDL + PARTITIONED + ROWS, DDL + PARTITIONED, BY_ID)
    carried.portage.start()
    wait_until(lambda: carried.shard_sql(0, "SELECT to_regclass('public.t')")[0][0], 30, "tables")
    for shard in range(2):  # long before anything is ready
        for write in WRITES:
            error = refused(lambda w=write, s=shard: carried.shard_sql(s, w, gated=True))
            assert error.diag.message_detail == "The source is live."
    carried.wait_ready()
    carried.finish_load_and_compare()


def test_a_partition_that_appears_gets_its_gate(wide):
    wide.source_sql(f"{AS_OWNER} CREATE TABLE public.p_2030 PARTITION OF public.p_old"
                    " FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')")
    gate = "SELECT tgenabled FROM pg_trigger WHERE tgname = 'portage_gate' AND tgrelid = 'public.p_2030'::regclass"
    wait_until(lambda: wide.source_sql(gate) == [("A",)], 40, "the gate of the new partition")
    wide.wait_ready()


# ---- the fence ----

def test_writers_are_waited_for(migration):
    carried = prove(make(migration))
    with writer(carried) as conn:
        cutover = InBackground(carried, "cutover", *QUICK)
        wait_closed(carried)
        conn.execute("SELECT pg_sleep(1.5)")
        conn.commit()
    said = cutover.wait(0)
    assert "slow app" in said
    rows = [row for shard in range(2)
            for row in carried.shard_sql(shard, "SELECT n FROM public.t WHERE id = 1")]
    assert rows == [(77777,)]


def test_a_writer_that_does_not_end(migration):
    carried = prove(make(migration))
    carried.source_sql("DO $$ BEGIN IF to_regrole('app') IS NULL THEN CREATE ROLE app LOGIN IN ROLE"
                       " app_owner; END IF; END $$; GRANT pg_signal_backend TO portage")
    with writer(carried, user="app"):
        done = switch(carried, "cutover", "--timeout", "2", check=False)
        assert done.returncode == 3 and "slow app" in done.stderr, done.stderr
        assert open_sides(carried) == {"source"} and live(carried) == "source"
        carried.source_sql("UPDATE public.t SET n = 5 WHERE id = 5", gated=True)
        switch(carried, "cutover", "--kill-blockers-after", "1")
    assert open_sides(carried) == {"target"}


def test_a_fence_that_lifted_itself_is_not_sealed(migration):
    """The deadline passes between the wait and the seal: what was written since was not waited for."""
    carried = prove(make(migration))
    server, control = carried.shard_servers[0], carried.shard_names[0]
    with writer(carried) as conn, psycopg.connect(server.dsn(control)) as holder:
        cutover = InBackground(carried, "cutover", *QUICK, "--timeout", "3")
        wait_closed(carried)
        holder.execute("LOCK TABLE portage.journal IN EXCLUSIVE MODE")
        conn.commit()
        wait_until(lambda: is_open(carried.source_server, carried.name), 10, "the deadline")
        carried.source_sql("UPDATE public.t SET n = 6 WHERE id = 6", gated=True)
        holder.commit()
        assert "lifted itself" in cutover.wait(3)
    assert open_sides(carried) == {"source"} and live(carried) == "source"
    switch(carried, "cutover")


def test_O11_a_prepared_transaction_is_refused(migration):
    carried = prove(make(migration))
    with writer(carried) as conn:
        conn.execute("PREPARE TRANSACTION 'two'")
    done = switch(carried, "cutover", check=False)
    assert done.returncode == 1
    codes = {finding["code"] for finding in json.loads(done.stdout)["findings"]}
    assert "prepared-transaction" in codes and open_sides(carried) == {"source"}
    carried.source_sql("COMMIT PREPARED 'two'")
    switch(carried, "cutover")


def test_a_prepared_transaction_that_comes_late(migration):
    """What is prepared while it is waited for could commit behind the marker, before anybody looks."""
    carried = prove(make(migration))
    with writer(carried) as conn:
        cutover = InBackground(carried, "cutover", *QUICK)
        wait_closed(carried)
        conn.execute("PREPARE TRANSACTION 'late'")
        said = cutover.wait(3)
        assert "prepared transaction" in said and 'step "fence"' in said, said
    assert open_sides(carried) == {"source"}
    carried.source_sql("COMMIT PREPARED 'late'")
    assert carried.source_sql("SELECT n FROM public.t WHERE id = 1") == [(77777,)]
    carried.finish_load_and_compare()


def test_a_table_that_comes_meanwhile(wide):
    with writer(wide):
        cutover = InBackground(wide, "cutover", *QUICK)
        wait_closed(wide)
        wide.source_sql(f"{AS_OWNER} CREATE TABLE public.p_2031 PARTITION OF public.p_old"
                        " FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')")
    assert "have changed during the switch" in cutover.wait(4)
    assert open_sides(wide) == {"source"}


# ---- one at a time; giving up ----

def test_two_at_once(migration):
    carried = prove(make(migration))
    with writer(carried) as conn:
        first = InBackground(carried, "cutover", *QUICK)
        wait_closed(carried)
        for verb in ("cutover", "rollback"):
            done = switch(carried, verb, check=False)
            assert done.returncode == 3 and "another switch is at work" in done.stderr, done.stderr
            assert "pgportage cutover" in done.stderr
        conn.commit()
    first.wait(0)
    assert open_sides(carried) == {"target"}


def test_asked_to_stop_in_the_pause(migration):
    carried = prove(make(migration))
    with writer(carried):
        cutover = InBackground(carried, "cutover", *QUICK)
        wait_closed(carried)
        cutover.process.send_signal(signal.SIGTERM)
        cutover.wait(5)
        assert open_sides(carried) == {"source"}


def test_a_second_signal_ends_a_switch_that_cannot_restore(migration):
    """The first one makes it restore the source, whose gate somebody holds; the second ends it, and `run`
    does the rest."""
    carried = prove(make(migration))
    with writer(carried), carried.source_server.connect(carried.name) as holder:
        cutover = InBackground(carried, "cutover", *QUICK)
        wait_closed(carried)
        holder.autocommit = False
        holder.execute("SELECT FROM portage.gate FOR UPDATE")
        cutover.process.send_signal(signal.SIGTERM)
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'gate'"
        wait_until(lambda: carried.source_sql(blocked) == [(1,)], 20, "the restoring to wait")
        cutover.process.send_signal(signal.SIGTERM)
        said = cutover.wait(143, timeout=10)
        assert "a second signal ends it at once" in said, said
        holder.rollback()
    wait_until(lambda: open_sides(carried) == {"source"}, 40, "the source to be open")
    assert live(carried) == "source"
    switch(carried, "cutover")
    assert open_sides(carried) == {"target"}


def test_a_drain_that_does_not_end(migration):
    carried = prove(make(migration))
    with writer(carried), psycopg.connect(
            carried.shard_servers[0].dsn(carried.shard_names[0])) as holder:
        cutover = InBackground(carried, "cutover", *QUICK, "--timeout", "4")
        wait_closed(carried)
        holder.execute("LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
        with carried.source_server.connect(carried.name, options="-c portage.pass=on") as conn:
            conn.execute("UPDATE public.t SET n = n + 1 WHERE id > 1")
        carried.source_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                           " WHERE application_name = 'slow app'")
        said = cutover.wait(3)
    assert "have not applied" in said and "shard 0: stream 0 lane" in said
    assert open_sides(carried) == {"source"}


def test_what_is_refused(migration):
    carried = make(migration)
    carried.shard_sql(0, "DELETE FROM portage.setting WHERE name = 'verify'")
    done = switch(carried, "cutover", check=False)
    assert done.returncode == 1 and "never made" in done.stdout
    done = switch(carried, "rollback", check=False)
    assert done.returncode == 1 and "never-switched" in done.stdout
    assert json.loads(switch(carried, "cutover", "--verify", "--dry-run").stdout)["outcome"] == "ready"
    carried.shard_sql(1, "UPDATE portage.deferred SET state = 'waiting'")
    carried.portage.stop()
    done = switch(carried, "cutover", check=False)
    codes = {finding["code"] for finding in json.loads(done.stdout)["findings"]
             if finding["severity"] == "refuse"}
    assert done.returncode == 1 and {"no-instance", "not-streaming"} <= codes, codes
    assert open_sides(carried) == {"source"}
    assert switch(carried, "cutover", "--max-lag", "ten", check=False).returncode == 2


# ---- crashes ----

STEPS = ["ready", "pause", "fence", "seal", "drain", "check", "switched", "open", "lead"]
CELLS = [f"{step}:{state}" for step in STEPS for state in ("begun", "done")]


def crash(carried, verb, cell):
    done = switch(carried, verb, env={"PGPORTAGE_CRASH_AT": cell}, check=False)
    assert done.returncode == -signal.SIGKILL, f"{cell}: {done.returncode}\n{done.stderr}"
    assert len(open_sides(carried)) <= 1


def test_a_crash_at_each_step_and_again(migration):
    carried = prove(make(migration))
    for number, cell in enumerate(CELLS):
        carried.portage.command("verify")
        for verb, goal in (("cutover", "target"), ("rollback", "source")):
            crash(carried, verb, cell)
            switch(carried, verb)
            assert open_sides(carried) == {goal} and live(carried) == goal, f"{verb} {cell}"
            marker = 100000 + number
            if goal == "target":
                for shard in range(2):
                    carried.shard_sql(shard, f"UPDATE public.t SET n = {marker}", gated=True)
            else:
                assert carried.source_sql(
                    f"SELECT count(*) FROM public.t WHERE n = {marker}") == [(2000,)], cell
    carried.finish_load_and_compare()


@pytest.mark.parametrize("cell", ["pause:done", "fence:done", "seal:done", "check:done",
                                  "switched:begun", "switched:done", "open:begun"])
def test_run_restores_or_completes_what_died(migration, cell):
    carried = prove(make(migration))
    crash(carried, "cutover", cell)
    goal = "target" if cell in ("switched:done", "open:begun") else "source"
    wait_until(lambda: open_sides(carried) == {goal}, 20, f"the {goal} to be open")
    assert live(carried) == goal
    switch(carried, "cutover")
    assert open_sides(carried) == {"target"}


@pytest.mark.parametrize("cell", ["seal:done", "switched:done"])
def test_abort_restores_only_before_the_point_of_no_return(migration, cell):
    carried = prove(make(migration))
    carried.portage.check_running()
    crash(carried, "cutover", cell)
    done = switch(carried, "cutover", "--abort", check=False)
    switched = cell == "switched:done"
    assert done.returncode == (1 if switched else 0), done.stderr
    assert open_sides(carried) == ({"target"} if switched else {"source"})


# ---- under load ----

class Application:
    """Writes to the side that takes it. Every row that was acknowledged must be there in the end, and
    at no moment do both sides take writes."""

    def __init__(self, carried, threads=4):
        self.carried = carried
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.acks = []  # (id, side, begun, ended)
        self.errors = []
        self.next_id = 1_000_000
        self.threads = [threading.Thread(target=self.work, args=[number % 2 == 0], daemon=True)
                        for number in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)
        assert not self.errors, self.errors[:3]

    def take_id(self):
        with self.lock:
            self.next_id += 1
            return self.next_id

    def work(self, patient):
        """Half of them go where they were last taken; the others try both sides all the time."""
        try:
            with contextlib.ExitStack() as stack:
                conns = {side: stack.enter_context(conn) for side, conn in self.connect().items()}
                side = "source"
                while not self.stopping.is_set():
                    if not self.write(conns, side) or not patient:
                        side = "target" if side == "source" else "source"
                    time.sleep(0.001)
        except Exception as error:  # pylint: disable=broad-except
            with self.lock:
                self.errors.append(repr(error))

    def connect(self):
        carried = self.carried
        return {"source": carried.source_server.connect(carried.name),
                "target": carried.shard_servers[0].connect(carried.shard_names[0])}

    def write(self, conns, side):
        """On the target to a key that lives on shard 0, whatever it is."""
        key, begun = self.take_id(), time.monotonic()
        sql = "INSERT INTO public.t VALUES (%s, 1)"
        if side == "target":
            sql = ("INSERT INTO public.t SELECT k, 1 FROM generate_series(%s * 100::bigint,"
                   " %s * 100::bigint + 99) k WHERE satisfies_hash_partition("
                   "'public.placement'::regclass, 2, 0, k) LIMIT 1 RETURNING id")
        try:
            cursor = conns[side].execute(sql, [key] if side == "source" else [key, key])
            if side == "target":
                key = cursor.fetchone()[0]
        except psycopg.Error as error:
            if error.sqlstate != CLOSED:
                raise
            return False
        with self.lock:
            self.acks.append((key, side, begun, time.monotonic()))
        return True

    def check_order(self, sides):
        """Nothing was taken by a side once the next one had begun to take writes."""
        taken = sorted(self.acks, key=lambda ack: ack[3])
        first = {}
        for _, side, _, ended in taken:
            first.setdefault(side, ended)
        assert list(first) == sides, first
        for one, other in zip(sides, sides[1:]):
            late = [ack for ack in taken if ack[1] == one and ack[2] > first[other]]
            assert not late, f"{one} took {late[:3]} after {other} had opened"


def test_under_load(migration):
    carried = make(migration, target=DDL)
    carried.shard_sql(0, "CREATE TABLE public.placement (k bigint) PARTITION BY HASH (k)")
    carried.shard_sql(0, "ALTER TABLE public.placement OWNER TO portage")  # of whom `run` wants to be one
    prove(carried)
    with Application(carried) as application:
        time.sleep(1)
        for cell in ("fence:done", "seal:done", "drain:done", "switched:begun"):
            crash(carried, "cutover", cell)
            done = switch(carried, "cutover", "--abort")
            time.sleep(0.3)
        done = switch(carried, "cutover")
        print(done.stderr)
        time.sleep(1)
    application.check_order(["source", "target"])
    rows = {row for shard in range(2)
            for row, in carried.shard_sql(shard, "SELECT id FROM public.t")}
    lost = {ack[0] for ack in application.acks} - rows
    assert len(application.acks) > 200 and not lost, f"{len(lost)} of {len(application.acks)} lost"
    time.sleep(0.5)
    switch(carried, "rollback")
    rows = {row for row, in carried.source_sql("SELECT id FROM public.t")}
    lost = {ack[0] for ack in application.acks} - rows
    assert not lost, f"{len(lost)} lost"
    carried.shard_sql(0, "DROP TABLE public.placement")
    carried.finish_load_and_compare()


# ---- rows that change their shard ----

MOVING = """
CREATE TABLE public.t (id bigint PRIMARY KEY, tenant bigint NOT NULL, n int);
ALTER TABLE public.t REPLICA IDENTITY FULL;
"""


def move(carried, tenants, key, seen):
    """From one shard to the other, as an application without transactions across shards does it."""
    there = [shard for shard in range(2)
             if carried.shard_sql(shard, "SELECT 1 FROM public.t WHERE id = %s", [key])]
    goal = 1 - there[0]
    write = ["DELETE FROM public.t WHERE id = %s", "INSERT INTO public.t VALUES (%s, %s, %s)"]
    carried.shard_sql(there[0], write[0], [key], gated=True)
    carried.shard_sql(goal, write[1], [key, tenants[goal], seen], gated=True)


def test_rows_that_changed_their_shard_come_back_once(migration):
    carried = make(migration, MOVING + "INSERT INTO public.t SELECT g, g, g FROM"
                                       " generate_series(1, 200) g;",
                   MOVING, "shard_by: tenant\ntables:\n  \"public.*\": identical\n")
    tenants = [carried.shard_sql(shard, "SELECT min(tenant) FROM public.t")[0][0]
               for shard in range(2)]
    prove(carried)
    switch(carried, "cutover")
    for turn in range(3):
        for key in range(1, 40):
            move(carried, tenants, key, 1000 * turn + key)
    carried.shard_sql(0, "DELETE FROM public.t WHERE id < 10", gated=True)
    carried.shard_sql(1, "DELETE FROM public.t WHERE id < 10", gated=True)
    # Marked by hand as well: a key that is right, and one that neither side has.
    for key in (50, 9999):
        carried.source_sql("INSERT INTO portage.dirty (mapping, key, owner) VALUES (%s, %s, 0)",
                           ["public.t", f'{{"{key}"}}'])
    carried.source_sql("UPDATE public.t SET n = -1 WHERE id = 50")
    report = switch(carried, "rollback")
    dirty = carried.shard_sql(0, "SELECT detail->>'dirty_keys' FROM portage.journal"
                                 " WHERE step = 'check' AND state = 'done' ORDER BY id DESC LIMIT 1")
    assert int(dirty[0][0]) >= 2, report.stderr
    shards = sorted(row for shard in range(2) for row in carried.shard_sql(shard, "SELECT * FROM public.t"))
    assert carried.source_sql("SELECT * FROM public.t ORDER BY id") == shards
    assert carried.source_sql("SELECT count(*) FROM portage.dirty") == [(0,)]
    carried.finish_load_and_compare()
