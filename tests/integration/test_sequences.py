"""Sequences at a switch: above every used value, and disjoint between shards (O12)."""
import itertools
import json
import subprocess

import pytest

from harness.portage import program

MARGIN = 1000
SOURCE = """
    CREATE TABLE public.bills (bill_id serial PRIMARY KEY, note text);
    CREATE TABLE public.events (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE public.logs (id bigserial, customer int, PRIMARY KEY (customer, id));
    CREATE TABLE public.rooms (id smallserial PRIMARY KEY);
    CREATE TABLE public.parts (id int PRIMARY KEY);
    CREATE SEQUENCE public.shared;
    CREATE TABLE public.left_ones (id bigint DEFAULT nextval('public.shared') PRIMARY KEY);
    CREATE TABLE public.right_ones (id bigint DEFAULT nextval('public.shared') PRIMARY KEY);
    CREATE SEQUENCE public.bill_no START 5000;
    CREATE SEQUENCE public.odd INCREMENT 2;
    CREATE SEQUENCE public.down INCREMENT -1;
    CREATE SEQUENCE public.ring MINVALUE 1 MAXVALUE 5000 CYCLE;
    CREATE SEQUENCE public.asleep START 77;
    CREATE SEQUENCE public.gone;
    INSERT INTO public.bills (note) SELECT 'x' FROM generate_series(1, 300);
    INSERT INTO public.events SELECT FROM generate_series(1, 40);
    INSERT INTO public.logs (customer) SELECT i % 7 FROM generate_series(1, 500) AS i;
    INSERT INTO public.rooms SELECT FROM generate_series(1, 20);
    INSERT INTO public.parts VALUES (1), (123456);
    INSERT INTO public.left_ones SELECT FROM generate_series(1, 10);
    INSERT INTO public.right_ones SELECT FROM generate_series(1, 10);
    INSERT INTO public.left_ones VALUES (9000); -- by hand: no sequence knows
    SELECT nextval('public.bill_no') FROM generate_series(1, 9);
    SELECT nextval('public.odd') FROM generate_series(1, 100);
    SELECT nextval('public.down') FROM generate_series(1, 100);
    SELECT setval('public.ring', 4999);
"""
TARGET = """
    CREATE TABLE public.invoices (id bigserial PRIMARY KEY, note text);
    CREATE TABLE public.events (id bigint GENERATED ALWAYS AS IDENTITY,
        at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE public.logs (id bigserial, customer int, PRIMARY KEY (customer, id));
    CREATE TABLE public.rooms (id smallserial PRIMARY KEY);
    CREATE TABLE public.parts (id serial PRIMARY KEY);
    CREATE SEQUENCE public.shared;
    CREATE TABLE public.left_ones (id bigint DEFAULT nextval('public.shared') PRIMARY KEY);
    CREATE TABLE public.right_ones (id bigint DEFAULT nextval('public.shared') PRIMARY KEY);
    CREATE SEQUENCE public."Invoice No" START 5000;
    CREATE SEQUENCE public.odd INCREMENT 2;
    CREATE SEQUENCE public.down INCREMENT -1;
    CREATE SEQUENCE public.ring MINVALUE 1 MAXVALUE 5000 CYCLE;
    CREATE SEQUENCE public.asleep START 77;
    CREATE SEQUENCE public.fresh;
"""
MAPPING = """
    tables:
      public.invoices: {from: public.bills, select: "bill_id AS id, note", shard_by: id}
      public.events: {shard_by: id, partition_by: {column: at, every: 1 month}}
      public.logs: {shard_by: customer}
      "public.*": {shard_by: id}
    sequences: {'public."Invoice No"': public.bill_no}
"""
# target sequence: (source sequence, the furthest value used)
USED = {
    "public.invoices_id_seq": ("public.bills_bill_id_seq", 300),
    "public.events_id_seq": ("public.events_id_seq", 40),
    "public.logs_id_seq": ("public.logs_id_seq", 500),
    "public.rooms_id_seq": ("public.rooms_id_seq", 20),
    "public.parts_id_seq": (None, 123456),
    "public.shared": ("public.shared", 9000),
    'public."Invoice No"': ("public.bill_no", 5008),
    "public.odd": ("public.odd", 199),
    "public.down": ("public.down", -100),
    "public.asleep": ("public.asleep", 76),
}
SHAPES_SQL = """SELECT c.relname, seqincrement, seqstart, seqmin, seqmax FROM pg_sequence
    JOIN pg_class c ON c.oid = seqrelid WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1"""


def sequences(carried, direction="forward", what="set", guard=None, check=True):
    done = subprocess.run(
        [program("tests/tools/sequences_tool"), carried.config, direction, what,
         *([guard] if guard else [])], capture_output=True, text=True, check=False, timeout=60)
    result = json.loads(done.stdout)
    assert not check or done.returncode == 0, f"{result}\n{done.stderr}"
    return result


def carry(migration, source, target, mapping, **more):
    """Both sides equal, and nobody at work."""
    carried = migration(source, target, mapping, **more)
    carried.run_until_ready()
    carried.wait_caught_up()
    carried.portage.stop()
    return carried


def draw(carried, shard, name, count=50):
    return [value for value, in carried.shard_sql(
        shard, "SELECT nextval(%s) FROM generate_series(1, %s)", [name, count])]


def assert_beyond(values, used):
    assert all(abs(value) > abs(used) and (value > 0) == (used >= 0) for value in values), (
        f"{values[:5]}… not beyond {used}")


def shapes(carried):
    return [carried.shard_sql(shard, SHAPES_SQL) for shard in range(len(carried.shard_names))]


@pytest.mark.parametrize("how, shards", [("interleave", 3), ("ranges", 2)])
def test_there_and_back_and_there(migration, how, shards):
    mapping = MAPPING + f"    sequence_shards: {how}\n    sequence_range: 10000\n"
    if how == "ranges":  # 32767 values have no room for such blocks
        mapping = mapping.replace("10000", "5000")
    carried = carry(migration, SOURCE, TARGET, mapping, shards=shards)
    source_before = carried.source_sql(SHAPES_SQL)

    there = sequences(carried)
    assert there["checked"] == shards * 12
    assert [finding["object"] for finding in there["findings"]
            if finding["code"] == "sequence-left"] == ['sequence "public"."gone"']
    beyond = {}
    for name, (_, used) in USED.items():
        drawn = [draw(carried, shard, name) for shard in range(shards)]
        assert_beyond(itertools.chain(*drawn), used + (-MARGIN if used < 0 else MARGIN))
        assert len(set(itertools.chain(*drawn))) == shards * 50
        beyond[name] = max(itertools.chain(*drawn), key=abs)
    assert all(value % 2 == 1 for value in draw(carried, shards - 1, "public.odd"))
    assert sorted(draw(carried, shard, "public.fresh", 1)[0] for shard in range(shards)) == (
        list(range(1, shards + 1)) if how == "interleave" else [1, 5001])
    # Another round of a ring does not leave the shard's values.
    rings = [set(draw(carried, shard, "public.ring", 6000)) for shard in range(shards)]
    assert not set.intersection(*rings)
    # A second look gives the same shapes: nothing is multiplied twice.
    begun = shapes(carried)
    sequences(carried)
    assert shapes(carried) == begun
    # What defaults give fits: identity always, renamed, shared.
    for shard in range(shards):
        carried.shard_sql(shard, """INSERT INTO public.events SELECT FROM generate_series(1, 9);
            INSERT INTO public.invoices (note) VALUES ('new');
            INSERT INTO public.left_ones SELECT FROM generate_series(1, 9)""")

    sequences(carried, "back")
    assert carried.source_sql(SHAPES_SQL) == source_before
    for name, (source, _) in USED.items():
        if source is not None:
            value = carried.source_server.value("SELECT nextval(%s)", [source], carried.name)
            assert_beyond([value], beyond[name])

    carried.source_sql("SELECT nextval('public.bills_bill_id_seq') FROM generate_series(1, 2000)")
    used = carried.source_server.value("SELECT last_value FROM public.bills_bill_id_seq", None,
                                       carried.name)
    sequences(carried)
    drawn = [draw(carried, shard, "public.invoices_id_seq") for shard in range(shards)]
    assert_beyond(itertools.chain(*drawn), used + MARGIN)
    assert len(set(itertools.chain(*drawn))) == shards * 50


SMALL_SOURCE = "CREATE TABLE public.a (id serial PRIMARY KEY);"
SMALL_TARGET = "CREATE TABLE public.a (id serial PRIMARY KEY);"
SMALL_MAPPING = "tables: {public.a: {shard_by: id}}\n"


def refusals(result):
    return {finding["code"]: finding for finding in result["findings"]
            if finding["severity"] == "refuse"}


def test_an_end_that_is_near_is_refused_before_anything_changes(migration):
    carried = carry(migration, SMALL_SOURCE, SMALL_TARGET, SMALL_MAPPING)
    carried.source_sql("SELECT setval('public.a_id_seq', 2147483647 - 900)")
    before = shapes(carried)
    result = sequences(carried, check=False)
    assert "sequence-full" in refusals(result)
    assert "a margin of 1000 does not fit" in result["error"]["message"]
    assert shapes(carried) == before
    # A bigint sequence does not help where the column is none.
    for shard in range(2):
        carried.shard_sql(shard, "ALTER SEQUENCE public.a_id_seq AS bigint")
    assert "sequence-full" in refusals(sequences(carried, check=False))
    carried.source_sql("SELECT setval('public.a_id_seq', 1900000000)")
    assert "sequence-near" in {f["code"] for f in sequences(carried)["findings"]}


def test_a_block_that_does_not_fit_says_which_would(migration):
    carried = carry(migration, SMALL_SOURCE, SMALL_TARGET, SMALL_MAPPING
                    + "sequence_shards: ranges\nsequence_range: 2000000000\n")
    refusal = refusals(sequences(carried, check=False))["sequence-range"]
    assert refusal["fix"].startswith("In portage.yaml: sequence_range: 107374132")


def test_rights_that_are_missing_are_named(migration):
    carried = carry(migration, SMALL_SOURCE + "CREATE SEQUENCE public.free;",
                    SMALL_TARGET + "CREATE SEQUENCE public.free;", SMALL_MAPPING)
    carried.source_sql("REVOKE ALL ON SEQUENCE public.free FROM portage")
    for shard in range(2):
        carried.shard_sql(shard, "ALTER SEQUENCE public.free OWNER TO app_owner")
    refused = refusals(sequences(carried, what="assess"))
    assert refused["sequence-read"]["fix"] == 'GRANT SELECT ON SEQUENCE "public"."free" TO "portage";'
    assert refused["sequence-set"]["fix"] == 'GRANT UPDATE ON SEQUENCE "public"."free" TO "portage";'
    assert refused["sequence-owner"]["fix"] == 'GRANT "app_owner" TO "portage";'
    back = refusals(sequences(carried, "back", "assess"))
    assert back["sequence-set"]["object"] == 'source, sequence "public"."free"'
    # What is told is enough.
    carried.source_sql(refused["sequence-read"]["fix"] + back["sequence-set"]["fix"])
    for shard in range(2):
        carried.shard_sql(shard, "GRANT app_owner TO portage")
    assert not refusals(sequences(carried))
    assert not refusals(sequences(carried, "back"))


def test_plan_tells_without_refusing(migration):
    carried = carry(migration, SMALL_SOURCE, SMALL_TARGET, SMALL_MAPPING)
    carried.source_sql("SELECT setval('public.a_id_seq', 2147483647 - 900)")
    plan = json.loads(carried.portage.command("--json", "plan").stdout)
    assert {f["code"]: f["severity"] for f in plan["findings"]}["sequence-full"] == "warning"


def test_a_switch_that_lost_its_epoch_sets_nothing(migration):
    carried = carry(migration, SMALL_SOURCE, SMALL_TARGET, SMALL_MAPPING)
    for shard in range(2):
        carried.shard_sql(shard, "CREATE TABLE portage.test (epoch bigint);"
                                 "INSERT INTO portage.test VALUES (7); GRANT ALL ON portage.test TO portage")
    before = shapes(carried)
    old = sequences(carried, guard="SELECT FROM portage.test WHERE epoch = 6 FOR UPDATE", check=False)
    assert "another switch has taken over" in old["error"]["message"]
    assert shapes(carried) == before
    assert sequences(carried, guard="SELECT FROM portage.test WHERE epoch = 7 FOR UPDATE")["checked"] == 2


def test_a_sequence_missing_on_one_shard(migration):
    carried = carry(migration, SMALL_SOURCE + "CREATE SEQUENCE public.free;",
                    SMALL_TARGET + "CREATE SEQUENCE public.free;", SMALL_MAPPING)
    carried.shard_sql(1, "DROP SEQUENCE public.free")
    refused = refusals(sequences(carried, check=False))
    assert refused["sequence-missing"]["object"] == 'shard 1, sequence "public"."free"'


def test_a_name_in_the_file_that_is_no_sequence(migration):
    carried = carry(migration, SMALL_SOURCE, SMALL_TARGET,
                    SMALL_MAPPING + "sequences: {public.a_id_seq: public.nothing}\n")
    assert refusals(sequences(carried, check=False))["unknown-sequence"]["object"] == "public.nothing"


def test_five_thousand_take_milliseconds(migration):
    """One round trip reads, one sets, whatever the number."""
    many = """DO $$ BEGIN FOR i IN 1..5000 LOOP
        EXECUTE format('CREATE SEQUENCE public.s%s', i);
        IF i % 500 = 0 THEN COMMIT; END IF; END LOOP; END $$"""
    carried = carry(migration, SMALL_SOURCE, SMALL_TARGET, SMALL_MAPPING)
    carried.source_sql(many)
    carried.source_sql("GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO portage")
    for shard in range(2):
        carried.shard_sql(shard, "GRANT ALL ON SCHEMA public TO app_owner; GRANT app_owner TO portage")
        carried.shard_sql(shard, many)
        carried.shard_sql(shard, """DO $$ DECLARE s text; BEGIN FOR s IN SELECT oid::regclass FROM pg_class
            WHERE relkind = 'S' AND relname ~ '^s[0-9]' LIMIT 2500 LOOP
            EXECUTE 'ALTER SEQUENCE ' || s || ' OWNER TO app_owner'; END LOOP; COMMIT;
            FOR s IN SELECT oid::regclass FROM pg_class WHERE relkind = 'S' AND relname ~ '^s[0-9]'
            AND relowner = 'postgres'::regrole LOOP
            EXECUTE 'ALTER SEQUENCE ' || s || ' OWNER TO app_owner'; END LOOP; END $$""")
    sequences(carried)
    again = sequences(carried)
    assert again["checked"] == 10002
    print({name: value for name, value in again.items() if name.endswith("_ms")})
    assert again["set_ms"] < 1000 and again["check_ms"] < 1000, again


def test_a_computed_column_is_told_by_its_index_alone(migration):
    """Where the source's sequence stands says nothing of values that the mapping has moved."""
    table = "CREATE TABLE public.a (id int PRIMARY KEY, no serial UNIQUE);"
    carried = carry(migration, table + "INSERT INTO public.a SELECT generate_series(1, 50);", table,
                    'tables: {public.a: {select: "id, no + 70000 AS no"}}\n', shards=1)
    assert not sequences(carried)["findings"]
    assert_beyond(draw(carried, 0, "public.a_no_seq"), 70050 + MARGIN)
    sequences(carried, "back")
    assert carried.source_sql("SELECT nextval('public.a_no_seq')") == [(50 + MARGIN + 1,)]
