"""The WAL that our slots keep: told, warned of, and never let go of by ourselves."""
import pytest

from harness.polling import wait_until

DDL = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
ROWS = "INSERT INTO public.t SELECT g, g FROM generate_series(1, 500) g;"
BUDGET = 64 << 20
BY_ID = "wal_budget: 64MiB\nshard_by: id\ntables:\n  \"public.*\": identical\n"
MESSAGE = "SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1024 * 1024)) FROM generate_series(1, %s)"
WARNINGS = "SELECT detail FROM portage.journal WHERE step = 'wal' ORDER BY id"


@pytest.fixture
def carried(migration):
    made = migration(DDL + ROWS, DDL, BY_ID)
    made.run_until_ready()
    made.portage.wait_for_log("way back is ready")
    made.wait_caught_up()
    return made


def slots(carried):
    return {slot["on"]: slot for slot in carried.portage.status()["slots"]}


def hold(server, database):
    """No lane gets on there until it is closed."""
    conn = server.connect(database)
    conn.autocommit = False
    conn.execute("SELECT FROM portage.lane FOR UPDATE")
    return conn


def fill(carried, on, percent, write):
    """Until the slot keeps so much of its budget."""
    while True:
        missing = BUDGET * percent // 100 - slots(carried)[on]["wal_retained_bytes"]
        if missing < 0:
            return
        write(MESSAGE, [missing // (1 << 20) + 1])


def warnings(carried):
    return [detail for detail, in carried.shard_sql(0, WARNINGS)]


def test_a_stream_that_is_behind_is_warned_of_and_keeps_its_slot(carried):
    before = slots(carried)
    assert set(before) == {"source", "shard 0", "shard 1"}
    for slot in before.values():
        assert slot["wal_budget_bytes"] == BUDGET and slot["wal_full_at"] == "wal_budget"
        assert slot["wal_retained_bytes"] < BUDGET * 0.8, "the servers' WAL is too large for the test"
    with hold(carried.shard_servers[0], carried.shard_names[0]) as held:
        carried.source_sql("UPDATE public.t SET n = -n")
        fill(carried, "source", 81, carried.source_sql)
        carried.portage.wait_for_log(r"on the source keeps \d+ MiB of WAL: 80 % of wal_budget \(64 MiB\)")
        slot = slots(carried)["source"]
        # Perhaps less than a second: what fills it knows no pause.
        assert slot["wal_growth_bytes_per_second"] > 0 and slot["wal_full_seconds"] is not None
        assert "MiB/h" in carried.portage.command("status").stdout
        fill(carried, "source", 101, carried.source_sql)
        carried.portage.wait_for_log(r"on the source keeps \d+ MiB of WAL: 100 % of wal_budget")
        status = carried.portage.status()
        assert slots(carried)["source"]["wal_full_seconds"] == 0 and status["finish_due_seconds"] is None
        assert "as much WAL as it may" in status["next"]
        held.rollback()
    told = [(detail["on"], detail["percent"], detail["of"]) for detail in warnings(carried)]
    assert told == [("source", 80, "wal_budget"), ("source", 100, "wal_budget")], told
    assert slots(carried)["source"]["exists"]
    carried.finish_load_and_compare()


def test_finish_is_due_when_the_way_back_keeps_too_much(carried):
    carried.portage.command("cutover", "--verify")
    wait_until(lambda: carried.portage.phase() == "backward" and slots(carried)["shard 0"]["active"],
               60, "the way back")
    with hold(carried.source_server, carried.name) as held:
        carried.shard_sql(0, "UPDATE public.t SET n = -n", gated=True)
        fill(carried, "shard 0", 101,
             lambda sql, parameters: carried.shard_sql(0, sql, parameters))
        carried.portage.wait_for_log(r"on shard 0 keeps \d+ MiB of WAL: 100 % of wal_budget")
        assert carried.portage.log_contains("finish\" is due")
        status = carried.portage.status()
        assert status["finish_due_seconds"] == 0 and "finish\" is due" in status["next"]
        assert status["wal_full_first"].endswith("_back_0"), status
        assert "finish due    now, for slot" in carried.portage.command("status").stdout
        held.rollback()
    assert "shard 0" in {detail["on"] for detail in warnings(carried)}  # 1 is on the same server
    carried.portage.command("rollback")  # nothing of the way back was let go
    carried.wait_ready()
    carried.finish_load_and_compare()


def test_growth_is_told_while_nobody_runs(carried):
    wait_until(lambda: carried.shard_sql(0, "SELECT 1 FROM portage.setting WHERE name = 'wal_seen'"), 30,
               "run to have looked")
    carried.portage.stop()
    carried.source_sql(MESSAGE, [30])
    wait_until(lambda: slots(carried)["source"]["wal_growth_bytes_per_second"], 30, "a rate")
    slot = slots(carried)["source"]
    assert not slot["active"] and slot["wal_full_seconds"] > 0, slot


def test_the_servers_own_limit_counts_when_it_is_less(postgres, migration):
    target = postgres(15, settings={"wal_level": "logical", "max_slot_wal_keep_size": "32MB"})
    carried = migration(DDL + ROWS, DDL, BY_ID, targets=[target]).run_until_ready()
    carried.portage.wait_for_log("way back is ready")
    slot = slots(carried)["shard 0"]
    assert slot["wal_limit_bytes"] == 32 << 20 and slot["wal_full_at"] == "max_slot_wal_keep_size"
    assert slots(carried)["source"]["wal_limit_bytes"] is None
    carried.finish_load_and_compare()
