"""A cutover goes live on all rows of the source in their last form, or not at all: what comes so late that
`run` has not seen it yet."""
import json

import pytest

from harness.cutover import halted, live, make, open_sides, prove, switch
from harness.migration import AS_OWNER
from harness.polling import wait_until
from harness.writers import TableSpec, Writers

SOURCE = """
CREATE TABLE public.p (id bigint, n int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE public.p1 PARTITION OF public.p FOR VALUES FROM (0) TO (1000000);
CREATE TABLE public.p2 PARTITION OF public.p FOR VALUES FROM (1000000) TO (2000000);
CREATE TABLE public.t (id bigint PRIMARY KEY, n int, unused text);
INSERT INTO public.p SELECT g, g FROM generate_series(1, 150000) g;
INSERT INTO public.p SELECT g, g FROM generate_series(1000000, 1000100) g;
INSERT INTO public.t SELECT g, g FROM generate_series(1, 2000) g;
"""
TARGET = """
CREATE TABLE public.p (id bigint PRIMARY KEY, n int);
CREATE INDEX p_n ON public.p (n);
CREATE TABLE public.t (id bigint PRIMARY KEY, n int);
"""
MAPPING = 'tables:\n  "public.*": identical\nshard_by: id\naccept_losses: [public.t.unused]\n'
TABLE = TableSpec("public.t", "id", {"n": lambda dice: dice.randint(1, 999)}, keys=4000)
NEW_PARTITION = f"""
{AS_OWNER}
CREATE TABLE public.p3 PARTITION OF public.p FOR VALUES FROM (2000000) TO (3000000);
INSERT INTO public.p SELECT g, g FROM generate_series(2000000, 2000049) g;
"""


@pytest.fixture
def carried(migration):
    return prove(make(migration, SOURCE, TARGET, MAPPING))


def load(carried):
    return Writers(carried.source_server.dsn(carried.name, options="-c portage.pass=on"), [TABLE],
                   rate=200, seed=11)


def on_target(carried, sql):
    return sum(carried.shard_sql(shard, sql)[0][0] for shard in range(2))


def codes(done):
    return {finding["code"] for finding in json.loads(done.stdout)["findings"]
            if finding["severity"] == "refuse"}


def check_untouched(carried):
    assert live(carried) == "source" and open_sides(carried) == {"source"}


def switch_at_last(carried):
    """Once all is carried it goes, and nothing is missing."""
    def goes():
        done = switch(carried, "cutover", check=False)
        assert done.returncode in (0, 1, 4), done.stderr
        return done.returncode == 0
    wait_until(goes, 60, "a cutover that goes", explain=carried.portage.explain)
    for sql in ("SELECT count(*) FROM public.p", "SELECT sum(n) FROM public.p",
                "SELECT count(*) FROM public.t", "SELECT sum(n) FROM public.t"):
        assert on_target(carried, sql) == carried.source_sql(sql)[0][0], sql


def is_not_carried(said):
    """What the last check says, in the pause."""
    return "public.p" in said and ("is being copied" in said or "is still catching up" in said
                                   or "is being built" in said)


def test_a_table_that_is_emptied_before_the_fence(carried):
    """The marker comes through at once: all that the stream has is skipped, because a copy will bring it."""
    with load(carried) as writers:
        writers.wait_for_transactions(20)
        with halted(carried, "cutover", "pause:begun") as cutover:
            writers.stop()
            carried.source_sql("TRUNCATE public.p2")
        said = cutover.wait(4)
    assert is_not_carried(said), said
    check_untouched(carried)
    switch_at_last(carried)


def test_a_partition_that_run_has_not_seen(carried):
    with load(carried) as writers:
        writers.wait_for_transactions(20)
        carried.source_sql(NEW_PARTITION)
    done = switch(carried, "cutover", check=False)
    if done.returncode == 4:
        assert is_not_carried(done.stderr), done.stderr
    elif done.returncode != 0:  # else `run` was quick
        assert done.returncode == 1 and codes(done) & {"not-looked", "not-carried", "not-copied",
                                                       "not-ready"}, done.stdout
    if done.returncode != 0:
        check_untouched(carried)
    switch_at_last(carried)


def test_a_partition_that_is_not_carried_has_its_name(carried):
    """A reader of the application's keeps it from being locked."""
    with carried.source_server.connect(carried.name) as conn, conn.transaction():
        carried.source_sql(NEW_PARTITION)
        conn.execute("SET ROLE app_owner")
        conn.execute("LOCK TABLE public.p3 IN ROW EXCLUSIVE MODE")
        done = switch(carried, "cutover", "--timeout", "2", check=False)
        assert done.returncode == 1 and "public.p3" in done.stdout, done.stdout
        assert "not-carried" in codes(done), done.stdout
        check_untouched(carried)
    switch_at_last(carried)


def test_a_partition_that_comes_before_the_fence(carried):
    with halted(carried, "cutover", "pause:begun") as cutover:
        carried.source_sql(NEW_PARTITION)
    said = cutover.wait(4)
    assert "have changed during the switch" in said, said
    check_untouched(carried)
    switch_at_last(carried)


REWRITE = "ALTER TABLE public.t ALTER COLUMN n TYPE int USING n + 1000"


def test_S10_a_rewrite_that_run_has_not_seen(carried):
    carried.source_sql(REWRITE)
    done = switch(carried, "cutover", check=False)
    assert done.returncode == 1 and codes(done) & {"not-looked", "no-instance", "not-streaming", "lag"}, done.stdout
    check_untouched(carried)
    code = carried.portage.wait(30)
    assert code == 3 and carried.portage.log_contains("was rewritten")


@pytest.mark.parametrize("cell", ["pause:begun", "drain:begun"])
def test_S10_a_rewrite_before_the_last_look(carried, cell):
    with halted(carried, "cutover", cell) as cutover:
        carried.source_sql(REWRITE)
    said = cutover.wait(4)
    assert "have changed during the switch" in said, said
    check_untouched(carried)


def test_S10_a_rewrite_of_a_shard_that_run_has_not_seen(carried):
    switch(carried, "cutover")
    carried.shard_sql(1, "UPDATE public.t SET n = -n WHERE id < 100", gated=True)
    carried.shard_sql(1, REWRITE)
    done = switch(carried, "rollback", check=False)
    assert done.returncode == 1 and codes(done) & {"not-looked", "no-instance", "not-streaming", "lag"}, done.stdout
    assert live(carried) == "target" and open_sides(carried) == {"target"}


def test_what_run_has_looked_at_does_not_hinder(carried):
    """DDL that the mapping does not use, and an old transaction, which keeps it new for each look."""
    with carried.source_server.connect(carried.name) as conn, conn.transaction():
        conn.execute("SELECT txid_current()")
        carried.source_sql("ALTER TABLE public.t ALTER COLUMN unused TYPE varchar USING 'x';"
                           "ALTER TABLE public.t ADD COLUMN more int DEFAULT 7")
        carried.source_sql("VACUUM FULL public.p1")
        switch(carried, "cutover", "--no-way-back")  # which would lose "more"
    assert live(carried) == "target"
