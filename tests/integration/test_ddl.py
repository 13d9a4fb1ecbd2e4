"""DDL at the source on tables that are carried (S10)."""
import pytest

from harness.carry import carry
from harness.polling import wait_until
from harness.writers import TableSpec, Writers

SOURCE = """CREATE TABLE public.t (id bigint PRIMARY KEY, n int, unused text, other int);
    INSERT INTO public.t SELECT g, g FROM generate_series(1, 3000) g;"""
TARGET = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
BY_ID = "shard_by: id\ntables:\n  \"public.*\": identical\n"
TABLE = TableSpec("public.t", "id", {"n": lambda dice: dice.randint(1, 999)}, keys=4000)
COLUMN_N = 'column "n" of the table public.t of the source'
CHANGE = "UPDATE public.t SET id = id WHERE id = 3;"


@pytest.fixture
def carried(migration):
    return migration(SOURCE, TARGET, BY_ID)


def wait_for_look(carried):
    """Until the catalog has been looked at, as it is now."""
    xid = carried.source_sql("SELECT txid_current()")[0][0]
    wait_until(lambda: carried.shard_sql(0, "SELECT value::bigint > %s FROM portage.setting"
                                            " WHERE name = 'ddl_seen'", [xid])[0][0], 30,
               "a look at the catalog", explain=carried.portage.explain)


def ended(carried):
    code = carried.portage.wait(30)
    return code, carried.portage.log.read_text(encoding="utf-8")


@pytest.mark.parametrize("ddl", [
    "ALTER TABLE public.t ADD c float8 DEFAULT random()",
    "ALTER TABLE public.t ADD c int NOT NULL DEFAULT 7",
    "ALTER TABLE public.t DROP unused",
    "ALTER TABLE public.t RENAME unused TO c",
    "ALTER TABLE public.t ALTER unused TYPE int USING 7, ALTER unused SET DEFAULT 7",
    "ALTER TABLE public.t ALTER n SET STATISTICS 7",
    "VACUUM FULL public.t",
], ids=lambda ddl: ddl[-20:])
def test_S10_what_no_mapping_uses_may_change(carried, ddl):
    def change():
        carried.source_sql(ddl)
        wait_for_look(carried)
        if "ADD c" in ddl:
            assert carried.portage.log_contains('column "c" of public.t is new at the source')
    carry(carried, [TABLE], during=change)
    carried.portage.stop()
    carried.source_sql("VACUUM FULL public.t")
    carried.portage.start()
    with Writers(carried.source_server.dsn(carried.name), [TABLE], seed=2) as writers:
        writers.wait_for_transactions(50)
        carried.finish_load_and_compare(writers)


@pytest.mark.parametrize("then", [CHANGE, ""], ids=["noticed by the stream", "by the catalog"])
@pytest.mark.parametrize("ddl, said", [
    ("ALTER TABLE public.t ALTER n TYPE bigint", "has another type"),
    ("ALTER TABLE public.t RENAME n TO m", "renamed"),
    ("ALTER TABLE public.t DROP n", "dropped"),
], ids=["type", "rename", "drop"])
def test_S10_a_column_that_is_used_stops_by_its_name(carried, ddl, said, then):
    carried.run_until_ready()
    carried.source_sql(ddl)
    if then:
        carried.source_sql(then)
    code, log = ended(carried)
    assert code == 3 and COLUMN_N in log and said in log and "pgportage abort" in log


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("there, back", [
    ("ALTER TABLE public.t RENAME n TO m", "ALTER TABLE public.t RENAME m TO n"),
    ("ALTER TABLE public.t ALTER n TYPE bigint USING n * 2", "ALTER TABLE public.t ALTER n TYPE int"),
], ids=["rename", "type"])
def test_S10_taken_back_at_once(carried, there, back, running):
    carried.run_until_ready()
    if not running:
        carried.portage.stop()
    carried.source_sql(f"{there}; COMMIT; {CHANGE} COMMIT; {back}")
    if not running:
        carried.source_sql("VACUUM FULL public.t")
        carried.portage.start()
    code, log = ended(carried)
    assert code == 3 and COLUMN_N in log


def test_S10_nothing_of_it_was_seen_by_the_stream(carried):
    """No row changes: only the rewrite itself tells."""
    carried.run_until_ready()
    carried.source_sql("ALTER TABLE public.t ALTER n TYPE bigint USING n * 2;"
                       "ALTER TABLE public.t ALTER n TYPE int")
    code, log = ended(carried)
    assert code == 3 and f"{COLUMN_N} was rewritten" in log


PARTITIONED = """CREATE TABLE public.t (id bigint PRIMARY KEY, n int, other int) PARTITION BY HASH (id);
    CREATE TABLE public.t_0 PARTITION OF public.t FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE public.t_1 (other int, n int, id bigint NOT NULL);
    ALTER TABLE public.t ATTACH PARTITION public.t_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO public.t SELECT g, g FROM generate_series(1, 3000) g;"""


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("ddl", [
    "ALTER TABLE public.t DROP n; ALTER TABLE public.t ADD n int",
    "ALTER TABLE public.t RENAME n TO m; ALTER TABLE public.t RENAME other TO n",
], ids=["made again", "renamed"])
@pytest.mark.parametrize("source", [SOURCE, PARTITIONED], ids=["plain", "partitioned"])
def test_S10_another_column_under_its_name(migration, source, ddl, running):
    """Of the same type, and no row is written: only the catalog tells, and not by what is new in it alone."""
    carried = migration(source, TARGET, BY_ID)
    carried.run_until_ready()
    if not running:
        carried.portage.stop()
    carried.source_sql(ddl)
    if not running:
        carried.portage.start()
    code, log = ended(carried)
    assert code == 3 and COLUMN_N in log and "pgportage abort" in log
    carried.portage.start()
    code, log = ended(carried)
    assert code == 3 and f"{COLUMN_N} is not the one that was carried" in log


def test_S10_noticed_at_the_start(carried):
    carried.run_until_ready()
    carried.portage.stop()
    carried.source_sql("ALTER TABLE public.t ALTER n TYPE bigint")
    carried.portage.start()
    code, log = ended(carried)
    assert code == 3 and "The first difference is in public.t" in log
