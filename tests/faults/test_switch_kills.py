"""kill -9 at each step of a switch, of whoever takes part: in the end one side is open, and it has every
acknowledged write once. The bank's clients write all the time, through a pooler."""
import contextlib
import os
import signal
import subprocess

import pytest

from harness.polling import wait_until
from harness.switching import SwitchedBank

ROWS = 2000
RATE = 500
STEPS = ["ready", "pause", "fence", "seal", "drain", "check", "switched", "open", "lead"]
MOMENTS = [f"{step}:{state}" for step in STEPS for state in ("begun", "done")]
SWITCHED = MOMENTS.index("switched:done")
VICTIMS = ["cutover", "run", "source", "shard0", "shard1"]
COMMANDS = {"source": "cutover", "target": "rollback"}  # by the side that is live
OTHER = {"source": "target", "target": "source"}
# The command itself in the short suite; all of them in the full one.
CELLS = [pytest.param(victim, marks=[] if victim == "cutover" else pytest.mark.full)
         for victim in VICTIMS]


@pytest.fixture
def stage(folder, postgres):
    from conftest import SOURCE_VERSION, TARGET_VERSION
    source = postgres(SOURCE_VERSION, name="source")
    shards = [postgres(TARGET_VERSION, name=f"shard{number}") for number in range(2)]
    made = SwitchedBank(folder, source, shards).load(ROWS)
    made.begin(rate=RATE, writers=4, large_every=0)
    made.verify()
    yield made
    made.close()


def halted(process):
    with contextlib.suppress(FileNotFoundError):
        with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "T"
    return False


def start_command(stage, command, variable, moment):
    log = open(stage.folder / f"{command}.log", "ab")  # noqa: SIM115 the child's
    return subprocess.Popen(stage.portage.command_line(command), stdin=subprocess.DEVNULL,
                            stdout=log, stderr=log, start_new_session=True,
                            env={**os.environ, variable: moment})


def kill_the_command(stage, command, moment):
    """It must have come to the moment, and died there."""
    process = start_command(stage, command, "PGPORTAGE_CRASH_AT", moment)
    assert process.wait(60) == -signal.SIGKILL, f"{command} at {moment}"


def kill_beside_it(stage, command, moment, victim):
    """The command stands still at the moment, the victim dies and is started again, the command goes on."""
    process = start_command(stage, command, "PGPORTAGE_HALT_AT", moment)
    try:
        wait_until(lambda: halted(process) or process.poll() is not None, 60,
                   f"{command} to reach {moment}")
        assert process.poll() is None, f"{command} ended before {moment}: {process.returncode}"
        if victim == "run":
            stage.portage.kill9()
            stage.portage.restart()
        else:
            server = stage.source if victim == "source" else stage.servers[int(victim[-1])]
            server.kill9()
            server.start()
        process.send_signal(signal.SIGCONT)
        return process.wait(120)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_until_possible(stage, command):
    """A server that died was seen by `run`, too, which rests a while before it begins again; the phase says
    nothing of that."""
    wait_until(lambda: stage.portage.command("--dry-run", command, check=False).returncode == 0, 60,
               f"a {command} to be possible", interval=0.5, explain=stage.portage.explain)


def live_by_journal(stage):
    rows = stage.servers[0].sql("SELECT value FROM portage.setting WHERE name = 'live'",
                                database=stage.shards[0])
    return rows[0][0] if rows else "source"


def complete(stage, goal):
    """What the operator does: the same command again, until it says that it is done."""
    def again():
        done = stage.portage.command(COMMANDS[OTHER[goal]], check=False, timeout=120)
        return done.returncode == 0
    wait_until(again, 180, f"the switch to the {goal}", interval=0.5,
               explain=lambda: stage.portage.command("journal", check=False).stdout)


def settled_by_run(stage, moment, command):
    """Nobody comes: `run` restores what had not switched, and completes what had. The side that is live."""
    goal = {"cutover": "target", "rollback": "source"}[command]
    live = goal if MOMENTS.index(moment) >= SWITCHED else OTHER[goal]
    end = "done" if live == goal else "aborted"
    wait_until(lambda: stage.servers[0].sql(
        "SELECT step = %s AND who LIKE '%%pgportage settle%%' FROM portage.journal"
        " WHERE switch IS NOT NULL ORDER BY id DESC LIMIT 1", [end], stage.shards[0]) == [(True,)],
        60, f"run to settle {command} at {moment}", explain=stage.portage.explain)
    for shard in range(len(stage.shards)):
        assert not stage.pooler.is_paused(f"bank_{shard}"), moment
    assert stage.live() == live_by_journal(stage) == live, moment
    return live


def clients_go_on(stage):
    """Writes are acknowledged after the switch, by whoever is live."""
    before = stage.bank.acknowledged()
    wait_until(lambda: stage.bank.acknowledged() > before + 20, 30, "the clients to go on",
               explain=stage.bank.log_tail)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("victim", CELLS)
def test_killed_at_each_step(stage, victim, step):
    live = "source"
    for state in ("begun", "done"):
        moment = f"{step}:{state}"
        for _ in range(2):  # there, and back
            command, goal = COMMANDS[live], OTHER[live]
            if command == "cutover":
                stage.verify()
            if victim == "cutover":
                kill_the_command(stage, command, moment)
            else:
                wait_until_possible(stage, command)
                kill_beside_it(stage, command, moment, victim)
            complete(stage, goal)
            assert stage.live() == live_by_journal(stage) == goal, f"{victim} at {moment}"
            clients_go_on(stage)
            stage.wait_for_way_back(goal)
            live = goal
    finish(stage, live, errors_allowed=victim not in ("cutover", "run"))


def finish(stage, live, errors_allowed=False):
    """The clients come to rest, nothing is lost, and both sides are equal. While no server has died they
    have waited, and seen no error."""
    load = stage.bank.stop()
    assert errors_allowed or load["client_errors"] == 0, (load["errors"], stage.bank.log_tail())
    stage.prove(live)
    comparison = stage.compare()
    assert comparison.differences == 0, str(comparison)


# Paused before anything else; fenced; sealed; not known to have switched; switched; opened; led, not resumed.
@pytest.mark.parametrize("moments", [
    pytest.param(["pause:done", "seal:done", "switched:done", "lead:begun"], id="some"),
    pytest.param([moment for moment in MOMENTS if not moment.startswith("ready") and
                  moment != "pause:begun"], id="all", marks=pytest.mark.full)])
def test_run_alone_settles_what_died(stage, moments):
    """kill -9 of the command while its clients wait in a paused pooler, and nobody runs anything again: they
    go on, on the side that the journal says, and not one of them has seen an error."""
    live = "source"
    for moment in moments:
        if COMMANDS[live] == "cutover":
            stage.verify()
        kill_the_command(stage, COMMANDS[live], moment)
        live = settled_by_run(stage, moment, COMMANDS[live])
        clients_go_on(stage)
        stage.wait_for_way_back(live)
    finish(stage, live)
