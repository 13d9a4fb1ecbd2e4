"""A switch that was not the first one, or that never was: what the journal says of it, and who acts on it."""
import json
import signal

import pytest

from harness.cutover import (BY_ID, DDL, ROWS, halted, live, make, open_sides, prove, switch)
from harness.polling import wait_until
from harness.writers import TableSpec, Writers

TABLE = TableSpec("public.t", "id", {"n": lambda dice: dice.randint(1, 999)}, keys=4000)
SEQUENCE = "CREATE SEQUENCE public.s OWNED BY public.t.id;"
HOOKS = """
hooks:
  switched: "touch {folder}/switched"
  aborted: "touch {folder}/aborted"
"""


def codes(done):
    return {finding["code"] for finding in json.loads(done.stdout)["findings"]
            if finding["severity"] == "refuse"}


def steps(carried):
    return [step for step, in carried.shard_sql(0, "SELECT step FROM portage.journal"
                                                   " WHERE switch IS NOT NULL ORDER BY id")]


@pytest.fixture
def hooked(migration, tmp_path):
    folder = tmp_path / "hooks"
    folder.mkdir()
    carried = prove(make(migration, mapping=BY_ID + HOOKS.format(folder=folder)))
    return carried, lambda: {path.name for path in folder.iterdir()}


def crash(carried, verb, cell):
    done = switch(carried, verb, env={"PGPORTAGE_CRASH_AT": cell}, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_rollback_of_what_never_switched(hooked):
    carried, ran = hooked
    with Writers(carried.source_server.dsn(carried.name), [TABLE], rate=100, seed=3) as writers:
        for options in ((), ("--abort",), ("--dry-run",)):
            done = switch(carried, "rollback", *options, check=False)
            assert done.returncode == 1 and codes(done) == {"never-switched"}, done.stdout
        crash(carried, "cutover", "ready:begun")
        done = switch(carried, "rollback", check=False)
        assert done.returncode == 1 and codes(done) == {"never-switched"}, done.stdout
        assert not ran() and set(steps(carried)) == {"ready"}
        assert open_sides(carried) == {"source"} and live(carried) == "source"
        carried.finish_load_and_compare(writers)


def test_a_rollback_takes_back_what_has_not_switched(hooked):
    carried, ran = hooked
    with halted(carried, "cutover", "seal:done") as cutover:
        carried.portage.kill9()  # which would restore it
        cutover.process.kill()
        cutover.process.communicate()
    assert not open_sides(carried)
    assert json.loads(switch(carried, "rollback").stdout)["outcome"] == "already live"
    assert open_sides(carried) == {"source"} and live(carried) == "source"
    assert ran() == {"aborted"} and steps(carried)[-1] == "aborted"
    carried.portage.restart()
    carried.wait_ready()
    switch(carried, "cutover")
    assert ran() == {"aborted", "switched"} and steps(carried)[-1] == "done"
    before = steps(carried)
    assert json.loads(switch(carried, "cutover").stdout)["outcome"] == "already live"
    done = switch(carried, "cutover", "--abort", check=False)
    assert done.returncode == 1 and json.loads(done.stdout)["outcome"] == "already live"
    assert steps(carried) == before  # there was nothing to do


def test_a_proof_is_of_one_direction(migration):
    """What was proved before a switch says nothing of what came back since."""
    carried = prove(make(migration, shards=1))
    switch(carried, "cutover")
    with Writers(carried.shard_servers[0].dsn(carried.shard_names[0]), [TABLE], rate=100,
                 seed=4) as writers:
        writers.wait_for_transactions(20)
    switch(carried, "rollback")
    done = switch(carried, "cutover", check=False)
    assert done.returncode == 1 and codes(done) == {"not-verified"}, done.stdout
    assert "made before the last switch" in done.stdout
    switch(carried, "cutover", "--verify")
    assert live(carried) == "target"


def test_who_has_lost_the_epoch_leaves_all_as_it_is(migration):
    carried = prove(make(migration, DDL + SEQUENCE + ROWS, DDL + SEQUENCE))
    with halted(carried, "cutover", "check:begun") as cutover:
        carried.portage.kill9()  # which would restore it
        raised = "UPDATE portage.gate SET epoch = epoch + 1"
        carried.source_sql(raised)
        for shard in range(2):
            carried.shard_sql(shard, raised)
    said = cutover.wait(4)
    assert "another switch has taken over" in said and "aborting" not in said, said
    assert not open_sides(carried)  # by whoever has the epoch
    switch(carried, "cutover", "--abort")
    assert open_sides(carried) == {"source"}


CUTOVER_SESSIONS = "FROM pg_stat_activity WHERE application_name = 'pgportage cutover'"


def test_asked_to_stop_while_nobody_knows_where_it_stands(migration):
    """Its connections are gone and it is to stop: it says nothing before it has looked."""
    carried = prove(make(migration))
    server, name = carried.shard_servers[0], carried.shard_names[0]
    with server.connect(name) as holder:
        with halted(carried, "cutover", "switched:begun") as cutover:
            carried.portage.kill9()  # which would restore it
            server.sql(f"SELECT pg_terminate_backend(pid) {CUTOVER_SESSIONS}", database=name)
            wait_until(lambda: not server.sql(f"SELECT 1 {CUTOVER_SESSIONS} AND datname = '{name}'"),
                       10, "its sessions to end")
            holder.execute("SELECT pg_advisory_lock(hashtext('portage.switch'))")
            cutover.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.sql(f"SELECT 1 {CUTOVER_SESSIONS} AND datname = '{name}'"
                                      " AND query LIKE '%advisory%'"), 20, "it to look again")
        holder.execute("SELECT pg_advisory_unlock(hashtext('portage.switch'))")
        cutover.wait(1)
    assert open_sides(carried) == {"source"} and live(carried) == "source"
