"""The stream in both directions: markers, what is our own, and the way back from the shards."""
import json
import random

import pytest

from harness.migration import lsn, passing
from harness.polling import wait_until
from harness.writers import TableSpec, Writers

DDL = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
ROWS = "INSERT INTO public.t SELECT g, g FROM generate_series(1, 1000) g;"
BY_ID = "shard_by: id\ntables:\n  \"public.*\": identical\n"
MARKER_SQL = "INSERT INTO portage.marker (purpose) VALUES ('switch') RETURNING id"


def markers(carried):
    return {marker for shard in range(2)
            for marker, in carried.shard_sql(shard, "SELECT marker FROM portage.lane")}


def test_a_marker_is_written_through_to_every_lane(migration):
    carried = migration(DDL + ROWS, DDL, BY_ID).run_until_ready()
    # In a transaction of its own, and in one that also changes rows of some lanes.
    for writes in ("", "UPDATE public.t SET n = n + 1 WHERE id = 7;"):
        with carried.source_server.connect(carried.name) as conn, conn.transaction():
            if writes:
                conn.execute(writes)
            marker = conn.execute(MARKER_SQL).fetchone()[0]
        wait_until(lambda: markers(carried) == {marker}, 10, f"marker {marker} in all lanes",
                   interval=0.02, explain=lambda: markers(carried))
    carried.source_sql("INSERT INTO portage.marker (purpose) VALUES ('other')")
    carried.finish_load_and_compare()
    assert markers(carried) == {marker}


def test_T11_what_is_ours_is_not_carried(migration):
    carried = migration(DDL + ROWS, DDL, BY_ID).run_until_ready()
    with carried.source_server.connect(carried.name) as conn:
        with conn.transaction():  # as a lane does it
            conn.execute("UPDATE portage.instance SET epoch = epoch")
            conn.execute("UPDATE public.t SET n = -1 WHERE id = 1")
            conn.execute("TRUNCATE public.t")
        with conn.transaction():  # not ours: it only comes across a table of ours
            conn.execute("INSERT INTO public.t VALUES (5000, 1)")
            conn.execute("UPDATE portage.instance SET epoch = epoch")
            conn.execute("INSERT INTO public.t VALUES (5001, 1)")
    carried.wait_caught_up()
    rows = [carried.shard_sql(shard, "SELECT count(*), count(*) FILTER (WHERE n = -1),"
                                     " count(*) FILTER (WHERE id >= 5000) FROM public.t")[0]
            for shard in range(2)]
    assert [sum(column) for column in zip(*rows)] == [1002, 0, 2]


# ---- the way back, switched by hand as a cutover does it ----

SOURCE = """
CREATE TABLE public.orders (
    id integer PRIMARY KEY, customer integer NOT NULL, amount numeric(12, 2), note text,
    tags text[], payload bytea);
ALTER TABLE public.orders REPLICA IDENTITY FULL;
ALTER TABLE public.orders ALTER note SET STORAGE EXTERNAL;
INSERT INTO public.orders SELECT n, n % 97, n / 100.0, repeat('x', n % 5 * 1000),
       ARRAY['a', n::text, NULL], decode(md5(n::text), 'hex') FROM generate_series(1, 3000) n;
CREATE TABLE public.cards (id integer PRIMARY KEY, number text);
CREATE TABLE public.cash (id integer PRIMARY KEY, place text);
ALTER TABLE public.cards REPLICA IDENTITY FULL;
ALTER TABLE public.cash REPLICA IDENTITY FULL;
INSERT INTO public.cards SELECT n, 'card ' || n FROM generate_series(1, 500) n;
INSERT INTO public.cash SELECT n, 'place ' || n FROM generate_series(1, 500) n;
CREATE TABLE public.people (id integer PRIMARY KEY, name text, street text);
INSERT INTO public.people SELECT n, 'name ' || n, 'street ' || n FROM generate_series(1, 500) n;
CREATE TABLE public.currencies (code integer PRIMARY KEY, name text);
INSERT INTO public.currencies SELECT n, 'currency ' || n FROM generate_series(1, 50) n;
"""
TARGET = """
CREATE TABLE public.orders (
    id bigint PRIMARY KEY, customer_id bigint NOT NULL, cents bigint, note text, tags text[],
    payload bytea);
ALTER TABLE public.orders ALTER note SET STORAGE EXTERNAL;
CREATE TABLE public.payments (
    kind text NOT NULL, id integer NOT NULL, what text, PRIMARY KEY (kind, id));
CREATE TABLE public.users (id integer PRIMARY KEY, full_name text);
CREATE TABLE public.addresses (id integer PRIMARY KEY, street text);
CREATE TABLE public.currencies (code integer PRIMARY KEY, name text);
"""
MAPPING = """
tables:
  public.orders:
    select: |
      id, customer AS customer_id, (amount * 100)::bigint AS cents, note, tags, payload
    inverse: {amount: "cents / 100.0"}
    shard_by: customer_id
  public.payments:
    - from: public.cards
      select: "'card' AS kind, id, number AS what"
      shard_by: id
    - from: public.cash
      select: "'cash' AS kind, id, place AS what"
      shard_by: id
  public.users: {from: public.people, select: "id, name AS full_name", shard_by: id}
  public.addresses: {from: public.people, select: "id, street", shard_by: id}
  public.currencies: {shard_by: everywhere}
"""


class Switch:
    """What a cutover and a rollback do, without the fence: nobody writes to the side that rests."""

    def __init__(self, carried):
        self.carried = carried

    def to_target(self):
        self.carried.portage.wait_for_log("the way back is ready")
        self.carried.wait_caught_up()
        positions = {f"shard {shard}": str(self.carried.shard_sql(
            shard, "SELECT pg_current_wal_insert_lsn()")[0][0]) for shard in range(2)}
        self.record("target", positions)
        self.wait_back()

    def to_source(self):
        self.wait_back()
        self.record("source", {"source": str(self.carried.source_position())})

    def record(self, live, positions):
        detail = json.dumps({"live": live, "positions": positions})
        self.carried.shard_sql(0, f"""
            INSERT INTO portage.journal (epoch, step, detail) VALUES (0, 'switched', '{detail}');
            INSERT INTO portage.setting VALUES ('live', '{live}')
                ON CONFLICT (name) DO UPDATE SET value = excluded.value;""")
        self.carried.portage.wait_for_phase("backward" if live == "target" else "ready", 30)
        # `run` opens the side that is live.
        wait_until(lambda: self.is_open(live), 30, f"the gate of the {live} to open",
                   explain=self.carried.portage.explain)

    def is_open(self, live):
        sql = "SELECT fence IS NULL FROM portage.gate"
        rows = (self.carried.source_sql(sql) if live == "source"
                else [row for shard in range(2) for row in self.carried.shard_sql(shard, sql)])
        return all(is_open for is_open, in rows)

    def wait_back(self, timeout=60):
        """Everything that the shards wrote is at the source: markers of each have come through."""
        wanted = {shard: self.carried.shard_sql(shard, MARKER_SQL)[0][0] for shard in range(2)}

        def seen():
            self.carried.portage.check_running()
            rows = self.carried.source_sql("SELECT stream, min(marker) FROM portage.lane GROUP BY 1")
            return dict(rows) == wanted
        wait_until(seen, timeout, f"markers {wanted} at the source", interval=0.05,
                   explain=self.carried.portage.explain)


@pytest.fixture
def carried(migration):
    made = migration(SOURCE, TARGET, MAPPING)
    made.run_until_ready()
    return made


def dirty(carried):
    return carried.source_sql("SELECT DISTINCT mapping, key FROM portage.dirty")


def write_by_hand(carried, shard):
    customers = carried.keys_of(shard, 90)
    ids = carried.keys_of(shard, 400, "integer")
    a, b = customers[:2]
    carried.shard_sql(shard, f"""
        INSERT INTO public.orders VALUES ({5000 + shard}, {a}, 1234, 'new', '{{x,"y z",NULL}}', '\\x00ff');
        UPDATE public.orders SET cents = cents + 1 WHERE customer_id = {a};
        UPDATE public.orders SET tags = tags || 'more'::text WHERE customer_id = {b};
        UPDATE public.orders SET id = id + 100000 WHERE customer_id = {b} AND id < 1000;
        DELETE FROM public.orders WHERE customer_id = {customers[2]};
        UPDATE public.payments SET what = what || '!' WHERE id = {ids[0]};
        DELETE FROM public.payments WHERE id = {ids[1]} AND kind = 'cash';
        INSERT INTO public.payments VALUES ('cash', {ids[1]}, 'again');
        DELETE FROM public.payments WHERE id = {ids[2]} AND kind = 'card';
        UPDATE public.users SET full_name = 'changed' WHERE id = {ids[3]};
        UPDATE public.addresses SET street = 'changed too' WHERE id = {ids[3]};
        DELETE FROM public.users WHERE id = {ids[4]};
        DELETE FROM public.addresses WHERE id = {ids[4]};
        UPDATE public.currencies SET name = 'of all shards' WHERE code = 7;
        INSERT INTO public.currencies VALUES (99, 'new');""")


def test_there_and_back_and_there_again(carried):
    switch = Switch(carried)
    switch.to_target()
    for shard in range(2):
        write_by_hand(carried, shard)
    switch.wait_back()
    assert carried.source_sql("SELECT name, street FROM public.people WHERE name = 'changed'") == [
        ("changed", "changed too")] * 2
    assert carried.compare().differences == 0, str(carried.compare())
    assert dirty(carried) == [] or all("people" in mapping for mapping, _ in dirty(carried))
    switch.to_source()
    carried.source_sql("UPDATE public.orders SET note = note || '.' WHERE id % 3 = 0;"
                       "INSERT INTO public.cards VALUES (900, 'forward again')")
    carried.finish_load_and_compare()
    carried.portage.stop()
    assert carried.portage.logs().count("phase: copying") == 1
    carried.portage.finish()
    assert carried.leftovers() == []


def hold_stream(carried, stream):
    """Its lanes cannot begin a transaction until the connection is closed."""
    conn = carried.source_server.connect(carried.name)
    conn.autocommit = False
    conn.execute("SELECT FROM portage.lane WHERE stream = %s FOR UPDATE", [stream])
    return conn


@pytest.mark.parametrize("first", ["insert", "delete"])
def test_a_row_moves_from_shard_to_shard(carried, first):
    switch = Switch(carried)
    switch.to_target()
    old, new = carried.keys_of(0, 90)[0], carried.keys_of(1, 90)[0]
    moved = [row for row, in carried.shard_sql(
        0, f"SELECT id FROM public.orders WHERE customer_id = {old} ORDER BY id LIMIT 3")]
    with hold_stream(carried, 0 if first == "insert" else 1):
        for row in moved:
            carried.shard_sql(1, f"INSERT INTO public.orders VALUES ({row}, {new}, 77, 'moved')")
            carried.shard_sql(0, f"DELETE FROM public.orders WHERE id = {row}")
        # On the target each of them is one row; at the source first the one stream, then the other.
        wanted = (new, 3) if first == "insert" else (None, 0)
        wait_until(lambda: carried.source_sql(
            "SELECT max(customer), count(*) FROM public.orders WHERE id = ANY (%s)",
            [moved]) == [wanted], 20, "the stream that is not held")
    switch.wait_back()
    assert carried.compare().differences == 0, str(carried.compare())
    # What met a row of another shard is marked; nothing else is.
    assert sorted(key for _, key in dirty(carried)) == (
        sorted("{%d}" % row for row in moved) if first == "insert" else [])


def test_what_the_way_back_writes_is_not_carried_forward(carried):
    """T11 at work: the forward slot has all of it, and none of it comes."""
    switch = Switch(carried)
    switch.to_target()
    carried.shard_sql(0, "UPDATE public.orders SET note = 'newer ' || id")
    switch.wait_back()
    changes = carried.shard_sql(0, "SELECT sum(changes) FROM portage.lane")
    # As if nothing were known of the switch: the forward lanes read all that the way back wrote.
    carried.shard_sql(0, """
        DELETE FROM portage.journal WHERE step = 'switched';
        UPDATE portage.setting SET value = 'source' WHERE name = 'live'""")
    carried.portage.wait_for_phase("ready", 30)
    carried.wait_caught_up()
    assert carried.shard_sql(0, "SELECT sum(changes) FROM portage.lane") == changes
    carried.assert_equal()


# ---- under load, and killed ----

class ShardWriters(Writers):
    """Writers of one shard: each key is one that belongs there."""

    @staticmethod
    def some_key(dice, table):
        return dice.choice(table.keys)


def shard_tables(carried, shard):
    customers = carried.keys_of(shard, 97)
    ids = carried.keys_of(shard, 600, "integer")
    # Rows stay on their shard; ids of orders are told apart by their remainder.
    orders = TableSpec("public.orders", "id", {
        "customer_id": lambda dice: dice.choice(customers),
        "cents": lambda dice: dice.randint(-10**6, 10**6),
        "note": lambda dice: dice.choice([None, "short", "z" * dice.randint(1, 9000)]),
        "tags": lambda dice: dice.choice([None, ["q", None, 'a"b\\'], []]),
    }, keys=[key for key in range(10000, 14000) if key % 2 == shard])
    users = TableSpec("public.users", "id", {"full_name": lambda dice: str(dice.random())},
                      keys=ids, moves=False)
    return [orders, users]


def start_writers(carried, seed):
    # The switch of these tests is a row in the journal: it closes and opens no gate.
    dsns = [carried.shard_servers[shard].dsn(carried.shard_names[shard], **passing(gated=False))
            for shard in range(2)]
    return [ShardWriters(dsn, shard_tables(carried, shard), seed=seed + shard, threads=2,
                         rate=100).start() for shard, dsn in enumerate(dsns)]


def finish_writers(carried, switch, writers):
    for each in writers:
        each.stop()
    # A split is joined: a person without an address is none. Both halves are made to be there.
    for shard in range(2):
        carried.shard_sql(shard, "DELETE FROM public.users u WHERE NOT EXISTS"
                                 " (SELECT FROM public.addresses a WHERE a.id = u.id);"
                                 "DELETE FROM public.addresses a WHERE NOT EXISTS"
                                 " (SELECT FROM public.users u WHERE a.id = u.id)")
    switch.wait_back()
    assert carried.compare().differences == 0, str(carried.compare())


def test_backward_under_load_and_kills(carried):
    dice = random.Random(7)
    switch = Switch(carried)
    switch.to_target()
    writers = start_writers(carried, seed=7)
    for _ in range(3):
        for each in writers:
            each.wait_for_transactions(dice.randint(10, 60))
        carried.portage.kill9()
        carried.portage.restart()
    for each in writers:
        each.wait_for_transactions(50)
    finish_writers(carried, switch, writers)
    switch.to_source()
    carried.source_sql("UPDATE public.orders SET amount = amount + 1")
    carried.finish_load_and_compare()


def test_backward_and_servers_that_die(postgres, migration):
    source, target = postgres(12), postgres(15)
    carried = migration(SOURCE, TARGET, MAPPING, source=source, targets=[target])
    carried.run_until_ready()
    switch = Switch(carried)
    switch.to_target()
    for server in (source, target):
        for shard in range(2):
            write_by_hand(carried, shard) if server is source else carried.shard_sql(
                shard, "UPDATE public.orders SET cents = cents + 5")
        server.kill9()
        server.start()
        switch.wait_back(timeout=90)
    assert carried.compare().differences == 0, str(carried.compare())


# ---- what has to be there before, and what cannot come back ----

BACK_SLOTS_SQL = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name ~ '_back_'" \
                 " AND database = current_database()"


def test_slots_at_rest_are_advanced(migration):
    carried = migration(DDL + ROWS, DDL, BY_ID).run_until_ready()
    carried.portage.wait_for_log("the way back is ready")
    carried.source_sql("UPDATE public.t SET n = n + 1")
    carried.wait_caught_up()
    for shard in range(2):
        written = lsn(carried.shard_sql(shard, "SELECT pg_current_wal_insert_lsn()")[0][0])
        wait_until(lambda: lsn(carried.shard_sql(shard, BACK_SLOTS_SQL)[0][0]) >= written, 30,
                   "the slot to be advanced", interval=0.5)
        lanes = carried.source_sql("SELECT progress FROM portage.lane WHERE stream = %s", [shard])
        assert len(lanes) == 2 and all(lsn(progress) >= written for progress, in lanes)
    slots = {slot["on"]: slot for slot in carried.portage.status()["slots"]}
    assert all(slots[name]["exists"] for name in ("source", "shard 0", "shard 1"))
    assert slots["source"]["active"] and not slots["shard 0"]["active"]


def test_without_wal_for_it_there_is_no_way_back(postgres, migration):
    target = postgres(15, settings={"wal_level": "replica"})
    carried = migration(DDL + ROWS, DDL, BY_ID, targets=[target]).run_until_ready()
    carried.portage.wait_for_log("wal_level is replica")
    assert carried.portage.log_contains("ALTER SYSTEM SET wal_level = logical")
    said = carried.shard_sql(0, "SELECT detail->>'problem' FROM portage.journal"
                                " WHERE step = 'no way back'")
    assert said == [("wal_level is replica",)]
    carried.source_sql("UPDATE public.t SET n = n + 1")
    carried.finish_load_and_compare()
    carried.portage.stop()
    carried.portage.abort()
    assert carried.leftovers() == []


def test_a_unique_value_that_another_shard_must_free_first(migration):
    ddl = "CREATE TABLE public.t (id bigint PRIMARY KEY, name text UNIQUE);"
    carried = migration(ddl + "INSERT INTO public.t SELECT g, 'n' || g FROM generate_series(1, 50) g;",
                        ddl, BY_ID).run_until_ready()
    switch = Switch(carried)
    switch.to_target()
    giver, taker = (carried.keys_of(shard, 50)[0] for shard in range(2))
    said = carried.source_server.log_position()
    with hold_stream(carried, 0):
        carried.shard_sql(0, f"UPDATE public.t SET name = 'freed' WHERE id = {giver}")
        carried.shard_sql(1, f"UPDATE public.t SET name = 'n{giver}' WHERE id = {taker}")
        carried.source_server.wait_for_log("duplicate key value violates", said)
    switch.wait_back()
    carried.assert_equal()


def test_a_partition_made_while_the_target_is_live(migration):
    source = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
    target = """CREATE TABLE public.t (id bigint PRIMARY KEY, n int) PARTITION BY RANGE (id);
                CREATE TABLE public.t_0 PARTITION OF public.t FOR VALUES FROM (0) TO (2000);"""
    carried = migration(source + ROWS, target, BY_ID).run_until_ready()
    switch = Switch(carried)
    switch.to_target()
    late = [key for key in carried.keys_of(0, 3000) if key > 2000][:20]
    carried.shard_sql(0, "CREATE TABLE public.t_1 PARTITION OF public.t FOR VALUES FROM (2000) TO (4000);"
                         f"INSERT INTO public.t SELECT k, 1 FROM unnest(ARRAY{late}) k;"
                         f"DELETE FROM public.t WHERE id = {late[0]};"
                         "UPDATE public.t SET n = -n")
    carried.shard_sql(1, "CREATE TABLE public.t_1 PARTITION OF public.t FOR VALUES FROM (2000) TO (4000)")
    switch.wait_back()
    # It is the superuser's: the stream goes on, and says that it gets no gate.
    carried.portage.wait_for_log("permission denied for table t_1")
    assert carried.compare().differences == 0, str(carried.compare())
