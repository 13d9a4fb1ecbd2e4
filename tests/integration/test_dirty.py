"""A rollback with as many dirty keys as a truncated partition has rows."""
import json

import pytest

from harness.cutover import DDL, halted, live, make, open_sides, prove, switch

ROWS = "INSERT INTO public.t SELECT g, g FROM generate_series(1, 30000) g;"
# What no side has, and what a shard has.
MARK = ("INSERT INTO portage.dirty (mapping, key, owner)"
        " SELECT 'public.t', pg_catalog.format('{{\"%s\"}}', g), 0 FROM generate_series({first}, {last}) g")


@pytest.fixture
def on_target(migration):
    carried = prove(make(migration, DDL + ROWS))
    switch(carried, "cutover")
    carried.portage.wait_for_phase("backward", 30)
    return carried


def mark(carried, first, last):
    carried.source_sql(MARK.format(first=first, last=last))


def finding(done):
    found = [each for each in json.loads(done.stdout)["findings"] if each["code"] == "dirty-keys"]
    return found[0] if found else None


def journalled(carried):
    return int(carried.shard_sql(0, "SELECT detail->>'dirty_keys' FROM portage.journal"
                                    " WHERE step = 'check' AND state = 'done' ORDER BY id DESC LIMIT 1")[0][0])


def test_fifty_thousand_dirty_keys(on_target):
    assert finding(switch(on_target, "rollback", "--dry-run")) is None
    mark(on_target, 29901, 30000)
    few = finding(switch(on_target, "rollback", "--dry-run"))
    assert few["severity"] == "note" and few["reason"].startswith("100 keys"), few

    mark(on_target, 29001, 29900)
    mark(on_target, 100001, 149000)
    mark(on_target, 100001, 100100)  # each counts once
    on_target.source_sql("UPDATE public.t SET n = -7 WHERE id > 29000 AND id % 3 = 0")
    on_target.source_sql("DELETE FROM public.t WHERE id > 29000 AND id % 3 = 1")
    on_target.source_sql("INSERT INTO public.t SELECT g, 5 FROM generate_series(100001, 149000) g")
    many = finding(switch(on_target, "rollback", "--dry-run", "--timeout", "300"))
    print(many)
    assert many["severity"] == "warning" and many["reason"].startswith("50000 keys"), many

    done = switch(on_target, "rollback", "--timeout", "300")
    assert finding(done)["reason"].startswith("50000 keys")
    print([step for step in json.loads(done.stdout)["steps"] if step["step"] == "check"])
    assert journalled(on_target) == 50000
    assert live(on_target) == "source" and open_sides(on_target) == {"source"}
    assert on_target.source_sql("SELECT count(*) FROM portage.dirty") == [(0,)]
    assert on_target.source_sql("SELECT count(*), sum(n) FROM public.t") == [(30000, 450015000)]
    on_target.portage.wait_for_phase("ready", 30)
    on_target.finish_load_and_compare()


def test_more_dirty_keys_than_the_time_is_for(on_target):
    """Refused before the pause; where they come later, given up in it, and not hours after."""
    mark(on_target, 1, 30000)
    done = switch(on_target, "rollback", "--timeout", "1", check=False)
    refusal = finding(done)
    assert done.returncode == 1 and refusal["severity"] == "refuse", done.stdout
    assert "--timeout" in refusal["fix"], refusal
    assert live(on_target) == "target" and open_sides(on_target) == {"target"}

    on_target.source_sql("DELETE FROM portage.dirty")
    with halted(on_target, "rollback", "pause:begun", "--timeout", "2") as rollback:
        mark(on_target, 1, 30000)
    said = rollback.wait(3)
    assert "the dirty keys could not be read again in time" in said, said
    assert live(on_target) == "target" and open_sides(on_target) == {"target"}
    assert on_target.source_sql("SELECT count(*) FROM portage.dirty") == [(30000,)]
    on_target.source_sql("DELETE FROM portage.dirty WHERE id % 100 <> 0")
    switch(on_target, "rollback")
    on_target.portage.wait_for_phase("ready", 30)
    on_target.finish_load_and_compare()
