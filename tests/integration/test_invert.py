"""The way back: mappings turned round, what they lose, and the proof on rows."""
import json
import os

import pytest

from harness import bank as bank_files
from harness.bank import Bank
from harness.portage import Portage

CODES = ("no-way-back", "accepted-loss", "inverse-differs", "inverse-fails", "target-only",
         "unknown-loss", "inverse")


def told(plan):
    return {(finding["code"], finding["object"]) for finding in plan["findings"]
            if finding["code"] in CODES}


def plan_of(portage):
    return json.loads(portage.command("--json", "plan", check=False).stdout)


@pytest.fixture
def bank(folder, source_server, target_server):
    name = f"invert_{os.getpid()}"
    portage = Portage(folder / "portage.yaml", folder)
    shards = [f"{name}_{shard}" for shard in range(2)]
    bank_files.create_source(source_server, name)
    for shard in shards:
        bank_files.create_shard(target_server, shard)
    bank_files.write_config(portage.config, source_server.uri(name, "portage"),
                            [target_server.uri(shard, "portage") for shard in shards])
    with open(portage.config, "a", encoding="utf-8") as config:
        config.write(f"\nslot: pgportage_{name}\n")
    Bank(folder).load(source_server.dsn(name), 5000, 1)
    yield portage
    portage.close()
    portage.abort()


def test_all_tables_of_the_bank_go_back(bank):
    plan = plan_of(bank)
    assert not plan["refused"]
    assert told(plan) == {("accepted-loss", "public.customers.legacy_code"),
                          ("target-only", "public.users.origin")}
    assert len({table["from"] for table in plan["tables"]}) == 41
    back = {table["name"]: {column["source"]: (column["inverse"], column["inverse_is"])
                            for column in table["back"]} for table in plan["tables"]}
    assert back["public.users"]["legacy_code"] == ("NULL::text", "constant")
    assert back["public.transactions"]["amount"] == (
        '("amount_cents"::numeric / (100))::numeric', "derived")
    assert back["public.transactions"]["id"] == ('"id"::integer', "derived")
    assert back["public.cards"]["exp_year"] == ("extract(year FROM expires_on)::integer", "given")
    assert "exp_label" not in back["public.cards"]

    # With rows on the shards, the mappings turned round are computed on these too.
    bank.start()
    bank.wait_for_phase("ready", 120)
    bank.stop()
    assert told(plan_of(bank)) == told(plan)


SOURCE = """CREATE TABLE public.t (id bigint PRIMARY KEY, gone text, needed text NOT NULL,
        low int, half int, wrong int, code varchar(3));
    CREATE TABLE public.loose (n int); ALTER TABLE public.loose REPLICA IDENTITY FULL;
    INSERT INTO public.t VALUES (1, 'g', 'n', 7, 9, 3, 'abc'), (2, NULL, 'm', NULL, 8, 4, NULL);"""
TARGET = """CREATE TABLE public.t (id bigint PRIMARY KEY, low bigint, half int, wrong int,
        code text, added text);
    CREATE TABLE public.loose (n int PRIMARY KEY);"""
TABLES = """
    tables:
      public.t:
        select: id, (low + 1)::bigint AS low, half / 2 AS half, wrong, code
        inverse: {wrong: "wrong + 1"}
      public.loose: identical
"""


def test_what_is_lost_is_told_by_name(migration):
    carried = migration(SOURCE, TARGET, TABLES, shards=1)
    plan = plan_of(carried.portage)
    assert not plan["refused"], "the way there does not need the way back"
    assert told(plan) == {
        ("no-way-back", "public.t.gone"), ("no-way-back", "public.t.needed"),
        ("no-way-back", "public.t.half"), ("no-way-back", "public.loose"),
        ("inverse-differs", "public.t.wrong"), ("target-only", "public.t.added"),
        ("target-only", "public.t.half")}
    reason = {finding["object"]: finding["reason"] for finding in plan["findings"]
              if finding["code"] in CODES}
    assert "was 3 and becomes 4" in reason["public.t.wrong"] or \
        "was 4 and becomes 5" in reason["public.t.wrong"]
    assert "may not be null and has no default" in reason["public.t.needed"]


def test_losses_are_accepted_by_name(migration):
    carried = migration(SOURCE, TARGET, TABLES + """
    accept_losses: [public.t.gone, public.t.half, '"public"."t".wrong', public.loose, public.t.id, nothing]
""", shards=1)
    assert told(plan_of(carried.portage)) == {
        ("accepted-loss", "public.t.gone"), ("accepted-loss", "public.t.half"),
        ("accepted-loss", "public.t.wrong"), ("accepted-loss", "public.loose"),
        ("no-way-back", "public.t.needed"), ("target-only", "public.t.added"),
        ("target-only", "public.t.half"), ("unknown-loss", "public.t.id"),
        ("unknown-loss", "nothing")}


def test_an_inverse_that_cannot_be_read_refuses(migration):
    carried = migration(SOURCE, TARGET, TABLES.replace("wrong + 1", "nowhere + 1"), shards=1)
    plan = plan_of(carried.portage)
    assert plan["refused"]
    assert "inverse" in {code for code, _ in told(plan)}


def test_an_inverse_that_fails_on_a_row_is_told(migration):
    carried = migration(SOURCE, TARGET, TABLES.replace("wrong + 1", "wrong / (wrong - 3)"), shards=1)
    assert ("inverse-fails", "public.t") in told(plan_of(carried.portage))


def test_parts_of_a_split_with_where_have_no_way_back(migration):
    carried = migration(
        "CREATE TABLE public.s (id int PRIMARY KEY, a text, b text)",
        "CREATE TABLE public.x (id int PRIMARY KEY, a text);"
        "CREATE TABLE public.y (id int PRIMARY KEY, b text);", """
    tables:
      public.x: {from: public.s, select: "id, a"}
      public.y: {from: public.s, select: "id, b", where: "b IS NOT NULL"}
""", shards=1)
    assert told(plan_of(carried.portage)) == {("no-way-back", "public.s")}
