"""abort takes away what our own run made on the target, and nothing else."""
import pytest

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
