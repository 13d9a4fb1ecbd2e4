"""abort takes away what our own run made on the target, and nothing else."""
import json
import subprocess

import psycopg
import pytest

from harness.carry import failure, refusal
from harness.polling import wait_until

SOURCE = """CREATE TYPE public.mood AS ENUM ('sad', 'happy');
    CREATE TABLE public.t (id bigint PRIMARY KEY, at date NOT NULL, m public.mood);
    INSERT INTO public.t SELECT g, date '2024-01-01' + g % 100, 'happy' FROM generate_series(1, 500) g;
    CREATE TABLE public.child (id serial PRIMARY KEY, parent bigint);
    INSERT INTO public.child (parent) SELECT g FROM generate_series(1, 100) g;"""
# All kinds of things, in an order in which they cannot be dropped one after the other.
TARGET = """CREATE SCHEMA extra;
    CREATE TYPE public.mood AS ENUM ('sad', 'happy');
    CREATE DOMAIN extra.positive AS bigint CHECK (VALUE > 0);
    CREATE TYPE extra.pair AS (a int, b extra.positive);
    CREATE SEQUENCE extra.numbers;
    CREATE FUNCTION extra.next() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('extra.numbers') $$;
    CREATE TABLE extra.unfilled (n bigint DEFAULT extra.next(), p extra.pair);
    CREATE TABLE public.t (id bigint, at date NOT NULL, m public.mood, PRIMARY KEY (id, at))
        PARTITION BY RANGE (at);
    CREATE TABLE public.child (id serial PRIMARY KEY, parent bigint REFERENCES public.child);
    CREATE INDEX ON public.child (parent);
    CREATE VIEW extra.joined AS SELECT t.* FROM public.t JOIN public.child c ON c.parent = t.id;
    CREATE FUNCTION extra.count(public.t) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION extra.stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER stop AFTER DELETE ON public.child EXECUTE FUNCTION extra.stop();"""
MAPPING = """tables:
      public.t: {shard_by: everywhere, partition_by: {column: at, every: 1 month}}
      public.child: {shard_by: everywhere, select: "id"}
"""
# Those of the user: in our schemas and in others, some with the names that ours might have had.
THERE = """CREATE SCHEMA mine; CREATE TABLE mine.t (id int); INSERT INTO mine.t VALUES (1);
    CREATE TYPE mine.mood AS ENUM ('sad'); CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE TABLE public.other (id int); INSERT INTO public.other VALUES (1);
    GRANT USAGE ON SCHEMA mine TO portage; ALTER TABLE public.other OWNER TO portage;
    ALTER TABLE mine.t OWNER TO portage;"""
OBJECTS = """SELECT c.oid::regclass::text FROM pg_class c WHERE relnamespace::regnamespace::text
        NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace::regnamespace::text
        NOT IN ('pg_catalog', 'information_schema')
    UNION ALL SELECT oid::regtype::text FROM pg_type WHERE typnamespace::regnamespace::text
        NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    UNION ALL SELECT nspname FROM pg_namespace ORDER BY 1"""


def objects(carried):
    return [carried.shard_sql(shard, OBJECTS) for shard in range(2)]


@pytest.fixture
def carried(migration):
    made = migration(SOURCE, TARGET, MAPPING)
    for shard in range(2):
        made.shard_sql(shard, THERE)
    return made


@pytest.mark.parametrize("moment", ["phase: copying", "phase: ready"])
def test_run_after_abort(carried, moment):
    before = objects(carried)
    carried.portage.start()
    carried.portage.wait_for_log(moment)
    carried.portage.kill9()
    carried.run_until_ready()  # what is on record stays so
    carried.portage.stop()
    listed = carried.portage.abort().stdout
    assert "Nothing of pgportage is left" in listed and "ADD CONSTRAINT" not in listed
    assert objects(carried) == before
    carried.run_until_ready()
    carried.finish_load_and_compare()


def test_dry_run_lists_and_keep_target_keeps(carried):
    carried.run_until_ready()
    carried.portage.stop()
    after = objects(carried)
    listed = carried.portage.command("--dry-run", "abort").stdout
    for what in ("DROP SCHEMA extra", "DROP VIEW extra.joined", "public.t_2024_03", "DROP TYPE public.mood"):
        assert f"{what}" in listed, listed
    assert "mine" not in listed and "public.other" not in listed
    assert objects(carried) == after
    carried.portage.command("abort", "--keep-target")
    kept = [[row for row in shard if "portage" not in row[0]] for shard in after]
    assert objects(carried) == kept
    assert carried.shard_sql(0, "SELECT count(*) FROM public.t")[0][0] == 500


def test_finish_keeps_the_target(carried):
    carried.run_until_ready()
    carried.portage.stop()
    carried.portage.finish()
    assert carried.shard_sql(0, "SELECT count(*) FROM public.t")[0][0] == 500


def test_what_somebody_else_needs_is_not_dropped(carried):
    carried.run_until_ready()
    carried.portage.stop()
    carried.shard_sql(0, "CREATE VIEW mine.theirs AS SELECT * FROM public.child")
    done = carried.portage.command("abort", check=False)
    assert done.returncode == 3 and "mine.theirs" in done.stderr and "--keep-target" in done.stderr
    assert carried.shard_sql(0, "SELECT count(*) FROM public.child")[0][0] == 100
    carried.shard_sql(0, "DROP VIEW mine.theirs")
    carried.portage.abort()
    assert carried.leftovers() == []


def test_tables_that_were_there_before_stay(migration):
    ddl = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int); "
    carried = migration(ddl + "INSERT INTO public.t SELECT g, g FROM generate_series(1, 100) g;",
                        "", "shard_by: id\ntables:\n  public.t: identical\n")
    for shard in range(2):
        carried.shard_sql(shard, ddl + "ALTER TABLE public.t OWNER TO portage")
    carried.run_until_ready()
    carried.portage.stop()
    assert "public.t was there before" in carried.portage.command("--dry-run", "abort").stdout
    carried.portage.abort()
    rows = [carried.shard_sql(shard, "SELECT count(*) FROM public.t")[0][0] for shard in range(2)]
    assert sum(rows) == 100


# ---- while the target is live ----

DDL = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
ROWS = "INSERT INTO public.t SELECT g, g FROM generate_series(1, 2000) g;"
PARTITIONED = """
CREATE TABLE public.p (id bigint, day date NOT NULL, n int, PRIMARY KEY (id, day))
    PARTITION BY RANGE (day);
CREATE TABLE public.p_one PARTITION OF public.p DEFAULT;"""
BY_ID = "shard_by: id\ntables:\n  \"public.*\": identical\n"
KEPT = """SELECT 'relation ' || relname FROM pg_class WHERE relnamespace = 'portage'::regnamespace
    AND relkind IN ('r', 'v', 'S') UNION ALL SELECT 'function ' || proname FROM pg_proc
    WHERE pronamespace = 'portage'::regnamespace
    UNION ALL SELECT 'setting ' || name FROM portage.setting
    UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()
    UNION ALL SELECT 'publication ' || pubname FROM pg_publication ORDER BY 1"""
GATE = ["function gate", "relation gate", "relation gate_rejected", "relation setting", "setting closed"]
WRITES = ["INSERT INTO public.t VALUES (9000, 1)", "UPDATE public.t SET n = 0 WHERE false",
          "DELETE FROM public.p_one WHERE false", "TRUNCATE public.t, public.p"]


def kept(carried):
    return [what for what, in carried.source_sql(KEPT)]


def is_open(carried):
    """By all that an application may do; each is taken back."""
    taken = set()
    with psycopg.connect(carried.source_server.dsn(carried.name)) as conn:
        for write in WRITES:
            try:
                conn.execute(write)
                taken.add(True)
            except psycopg.Error as error:
                assert error.sqlstate == "57P06", error
                taken.add(False)
            conn.rollback()
    assert len(taken) == 1, "some are taken, some are not"
    return taken.pop()


def switched(migration, source=DDL + PARTITIONED + ROWS, target=DDL + PARTITIONED, **more):
    carried = migration(source, target, BY_ID, **more)
    carried.run_until_ready()
    carried.portage.wait_for_log("way back is ready")
    carried.wait_caught_up()
    carried.portage.command("cutover", "--verify")
    return carried


def left_by_the_target(carried):
    return [what for shard in range(len(carried.shard_names))
            for what, in carried.shard_sql(shard, LEFT)]


LEFT = """SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()
    UNION ALL SELECT 'publication ' || pubname FROM pg_publication
    UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname = 'portage'
    UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgname = 'portage_gate'"""


def test_finish_while_the_target_is_live_keeps_the_source_closed(migration):
    carried = switched(migration)
    portage = carried.portage
    with carried.source_server.connect(carried.name) as old:  # who still has a connection
        portage.stop()
        told = portage.command("--dry-run", "finish").stdout
        assert "stays closed to writes" in told and "--open-source" in told, told
        assert "3 tables" in told and "takes writes again" not in told, told
        told = portage.command("--dry-run", "finish", "--open-source").stdout
        assert "takes writes again" in told and "stays closed" not in told, told
        assert "relation range" in kept(carried)

        said = portage.finish().stdout
        assert "Nothing of pgportage is left on 2 shards." in said, said
        assert "stays closed to writes" in said and "finish --open-source" in said, said
        with pytest.raises(psycopg.Error) as error:
            old.execute(WRITES[0])
        assert error.value.sqlstate == "57P06"
        assert error.value.diag.message_detail == "The target is live."
    assert not is_open(carried) and kept(carried) == GATE
    assert left_by_the_target(carried) == []
    for shard in range(2):
        carried.shard_sql(shard, "UPDATE public.t SET n = n", gated=True)

    status = portage.status()
    assert (status["phase"], status["live"], status["closed_tables"]) == ("finished", "target", 3)
    assert "closed to writes since" in portage.command("status").stdout
    for verb in ("rollback", "cutover", "abort"):
        done = portage.command(verb, check=False)
        assert done.returncode == 3 and "finish --open-source" in done.stderr, done.stderr
    assert "stays closed" in portage.finish().stdout  # again
    assert not is_open(carried) and kept(carried) == GATE

    told = portage.command("--dry-run", "finish", "--open-source").stdout
    assert "takes writes again" in told and kept(carried) == GATE
    said = portage.finish("--open-source").stdout
    assert "The source takes writes." in said and is_open(carried)
    assert carried.leftovers() == []
    assert portage.status()["phase"] == "new"


def test_finish_may_open_the_source_at_once(migration):
    carried = switched(migration)
    carried.portage.stop()
    assert "Nothing of pgportage is left on the source" in carried.portage.finish("--open-source").stdout
    assert is_open(carried) and carried.leftovers() == []


def test_finish_that_died_is_finished(migration):
    """The source is left, the shards are not yet: control still says which side is live."""
    carried = switched(migration)
    carried.portage.stop()
    with carried.shard_servers[1].connect(carried.shard_names[1]) as holder:
        holder.autocommit = False
        holder.execute("LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
        process = subprocess.Popen(carried.portage.command_line("finish"), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        wait_until(lambda: kept(carried) == GATE, 30, "the source to be left")
        process.kill()
        process.wait()
        holder.rollback()
    done = carried.portage.command("run", check=False)  # does not begin anew beside it
    assert done.returncode == 3 and "closed to writes" in done.stderr, done.stderr
    carried.portage.finish()
    assert not is_open(carried) and kept(carried) == GATE and left_by_the_target(carried) == []


def test_a_new_migration_names_a_source_that_was_left(migration):
    carried = switched(migration)
    carried.portage.stop()
    carried.portage.finish()
    other = migration(DDL, DDL.replace("TABLE", "TABLE IF NOT EXISTS"), BY_ID)
    carried.source_sql("GRANT CREATE ON SCHEMA public TO portage")  # it is a shard, too, below
    text = other.config.read_text(encoding="utf-8")
    both = {"as source": text.replace(f"/{other.name}?", f"/{carried.name}?").replace(
                f"/{other.name}\"", f"/{carried.name}\""),
            "as shard": text.replace(f"/{other.name}_1", f"/{carried.name}").replace(
                f":{other.shard_servers[1].port}/{carried.name}",
                f":{carried.source_server.port}/{carried.name}")}
    for text in both.values():
        other.config.write_text(text, encoding="utf-8")
        found = refusal(other)
        assert "finish" in found["closed"]["reason"] and "--open-source" in found["closed"]["fix"]
        assert carried.name in found["closed"]["object"]
        code, log = failure(other)
        assert code == 3 and "closed to writes" in log and "--open-source" in log, log
        assert not is_open(carried) and kept(carried) == GATE
    # The configuration of the new one serves as well.
    other.config.write_text(both["as source"], encoding="utf-8")
    other.portage.finish("--open-source")
    assert is_open(carried) and "closed" not in refusal_codes(other)


def refusal_codes(carried):
    done = carried.portage.command("--json", "plan", check=False)
    return {finding["code"] for finding in json.loads(done.stdout)["findings"]}


def test_abort_does_not_drop_the_tables_of_the_application(migration):
    carried = switched(migration)
    carried.portage.stop()
    done = carried.portage.command("abort", check=False)
    assert done.returncode == 3 and "the target is live" in done.stderr, done.stderr
    assert sum(carried.shard_sql(shard, "SELECT count(*) FROM public.t")[0][0]
               for shard in range(2)) == 2000
    carried.portage.command("abort", "--keep-target")
    assert not is_open(carried) and kept(carried) == GATE


def test_finish_refuses_a_switch_at_its_half(migration):
    carried = switched(migration)
    carried.portage.stop()
    portage = carried.instance("crashing", env={"PGPORTAGE_CRASH_AT": "seal:done"})
    carried.portage.start().wait_for_log("the gates are laid")
    portage.command("rollback", "--verified-within", "86400", check=False)
    carried.portage.kill9()
    done = carried.portage.command("finish", check=False)
    assert done.returncode == 3 and "rollback --abort" in done.stderr, done.stderr
    assert "relation range" in kept(carried)
    carried.portage.command("rollback", "--abort")
    carried.portage.finish()
    assert not is_open(carried) and kept(carried) == GATE


def test_finish_gives_back_what_was_put_aside(migration):
    """Foreign keys and triggers of the source, where our role may not set session_replication_role; also
    one that the rows refuse: there is another, whose child has no parent."""
    tables = DDL + "CREATE TABLE public.c (id bigint PRIMARY KEY, t bigint, u bigint);"
    acts = """
        ALTER TABLE public.c ADD CONSTRAINT of_t FOREIGN KEY (t) REFERENCES public.t;
        ALTER TABLE public.c ADD CONSTRAINT of_u FOREIGN KEY (u) REFERENCES public.t;
        CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER note AFTER INSERT ON public.c FOR EACH ROW EXECUTE FUNCTION public.note();"""
    carried = switched(migration, tables + acts + ROWS + "INSERT INTO public.c VALUES (1, 1, 1)",
                       tables)
    state = ("SELECT conname::text, convalidated FROM pg_constraint WHERE contype = 'f'"
             " UNION ALL SELECT tgname::text, tgenabled = 'O' FROM pg_trigger WHERE tgname = 'note'"
             " ORDER BY 1")
    wait_until(lambda: carried.source_sql(state) == [("note", False)], 40, "them to be put aside")
    carried.portage.stop()
    carried.source_sql("UPDATE public.c SET u = 77777")
    done = carried.portage.finish()
    assert "of_u" in done.stderr and "VALIDATE CONSTRAINT" in done.stderr, done.stderr
    assert carried.source_sql(state) == [("note", True), ("of_t", True), ("of_u", False)]
    assert not [what for what in kept(carried) if what not in GATE]
