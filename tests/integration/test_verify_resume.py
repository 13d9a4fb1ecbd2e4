"""A pass of `verify` that was interrupted goes on where it was."""
import contextlib
import signal
import subprocess

import pytest

from harness.polling import wait_until
from harness.writers import TableSpec, Writers

DDL = """CREATE TABLE public.before (id bigint PRIMARY KEY, n int);
CREATE TABLE public.items (id bigint PRIMARY KEY, n int, note text);
CREATE TABLE public.later (id bigint PRIMARY KEY, n int);"""
SOURCE = DDL + """INSERT INTO public.before SELECT g, g FROM generate_series(1, 500) g;
INSERT INTO public.items SELECT g, g, repeat('x', 100) FROM generate_series(1, 30000) g;
INSERT INTO public.later SELECT g, g FROM generate_series(1, 500) g;"""
MAPPING = """
shard_by: id
tables:
  "public.*": identical
"""
ITEMS = TableSpec("public.items", "id", {"n": lambda dice: dice.randint(1, 9)}, keys=30000, keys_from=101)
KEPT_SQL = "SELECT cursor[1]::bigint, source_rows FROM portage.verified WHERE mapping = 'public.items'"
SLOWLY = ("--rate-max", "600KiB", "--workers", "2")
READING_SQL = ("SELECT pid FROM pg_stat_activity WHERE application_name = 'pgportage verify'"
               " AND datname = current_database() AND query LIKE 'COPY%'")
EQUAL, DIFFERENT, UNDECIDED, STOPPED = 0, 1, 2, 5


@pytest.fixture
def ready(migration):
    return migration(SOURCE, DDL, MAPPING).run_until_ready()


def kept(carried):
    """(cursor, rows) of items; None when nothing of it is kept."""
    rows = carried.shard_sql(0, KEPT_SQL)
    return rows[0] if rows and rows[0][0] is not None else None


@contextlib.contextmanager
def half_a_pass(carried, *options):
    """A pass that is somewhere in items, beyond key 3000."""
    command = carried.portage.command_line("verify", *(options or SLOWLY))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: (kept(carried) or [0])[0] > 3000 or process.poll() is not None, 60,
                       "the pass to be in the middle of items")
            assert process.poll() is None, "the pass was too fast"
            yield process
        finally:
            process.kill()


def interrupted(carried, *options):
    with half_a_pass(carried, *options) as process:
        process.kill()
    # Its last transaction may still be under way.
    wait_until(lambda: not carried.shard_sql(
        0, "SELECT 1 FROM pg_stat_activity WHERE application_name = 'pgportage verify'"
           " AND datname = current_database()"), 30, "the sessions of the pass to end")


def change(carried, key):
    """A corruption. Gives what is to be found."""
    for shard in (0, 1):
        carried.shard_sql(shard, f"UPDATE public.items SET note = 'wrong' WHERE id = {key}")
    return "public.items", "different", str(key)


def found(report):
    return {(difference["table"], difference["kind"], difference["key"]["id"])
            for difference in report["differences"]}


def rows_of(report, table="public.items"):
    return next(each for each in report["tables"] if each["name"] == table)


def test_a_pass_that_was_killed_goes_on(ready):
    with Writers(ready.source_server.dsn(ready.name), [ITEMS], seed=3, rate=200) as writers:
        writers.wait_for_transactions(20)
        interrupted(ready)
        cursor, rows = kept(ready)
        done, left = change(ready, 7), change(ready, 29999)
        # What is done is not read again: a corruption there is for the next pass.
        ready.source_sql("DELETE FROM public.items WHERE id = 29999;"
                         "INSERT INTO public.items VALUES (29999, 1, 'right')")
        ready.wait_caught_up(position=ready.source_position())
        left = change(ready, 29999)
        report = ready.portage.verify(code=DIFFERENT)
        assert found(report) == {left}
        assert report["continued"]["source_rows"] == 500 + rows and rows > 0
        assert report["continued"]["tables_complete"] == 1
        assert rows_of(report)["rows_before"] == rows < rows_of(report)["source_rows"]
        assert rows_of(report, "public.before")["rows_before"] == 500
        assert rows_of(report, "public.later")["rows_before"] == 0
        assert 7 <= cursor < 29999 and kept(ready) is None
        report = ready.portage.verify("--repair", code=EQUAL)
        assert found(report) == {done, left} and report["continued"] is None
        ready.finish_load_and_compare(writers)


def test_what_was_suspected_before_is_judged_after(ready):
    wrong = change(ready, 8)
    interrupted(ready)
    assert ready.shard_sql(0, "SELECT mapping FROM portage.suspect") == [("public.items",)]
    report = ready.portage.verify("--repair", code=EQUAL)
    assert found(report) == {wrong} and report["continued"] is not None
    assert ready.shard_sql(0, "SELECT count(*) FROM portage.suspect") == [(0,)]
    ready.finish_load_and_compare()


def test_stopped_or_cut_off_it_goes_on(ready):
    with half_a_pass(ready) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == STOPPED
    first = kept(ready)
    with half_a_pass(ready) as process:
        wait_until(lambda: ready.source_sql(READING_SQL), 30, "the pass to read")
        ready.source_sql(f"SELECT pg_terminate_backend(pid) FROM ({READING_SQL}) AS reading")
        assert process.wait(30) == UNDECIDED
    second = kept(ready)
    assert second[1] >= first[1]
    done = ready.portage.command("verify")
    assert "continued the pass begun at" in done.stdout and "goes on" in done.stderr
    assert ready.portage.verify(code=EQUAL)["continued"] is None
    ready.finish_load_and_compare()


@pytest.mark.parametrize("options", [["--fresh"], ["public.items"], ["--strict"],
                                     ["--digest", "server"]])
def test_what_is_not_the_same_begins_anew(ready, options):
    interrupted(ready)
    wrong = change(ready, 9)
    report = ready.portage.verify(*options, code=DIFFERENT)
    assert report["continued"] is None and found(report) == {wrong}
    # Repairing, speed and patience are not what is asked.
    if options != ["--fresh"]:
        report = ready.portage.verify("--repair", "--workers", "1", "--patience", "60", code=EQUAL)
        assert report["continued"]["source_rows"] > 500 and found(report) == set()
    ready.portage.verify("--repair", code=EQUAL)
    ready.finish_load_and_compare()


def test_what_is_too_old_begins_anew(ready):
    interrupted(ready)
    ready.shard_sql(0, "UPDATE portage.verification SET written_at = written_at - interval '25 hours'")
    assert ready.portage.verify(code=EQUAL)["continued"] is None


def test_two_at_once_do_not_disturb_each_other(ready):
    with half_a_pass(ready, "--rate-max", "200KiB") as process:
        assert ready.portage.verify(code=EQUAL)["continued"] is None
        assert kept(ready) is not None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == STOPPED
    assert ready.portage.verify(code=EQUAL)["continued"] is not None


def test_a_pass_of_run_goes_on_after_a_restart(migration):
    carried = migration(SOURCE, DDL, MAPPING + "verify: {every: 1s, rate_max: 600KiB}\n")
    with Writers(carried.source_server.dsn(carried.name), [ITEMS], seed=4, rate=100) as writers:
        carried.run_until_ready()
        wait_until(lambda: (kept(carried) or [0])[0] > 3000, 60, "a pass to be in the middle of items")
        carried.portage.kill9()
        rows = kept(carried)[1]
        wrong = change(carried, 29999)
        carried.portage.restart()
        carried.portage.wait_for_log("the pass that was begun at .* goes on: 1 of 3 tables")
        wait_until(lambda: "verify" in carried.portage.status(), 60, "the pass to end")
        outcome = carried.portage.status()["verify"]
        assert outcome["continued"]["source_rows"] == 500 + rows
        assert outcome["outcome"] in ("equal", "different")  # a writer may have written over it
        assert wrong
        writers.stop()
    carried.portage.verify("--repair", code=EQUAL)
    carried.finish_load_and_compare()
