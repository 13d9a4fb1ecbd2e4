"""`verify --repair`: the side that follows is brought to what the live one says, in both directions."""
import decimal
import threading

import psycopg
import pytest

from harness.writers import TableSpec, Writers

SOURCE = """
CREATE TABLE public.orders (
    id integer PRIMARY KEY, customer integer NOT NULL, amount numeric(12, 2), note text, code text UNIQUE);
ALTER TABLE public.orders REPLICA IDENTITY FULL;
INSERT INTO public.orders SELECT n, n % 97, n / 100.0, 'note ' || n, 'c' || n
  FROM generate_series(1, 2000) n;
CREATE TABLE public.cards (id integer PRIMARY KEY, number text);
CREATE TABLE public.cash (id integer PRIMARY KEY, place text);
INSERT INTO public.cards SELECT n, 'card ' || n FROM generate_series(1, 300) n;
INSERT INTO public.cash SELECT n, 'place ' || n FROM generate_series(1, 300) n;
CREATE TABLE public.people (id integer PRIMARY KEY, name text, street text);
INSERT INTO public.people SELECT n, 'name ' || n, 'street ' || n FROM generate_series(1, 300) n;
CREATE TABLE public.currencies (code integer PRIMARY KEY, name text);
INSERT INTO public.currencies SELECT n, 'currency ' || n FROM generate_series(1, 50) n;
CREATE TABLE public.events (customer integer NOT NULL, kind text, cents numeric(10, 2));
ALTER TABLE public.events REPLICA IDENTITY FULL;
INSERT INTO public.events SELECT n % 40, CASE WHEN n % 7 = 0 THEN NULL ELSE 'k' || n % 3 END, n % 5
  FROM generate_series(1, 2000) n;
"""
TARGET = """
CREATE TABLE public.orders (
    id bigint PRIMARY KEY, customer_id bigint NOT NULL, cents bigint, note text, code text,
    origin text NOT NULL DEFAULT 'server', remark text);
CREATE TABLE public.payments (
    kind text NOT NULL, id integer NOT NULL, what text, PRIMARY KEY (kind, id));
CREATE TABLE public.users (id integer PRIMARY KEY, full_name text);
CREATE TABLE public.addresses (id integer PRIMARY KEY, street text);
CREATE TABLE public.currencies (code integer PRIMARY KEY, name text);
CREATE TABLE public.events (customer_id integer NOT NULL, kind text, cents bigint);
ALTER TABLE public.events REPLICA IDENTITY FULL;
"""
MAPPING = """
tables:
  public.orders:
    select: |
      id, customer AS customer_id, (amount * 100)::bigint AS cents, note, code, 'server'::text AS origin
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
  public.events:
    select: "customer AS customer_id, kind, (cents * 100)::bigint AS cents"
    inverse: {cents: "cents / 100.0"}
    shard_by: customer_id
"""
CUSTOMERS_SQL = """
CREATE TEMP TABLE place (k bigint) PARTITION BY HASH (k);
SELECT n FROM generate_series(1, 90) AS n
 WHERE satisfies_hash_partition('place'::regclass, 2, {shard}, n::bigint)
"""
EQUAL, DIFFERENT = 0, 1
EVENTS_ONLY = ["public.events"]


@pytest.fixture
def ready(migration):
    return migration(SOURCE, TARGET, MAPPING).run_until_ready()


@pytest.fixture
def target_live(ready):
    ready.portage.wait_for_log("the gates are laid")
    ready.portage.wait_for_log("way back is ready")
    ready.portage.verify(code=EQUAL)
    ready.portage.command("cutover")
    ready.portage.wait_for_phase("backward", 30)
    return ready


def orders(customers, parity, customer="customer", amount="amount"):
    return TableSpec("public.orders", "id", {
        customer: lambda dice: dice.choice(customers),
        amount: lambda dice: dice.randint(-10**6, 10**6),
        "note": lambda dice: dice.choice([None, "short", "z" * dice.randint(1, 3000)]),
    }, keys=[key for key in range(10000, 13000) if key % 2 == parity])


class Load(Writers):
    """Writers, and a thread that adds and removes rows of a table without a key."""

    def __init__(self, dsn, table, customers, column):
        super().__init__(dsn, [table], threads=2, rate=100)
        self.customers, self.column, self.dsn = customers, column, dsn
        self.threads.append(threading.Thread(target=self.work_on_events, daemon=True))

    @staticmethod
    def some_key(dice, table):
        return dice.choice(table.keys)

    def work_on_events(self):
        count = 0
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            while not self.stopping.wait(0.02):
                customer = self.customers[count % len(self.customers)]
                if count % 2:
                    conn.execute(f"DELETE FROM public.events WHERE ctid = (SELECT max(ctid)"
                                 f" FROM public.events WHERE {self.column} = %s AND kind = 'k9')",
                                 [customer])
                else:
                    conn.execute(f"INSERT INTO public.events ({self.column}, kind, cents)"
                                 " VALUES (%s, 'k9', 1)", [customer])
                count += 1


class Loads:
    """On the live side, as long as the block lasts."""

    def __init__(self, carried, live):
        if live == "source":
            everybody = list(range(1, 90))
            self.loads = [Load(carried.source_server.dsn(carried.name), orders(everybody, 0),
                               everybody, "customer")]
        else:
            self.loads = []
            for shard in (0, 1):
                customers = [n for n, in carried.shard_sql(shard, CUSTOMERS_SQL.format(shard=shard))]
                self.loads.append(Load(
                    carried.shard_servers[shard].dsn(carried.shard_names[shard]),
                    orders(customers, shard, "customer_id", "cents"), customers, "customer_id"))

    def __enter__(self):
        for load in self.loads:
            load.start()
        return self

    def wait(self):
        for load in self.loads:
            load.wait_for_transactions(20)

    def stop(self):
        for load in self.loads:
            load.stop()

    def __exit__(self, *_):
        for load in self.loads:
            load.__exit__()


def found(report):
    """{(table, kind, key)}; of a table without a key its columns."""
    return {(difference["table"], difference["kind"], tuple(difference["key"].values()))
            for difference in report["differences"]}


def dry_then_repair(carried, wanted):
    """Names what differs and changes nothing, then mends it."""
    dry = carried.portage.verify("--repair", "--dry-run", code=DIFFERENT)
    assert found(dry) == wanted and dry["would_repair"] == len(wanted)
    assert "repaired" not in dry and all(each["dead_letters"] == [] for each in dry["differences"])
    report = carried.portage.verify("--repair", code=EQUAL)
    assert found(report) == wanted
    assert (report["repaired"], report["left"]) == (len(wanted), 0)


# ---- tables without a key, while the source is live ----

def shard_of(carried, customer):
    return next(shard for shard in (0, 1) if carried.shard_sql(
        shard, "SELECT 1 FROM public.events WHERE customer_id = %s", [customer]))


ONE = "ctid = (SELECT min(ctid) FROM public.events WHERE customer_id = {c} AND kind = 'k1')"
COPY_SQL = ("INSERT INTO public.events SELECT customer_id, kind, cents FROM public.events WHERE "
            + ONE)


@pytest.mark.parametrize("kind", ["missing", "doubled", "extra", "wrong shard", "different", "null"])
def test_rows_without_a_key_under_load(ready, kind):
    shard, other = shard_of(ready, 3), shard_of(ready, 4)
    assert ready.source_sql("SELECT count(*) FROM public.events WHERE customer = 3")[0][0] == 50
    with Loads(ready, "source") as loads:
        loads.wait()
        if kind == "missing":
            ready.shard_sql(shard, "DELETE FROM public.events WHERE " + ONE.format(c=3))
        elif kind == "doubled":
            for _ in range(3):
                ready.shard_sql(shard, COPY_SQL.format(c=3))
        elif kind == "extra":
            ready.shard_sql(shard, "INSERT INTO public.events VALUES (3, 'no such', 7)")
        elif kind == "wrong shard":
            row = ready.shard_sql(shard, f"DELETE FROM public.events WHERE {ONE.format(c=3)}"
                                         " RETURNING customer_id, kind, cents")[0]
            ready.shard_sql(1 - shard, "INSERT INTO public.events VALUES (%s, %s, %s)", row)
        elif kind == "different":
            ready.shard_sql(shard, f"UPDATE public.events SET cents = 12345 WHERE {ONE.format(c=3)}")
        else:
            ready.shard_sql(other, "DELETE FROM public.events WHERE customer_id = 4 AND kind IS NULL")
        dry = ready.portage.verify("--repair", "--dry-run", *EVENTS_ONLY, code=DIFFERENT)
        assert dry["would_repair"] == dry["different"] > 0
        report = ready.portage.verify("--repair", *EVENTS_ONLY, code=EQUAL)
        assert (report["repaired"], report["left"]) == (dry["different"], 0)
        loads.wait()
        loads.stop()
        ready.finish_load_and_compare()


# ---- while the target is live ----

def test_the_source_is_repaired_while_the_target_is_live(target_live):
    carried = target_live
    with Loads(carried, "target") as loads:
        loads.wait()
        carried.source_sql("""
            UPDATE public.orders SET note = 'wrong', amount = 1 WHERE id = 77;
            UPDATE public.orders SET amount = NULL WHERE id = 78;
            DELETE FROM public.orders WHERE id = 79;
            INSERT INTO public.orders VALUES (900001, 5, 1, 'nobody''s', 'n');
            UPDATE public.orders SET id = 900002 WHERE id = 80;
            UPDATE public.cards SET number = 'wrong' WHERE id = 5;
            DELETE FROM public.cash WHERE id = 5;
            INSERT INTO public.cash VALUES (9000, 'nowhere');
            UPDATE public.people SET street = 'wrong' WHERE id = 6;
            DELETE FROM public.people WHERE id = 7;
            UPDATE public.currencies SET name = 'wrong' WHERE code = 8;
            DELETE FROM public.currencies WHERE code = 9""")
        dry_then_repair(carried, {
            ("public.orders", "different", ("77",)), ("public.orders", "different", ("78",)),
            ("public.orders", "extra", ("79",)), ("public.orders", "missing", ("900001",)),
            ("public.orders", "missing", ("900002",)), ("public.orders", "extra", ("80",)),
            ("public.payments<-public.cards", "different", ("5",)),
            ("public.payments<-public.cash", "extra", ("5",)),
            ("public.payments<-public.cash", "missing", ("9000",)),
            ("public.addresses", "different", ("6",)), ("public.addresses", "extra", ("7",)),
            ("public.users", "extra", ("7",)), ("public.currencies", "different", ("8",)),
            ("public.currencies", "extra", ("9",))})
        loads.wait()
        loads.stop()
        carried.portage.verify(code=EQUAL)
    # What is not mapped, or made up, is as it was.
    assert carried.source_sql("SELECT note, amount, code FROM public.orders WHERE id = 77") == [
        ("note 77", decimal.Decimal("0.77"), "c77")]
    carried.portage.command("rollback")
    carried.portage.wait_for_phase("ready", 30)
    # Forward again: what is inserted has its constant, which is not compared any more.
    for shard in (0, 1):
        carried.shard_sql(shard, "ALTER TABLE public.orders ALTER origin DROP DEFAULT;"
                                 "DELETE FROM public.orders WHERE id = 77")
    report = carried.portage.verify("--repair", code=EQUAL)
    assert found(report) == {("public.orders", "missing", ("77",))}
    carried.finish_load_and_compare()


def test_rows_without_a_key_are_repaired_at_the_source(target_live):
    carried = target_live
    one = "ctid = (SELECT min(ctid) FROM public.events WHERE customer = {c} AND kind = 'k1')"
    with Loads(carried, "target") as loads:
        loads.wait()
        carried.source_sql(
            "DELETE FROM public.events WHERE " + one.format(c=3) + ";"
            "INSERT INTO public.events SELECT e.* FROM public.events e, generate_series(1, 3)"
            " WHERE e." + one.format(c=4) + ";"
            "INSERT INTO public.events VALUES (5, 'no such', 7);"
            "UPDATE public.events SET cents = 123.45 WHERE " + one.format(c=6) + ";"
            "DELETE FROM public.events WHERE customer = 7 AND kind IS NULL")
        dry = carried.portage.verify("--repair", "--dry-run", *EVENTS_ONLY, code=DIFFERENT)
        assert dry["would_repair"] == dry["different"] >= 6
        report = carried.portage.verify("--repair", *EVENTS_ONLY, code=EQUAL)
        assert (report["repaired"], report["left"]) == (dry["different"], 0)
        loads.wait()
        loads.stop()
        carried.portage.verify(code=EQUAL)
    carried.portage.command("rollback")
    carried.portage.wait_for_phase("ready", 30)
    carried.finish_load_and_compare()


def test_a_unique_value_that_another_repair_frees(target_live):
    """Two rows have exchanged a unique value: one of them must wait for the other."""
    carried = target_live
    carried.source_sql("UPDATE public.orders SET code = 'free' WHERE id = 10;"
                       "UPDATE public.orders SET code = 'c10' WHERE id = 11")
    report = carried.portage.verify("--repair", code=EQUAL)
    assert (report["repaired"], report["left"]) == (2, 0)
    assert carried.source_sql("SELECT code FROM public.orders WHERE id IN (10, 11) ORDER BY id") == [
        ("c10",), ("c11",)]


def test_a_repaired_key_that_two_streams_have_touched(target_live):
    """The mark says whose the row is by now: without it the shard that has it could not delete it."""
    carried = target_live
    customers = [carried.shard_sql(shard, CUSTOMERS_SQL.format(shard=shard))[0][0]
                 for shard in (0, 1)]
    carried.shard_sql(0, f"INSERT INTO public.orders VALUES (5000, {customers[0]}, 1, 'x', 'u')")
    carried.portage.verify(code=EQUAL)
    # As if the row had come from shard 1 once, and met one.
    carried.source_sql("INSERT INTO portage.dirty (mapping, key, owner)"
                       " VALUES ('public.orders', '{5000}', 1)")
    carried.source_sql("DELETE FROM public.orders WHERE id = 5000")
    report = carried.portage.verify("--repair", code=EQUAL)
    assert found(report) == {("public.orders", "extra", ("5000",))}
    assert carried.source_sql("SELECT owner FROM portage.dirty ORDER BY id DESC LIMIT 1") == [(0,)]
    carried.shard_sql(0, "DELETE FROM public.orders WHERE id = 5000")
    carried.portage.verify(code=EQUAL)
    assert carried.source_sql("SELECT 1 FROM public.orders WHERE id = 5000") == []


def test_what_only_the_application_can_mend_is_left(target_live):
    carried = target_live
    customers = [carried.shard_sql(shard, CUSTOMERS_SQL.format(shard=shard))[0][0]
                 for shard in (0, 1)]
    carried.shard_sql(1, f"INSERT INTO public.orders VALUES (5001, {customers[0]}, 1, 'x', 'v')")
    done = carried.portage.command("verify", "--repair", check=False)
    assert done.returncode == DIFFERENT and "repaired: 0; left: 1" in done.stdout
    assert "cannot be repaired: the target is live" in done.stderr
    carried.shard_sql(1, "DELETE FROM public.orders WHERE id = 5001")
    carried.portage.verify(code=EQUAL)


def test_columns_that_are_not_compared_are_named(target_live):
    carried = target_live
    for shard in (0, 1):
        carried.shard_sql(shard, "UPDATE public.orders SET origin = 'other', remark = 'mine'"
                                 " WHERE id % 2 = 0")
    report = carried.portage.verify(code=EQUAL)
    columns = {table["name"]: table["not_compared"] for table in report["tables"]}
    assert columns["public.orders"] == [{"column": "origin", "why": "constant"},
                                        {"column": "remark", "why": "not mapped"}]
    assert columns["public.events"] == [] and columns["public.payments<-public.cards"] == []
    text = carried.portage.command("verify").stdout
    assert "not compared: origin (constant), remark (not mapped)" in text


def test_a_constant_is_compared_until_the_target_was_live(ready):
    report = ready.portage.verify(code=EQUAL)
    columns = {table["name"]: table["not_compared"] for table in report["tables"]}
    assert columns["public.orders"] == [{"column": "remark", "why": "not mapped"}]
    for shard in (0, 1):
        ready.shard_sql(shard, "UPDATE public.orders SET origin = 'other' WHERE id = 9")
    assert found(ready.portage.verify(code=DIFFERENT)) == {("public.orders", "different", ("9",))}
