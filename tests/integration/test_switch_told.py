"""What a switch tells: before, of the steps to come; afterwards, of what it did, how long and by whom."""
import contextlib
import json
import re

import psycopg
import pytest

from harness.cutover import live, make, prove, switch
from harness.polling import wait_until


def journal(carried):
    return json.loads(carried.portage.command("--json", "journal").stdout)


def test_who_has_done_it_is_in_the_journal(migration):
    carried = prove(make(migration))
    switch(carried, "cutover")
    entries = journal(carried)
    assert all(re.match(r"portage: pgportage \w+ of \S+@\S+, pid \d+; server process \d+", entry["who"])
               for entry in entries), entries
    assert all(("pgportage cutover of" in entry["who"]) == (entry["switch"] == "cutover")
               for entry in entries), entries
    text = carried.portage.command("journal").stdout
    assert "    by portage: pgportage cutover of" in text, text


STEPS = ["pause", "fence", "seal", "drain", "check", "switched", "open", "lead"]


def state(carried):
    """All that a dry run may not change."""
    look = "SELECT g::text, (SELECT count(*) FROM portage.journal) FROM portage.gate g"
    return [carried.source_sql(look)] + [carried.shard_sql(shard, look) for shard in range(2)]


def test_a_dry_run_tells_the_steps_and_changes_nothing(migration):
    carried = prove(make(migration))
    before = state(carried)
    report = json.loads(switch(carried, "cutover", "--dry-run").stdout)
    assert report["outcome"] == "ready" and state(carried) == before
    assert [row["step"] for row in report["steps"]] == STEPS
    known = {row["step"]: row["from"] for row in report["steps"] if row["expected_ms"] is not None}
    assert known == {"fence": "rehearsal", "drain": "rehearsal"}
    switch(carried, "cutover")
    carried.portage.wait_for_phase("backward", 60)
    switch(carried, "rollback")
    carried.wait_ready()
    prove(carried)
    before = state(carried)
    rows = {row["step"]: row
            for row in json.loads(switch(carried, "cutover", "--dry-run").stdout)["steps"]}
    assert state(carried) == before
    assert {step for step in STEPS if rows[step]["from"] == "journal"} == {
        "pause", "seal", "check", "open", "lead"}
    took = {entry["step"]: entry["ms"] for entry in journal(carried) if entry["switch"] == "cutover"
            and entry["state"] == "done" and entry["ms"] is not None}
    assert rows["check"]["expected_ms"] == pytest.approx(took["check"])
    assert rows["switched"]["expected_ms"] is None
    text = carried.portage.command("--dry-run", "cutover", "--verified-within", "86400").stdout
    assert all(re.search(rf"^{step} +(\d+\.\d ms|-) ", text, re.MULTILINE) for step in STEPS), text


def test_verify_goes_on_while_the_target_is_live(migration):
    carried = prove(make(migration, mapping="shard_by: id\nverify: {every: 1s}\n"
                                            "tables:\n  \"public.*\": identical\n"))
    switch(carried, "cutover")
    carried.portage.wait_for_phase("backward", 60)
    switched = carried.shard_sql(0, "SELECT at FROM portage.journal WHERE step = 'switched'")[0][0]
    for shard in range(2):
        carried.shard_sql(shard, "UPDATE public.t SET n = -n", gated=True)

    def verified():
        carried.portage.check_running()
        (outcome, later), = carried.shard_sql(
            0, "SELECT value::jsonb->>'outcome', (value::jsonb->>'at')::timestamptz > %s"
               "  FROM portage.setting WHERE name = 'verify'", [switched])
        return later and outcome == "equal"
    wait_until(verified, 60, "a pass while the target is live", explain=carried.portage.explain)
    # Behind everybody's back, and behind all that the stream brings.
    wait_until(lambda: carried.source_sql("SELECT count(*) FROM public.t WHERE n > 0") == [(0,)], 60,
               "what the shards have changed", explain=carried.portage.explain)
    carried.source_sql("UPDATE public.t SET n = n + 1 WHERE id = 7")
    wait_until(lambda: carried.shard_sql(
        0, "SELECT value::jsonb->>'outcome' FROM portage.setting WHERE name = 'verify'"
    ) == [("different",)], 60, "the difference to be found", explain=carried.portage.explain)
    assert live(carried) == "target"


def test_a_way_back_that_cannot_go_on_is_no_reason_to_abort(migration):
    carried = prove(make(migration))
    switch(carried, "cutover")
    carried.portage.wait_for_phase("backward", 60)
    carried.portage.stop()
    carried.shard_sql(1, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                         " WHERE database = current_database()")
    carried.portage.start()
    assert carried.portage.wait(60) not in (0, None)
    said = carried.portage.log_tail()
    assert "is gone" in said and "pgportage abort" not in said, said
    assert "leaves the target as it is" in said, said


def rejected(carried):
    return {row["server"]: row["statements"] for row in carried.portage.status()["rejected"]}


def test_O9_what_the_gate_rejects_is_counted_and_told(migration):
    """By roles that may not look into our schema, in transactions that are rolled back."""
    carried = make(migration)
    for shard in range(2):
        carried.shard_sql(shard, "GRANT ALL ON public.t TO app_owner")
    assert rejected(carried) == {}
    with carried.shard_servers[1].connect(carried.shard_names[1]) as rogue:
        rogue.execute("SET ROLE app_owner")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            rogue.execute("SELECT * FROM portage.gate")
        for _ in range(3):
            with pytest.raises(psycopg.Error) as error, rogue.transaction():
                rogue.execute("INSERT INTO public.t VALUES (-1, 1)")
            assert error.value.sqlstate == "57P06"
    assert rejected(carried) == {"shard 1": 3}
    carried.portage.wait_for_log("3 statements were rejected by the gate of shard 1, 3 in all")
    entry, = (entry for entry in journal(carried) if entry["step"] == "rejected")
    assert entry["detail"] == {"server": "shard 1", "statements": 3, "total": 3}
    row, = carried.portage.status()["rejected"]
    assert row["last_at"] is not None
    assert "rejected      3 statements by the gate of shard 1" in carried.portage.command("status").stdout
    switch(prove(carried), "cutover", "--dry-run")  # whose own rejected write counts nowhere
    assert rejected(carried) == {"shard 1": 3}
    carried.portage.stop()
    carried.portage.start().wait_for_log("the gates are laid")
    carried.finish_load_and_compare()
    assert len([entry for entry in journal(carried) if entry["step"] == "rejected"]) == 1


@contextlib.contextmanager
def subscription(server, database, enabled):
    """One that writes here, as far as the catalog says: it has no publisher."""
    server.sql("CREATE SUBSCRIPTION theirs CONNECTION 'host=127.0.0.1 port=1 dbname=none' PUBLICATION p"
               " WITH (connect = false, slot_name = 'theirs')", None, database)
    if enabled:
        server.sql("ALTER SUBSCRIPTION theirs ENABLE", None, database)
    yield
    server.sql("ALTER SUBSCRIPTION theirs DISABLE", None, database)
    server.sql("ALTER SUBSCRIPTION theirs SET (slot_name = NONE)", None, database)
    server.sql("DROP SUBSCRIPTION theirs", None, database)


def findings(text):
    return {(finding["code"], finding["severity"], finding["object"].split(",")[0])
            for finding in json.loads(text)["findings"]}


def test_plan_names_what_no_gate_stops(migration):
    carried = make(migration, "CREATE SEQUENCE public.s; SELECT lo_create(4711);"
                              "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);",
                   "CREATE SEQUENCE public.s; CREATE TABLE public.t (id bigint PRIMARY KEY, n int);")
    with subscription(carried.source_server, carried.name, True):
        planned = carried.portage.command("--json", "plan").stdout
        assert {("not-fenced", "note", "source"), ("large-objects", "note", "source"),
                ("subscription", "warning", "source")} <= findings(planned)
        assert {finding["object"] for finding in json.loads(planned)["findings"]
                if finding["code"] == "not-fenced"} == {"source, DDL", "source, nextval()"}
        done = switch(carried, "cutover", "--dry-run", check=False)
        assert done.returncode == 1 and ("subscription", "refuse", "source") in findings(done.stdout)
        carried.source_sql("REVOKE SELECT (subname) ON pg_subscription FROM PUBLIC")
        try:
            planned = carried.portage.command("--json", "plan").stdout
            assert ("not-looked-at", "warning", "source") in findings(planned)
        finally:
            carried.source_sql("GRANT SELECT (subname) ON pg_subscription TO PUBLIC")


def test_a_subscription_that_is_enabled_during_the_switch(migration):
    carried = prove(make(migration))
    with subscription(carried.source_server, carried.name, False):
        hook = "psql -X -q -d '{}' -c 'ALTER SUBSCRIPTION theirs ENABLE'".format(
            carried.source_server.dsn(carried.name))
        with open(carried.config, "a", encoding="utf-8") as config:
            config.write(f'\nhooks:\n  drained: "{hook}"\n')
        done = switch(carried, "cutover", check=False)
        assert done.returncode != 0 and "a subscription writes here" in done.stderr, done.stderr
        assert live(carried) == "source"
        carried.source_sql("UPDATE public.t SET n = n WHERE id = 1", gated=True)
