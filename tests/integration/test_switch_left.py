"""A switch whose process died is put right by `run` whatever `run` is doing: preparing, copying, indexing."""
import contextlib

import pytest

from harness.cutover import halted, is_open, live, make, open_sides, prove
from harness.migration import AS_OWNER
from harness.polling import wait_until

SOURCE = """
CREATE TABLE public.t (id bigint, n int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE public.t1 PARTITION OF public.t FOR VALUES FROM (0) TO (1000000);
INSERT INTO public.t SELECT g, g FROM generate_series(1, 2000) g;
"""
TARGET = """
CREATE TABLE public.t (id bigint PRIMARY KEY, n int);
CREATE TABLE public.told (id bigint);
CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO public.told VALUES (NEW.id); RETURN NEW; END';
"""
MAPPING = "tables:\n  public.t: identical\nshard_by: id\n"
NEW_PARTITION = f"""
{AS_OWNER}
CREATE TABLE public.t2 PARTITION OF public.t FOR VALUES FROM (1000000) TO (2000000);
RESET ROLE;
INSERT INTO public.t SELECT g, g FROM generate_series(1000000, 1049999) g;
"""
TRIGGER = """
CREATE TRIGGER tell AFTER INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.tell();
ALTER TABLE public.t ENABLE ALWAYS TRIGGER tell;
"""


@contextlib.contextmanager
def held(carried, mode):
    """Shard 0's table, by a session of somebody else."""
    server, name = carried.shard_servers[0], carried.shard_names[0]
    with server.connect(name) as holder, holder.transaction():
        holder.execute(f"LOCK TABLE public.t IN {mode} MODE")
        yield


def die(command):
    command.process.kill()
    command.process.communicate()


def source_is_open(carried):
    return is_open(carried.source_server, carried.name)


def check_opens(carried):
    wait_until(lambda: source_is_open(carried), 10, "the source to take writes",
               explain=carried.portage.explain)
    last = "SELECT step FROM portage.journal WHERE switch IS NOT NULL ORDER BY id DESC LIMIT 1"
    wait_until(lambda: carried.shard_sql(0, last) == [("aborted",)], 10, "the switch to be settled",
               explain=carried.portage.explain)
    assert live(carried) == "source"


@contextlib.contextmanager
def slowly(carried):
    """Whoever starts now copies for a minute, and more."""
    config = carried.portage.config
    text = config.read_text(encoding="utf-8")
    config.write_text(text + "\nsource_rate_max: 4KiB\nchunk_ms: 10\n", encoding="utf-8")
    yield
    config.write_text(text, encoding="utf-8")


def is_copying(carried):
    return any(carried.shard_sql(shard, "SELECT count(*) FROM portage.range WHERE NOT done")[0][0] > 0
               for shard in range(2))


def check_goes_on(carried):
    carried.wait_ready()
    assert open_sides(carried) == {"source"}
    carried.source_sql("UPDATE public.t SET n = -n WHERE id < 10", gated=True)
    carried.finish_load_and_compare()


@pytest.mark.parametrize("dies", ["before run starts", "while run copies"])
def test_a_source_left_sealed_opens_while_a_partition_is_copied(migration, dies):
    carried = prove(make(migration, SOURCE, TARGET, MAPPING))
    with slowly(carried):
        with halted(carried, "cutover", "seal:done") as cutover:
            carried.portage.kill9()
            carried.source_sql(NEW_PARTITION)
            if dies == "before run starts":
                die(cutover)
            assert not source_is_open(carried)
            carried.portage.restart()
            wait_until(lambda: is_copying(carried), 30, "the copy", explain=carried.portage.explain)
            die(cutover)
        check_opens(carried)
        assert is_copying(carried)
    carried.portage.stop()
    carried.portage.restart()
    check_goes_on(carried)


# It types its statements there, and puts triggers aside, before it begins.
@pytest.mark.parametrize("mode", ["SHARE ROW EXCLUSIVE", "ROW EXCLUSIVE"])
def test_a_source_left_sealed_opens_while_run_waits_for_locks(migration, mode):
    carried = prove(make(migration, SOURCE, TARGET, MAPPING))
    with halted(carried, "cutover", "seal:done") as cutover:
        carried.portage.kill9()
        carried.shard_sql(0, TRIGGER)
        with held(carried, mode):
            carried.portage.restart()
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'public.t'::regclass"
            wait_until(lambda: carried.shard_sql(0, waits)[0][0] > 0, 30, "run to wait for a lock",
                       interval=0.02, explain=carried.portage.explain)
            assert not source_is_open(carried)
            die(cutover)
            check_opens(carried)
            assert not carried.portage.log_contains("the gates are laid")
    check_goes_on(carried)
