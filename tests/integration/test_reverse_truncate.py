"""TRUNCATE on one shard while the target is live: what it takes away at the source, and what it leaves."""
import contextlib
import random

import pytest

from harness.polling import wait_until
from harness.writers import TableSpec, Writers

SOURCE = """
CREATE TABLE public.orders (id integer PRIMARY KEY, customer integer NOT NULL, note text);
ALTER TABLE public.orders REPLICA IDENTITY FULL;
INSERT INTO public.orders SELECT n, n % 97, repeat('x', n % 5 * 700) FROM generate_series(1, 3000) n;
CREATE TABLE public.lines (id integer PRIMARY KEY, order_id integer REFERENCES public.orders,
                           customer integer NOT NULL);
ALTER TABLE public.lines REPLICA IDENTITY FULL;
INSERT INTO public.lines SELECT n, n, n % 97 FROM generate_series(1, 900) n;
CREATE TABLE public.cards (id integer PRIMARY KEY, number text);
CREATE TABLE public.cash (id integer PRIMARY KEY, place text);
ALTER TABLE public.cards REPLICA IDENTITY FULL;
ALTER TABLE public.cash REPLICA IDENTITY FULL;
INSERT INTO public.cards SELECT n, 'card ' || n FROM generate_series(1, 500) n;
INSERT INTO public.cash SELECT n, 'place ' || n FROM generate_series(1, 500) n;
CREATE TABLE public.people (id integer PRIMARY KEY, name text, street text);
INSERT INTO public.people SELECT n, 'name ' || n, 'street ' || n FROM generate_series(1, 500) n;
CREATE TABLE public.events (id bigserial PRIMARY KEY, tenant text NOT NULL, kind text);
ALTER TABLE public.events REPLICA IDENTITY FULL;
INSERT INTO public.events (tenant, kind)
    SELECT 'tenant ' || n % 31, CASE n % 3 WHEN 0 THEN 'old' ELSE 'new' END
      FROM generate_series(1, 900) n;
CREATE TABLE public.currencies (code integer PRIMARY KEY, name text);
INSERT INTO public.currencies SELECT n, 'currency ' || n FROM generate_series(1, 50) n;
"""
TARGET = """
CREATE TABLE public.orders (id bigint PRIMARY KEY, customer_id bigint NOT NULL, note text);
CREATE TABLE public.lines (id bigint PRIMARY KEY, order_id bigint REFERENCES public.orders,
                           customer_id bigint NOT NULL);
CREATE TABLE public.payments (
    kind text NOT NULL, id integer NOT NULL, what text, PRIMARY KEY (kind, id));
CREATE TABLE public.users (id bigint PRIMARY KEY, full_name text);
CREATE TABLE public.addresses (id bigint PRIMARY KEY, street text);
CREATE TABLE public.events (id bigserial PRIMARY KEY, tenant varchar(40), kind text);
CREATE TABLE public.currencies (code integer PRIMARY KEY, name text);
"""
MAPPING = """
tables:
  public.orders: {select: "id, customer AS customer_id, note", shard_by: customer_id}
  public.lines: {select: "id, order_id, customer AS customer_id", shard_by: customer_id}
  public.payments:
    - from: public.cards
      select: "'card' AS kind, id, number AS what"
      shard_by: id
    - from: public.cash
      select: "'cash' AS kind, id, place AS what"
      shard_by: id
  public.users: {from: public.people, select: "id, name AS full_name", shard_by: id}
  public.addresses: {from: public.people, select: "id, street", shard_by: id}
  public.events: {select: "id, tenant, kind", where: "kind = 'new'", shard_by: tenant}
  public.currencies: {shard_by: everywhere}
"""
QUICK = ("--verified-within", "86400")
MARKER_SQL = "INSERT INTO portage.marker (purpose) VALUES ('switch') RETURNING id"


def switch(carried, verb):
    done = carried.portage.command("--json", verb, *QUICK, check=False, timeout=90)
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}{done.stderr}"


def to_target(carried):
    carried.run_until_ready()
    carried.portage.wait_for_log("the gates are laid")
    carried.portage.wait_for_log("way back is ready")
    carried.wait_caught_up()
    carried.portage.command("verify")
    switch(carried, "cutover")
    carried.portage.wait_for_phase("backward", 30)
    wait_back(carried)
    return carried


def wait_back(carried, timeout=60):
    """Everything that the shards wrote is at the source: markers of each have come through."""
    wanted = {shard: carried.shard_sql(shard, MARKER_SQL)[0][0] for shard in range(2)}

    def seen():
        carried.portage.check_running()
        rows = carried.source_sql("SELECT stream, min(marker) FROM portage.lane GROUP BY 1")
        return all(dict(rows)[shard] >= marker for shard, marker in wanted.items())
    wait_until(seen, timeout, f"markers {wanted} at the source", interval=0.05,
               explain=carried.portage.explain)


def back_and_compare(carried):
    """The end of every test: rollback, and a full comparison by two ways."""
    switch(carried, "rollback")
    assert carried.source_sql("SELECT count(*) FROM portage.dirty") == [(0,)]
    carried.portage.wait_for_phase("ready", 30)
    carried.source_sql("UPDATE public.orders SET note = note || '.' WHERE id % 3 = 0", gated=True)
    return carried.finish_load_and_compare()


@pytest.fixture
def carried(migration):
    return to_target(migration(SOURCE, TARGET, MAPPING))


def rows(carried, query):
    return sorted(carried.source_sql(query))


def at_shards(carried, query):
    return sorted(row for shard in range(2) for row in carried.shard_sql(shard, query))


def dirty(carried):
    return carried.source_sql("SELECT DISTINCT mapping, key FROM portage.dirty")


# ---- each kind of table ----

def test_a_sharded_table(carried):
    left = at_shards(carried, "SELECT id FROM public.orders")
    gone = {row for row, in carried.shard_sql(1, "SELECT id FROM public.orders")}
    assert gone and len(gone) < len(left)
    customer = carried.shard_sql(1, "SELECT min(customer_id) FROM public.orders")[0][0]
    carried.shard_sql(1, f"""
        INSERT INTO public.orders VALUES (5000, {customer}, 'goes too');
        TRUNCATE public.orders, public.lines RESTART IDENTITY;
        INSERT INTO public.orders VALUES (5001, {customer}, 'stays'), ({min(gone)}, {customer}, 'again')""",
        gated=True)
    wait_back(carried)
    assert rows(carried, "SELECT id FROM public.orders") == sorted(
        [row for row in left if row[0] not in gone] + [(5001,), (min(gone),)])
    assert dirty(carried) == []
    back_and_compare(carried)


def test_cascade(carried):
    carried.shard_sql(0, "TRUNCATE public.orders CASCADE", gated=True)
    wait_back(carried)
    assert rows(carried, "SELECT id FROM public.lines") == at_shards(carried, "SELECT id FROM public.lines")
    assert rows(carried, "SELECT id FROM public.orders") == at_shards(carried, "SELECT id FROM public.orders")
    assert carried.source_sql("SELECT count(*) > 0 FROM public.lines") == [(True,)]
    back_and_compare(carried)


def test_a_merge_s_target(carried):
    carried.shard_sql(0, "TRUNCATE public.payments", gated=True)
    carried.shard_sql(0, "INSERT INTO public.payments SELECT 'cash', id, 'again' FROM public.users LIMIT 5")
    wait_back(carried)
    for kind, source in (("card", "cards"), ("cash", "cash")):
        found = rows(carried, f"SELECT id FROM public.{source}")
        assert found == at_shards(carried, f"SELECT id FROM public.payments WHERE kind = '{kind}'")
        assert 0 < len(found) < 500
    back_and_compare(carried)


def test_a_table_of_which_some_rows_move(carried):
    old = "SELECT count(*) FROM public.events WHERE kind = 'old'"
    for shard in (0, 1):
        carried.shard_sql(shard, "TRUNCATE public.events", gated=True)
        wait_back(carried)
        assert rows(carried, "SELECT id FROM public.events WHERE kind = 'new'") == at_shards(
            carried, "SELECT id FROM public.events")
        assert carried.source_sql(old) == [(300,)]
    back_and_compare(carried)


def test_a_part_of_a_split(carried):
    gone = {row for row, in carried.shard_sql(1, "SELECT id FROM public.users")}
    some = sorted(gone)[:20]
    carried.shard_sql(1, "TRUNCATE public.users", gated=True)
    wait_back(carried)
    assert rows(carried, "SELECT id FROM public.people") == at_shards(
        carried, "SELECT id FROM public.users")
    assert sorted(dirty(carried)) == sorted(("public.people<-public.users", f"{{{key}}}") for key in gone)
    # What is whole again comes back; of the rest the other part goes, by a TRUNCATE as well.
    carried.shard_sql(1, f"""
        INSERT INTO public.users SELECT k, 'again' FROM unnest(ARRAY{some}) k;
        CREATE TEMP TABLE kept AS SELECT * FROM public.addresses WHERE id = ANY (ARRAY{some});
        TRUNCATE public.addresses;
        INSERT INTO public.addresses SELECT * FROM kept""", gated=True)
    wait_back(carried)
    assert rows(carried, "SELECT id, name FROM public.people WHERE name = 'again'") == [
        (key, "again") for key in some]
    back_and_compare(carried)


def test_all_at_once_and_a_table_that_is_the_same_everywhere(carried):
    for shard in range(2):
        carried.shard_sql(shard, "TRUNCATE public.currencies", gated=True)
    carried.shard_sql(0, """TRUNCATE public.users, public.payments, public.lines, public.addresses,
                                     public.orders, public.events RESTART IDENTITY CASCADE""", gated=True)
    wait_back(carried)
    assert carried.source_sql("SELECT count(*) FROM public.currencies") == [(0,)]
    assert carried.source_sql("SELECT count(*) > 0 FROM public.people") == [(True,)]
    back_and_compare(carried)


def test_one_shard(migration):
    """What never moved stays there too, and what came since goes."""
    one = MAPPING.replace("{shard_by: everywhere}", "identical")
    carried = migration(SOURCE, TARGET, one, shards=1)
    carried.run_until_ready()
    carried.portage.wait_for_log("the gates are laid")
    carried.portage.wait_for_log("way back is ready")
    carried.wait_caught_up()
    carried.portage.command("verify")
    switch(carried, "cutover")
    carried.portage.wait_for_phase("backward", 30)
    carried.shard_sql(0, "INSERT INTO public.users VALUES (777, 'half a person');"
                         "TRUNCATE public.events, public.users, public.addresses, public.currencies",
                      gated=True)
    switch(carried, "rollback")
    assert carried.source_sql("SELECT count(*), min(kind) FROM public.events") == [(300, "old")]
    assert carried.source_sql("SELECT count(*) FROM public.people") == [(0,)]
    carried.portage.wait_for_phase("ready", 30)
    carried.finish_load_and_compare()


def test_without_its_shard_key_it_ends_the_way_back(migration):
    """A row whose shard key is made up at the source does not tell there whose it is."""
    ddl = "CREATE TABLE public.t (id bigint PRIMARY KEY, tenant bigint NOT NULL, n int);"
    carried = to_target(migration(
        ddl + "ALTER TABLE public.t REPLICA IDENTITY FULL;"
              "INSERT INTO public.t SELECT g, g % 40, g FROM generate_series(1, 300) g;",
        ddl, "tables:\n  public.t: {shard_by: tenant, inverse: {tenant: \"0\"}}\n"))
    carried.shard_sql(0, "TRUNCATE public.t", gated=True)
    assert carried.portage.wait(30) != 0
    assert carried.portage.log_contains("a TRUNCATE of public.t on shard 0 cannot be brought back to public.t")
    assert carried.portage.log_contains('the shard key "tenant" of public.t does not come back')
    assert carried.source_sql("SELECT count(*) FROM public.t") == [(300,)]


# ---- rows that changed their shard ----

def hold_stream(carried, stream):
    """Its lanes cannot begin a transaction until the connection is closed."""
    conn = carried.source_server.connect(carried.name, **{"options": "-c portage.pass=on"})
    conn.autocommit = False
    conn.execute("SELECT FROM portage.lane WHERE stream = %s FOR UPDATE", [stream])
    return conn


@pytest.mark.parametrize("held", [0, 1])
def test_rows_that_moved_away_from_the_truncated_table(carried, held):
    old, new = (carried.shard_sql(shard, "SELECT min(customer_id) FROM public.orders")[0][0]
                for shard in range(2))
    moved = [row for row, in carried.shard_sql(
        0, f"SELECT id FROM public.orders WHERE customer_id = {old} ORDER BY id LIMIT 3")]
    with hold_stream(carried, held):
        carried.shard_sql(1, f"INSERT INTO public.orders SELECT k, {new}, 'moved' FROM unnest(ARRAY{moved}) k",
                          gated=True)
        carried.shard_sql(0, f"""
            UPDATE public.orders SET note = 'written late' WHERE id = {moved[0]};
            TRUNCATE public.orders CASCADE""", gated=True)
        wanted = [(key, new) for key in moved] if held == 0 else []
        wait_until(lambda: rows(carried, f"SELECT id, customer FROM public.orders WHERE id = ANY (ARRAY{moved})")
                   == wanted, 20, "the stream that is not held")
    wait_back(carried)
    # And back again: the truncate of the other shard takes away what has come home by then.
    carried.shard_sql(0, f"INSERT INTO public.orders VALUES ({moved[1]}, {old}, 'home')", gated=True)
    carried.shard_sql(1, "TRUNCATE public.orders CASCADE", gated=True)
    back_and_compare(carried)
    assert rows(carried, "SELECT id FROM public.orders") == [(moved[1],)]


# ---- under load, and killed ----

class ShardWriters(Writers):
    """Writers of one shard: each key is one that belongs there."""

    @staticmethod
    def some_key(dice, table):
        return dice.choice(table.keys)


def start_writers(carried, shard, seed, truncate):
    customers = carried.keys_of(shard, 97)
    orders = TableSpec("public.orders", "id", {
        "customer_id": lambda dice: dice.choice(customers),
        "note": lambda dice: dice.choice([None, "short", "z" * dice.randint(1, 9000)]),
    }, keys=[key for key in range(10000, 14000) if key % 2 == shard])
    ids = carried.keys_of(shard, 600)
    users = TableSpec("public.users", "id", {"full_name": lambda dice: str(dice.random())}, keys=ids,
                      moves=False, truncate=truncate)
    addresses = TableSpec("public.addresses", "id", {"street": lambda dice: str(dice.random())}, keys=ids,
                          moves=False)
    return ShardWriters(carried.shard_servers[shard].dsn(carried.shard_names[shard]),
                        [orders, users, addresses], seed=seed + shard, threads=2, rate=100).start()


def rest(carried, writers):
    for each in writers:
        each.stop()
    # A split is joined: a person without an address is none. Both halves are made to be there.
    for shard in range(2):
        carried.shard_sql(shard, "DELETE FROM public.users u WHERE NOT EXISTS"
                                 " (SELECT FROM public.addresses a WHERE a.id = u.id);"
                                 "DELETE FROM public.addresses a WHERE NOT EXISTS"
                                 " (SELECT FROM public.users u WHERE a.id = u.id)", gated=True)


@contextlib.contextmanager
def row_held(carried, query):
    with carried.source_server.connect(carried.name, **{"options": "-c portage.pass=on"}) as conn:
        conn.autocommit = False
        assert conn.execute(query + " FOR UPDATE").fetchall()
        yield
        conn.rollback()


def a_lane_waits(carried):
    return carried.source_sql("SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database()"
                              " AND wait_event_type = 'Lock' AND application_name ~ 'pgportage lane'"
                              " AND query ~ 'satisfies_hash_partition'") == [(True,)]


@pytest.mark.parametrize("table, held", [("orders", "public.orders"), ("users", "public.people"),
                                         ("payments", "public.cash")])
def test_under_load_and_killed(carried, table, held):
    writers = [start_writers(carried, shard, seed=21, truncate=table == "users") for shard in range(2)]
    truncate = f"TRUNCATE public.{table} CASCADE"
    for shard in (0, 1):
        for each in writers:
            each.wait_for_transactions(20)
        # In the middle of it: a row of that shard that it cannot have.
        key = carried.shard_sql(shard, f"SELECT min(id) FROM public.{table}")[0][0]
        if table != "users":
            with row_held(carried, f"SELECT FROM {held} WHERE id = {key}"):
                carried.shard_sql(shard, truncate, gated=True)
                wait_until(lambda: a_lane_waits(carried), 30, "the delete to be under way",
                           explain=carried.portage.explain)
                carried.portage.kill9()
        else:
            carried.shard_sql(shard, truncate, gated=True)
            carried.portage.kill9()
        carried.portage.restart()
        for each in writers:
            each.wait_for_transactions(20)
        # And wherever it stands.
        carried.shard_sql(shard, truncate, gated=True)
        carried.portage.kill9()
        carried.portage.restart()
    rest(carried, writers)
    back_and_compare(carried)


# ---- partitions of the target ----

PARTED_SOURCE = """
CREATE TABLE public.t (id bigint PRIMARY KEY, tenant bigint NOT NULL, n int);
ALTER TABLE public.t REPLICA IDENTITY FULL;
INSERT INTO public.t SELECT g, g % 40, g FROM generate_series(1, 3000) g;
CREATE TABLE public.people (id integer PRIMARY KEY, name text, street text);
INSERT INTO public.people SELECT n, 'name ' || n, 'street ' || n FROM generate_series(1, 2000) n;
CREATE TABLE public.cards (id integer PRIMARY KEY, number text);
CREATE TABLE public.cash (id integer PRIMARY KEY, place text);
INSERT INTO public.cards SELECT n, 'card ' || n FROM generate_series(1, 500) n;
INSERT INTO public.cash SELECT n, 'place ' || n FROM generate_series(1, 500) n;
"""
PARTED_TARGET = """
CREATE TABLE public.t (id bigint PRIMARY KEY, tenant bigint NOT NULL, n int) PARTITION BY RANGE (id);
CREATE TABLE public.t_0 PARTITION OF public.t FOR VALUES FROM (0) TO (1000);
CREATE TABLE public.t_1 PARTITION OF public.t FOR VALUES FROM (1000) TO (2000) PARTITION BY HASH (id);
CREATE TABLE public.t_1_0 PARTITION OF public.t_1 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.t_1_1 PARTITION OF public.t_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE public.t_x PARTITION OF public.t DEFAULT;
CREATE TABLE public.users (id bigint PRIMARY KEY, full_name text) PARTITION BY HASH (id);
CREATE TABLE public.users_0 PARTITION OF public.users FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.users_1 PARTITION OF public.users FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE public.addresses (id bigint PRIMARY KEY, street text);
CREATE TABLE public.payments (kind text NOT NULL, id integer NOT NULL, what text,
    PRIMARY KEY (kind, id)) PARTITION BY LIST (kind);
CREATE TABLE public.payments_card PARTITION OF public.payments FOR VALUES IN ('card');
CREATE TABLE public.payments_cash PARTITION OF public.payments FOR VALUES IN ('cash');
"""
PARTED_MAPPING = """
tables:
  public.t: {shard_by: tenant}
  public.users: {from: public.people, select: "id, name AS full_name", shard_by: id}
  public.addresses: {from: public.people, select: "id, street", shard_by: id}
  public.payments:
    - from: public.cards
      select: "'card' AS kind, id, number AS what"
      shard_by: id
    - from: public.cash
      select: "'cash' AS kind, id, place AS what"
      shard_by: id
"""


@pytest.fixture
def parted(migration):
    made = to_target(migration(PARTED_SOURCE, PARTED_TARGET, PARTED_MAPPING))
    for shard in range(2):
        made.shard_sql(shard, """
            CREATE ROLE application_%d LOGIN;
            GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO application_%d
            """ % ((random.getrandbits(40),) * 2))
    return made


def t_is_as_the_shards_have_it(carried):
    wait_back(carried)
    assert rows(carried, "SELECT * FROM public.t") == at_shards(carried, "SELECT * FROM public.t")


def test_partitioned_tables_as_a_whole(parted):
    parted.shard_sql(0, "TRUNCATE public.t", gated=True)
    t_is_as_the_shards_have_it(parted)
    parted.shard_sql(1, "TRUNCATE public.payments", gated=True)
    wait_back(parted)
    assert dirty(parted) == []
    assert rows(parted, "SELECT id FROM public.cash") == at_shards(
        parted, "SELECT id FROM public.payments WHERE kind = 'cash'")
    parted.shard_sql(1, "TRUNCATE public.users, public.addresses", gated=True)
    switch(parted, "rollback")
    parted.portage.wait_for_phase("ready", 30)
    parted.finish_load_and_compare()


@pytest.mark.parametrize("leaf", ["t_0", "t_1", "t_1_1", "t_x"])
def test_a_partition_by_itself(parted, leaf):
    gone = [row for row, in parted.shard_sql(0, f"SELECT id FROM public.{leaf} ORDER BY id")]
    assert len(gone) > 100
    tenant = parted.shard_sql(0, "SELECT min(tenant) FROM public.t")[0][0]
    parted.shard_sql(0, f"""
        UPDATE public.t SET n = -n WHERE id % 7 = 0;
        DELETE FROM public.t WHERE id = {gone[0]};
        TRUNCATE public.{leaf};
        INSERT INTO public.t VALUES ({gone[1]}, {tenant}, 1), ({gone[2]}, {tenant}, 2);
        UPDATE public.t SET n = 3 WHERE id = {gone[2]}""", gated=True)
    t_is_as_the_shards_have_it(parted)
    assert len(dirty(parted)) >= len(gone) - 3
    switch(parted, "rollback")
    parted.portage.wait_for_phase("ready", 30)
    parted.finish_load_and_compare()


def test_a_partition_that_has_just_been_made(parted):
    """Nobody has seen it yet, and it has no gate: the stream tells."""
    tenant = parted.shard_sql(0, "SELECT min(tenant) FROM public.t")[0][0]
    for statement in (
            "SET ROLE portage; CREATE TABLE public.t_new PARTITION OF public.t FOR VALUES FROM (10000) TO (20000)",
            f"INSERT INTO public.t SELECT g, {tenant}, g FROM generate_series(10000, 10099) g",
            "TRUNCATE public.t_new",
            f"INSERT INTO public.t VALUES (10007, {tenant}, 7)"):
        parted.shard_sql(0, statement, gated=True)
    t_is_as_the_shards_have_it(parted)
    assert rows(parted, "SELECT id FROM public.t WHERE id >= 10000") == [(10007,)]
    switch(parted, "rollback")
    parted.portage.wait_for_phase("ready", 30)
    parted.finish_load_and_compare()


def test_partitions_of_a_merge_and_of_a_split_by_a_role_of_little_rights(parted):
    role = parted.shard_sql(1, "SELECT DISTINCT grantee::text FROM information_schema.role_table_grants"
                               " WHERE table_name = 'users' AND grantee ~ '^application_'")[0][0]
    with parted.shard_servers[1].connect(parted.shard_names[1]) as conn:
        conn.execute(f"SET ROLE {role}")
        conn.execute("TRUNCATE public.payments_card, public.users_1")
    wait_back(parted)
    assert parted.source_sql("SELECT count(*) FROM public.cash") == [(500,)]
    assert rows(parted, "SELECT id FROM public.cards") == at_shards(
        parted, "SELECT id FROM public.payments WHERE kind = 'card'")
    assert rows(parted, "SELECT id FROM public.people") == at_shards(parted, "SELECT id FROM public.users")
    parted.shard_sql(1, "DELETE FROM public.addresses a WHERE NOT EXISTS"
                        " (SELECT FROM public.users u WHERE u.id = a.id)", gated=True)
    switch(parted, "rollback")
    parted.portage.wait_for_phase("ready", 30)
    parted.finish_load_and_compare()


def test_a_partition_by_itself_under_load_and_killed(parted):
    specs = []
    for shard in range(2):
        tenants = [row for row, in parted.shard_sql(shard, "SELECT DISTINCT tenant FROM public.t")]
        specs.append(TableSpec("public.t", "id", {"tenant": lambda dice, own=tenants: dice.choice(own),
                                                  "n": lambda dice: dice.randint(1, 999)},
                               keys=[row for row, in parted.shard_sql(shard, "SELECT id FROM public.t")]
                               + [key for key in range(3001, 6000) if key % 2 == shard]))
    writers = [ShardWriters(parted.shard_servers[shard].dsn(parted.shard_names[shard]), [spec], seed=5 + shard,
                            threads=2, rate=100).start() for shard, spec in enumerate(specs)]
    for shard, leaf in ((0, "t_0"), (1, "t_1_0"), (0, "t_x")):
        for each in writers:
            each.wait_for_transactions(20)
        parted.shard_sql(shard, f"TRUNCATE public.{leaf}", gated=True)
        parted.portage.kill9()
        parted.portage.restart()
    for each in writers:
        each.stop()
    t_is_as_the_shards_have_it(parted)
    switch(parted, "rollback")
    parted.portage.wait_for_phase("ready", 30)
    parted.finish_load_and_compare()
