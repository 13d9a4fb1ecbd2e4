"""Foreign keys and triggers where our role may not set session_replication_role, on either side: they do
not act on what is applied, they act on what the application writes, and a switch brings them along (R8)."""
import contextlib
import json
import random
import signal
import threading
import time

import psycopg
import pytest

from harness.cutover import InBackground
from harness.polling import wait_until

# Partitioned tables and plain ones. Who made a trigger fire is on record.
DDL = """
CREATE TABLE public.audit (who text, tab text, op text, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE public.customers (id bigint PRIMARY KEY, name text);
CREATE TABLE public.orders (customer bigint NOT NULL REFERENCES public.customers ON DELETE CASCADE,
    id bigint, n int, PRIMARY KEY (customer, id));
CREATE TABLE public.events (customer bigint NOT NULL, id bigint, order_id bigint,
    PRIMARY KEY (customer, id),
    CONSTRAINT of_order FOREIGN KEY (customer, order_id) REFERENCES public.orders ON DELETE CASCADE)
    PARTITION BY RANGE (id);
CREATE TABLE public.events_1 PARTITION OF public.events FOR VALUES FROM (MINVALUE) TO (500000);
CREATE TABLE public.events_2 PARTITION OF public.events FOR VALUES FROM (500000) TO (MAXVALUE)
    PARTITION BY RANGE (id);
CREATE TABLE public.events_2a PARTITION OF public.events_2 DEFAULT;
CREATE FUNCTION public.record() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.audit VALUES (current_setting('application_name'), TG_TABLE_NAME, TG_OP);
    RETURN NULL; END $$;
CREATE TRIGGER record_order AFTER INSERT OR UPDATE OR DELETE ON public.orders
    FOR EACH ROW EXECUTE FUNCTION public.record();
CREATE TRIGGER record_event AFTER INSERT OR UPDATE OR DELETE ON public.events
    FOR EACH ROW EXECUTE FUNCTION public.record();
CREATE TRIGGER record_statement AFTER INSERT OR UPDATE OR DELETE ON public.customers
    FOR EACH STATEMENT EXECUTE FUNCTION public.record();
ALTER TABLE public.customers ENABLE ALWAYS TRIGGER record_statement;
CREATE TRIGGER unmapped BEFORE DELETE ON public.audit
    FOR EACH STATEMENT EXECUTE FUNCTION public.record();
CREATE TRIGGER never BEFORE DELETE ON public.orders FOR EACH ROW EXECUTE FUNCTION public.record();
ALTER TABLE public.orders DISABLE TRIGGER never;
"""
ROWS = """
ALTER TABLE public.events REPLICA IDENTITY DEFAULT;
INSERT INTO public.customers SELECT g, 'name ' || g FROM generate_series(1, 400) g;
INSERT INTO public.orders SELECT c, o, 1 FROM generate_series(1, 400) c, generate_series(1, 3) o;
INSERT INTO public.events SELECT customer, id + (customer % 2) * 600000, id FROM public.orders;
"""
MAPPING = """
tables:
  public.customers: {shard_by: id}
  public.orders: {shard_by: customer}
  public.events: {shard_by: customer}
"""
KEYS_SQL = """
SELECT c.conrelid::regclass::text, c.conname, c.convalidated FROM pg_constraint c
 WHERE c.contype = 'f' AND c.conparentid = 0 AND c.connamespace = 'public'::regnamespace ORDER BY 1, 2
"""
TRIGGERS_SQL = """
SELECT tgrelid::regclass::text, tgname, tgenabled::text FROM pg_trigger g
 WHERE NOT tgisinternal AND tgname <> 'portage_gate'
   AND COALESCE(to_jsonb(g)->>'tgparentid', '0') = '0' ORDER BY 1, 2
"""
ALL_KEYS = [("events", "of_order"), ("orders", "orders_customer_fkey")]
PACE_SECONDS = 0.004  # between two writes of one client
CLOSED, ORPHAN, DOUBLE = "57P06", "23503", "23505"
QUICK = ("--verified-within", "86400")


class Application:
    """Writes where writes are taken: a thread for each shard's customers, to the source or to the shard."""

    def __init__(self, carried, seed):
        self.carried, self.seed = carried, seed
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.writes = {"source": 0, "target": 0}
        self.kept = [set(), set()]  # of each shard: orders that were acknowledged and not deleted
        self.errors = []
        self.threads = [threading.Thread(target=self.work, args=[shard], daemon=True)
                        for shard in range(2)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
        assert not self.errors, self.errors[:3]

    def wait_for(self, side, more=60, timeout=60):
        wanted = self.writes[side] + more
        wait_until(lambda: self.writes[side] >= wanted or self.errors, timeout,
                   f"{more} writes to the {side}", explain=self.carried.portage.explain)
        assert not self.errors, self.errors[:3]

    def work(self, shard):
        carried = self.carried
        dice = random.Random(self.seed * 10 + shard)
        customers = carried.keys_of(shard, 400)
        number = 1_000_000
        try:
            with carried.source_server.connect(carried.name, application_name="application") as source, \
                    carried.shard_servers[shard].connect(carried.shard_names[shard],
                                                         application_name="application") as target:
                side, conns = "source", {"source": source, "target": target}
                while not self.stopping.wait(PACE_SECONDS):
                    number += 1
                    write = self.some_write(dice, dice.choice(customers), number)
                    if not self.write(conns[side], side, shard, *write):
                        side = "target" if side == "source" else "source"
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(repr(error))

    @staticmethod
    def some_write(dice, customer, number):
        """(SQL, orders that come, customer that goes)"""
        kind = dice.random()
        if kind < 0.5:
            return (f"INSERT INTO public.orders VALUES ({customer}, {number}, 1);"
                    f"INSERT INTO public.events VALUES ({customer}, {number}, {number})",
                    (customer, number), None)
        if kind < 0.8:
            return f"UPDATE public.orders SET n = n + 1 WHERE customer = {customer}", None, None
        if kind < 0.9:
            return f"DELETE FROM public.customers WHERE id = {customer}", None, customer
        return f"INSERT INTO public.customers VALUES ({customer}, 'again')", None, None

    def write(self, conn, side, shard, sql, comes, goes):
        try:
            conn.execute(sql)
        except psycopg.Error as error:
            if error.sqlstate not in (CLOSED, ORPHAN, DOUBLE):
                raise
            return error.sqlstate != CLOSED
        kept = self.kept[shard]
        if comes is not None:
            kept.add(comes)
        if goes is not None:
            kept -= {order for order in kept if order[0] == goes}
        with self.lock:
            self.writes[side] += 1
        return True

    def check(self, orders):
        lost = (self.kept[0] | self.kept[1]) - orders
        assert sum(self.writes.values()) > 100 and not lost, f"{len(lost)} lost: {sorted(lost)[:5]}"


def make(migration, source=DDL + ROWS, target=DDL, mapping=MAPPING, **more):
    carried = migration(source, target, mapping, **more)
    carried.run_until_ready()
    carried.portage.wait_for_log("the gates are laid")
    carried.portage.wait_for_log("way back is ready")
    carried.portage.command("verify", check=False)
    return carried


def switch(carried, verb, *options, env=None, check=True):
    portage = carried.portage if env is None else carried.instance(f"x{len(carried.instances)}", env=env)
    done = portage.command("--json", verb, *QUICK, "--max-lag", "30", *options, check=False, timeout=90)
    assert not check or done.returncode == 0, f"{done.returncode}\n{done.stdout}{done.stderr}"
    return done


def prove(carried):
    """verify, with the load on: a cutover wants it."""
    carried.portage.command("verify", timeout=120)


def every_server(carried):
    return [(carried.source_server, carried.name), *zip(carried.shard_servers, carried.shard_names)]


def of_side(carried, side):
    return every_server(carried)[:1] if side == "source" else every_server(carried)[1:]


def keys(server, name):
    return server.sql("SET search_path = public; " + KEYS_SQL, None, name)


def triggers(server, name):
    return server.sql("SET search_path = public; " + TRIGGERS_SQL, None, name)


def acting(carried, side):
    return [(name, *row) for server, name in of_side(carried, side)
            for row in keys(server, name) + [row for row in triggers(server, name) if row[2] != "D"]
            if not (side == "source" and row[1] == "unmapped")]


def assert_aside(carried, side):
    """`run` does it, before it applies anything."""
    wait_until(lambda: acting(carried, side) == [], 30, f"all of the {side} to be put aside",
               explain=lambda: (acting(carried, side), carried.portage.explain()))


def assert_back(carried, side, valid=True):
    """As DDL has made them."""
    for server, name in of_side(carried, side):
        if valid:
            wait_until(lambda s=server, n=name: keys(s, n) == [(*key, True) for key in ALL_KEYS], 40,
                       f"keys of {name}", explain=lambda s=server, n=name: (
                           keys(s, n), carried.portage.explain()))
            wait_until(lambda s=server, n=name: s.sql(
                "SELECT count(*) FROM portage.deferred WHERE state NOT IN ('done')", None, n) == [(0,)],
                20, f"all of {name} to be done")
        else:
            # Leaf by leaf, until they are validated.
            assert {key for _, key, _ in keys(server, name)} == {key for _, key in ALL_KEYS}
        assert triggers(server, name) == [
            ("audit", "unmapped", "O"), ("customers", "record_statement", "A"), ("events", "record_event", "O"),
            ("orders", "never", "D"), ("orders", "record_order", "O")], (name, triggers(server, name))
        clones = server.sql("SELECT count(*), min(tgenabled::text) FROM pg_trigger g"
                            " WHERE tgname = 'record_event'", None, name)
        assert clones == [(4, "O")], (name, clones)


def assert_nothing_acted_on_ours(carried):
    for server, name in every_server(carried):
        acted = server.sql("SELECT who, tab, op, count(*) FROM public.audit WHERE who <> 'application'"
                           " AND who LIKE 'pgportage%%' GROUP BY 1, 2, 3", None, name)
        assert acted == [], (name, acted)


def audited(carried, side):
    return [server.sql("SELECT count(*), count(DISTINCT tab) FROM public.audit"
                       " WHERE who = 'application'", None, name)[0]
            for server, name in of_side(carried, side)]


def orders(carried, side):
    return {tuple(row) for server, name in of_side(carried, side)
            for row in server.sql("SELECT customer, id FROM public.orders", None, name)}


def live(carried):
    rows = carried.shard_sql(0, "SELECT value FROM portage.setting WHERE name = 'live'")
    return rows[0][0] if rows else "source"


def is_open(carried, side):
    return all(server.sql("SELECT fence IS NULL FROM portage.gate", None, name)[0][0]
               for server, name in of_side(carried, side))


@pytest.fixture(params=[(12, 12), (12, 15), pytest.param((15, 18), marks=pytest.mark.full)],
                ids=lambda versions: "-".join(map(str, versions)))
def unprivileged(request, servers, migration):
    """Makes migrations whose role may set session_replication_role nowhere."""
    source, target = (servers(version, f"unprivileged{side}")
                      for side, version in enumerate(request.param))

    def make_unprivileged(**more):
        carried = migration(DDL + ROWS, DDL, MAPPING, source=source, targets=[target], **more)
        if request.param[1] >= 15:  # harness.migration grants it
            carried.shard_sql(0, "REVOKE SET ON PARAMETER session_replication_role FROM portage")
        carried.run_until_ready()
        carried.portage.wait_for_log("the gates are laid")
        carried.portage.wait_for_log("way back is ready")
        return carried
    return make_unprivileged


def test_R8_there_and_back_and_there_again_under_load(unprivileged):
    carried = unprivileged()
    assert_aside(carried, "target")
    with Application(carried, seed=8) as application:
        application.wait_for("source")
        prove(carried)
        said = json.loads(switch(carried, "cutover", "--dry-run").stdout)
        assert {finding["severity"] for finding in said["findings"]
                if finding["code"] == "put-aside"} == {"note"}
        # Killed when all was back: `run` puts it aside before it opens the source.
        done = switch(carried, "cutover", env={"PGPORTAGE_CRASH_AT": "check:done"}, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        application.wait_for("source")
        assert live(carried) == "source"
        assert_aside(carried, "target")
        for _ in range(2):
            prove(carried)  # what was proved before a switch counts no more
            report = json.loads(switch(carried, "cutover").stdout)
            print("cutover:", {step["step"]: step["ms"] for step in report["steps"]}, report["closed_ms"])
            application.wait_for("target")
            assert_back(carried, "target")
            assert_aside(carried, "source")
            application.wait_for("target")
            report = json.loads(switch(carried, "rollback").stdout)
            print("rollback:", {step["step"]: step["ms"] for step in report["steps"]}, report["closed_ms"])
            application.wait_for("source")
            assert_back(carried, "source")
            wait_until(lambda: carried.portage.phase() == "ready", 30, "ready again")
            assert_aside(carried, "target")
            application.wait_for("source")
        deferred = carried.portage.status()["deferred"]
        assert {(each["kind"], each["waiting"], each["done"]) for each in deferred} == {
            ("foreign key", 2, 0), ("trigger", 4, 0)}, deferred
        prove(carried)
        switch(carried, "cutover")
        application.wait_for("target")
        assert_back(carried, "target")
    wait_until(lambda: orders(carried, "source") == orders(carried, "target"), 30, "all to be back")
    application.check(orders(carried, "target"))
    carried.portage.command("verify")
    assert_nothing_acted_on_ours(carried)
    assert all(count > 20 and tables >= 3 for count, tables in
               audited(carried, "source") + audited(carried, "target")), audited(carried, "target")
    detail = carried.shard_sql(0, "SELECT detail->>'keys_and_triggers' FROM portage.journal"
                                  " WHERE step = 'check' AND state = 'done' AND switch = 'cutover'")
    assert [int(count) for count, in detail] == [12, 12, 12]
    carried.portage.stop()
    carried.portage.finish("--open-source")
    assert carried.leftovers() == []
    assert [row[:2] for row in keys(*every_server(carried)[0]) if row[2]] == ALL_KEYS


# ---- half done ----

@contextlib.contextmanager
def holding(carried, shard, table="public.audit"):
    """What a trigger of the table waits for; nothing that is applied does."""
    with psycopg.connect(carried.shard_servers[shard].dsn(carried.shard_names[shard])) as holder:
        holder.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
        yield
        holder.rollback()


def wait_half_done(carried):
    wait_until(lambda: keys(*of_side(carried, "target")[0]) != [], 30, "the keys of shard 0",
               explain=carried.portage.explain)
    assert keys(*of_side(carried, "target")[1]) == []


def test_killed_with_one_shard_done_and_its_command_coming_late(unprivileged):
    carried = unprivileged()
    with Application(carried, seed=3) as application:
        application.wait_for("source")
        prove(carried)
        with holding(carried, 1):
            cutover = InBackground(carried, "cutover", *QUICK)
            wait_half_done(carried)
            cutover.process.kill()
            cutover.wait(-signal.SIGKILL)
        application.wait_for("source")  # `run` has opened it again
        assert_aside(carried, "target")
        with holding(carried, 1):  # gives up by itself, in time
            said = InBackground(carried, "cutover", *QUICK, "--timeout", "3").wait(4)
        assert "bringing triggers and foreign keys of the target back" in said, said
        application.wait_for("source")
        assert_aside(carried, "target")
        switch(carried, "cutover")
        application.wait_for("target")
    assert_back(carried, "target")
    assert_nothing_acted_on_ours(carried)
    switch(carried, "rollback")
    application.check(orders(carried, "source"))


def test_run_dies_in_the_pause_when_all_is_back(unprivileged):
    """Its next incarnation leaves what the switch is about to need."""
    carried = unprivileged()
    for verb, goal in (("cutover", "target"), ("rollback", "source")):
        prove(carried)
        command = InBackground(carried, verb, *QUICK, env={"PGPORTAGE_HALT_AT": "check:done"})
        wait_until(lambda g=goal: all(keys(*each) for each in of_side(carried, g)), 30, "the keys",
                   explain=carried.portage.explain)
        wait_until(lambda: stopped(command.process.pid), 30, "the command to halt")
        carried.portage.kill9()
        carried.portage.restart()
        phase = "ready" if goal == "target" else "backward"
        wait_until(lambda p=phase: carried.portage.phase() == p and carried.portage.is_running(), 60, phase)
        carried.portage.wait_for_log("phase|way back|beginning|gates are laid")
        assert_back(carried, goal, valid=False)
        command.process.send_signal(signal.SIGCONT)
        command.wait(0)
        assert_back(carried, goal)
        assert_aside(carried, "source" if goal == "target" else "target")
    assert_nothing_acted_on_ours(carried)


def stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "T"


def switch_steps(carried):
    return [row[0] for row in carried.shard_sql(
        0, "SELECT step FROM portage.journal WHERE switch IS NOT NULL ORDER BY id")]


@contextlib.contextmanager
def reading(carried, shard):
    """What DROP CONSTRAINT waits for; to bring keys back does not."""
    with psycopg.connect(carried.shard_servers[shard].dsn(carried.shard_names[shard])) as reader:
        reader.execute("SELECT (SELECT count(*) FROM public.orders), (SELECT count(*) FROM public.events),"
                       " (SELECT count(*) FROM public.customers)")
        yield
        reader.rollback()


def opens_soon(carried, application, began):
    application.wait_for("source", more=10, timeout=10)
    print(f"writes to the source {time.monotonic() - began:.2f} s after the end of the switch")
    assert live(carried) == "source" and is_open(carried, "source")


def test_an_abort_opens_the_source_whoever_reads_the_target(unprivileged):
    """The keys wait for the reader, and the stream for the keys; the application waits for nobody."""
    carried = unprivileged()
    with Application(carried, seed=5) as application:
        application.wait_for("source")
        prove(carried)
        with reading(carried, 0), holding(carried, 1):  # fails when shard 0 is done
            InBackground(carried, "cutover", *QUICK, "--timeout", "3").wait(4)
            opens_soon(carried, application, time.monotonic())
            assert keys(*of_side(carried, "target")[0]) != []
        assert_aside(carried, "target")
        wait_until(lambda: carried.portage.phase() == "ready", 30, "ready again")
        prove(carried)
        with reading(carried, 0):
            done = switch(carried, "cutover", env={"PGPORTAGE_CRASH_AT": "check:done"}, check=False)
            began = time.monotonic()
            assert done.returncode == -signal.SIGKILL, done.stderr
            opens_soon(carried, application, began)
            wait_until(lambda: switch_steps(carried)[-1] == "aborted", 20, "the switch to be settled",
                       explain=carried.portage.explain)
            carried.portage.wait_for_log("others hold locks on its tables", 20)
            kept = keys(*of_side(carried, "target")[0])
            assert kept != []
            shown = orders(carried, "target")
            application.wait_for("source")
            assert orders(carried, "target") == shown, "rows were applied while keys were there"
        assert_aside(carried, "target")
        prove(carried)
        switch(carried, "cutover")
        application.wait_for("target")
    assert_back(carried, "target")
    assert_nothing_acted_on_ours(carried)
    wait_until(lambda: orders(carried, "source") == orders(carried, "target"), 30, "all to be back")
    application.check(orders(carried, "target"))
    carried.portage.command("verify")


# ---- validating ----

VISITS = "tables:\n  public.places: {shard_by: everywhere}\n  public.visits: {shard_by: id}\n"
AT_PLACE = """
ALTER TABLE public.visits DROP CONSTRAINT at_place;
ALTER TABLE public.visits ADD CONSTRAINT at_place FOREIGN KEY (place) REFERENCES public.places NOT VALID;
UPDATE portage.deferred SET state = 'back', epoch = NULL WHERE name = 'at_place'
"""


def state(carried, shard, name="at_place"):
    return carried.shard_sql(shard, "SELECT state FROM portage.deferred WHERE name = %s", [name])[0][0]


def looks_again(carried, shard):
    return carried.shard_servers[shard].sql(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgportage indexes'"
        " AND datname = %s AND query LIKE '%%json_each_text%%'", [carried.shard_names[shard]])[0][0] > 0


def test_a_row_whose_parent_is_on_its_way_violates_nothing(migration, servers):
    """Where the role may set session_replication_role keys are validated beside the lanes."""
    carried = make(migration, LOOSE, STRICT, VISITS, shards=1, targets=[servers(15)])
    with psycopg.connect(carried.shard_servers[0].dsn(carried.shard_names[0])) as holder:
        carried.shard_sql(0, AT_PLACE)  # `run` looks a minute later, or when it begins
        holder.execute("SET portage.pass = on; INSERT INTO public.places VALUES (7)")  # its lane waits
        carried.source_sql("BEGIN; INSERT INTO public.places VALUES (7);"
                           "INSERT INTO public.visits SELECT g, 7 FROM generate_series(1, 40) g; COMMIT")
        wait_until(lambda: carried.shard_sql(0, "SELECT count(*) > 0 FROM public.visits") == [(True,)], 30,
                   "children without their parent", explain=carried.portage.explain)
        carried.portage.kill9()
        carried.shard_sql(0, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
                             " current_database() AND application_name LIKE 'pgportage%'")
        carried.portage.restart()
        wait_until(lambda: looks_again(carried, 0), 30, "the builder to wait for the lanes",
                   explain=lambda: (state(carried, 0), carried.portage.explain()))
        assert state(carried, 0) == "back"
        holder.rollback()
    wait_until(lambda: state(carried, 0) == "done", 60, "the key", explain=carried.portage.explain)
    assert not carried.portage.log_contains("stays NOT VALID")
    carried.finish_load_and_compare()


def test_what_is_invalid_beside_the_lanes_is_tried_again(migration, servers):
    carried = make(migration, LOOSE + """
        INSERT INTO public.places SELECT g FROM generate_series(1, 100) g;
        INSERT INTO public.visits SELECT g, g FROM generate_series(1, 101) g;""", STRICT, VISITS, shards=1,
                   targets=[servers(15)])
    assert state(carried, 0) == "invalid"
    said = json.loads(switch(carried, "cutover", check=False).stdout)
    assert "not-valid" in {finding["code"] for finding in said["findings"]}, said
    carried.source_sql("INSERT INTO public.places VALUES (101)")
    wait_until(lambda: state(carried, 0) == "done", 100, "that it is mended",
               explain=carried.portage.explain)
    carried.finish_load_and_compare()


def flushed(carried):
    return carried.source_sql("SELECT confirmed_flush_lsn FROM pg_replication_slots"
                              f" WHERE slot_name = 'pgportage_{carried.name}'")[0][0]


def is_ahead(carried, position):
    return carried.source_sql("SELECT %s::pg_lsn > %s::pg_lsn", [flushed(carried), position])[0][0]


def test_slots_at_rest_do_not_wait_for_keys(migration, servers):
    """Neither for one that takes long, nor for one that fails."""
    carried = make(migration, LOOSE, STRICT, VISITS, shards=1, targets=[servers(15)])
    switch(carried, "cutover")
    wait_until(lambda: carried.portage.phase() == "backward", 30, "backward")
    carried.portage.stop()
    carried.shard_sql(0, AT_PLACE)
    with psycopg.connect(carried.shard_servers[0].dsn(carried.shard_names[0])) as holder:
        holder.execute("LOCK TABLE public.places IN SHARE ROW EXCLUSIVE MODE;"
                       "LOCK TABLE public.visits IN SHARE UPDATE EXCLUSIVE MODE")
        position = carried.source_position()
        carried.source_sql("SELECT pg_logical_emit_message(true, 'x', 'x')")
        carried.portage.restart()
        wait_until(lambda: is_ahead(carried, position), 40, "the slot to be advanced",
                   explain=lambda: (flushed(carried), position, carried.portage.explain()))
        assert state(carried, 0) == "back"
        holder.rollback()
    wait_until(lambda: state(carried, 0) == "done", 30, "the key", explain=carried.portage.explain)
    carried.portage.stop()
    carried.shard_sql(0, AT_PLACE + "; ALTER TABLE public.visits OWNER TO postgres")
    position = carried.source_position()
    carried.source_sql("SELECT pg_logical_emit_message(true, 'x', 'x')")
    carried.portage.restart()
    wait_until(lambda: carried.shard_sql(0, "SELECT detail->>'problem' FROM portage.journal"
                                            " WHERE step = 'not validated'"), 30, "that it is said",
               explain=carried.portage.explain)
    wait_until(lambda: is_ahead(carried, position), 40, "the slot to be advanced",
               explain=carried.portage.explain)
    carried.shard_sql(0, "ALTER TABLE public.visits OWNER TO portage")
    wait_until(lambda: state(carried, 0) == "done", 30, "the key", explain=carried.portage.explain)


# ---- what cannot be valid ----

LOOSE = """
CREATE TABLE public.places (id bigint PRIMARY KEY);
CREATE TABLE public.visits (id bigint PRIMARY KEY, place bigint);
"""
STRICT = """
CREATE TABLE public.places (id bigint PRIMARY KEY);
CREATE TABLE public.visits (id bigint PRIMARY KEY, place bigint,
    CONSTRAINT at_place FOREIGN KEY (place) REFERENCES public.places);
"""


def test_a_key_that_rows_violate_stays_not_valid(servers, migration):
    target = servers(12, "unprivileged1")
    carried = make(migration, LOOSE + """
        INSERT INTO public.places SELECT g FROM generate_series(1, 100) g;
        INSERT INTO public.visits SELECT g, g FROM generate_series(1, 101) g;""", STRICT,
                   "tables:\n  public.places: {shard_by: everywhere}\n  public.visits: {shard_by: id}\n",
                   targets=[target])
    switch(carried, "cutover")
    carried.portage.wait_for_log("at_place of public.visits stays NOT VALID", 30)
    assert carried.portage.log_contains("ALTER TABLE public.visits VALIDATE CONSTRAINT at_place")
    status = carried.portage.status()["deferred"]
    assert sorted((each["kind"], each["not_valid"]) for each in status) == [
        ("foreign key", 0), ("foreign key", 1)], status
    said = carried.portage.command("verify", check=False)
    assert said.returncode == 1 and "constraint is not valid" in said.stdout, said.stdout
    # The stream goes on, and the key holds for what is written now.
    for shard in range(2):
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            carried.shard_sql(shard, "INSERT INTO public.visits VALUES (500, 999)", gated=True)
        carried.shard_sql(shard, "UPDATE public.visits SET place = 1 WHERE id = 2", gated=True)
    wait_until(lambda: carried.source_sql("SELECT place FROM public.visits WHERE id = 2") == [(1,)],
               20, "the way back")
    for shard in range(2):
        carried.shard_sql(shard, "INSERT INTO public.places VALUES (101);"
                                 "ALTER TABLE public.visits VALIDATE CONSTRAINT at_place", gated=True)
    wait_until(lambda: {each["done"] for each in carried.portage.status()["deferred"]} == {1}, 30,
               "that it is noticed")
    carried.portage.check_running()


PARTS = """
CREATE TABLE public.places (id bigint PRIMARY KEY);
CREATE TABLE public.visits (id bigint PRIMARY KEY, place bigint{key}) PARTITION BY RANGE (id);
CREATE TABLE public.visits_1 PARTITION OF public.visits FOR VALUES FROM (MINVALUE) TO (50);
CREATE TABLE public.visits_2 PARTITION OF public.visits FOR VALUES FROM (50) TO (MAXVALUE);
"""
AT = ", CONSTRAINT at_place FOREIGN KEY (place) REFERENCES public.places"


def test_keys_that_are_not_valid_are_not_forgotten(servers, migration):
    """`finish` refuses, `abort --keep-target` prints what makes them whole, partitioned tables too."""
    carried = make(migration, PARTS.format(key="") + """
        INSERT INTO public.places SELECT g FROM generate_series(1, 100) g;
        INSERT INTO public.visits SELECT g, g FROM generate_series(1, 101) g;""", PARTS.format(key=AT),
                   VISITS, shards=1, targets=[servers(12, "unprivileged1")])
    switch(carried, "cutover")
    carried.portage.wait_for_log("at_place of public.visits stays NOT VALID", 30)
    carried.portage.stop()
    said = carried.portage.command("finish", check=False)
    assert said.returncode == 3 and "not validated" in said.stderr, (said.returncode, said.stderr)
    said = carried.portage.command("abort", "--keep-target")
    statements = [line for line in said.stdout.splitlines() if line.startswith("ALTER")]
    assert statements == [
        "ALTER TABLE public.visits_2 VALIDATE CONSTRAINT at_place;",
        "ALTER TABLE public.visits ADD CONSTRAINT at_place FOREIGN KEY (place) REFERENCES public.places(id);",
    ], said.stdout
    carried.shard_sql(0, "INSERT INTO public.places VALUES (101)")
    for statement in statements:
        carried.shard_sql(0, statement)
    assert carried.shard_sql(0, "SELECT count(*) FROM pg_constraint WHERE conname = 'at_place'"
                                " AND convalidated") == [(3,)]
