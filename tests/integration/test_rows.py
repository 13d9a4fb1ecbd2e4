"""Hard cases of rows (R), each by its id."""
import json
import random
import re
import threading
import time

import psycopg
import pytest

from harness.carry import carry, refusal
from harness.polling import wait_until
from harness.writers import TableSpec, Writers

BY_ID = "shard_by: id\ntables:\n  \"public.*\": identical\n"


def big(dice):
    """Stored out of line: incompressible and long."""
    return "".join(dice.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=dice.randint(3000, 9000)))


TOAST = TableSpec("public.letters", "id", {
    "customer_id": lambda dice: dice.randint(1, 50),
    "body": big,
    "note": lambda dice: dice.choice(["x", "y", None]),
}, keys=300)


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
def test_R1_unchanged_toast(migration, identity):
    ddl = """CREATE TABLE public.letters (id bigint PRIMARY KEY, customer_id int NOT NULL,
        body text, note text);"""
    source = ddl + f"""
        ALTER TABLE public.letters ALTER body SET STORAGE EXTERNAL;
        ALTER TABLE public.letters REPLICA IDENTITY {identity};
        INSERT INTO public.letters SELECT g, g % 50 + 1, repeat(md5(g::text), 200), 'n'
          FROM generate_series(1, 300) g;"""
    target = """CREATE TABLE public.letters (id bigint PRIMARY KEY, customer_id int NOT NULL,
        body text, note text, both_of_them text);"""
    # One expression mixes a column that is often unchanged with one that often changes.
    carried = migration(source, target, """
        tables:
          public.letters:
            select: "id, customer_id, body, note, body || coalesce(note, '-') AS both_of_them"
            shard_by: id
    """)
    carry(carried, [TOAST], seed=11, rate=150)


class Sessions:
    """Those of `run` at the source, counted as fast as it goes."""

    SQL = ("SELECT application_name FROM pg_stat_activity"
           " WHERE datname = %s AND application_name LIKE 'pgportage %%'"
           "   AND application_name <> 'pgportage status'")

    def __init__(self, carried):
        self.server, self.name = carried.source_server, carried.name
        self.most = []  # the purposes of the moment with the most
        self.seen = set()
        self.looks = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(timeout=60)

    def work(self):
        with self.server.connect("postgres") as conn:
            while not self.stopping.is_set():
                now = sorted(name for name, in conn.execute(self.SQL, [self.name]))
                self.seen.update(now)
                self.looks += 1
                if len(now) > len(self.most):
                    self.most = now


@pytest.mark.parametrize("limit", [4, 7])
def test_source_connections_max_holds_for_what_is_read_back(migration, limit):
    """Eight lanes, all of which must read back: keys change and leave a large value unchanged."""
    ddl = "CREATE TABLE public.letters (id bigint PRIMARY KEY, customer_id int NOT NULL, body text);"
    carried = migration(ddl + """ALTER TABLE public.letters ALTER body SET STORAGE EXTERNAL;
        INSERT INTO public.letters SELECT g, g, repeat(md5(g::text), 200)
          FROM generate_series(1, 4000) g;""", ddl, f"""
        lanes: 4
        copy_workers: 6
        source_connections_max: {limit}
        shard_by: id
        tables: {{public.letters: identical}}
    """)
    moving = TableSpec("public.letters", "id", {"customer_id": lambda dice: dice.randint(1, 50)},
                       keys=4000)
    with Sessions(carried) as sessions, Writers(
            carried.source_server.dsn(carried.name), [moving], seed=5, rate=400) as writers:
        carried.run_until_ready()
        carried.portage.wait_for_log("way back is ready")
        for step in range(20):  # all lanes at once, and faster than one session reads them back
            carried.source_sql("UPDATE public.letters SET id = id + 5000 * 2 ^ %s"
                               " WHERE body IS NOT NULL AND id %% 4 = %s", [step, step % 4])
        carried.wait_caught_up(position=carried.source_position())
        writers.stop()
        carried.wait_caught_up()
    print(f"{sessions.looks} looks; most: {sessions.most}; seen: {sessions.seen}")
    assert "pgportage read back" in sessions.seen and "pgportage rest" in sessions.seen
    assert len(sessions.most) <= limit, sessions.most
    carried.assert_equal()


LETTERS = """CREATE TABLE public.letters (id bigint PRIMARY KEY, body text, note text);
    CREATE TABLE public.fillers (id bigint PRIMARY KEY);
    CREATE TABLE public.gates (id bigint PRIMARY KEY, n int);"""
LETTERS_ROWS = """ALTER TABLE public.letters ALTER body SET STORAGE EXTERNAL;
    INSERT INTO public.letters SELECT g, repeat(md5(g::text), 200), 'n' FROM generate_series(1, 300) g;
    INSERT INTO public.gates SELECT g, 0 FROM generate_series(1, 60) g;"""
MAPPINGS = {
    "plain": "  public.letters: identical\n",
    # A row that fails `where` is not there; one that passes again must be made new.
    "where": "  public.letters: {select: 'id, body, note', where: \"note <> 'y'\"}\n",
}


class Vanishing:
    """Key changes of rows that are gone soon after: what they leave unchanged is in no message, and
    mostly not at the source any more when it is asked for."""

    STEPS = ["UPDATE public.letters SET id = {new} WHERE id = {old}",
             "DELETE FROM public.letters WHERE id = {new}",
             "UPDATE public.letters SET note = 'y' WHERE id = {new}",
             "UPDATE public.letters SET note = 'n', body = repeat('b', 5000) WHERE id = {new}",
             "UPDATE public.letters SET id = {next} WHERE id = {new}",
             "UPDATE public.letters SET id = {new} WHERE id = {next}",
             "INSERT INTO public.letters VALUES ({new}, repeat('i', 5000), 'i')"]
    # Always a key change first, and the row's end, or yet another key, close behind.
    SCRIPTS = [[0, 1], [0, 2, 1], [0, 4], [0, 4, 5, 2], [0, 3, 1], [0, 1, 6, 2], [0, 4, 6, 1], [0]]

    def __init__(self, carried, seed):
        self.dsn = carried.source_server.dsn(carried.name)
        self.dice = random.Random(seed)
        self.stopping = threading.Event()
        self.rounds = 0
        self.error = None
        self.thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping.set()
        self.thread.join(timeout=60)
        assert not self.thread.is_alive() and self.error is None, self.error

    def work(self):
        try:
            with psycopg.connect(self.dsn, autocommit=True) as conn:
                while not self.stopping.is_set():
                    self.round(conn)
        except psycopg.Error as error:
            self.error = error

    def round(self, conn):
        """One script over a few keys: some steps share a transaction."""
        old, new, following = self.dice.sample(range(1, 400), 3)
        conn.execute("DELETE FROM public.letters WHERE id = ANY(%s)", [[new, following]])
        conn.execute("INSERT INTO public.letters VALUES (%s, repeat('o', 5000), 'n')"
                     " ON CONFLICT DO NOTHING", [old])
        steps = [self.STEPS[step].format(old=old, new=new, next=following)
                 for step in self.dice.choice(self.SCRIPTS)]
        if self.dice.random() < 0.3:
            steps = ["; ".join(steps)]
        for step in steps:
            conn.execute(step)
        self.rounds += 1

    def wait_for_rounds(self, more):
        wanted = self.rounds + more
        wait_until(lambda: self.rounds >= wanted or self.error, 60, f"{more} more rounds")


def ghosts(carried):
    """On each shard: how many there are, and how many there ever were."""
    return [carried.shard_sql(shard, """
        SELECT count(*), (SELECT n_tup_ins FROM pg_stat_all_tables
                           WHERE relid = 'portage.ghost'::regclass) FROM portage.ghost""")[0]
            for shard in range(len(carried.shard_names))]


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("shards", [1, 2])
def test_R1_the_row_is_gone_before_it_could_be_read_back(migration, shards, mapping):
    carried = migration(LETTERS + LETTERS_ROWS, LETTERS, "shard_by: id\nlanes: 2\ntables:\n"
                        + MAPPINGS[mapping] + "  \"public.*\": identical\n", shards=shards)
    dice = random.Random(shards)
    with Vanishing(carried, seed=shards) as vanishing:
        vanishing.wait_for_rounds(50)
        carried.portage.start()
        for _ in range(6):
            vanishing.wait_for_rounds(100)
            time.sleep(dice.random())  # the moment is what is tested
            carried.portage.kill9()
            vanishing.wait_for_rounds(100)
            carried.portage.restart()
        carried.wait_ready()
        carried.finish_load_and_compare(vanishing)
    assert [now for now, _ in ghosts(carried)] == [0] * shards
    wait_until(lambda: all(ever > 0 for _, ever in ghosts(carried)), 10, "the ghosts to be counted")


class Gate:
    """Rows of the target, some for every lane, that cannot be changed while the gate is shut."""

    def __init__(self, carried):
        self.conn = psycopg.connect(carried.shard_servers[0].dsn(carried.shard_names[0]))
        self.conn.execute("SELECT FROM public.gates FOR UPDATE")

    def open(self):
        self.conn.close()


def make_ghosts(carried, lanes):
    """Five of them, durable on the shard, with all that follows at the source held back at a gate,
    which is returned."""
    carried.run_until_ready()
    carried.portage.stop()
    carried.source_sql("UPDATE public.letters SET id = id + 1000 WHERE id <= 5")
    # As much as ends a target transaction, then the gate.
    carried.source_sql("INSERT INTO public.fillers SELECT generate_series(1, %s)", [6000 * lanes])
    carried.source_sql("UPDATE public.gates SET n = 1")
    carried.source_sql("UPDATE public.letters SET note = 'u' WHERE id IN (1001, 1002)")
    carried.source_sql("UPDATE public.letters SET id = id + 1000 WHERE id IN (1003, 1004)")
    carried.source_sql("DELETE FROM public.letters WHERE id > 1000")
    gate = Gate(carried)
    carried.portage.start()
    wait_until(lambda: ghosts(carried)[0][0] == 5, 30, "the ghosts", explain=carried.portage.explain)
    return gate


def test_R1_ghosts_outlive_us(migration):
    carried = migration(LETTERS + LETTERS_ROWS, LETTERS,
                        "lanes: 1\ntables:\n  \"public.*\": identical\n", shards=1)
    gate = make_ghosts(carried, lanes=1)
    # The row comes back meanwhile: the update before its delete finds it, and completes the ghost.
    carried.source_sql("INSERT INTO public.letters VALUES (1001, repeat('i', 5000), 'i')")
    carried.portage.kill9()
    gate.open()
    carried.portage.restart()
    carried.finish_load_and_compare()
    assert ghosts(carried)[0][0] == 0


def test_R1_R13_a_truncate_ends_ghosts_of_all_lanes(migration):
    carried = migration(LETTERS + LETTERS_ROWS, LETTERS,
                        "lanes: 3\ntables:\n  \"public.*\": identical\n", shards=1)
    gate = make_ghosts(carried, lanes=3)
    carried.source_sql("""TRUNCATE public.letters;
        INSERT INTO public.letters SELECT 1000 + g, repeat('t', 5000), 't' FROM generate_series(1, 5) g;
        UPDATE public.letters SET note = 'u'""")
    gate.open()
    carried.finish_load_and_compare()
    assert ghosts(carried)[0][0] == 0


@pytest.mark.parametrize("alteration", [
    "ALTER TABLE public.t DROP CONSTRAINT t_pkey",
    "ALTER TABLE public.t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id) DEFERRABLE",
    "ALTER TABLE public.t REPLICA IDENTITY NOTHING",
    "ALTER TABLE public.t REPLICA IDENTITY USING INDEX u; DROP INDEX public.u",
])
def test_R3_a_table_whose_updates_we_would_break_is_refused(migration, alteration):
    ddl = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int NOT NULL);"
    carried = migration(ddl + "CREATE UNIQUE INDEX u ON public.t (n);" + alteration, ddl, BY_ID)
    found = refusal(carried)
    assert "REPLICA IDENTITY FULL" in found["no-replica-identity"]["fix"]
    assert carried.leftovers() == []


def test_R6_keys_and_shard_keys_change(migration):
    ddl = "CREATE TABLE public.devices (id bigint PRIMARY KEY, owner int NOT NULL, n int);"
    carried = migration(ddl + """ALTER TABLE public.devices REPLICA IDENTITY FULL;
        INSERT INTO public.devices SELECT g, g, 0 FROM generate_series(1, 2000) g;""", ddl,
                        "tables:\n  public.devices: {shard_by: owner}\n", shards=3)

    def there_and_back():
        for step in range(30):
            carried.source_sql(f"""
                BEGIN; LOCK TABLE public.devices IN SHARE ROW EXCLUSIVE MODE;
                UPDATE public.devices SET owner = owner + 1 WHERE id % 7 = 3;
                UPDATE public.devices SET owner = owner - 1 WHERE id % 7 = 3;
                UPDATE public.devices SET id = -id, n = {step} WHERE (id % 11 = 5 OR id % 11 = -5)
                   AND NOT EXISTS (SELECT FROM public.devices d WHERE d.id = -devices.id);
                COMMIT""")
    table = TableSpec("public.devices", "id", {
        "owner": lambda dice: dice.randint(1, 40), "n": lambda dice: dice.randint(1, 9)}, keys=2000)
    carry(carried, [table], seed=5, during=there_and_back)


@pytest.mark.parametrize("key, other, equal", [
    ("numeric", "round(id, 2)", "round(id, 1)"),
    ("double precision", "-id", "id"),
    ("citext", "upper(id::text)", "lower(id::text)"),
])
def test_R6_a_key_changes_to_one_that_is_equal(migration, key, other, equal):
    """The texts of old and new key differ, and hash to different lanes."""
    ddl = "CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;" if key == "citext" else ""
    ddl += f"CREATE TABLE public.t (id {key} PRIMARY KEY, n int);"
    values = {"numeric": "g", "double precision": "0", "citext": "'k' || g"}[key]
    rows = f"INSERT INTO public.t SELECT {values}, 0 FROM generate_series(1, 40) g ON CONFLICT DO NOTHING;"
    carried = migration(ddl + rows, ddl, "lanes: 4\ntables:\n  \"public.*\": identical\n", shards=1)

    def flip():
        for step in range(150):
            carried.source_sql(f"UPDATE public.t SET id = {other}, n = {step};"
                               f"UPDATE public.t SET id = {equal}, n = -n")
    carry(carried, during=flip)


@pytest.mark.parametrize("key, one_lane", [
    ("bigint", False), ("text", False), ("varchar(20)", False), ("uuid", False), ("bytea", False),
    ("date", False), ("timestamptz", False), ("inet", False), ("numeric(12,2)", False),
    ("public.mood", False), ("public.amount", True), ("numeric", True), ("real", True),
    ("character(5)", True), ("interval", True), ("timetz", True), ("jsonb", True), ("int[]", True),
    ('text COLLATE public.loose', True),
])
def test_R6_keys_of_one_lane(migration, key, one_lane):
    ddl = f"""CREATE COLLATION public.loose
            (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TYPE public.mood AS ENUM ('good', 'bad');
        CREATE DOMAIN public.amount AS numeric(12,2);
        CREATE TABLE public.t (id {key} PRIMARY KEY, n int);"""
    carried = migration(ddl, ddl, "tables:\n  \"public.*\": identical\n", shards=1)
    plan = json.loads(carried.portage.command("--json", "plan").stdout)
    assert plan["tables"][0]["one_lane"] == one_lane


def test_R7_unique_values_are_swapped(migration):
    ddl = """CREATE TABLE public.places (id bigint PRIMARY KEY, grp int NOT NULL, pos int NOT NULL,
        CONSTRAINT place_once UNIQUE (grp, pos) DEFERRABLE INITIALLY DEFERRED);"""
    carried = migration(ddl + """INSERT INTO public.places
        SELECT g, g / 10, g % 10 FROM generate_series(0, 999) g;""", ddl, """
        shard_by: grp
        tables:
          public.places: {shard_key: immutable}
    """)

    def swap():
        for group in range(100):
            carried.source_sql(f"""BEGIN;
                UPDATE public.places SET pos = CASE pos WHEN 3 THEN 7 ELSE 3 END
                 WHERE grp = {group} AND pos IN (3, 7);
                UPDATE public.places SET pos = pos + 1 WHERE grp = {group};
                COMMIT""")
    carry(carried, during=swap)


FOREIGN_KEYS = """
    CREATE TABLE public.people (id bigint PRIMARY KEY, boss bigint REFERENCES public.people (id));
    CREATE TABLE public.teams (id bigint PRIMARY KEY,
        lead bigint NOT NULL REFERENCES public.people (id) ON DELETE CASCADE);
    ALTER TABLE public.people ADD team bigint REFERENCES public.teams (id) ON DELETE SET NULL;
"""


@pytest.mark.parametrize("may_bypass", [True, False])
def test_R8_foreign_keys_in_circles(migration, may_bypass):
    carried = migration(FOREIGN_KEYS + """
        INSERT INTO public.people SELECT g, g FROM generate_series(1, 500) g;
        INSERT INTO public.teams SELECT g, g FROM generate_series(1, 500) g;
        UPDATE public.people SET team = id;""", FOREIGN_KEYS, """
        tables:
          "public.*": {shard_by: everywhere}
    """)
    if not may_bypass:
        for shard in range(2):
            carried.shard_sql(shard, "REVOKE SET ON PARAMETER session_replication_role FROM portage")

    def change():
        carried.source_sql("""
            BEGIN; INSERT INTO public.people SELECT g, 1 FROM generate_series(501, 800) g;
            INSERT INTO public.teams SELECT g, g FROM generate_series(501, 800) g;
            UPDATE public.people SET team = id, boss = id - 1 WHERE id > 500; COMMIT;
            DELETE FROM public.teams WHERE id % 3 = 0;
            DELETE FROM public.people WHERE id % 7 = 0 AND NOT EXISTS (
                SELECT FROM public.people p WHERE p.boss = people.id AND p.id <> people.id);""")
    try:
        carry(carried, during=change)
        keys, invalid = carried.shard_sql(0, """
            SELECT count(*), count(*) FILTER (WHERE NOT convalidated)
              FROM pg_constraint WHERE contype = 'f'""")[0]
        assert (keys, invalid) == ((3, 0) if may_bypass else (0, 0))
        waiting = carried.shard_sql(0, "SELECT count(*) FROM portage.deferred"
                                       " WHERE kind = 'foreign key' AND state = 'waiting'")[0][0]
        assert waiting == (0 if may_bypass else 3)
    finally:
        for shard in range(2):
            carried.shard_sql(shard, "GRANT SET ON PARAMETER session_replication_role TO portage")


def test_R9_row_security_is_refused(migration):
    ddl = "CREATE TABLE public.t (id bigint PRIMARY KEY);"
    carried = migration(ddl + """INSERT INTO public.t VALUES (1), (2);
        ALTER TABLE public.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY odd ON public.t USING (id % 2 = 1);""", ddl, BY_ID)
    assert "row-security" in refusal(carried)


def test_R9_triggers_and_rules_of_the_target_do_not_act(migration):
    ddl = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
    carried = migration(ddl + "INSERT INTO public.t SELECT g, g FROM generate_series(1, 100) g;",
                        ddl + """
        CREATE FUNCTION public.spoil() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.n := -1; RETURN NEW; END $$;
        CREATE TRIGGER spoil BEFORE INSERT OR UPDATE ON public.t
            FOR EACH ROW EXECUTE FUNCTION public.spoil();
        CREATE RULE lose AS ON DELETE TO public.t DO INSTEAD NOTHING;""", BY_ID)

    def change():
        carried.source_sql("UPDATE public.t SET n = n + 1; DELETE FROM public.t WHERE id % 5 = 0;"
                           "INSERT INTO public.t SELECT g, g FROM generate_series(101, 150) g")
    carry(carried, during=change)
    assert carried.shard_sql(0, "SELECT count(*) FROM pg_trigger WHERE tgname = 'spoil'")[0][0] == 1


def test_R10_identity_and_generated_columns(migration):
    ddl = """CREATE TABLE public.t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int,
        twice int GENERATED ALWAYS AS (n * 2) STORED);"""
    carried = migration(ddl + "INSERT INTO public.t (n) SELECT g FROM generate_series(1, 100) g;",
                        ddl, BY_ID)
    carry(carried, during=lambda: carried.source_sql(
        "INSERT INTO public.t (n) SELECT g FROM generate_series(1, 100) g; UPDATE public.t SET n = n + 1"))


PARTITIONED = """CREATE TABLE public.events (id bigint, at date NOT NULL, n int, PRIMARY KEY (id, at))
        PARTITION BY RANGE (at);
    CREATE TABLE public.events_1 PARTITION OF public.events FOR VALUES FROM ('2024-01-01') TO ('2024-07-01');
    CREATE TABLE public.events_2 PARTITION OF public.events DEFAULT;
    INSERT INTO public.events SELECT g, date '2024-01-01' + g % 400, g FROM generate_series(1, 5000) g;
"""
FLAT = "CREATE TABLE public.events (id bigint, at date NOT NULL, n int, PRIMARY KEY (id, at));"


def test_R12_a_partitioned_source(migration):
    carried = migration(PARTITIONED, FLAT, BY_ID)

    def change():
        carried.source_sql("""UPDATE public.events SET at = at + 100 WHERE id % 3 = 0;
            INSERT INTO public.events SELECT g, '2024-03-01', g FROM generate_series(6000, 6100) g;""")
    carry(carried, during=change)
    carried.source_sql("TRUNCATE public.events; INSERT INTO public.events VALUES (1, '2024-02-02', 3)")
    carried.finish_load_and_compare()


TRUNCATED = TableSpec("public.parents", "id", {"n": lambda dice: dice.randint(1, 9)}, keys=500,
                      truncate=True)


def test_R13_truncate_under_load(migration):
    ddl = """CREATE TABLE public.parents (id bigint PRIMARY KEY, n int);"""
    carried = migration(ddl + "INSERT INTO public.parents SELECT g, g FROM generate_series(1, 500) g;",
                        ddl, BY_ID)
    carry(carried, [TRUNCATED], seed=13, after=600)


def test_R13_truncate_between_a_chunk_s_snapshot_and_its_reading(migration):
    """A truncated table reads as empty also to a snapshot that is older than the TRUNCATE."""
    ddl = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
    carried = migration(ddl + "INSERT INTO public.t SELECT g, g FROM generate_series(1, 500) g;", ddl,
                        BY_ID)
    carried.run_until_ready()
    carried.portage.stop()
    for shard in range(2):  # copied again from its beginning
        carried.shard_sql(shard, "TRUNCATE public.t; DELETE FROM portage.chunk;"
                                 "UPDATE portage.range SET cursor = NULL, done = false, rows = 0")
    copying = ("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
               " AND application_name LIKE 'pgportage copy%%'")
    # It must not begin before there is a lock in its way: this transaction is one of W.
    early = threading.Thread(target=carried.source_sql, args=["SELECT txid_current(), pg_sleep(8)"])
    early.start()
    carried.portage.start()
    wait_until(lambda: carried.source_sql(copying)[0][0] > 0, 30, "the workers")
    with psycopg.connect(carried.shard_servers[0].dsn(carried.shard_names[0])) as holder:
        holder.execute("LOCK TABLE public.t IN SHARE ROW EXCLUSIVE MODE")
        early.join()
        wait_until(lambda: carried.shard_sql(
            0, copying + " AND wait_event_type = 'Lock'")[0][0] > 0, 30,
            "a chunk to have its snapshot and no place to go", explain=carried.portage.explain)
        carried.source_sql("DELETE FROM public.t WHERE id < 100")
        truncate = threading.Thread(target=carried.source_sql, args=["TRUNCATE public.t"])
        truncate.start()
        truncate.join(timeout=1)  # it may go through, or wait for the chunk
        holder.rollback()
    truncate.join(timeout=60)
    carried.source_sql("INSERT INTO public.t VALUES (7, 7)")
    carried.finish_load_and_compare()


def test_R13_truncate_cascade_and_restart(migration):
    ddl = """CREATE TABLE public.parents (id serial PRIMARY KEY, n int);
        CREATE TABLE public.children (id serial PRIMARY KEY, parent int REFERENCES public.parents);"""
    carried = migration(ddl + """INSERT INTO public.parents (n) SELECT g FROM generate_series(1, 100) g;
        INSERT INTO public.children (parent) SELECT g FROM generate_series(1, 100) g;""", ddl, """
        tables:
          "public.*": {shard_by: everywhere}
    """)

    def change():
        carried.source_sql("""BEGIN; INSERT INTO public.parents (n) VALUES (7);
            TRUNCATE public.parents RESTART IDENTITY CASCADE;
            INSERT INTO public.parents (n) SELECT g FROM generate_series(1, 30) g;
            INSERT INTO public.children (parent) SELECT g FROM generate_series(1, 30) g; COMMIT;
            TRUNCATE public.children;
            INSERT INTO public.children (parent) SELECT g FROM generate_series(1, 20) g;""")
    carry(carried, during=change)


def test_R15_the_target_key_is_wider(migration):
    source = """CREATE TABLE public.t (id bigint PRIMARY KEY, at date NOT NULL, n int);
        INSERT INTO public.t SELECT g, date '2024-01-01' + g % 300, g FROM generate_series(1, 2000) g;"""
    target = """CREATE TABLE public.t (id bigint, at date NOT NULL, n int, PRIMARY KEY (id, at))
        PARTITION BY RANGE (at);"""
    carried = migration(source, target, """
        shard_by: id
        tables:
          public.t: {partition_by: {column: at, every: 1 month}}
    """)
    table = TableSpec("public.t", "id", {
        "at": lambda dice: f"2024-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}",
        "n": lambda dice: dice.randint(1, 99)}, keys=2000)
    carry(carried, [table], seed=15)
    for shard in range(2):
        assert carried.shard_sql(shard, "SELECT count(*) - count(DISTINCT id) FROM public.t")[0][0] == 0


@pytest.mark.parametrize("key, change, said", [
    ("at", "DELETE FROM public.t", "several rows of public.t have one key"),
    ("at", "UPDATE public.t SET n = 0", "duplicate key value"),
    ("extra", "UPDATE public.t SET n = 0", "several rows of public.t have one key"),
])
def test_R15_one_row_twice_does_not_make_up_for_one_that_is_missing(migration, key, change, said):
    """A statement for many rows touches as many as it should: two of one key, and none of another."""
    source = """CREATE TABLE public.t (id bigint PRIMARY KEY, at date NOT NULL, n int);
        INSERT INTO public.t SELECT g, date '2024-01-10', g FROM generate_series(1, 20) g;"""
    target = f"""CREATE TABLE public.t (id bigint, at date NOT NULL, n int,
        extra int NOT NULL DEFAULT 0, PRIMARY KEY (id, {key}));"""
    carried = migration(source, target, "lanes: 1\n" + "tables:\n  \"public.*\": identical\n", shards=1)
    carried.run_until_ready()
    carried.shard_sql(0, "UPDATE public.t SET id = 7, at = '2024-01-11', extra = 1 WHERE id = 8")
    carried.source_sql(f"{change} WHERE id BETWEEN 5 AND 15")
    assert carried.portage.wait(60) == 4
    log = carried.portage.logs()
    assert said in log
    assert re.search(r"CONTEXT: applying (UPDATE|DELETE) of public\.t with id=7, committed at", log), log
    assert carried.shard_sql(0, "SELECT count(*) FROM public.t WHERE id = 7 AND n <> 0") == [(2,)]


def test_R16_unique_values_travel_between_rows(migration):
    ddl = "CREATE TABLE public.t (id bigint PRIMARY KEY, grp int NOT NULL, v text UNIQUE);"
    carried = migration(ddl + "INSERT INTO public.t SELECT g, g, 'v' || g FROM generate_series(1, 200) g;",
                        ddl, """
        lanes: 4
        tables:
          public.t: {shard_by: everywhere}
    """)

    def travel():
        for a in range(1, 200):
            carried.source_sql(f"""BEGIN; UPDATE public.t SET v = 'y' || {a} WHERE id = {a + 1};
                UPDATE public.t SET v = 'z' || {a} WHERE id = {a + 1};
                UPDATE public.t SET v = 'y' || {a} WHERE id = {a}; COMMIT""")
    carry(carried, during=travel)
