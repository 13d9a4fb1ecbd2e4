"""Bad input: found by `plan`, named with its place and a way out; nothing is left behind."""
import json
import re

import pytest

from harness.carry import failure, refusal

SOURCE = """CREATE TABLE public.t (id bigint PRIMARY KEY, grp int NOT NULL, maybe int, note text);
    CREATE TABLE public.u (id bigint PRIMARY KEY, note text);
    CREATE TYPE public.mood AS ENUM ('good', 'bad');
    CREATE TABLE public.g (id bigint PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED,
        mood public.mood NOT NULL);
    CREATE TABLE public.w (id bigint PRIMARY KEY, n bigint, word text);
    INSERT INTO public.w VALUES (1, 70000, 'long');"""
TARGET = """CREATE TABLE public.t (id bigint PRIMARY KEY, grp int NOT NULL, maybe int, note text);
    CREATE TABLE public.strict (id bigint PRIMARY KEY, must text NOT NULL);
    CREATE TABLE public.both (id bigint, kind text, PRIMARY KEY (id, kind));
    CREATE TYPE public.mood AS ENUM ('good', 'bad');
    CREATE TABLE public.g (id bigint PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED,
        mood public.mood NOT NULL);
    CREATE TABLE public.w (id bigint PRIMARY KEY, n smallint, word varchar(2));"""


def tables(text):
    return f"tables:\n  {text}\n"


@pytest.mark.parametrize("mapping, code, said", [
    (tables("public.none: identical"), "unknown-table", "the target has no table"),
    (tables("public.t: {from: public.none, shard_by: id}"), "unknown-table",
     "the source has no table"),
    (tables("public.t: {select: 'id, nope AS note', shard_by: id}"), "select",
     'has no column "nope"'),
    (tables("public.t: {select: 'id, grp, note AS notes', shard_by: id}"), "unknown-column",
     "no such column"),
    (tables("public.t: {select: 'id, grp, FROM', shard_by: id}"), "select", "syntax error"),
    (tables("public.t: {select: 'id, grp, nofunc(note) AS note', shard_by: id}"), "target-type",
     "does not exist"),
    (tables("public.t: {select: 'id, grp, random()::text AS note', shard_by: id}"),
     "volatile-expression", "random()"),
    (tables("public.t: {select: 'id, grp, now()::text AS note', shard_by: id}"),
     "volatile-expression", "now()"),
    (tables("public.t: {select: 'id, grp, max(note) AS note', shard_by: id}"), "not-one-to-one",
     "max()"),
    (tables("public.strict: {from: public.u, select: id, shard_by: id}"), "missing-column",
     "may not be null"),
    (tables("public.t: {select: 'id / 2 AS id, grp', shard_by: grp}"), "key-not-mapped", "id"),
    (tables("public.t: {shard_by: maybe, shard_key: immutable}"), "shard-key-null", "null"),
    (tables("public.t: {shard_by: grp}"), "shard-key-not-in-identity", "replica identity"),
    (tables("public.t: {select: 'id, grp * 2 AS grp', shard_by: grp, shard_key: immutable}"),
     "shard-key-expression", "computed"),
    (tables("public.t: identical"), "no-shard-key", "on which shard"),
    ("tables:\n  public.both:\n"
     "    - {from: public.t, select: \"id, 'a'::text AS kind\", shard_by: id}\n"
     "    - {from: public.u, select: \"id, 'a'::text AS kind\", shard_by: id}\n",
     "two-mappings", "same row"),
    (tables("public.t: {shard_by: id, partition_by: {column: grp, every: 1 month}}"),
     "not-partitioned", "partitioned"),
    (tables("public.t: {select: 'id, grp, note, note AS note', shard_by: id}"), "duplicate-column", "twice"),
    (tables("public.t: {select: 'id, grp,, note', shard_by: id}"), "select", "syntax error"),
    (tables("public.t: {select: 'id, grp, (SELECT 1) AS note', shard_by: id}"), "select", "subquer"),
    (tables("public.t: {where: 'nope > 0', shard_by: id}"), "where", 'has no column "nope"'),
    (tables("public.t: {where: 'grp >', shard_by: id}"), "where", "syntax error"),
    (tables("public.t: {shard_by: id, lag_by: nope}"), "unknown-column", "lag_by"),
    (tables("public.t: {shard_by: id, inverse: {nope: id}}"), "unknown-column", 'no column "nope"'),
    (tables("public.t: {shard_by: nope}"), "no-shard-key", "not among the mapped columns"),
    (tables("public.t.x.y: identical"), "table-name", "not the name of a table"),
    (tables("public.g: {select: 'id, twice AS a, mood', shard_by: id}"), "generated-column", "twice"),
    (tables("public.g: {select: 'id, a, a AS twice, mood', shard_by: id}"), "generated-column",
     "computes this column itself"),
    (tables("public.g: {shard_by: mood, shard_key: immutable}"), "shard-key-type", "hash"),
    (tables("public.w: {select: 'id, n', shard_by: id}"), "source-type", "out of range"),
    (tables("\"nowhere.*\": identical"), "nothing-mapped", "no table is mapped"),
])
def test_a_mapping_is_refused(migration, mapping, code, said):
    carried = migration(SOURCE, TARGET, mapping)
    found = refusal(carried)
    assert code in found, found
    finding = found[code]
    assert said in finding["reason"]
    assert finding["fix"], "what to write instead"
    assert (finding.get("line", 0) >= 4 and finding["column"] > 0) \
        or re.search(r"portage\.yaml:[0-9]+:[0-9]+: ", finding["reason"]) or code == "nothing-mapped"
    assert carried.leftovers() == []
    assert carried.shard_sql(0, "SELECT to_regclass('public.t')")[0][0] is None


@pytest.mark.parametrize("text, said", [
    ("tables:\n  public.t: {selekt: id}\n", 'unknown key "selekt"'),
    ("tables: 7\n", "must be a mapping"),
    ("tables:\n  public.t: identical\ncopy_workers: many\n", '"copy_workers" must be a number'),
    ("tables:\n  public.t: identical\ncopy_workers: 0\n", "must be between 1 and 64"),
    ("tables:\n  public.t: [\n", "portage.yaml:"),
    ("tables:\n  public.t: identical\nretries: 3\n", 'unknown key "retries"'),
])
def test_a_file_is_refused_with_its_place(migration, text, said):
    carried = migration(SOURCE, TARGET, text)
    done = carried.portage.command("plan", check=False)
    assert done.returncode == 3
    assert said in done.stderr and "portage.yaml:" in done.stderr


def test_servers_that_are_down_or_lack_a_privilege(migration):
    carried = migration(SOURCE, TARGET, tables("public.t: {shard_by: id}"))
    carried.source_sql(f"REVOKE CREATE ON DATABASE {carried.name} FROM portage")
    found = refusal(carried)["no-create-right"]
    assert found["fix"].startswith("GRANT CREATE ON DATABASE")
    config = carried.config.read_text(encoding="utf-8")
    carried.config.write_text(config.replace(carried.shard_names[1], "nowhere"), encoding="utf-8")
    done = carried.portage.command("plan", check=False)
    assert done.returncode in (3, 4)
    assert "nowhere" in done.stderr and "shard 1" in done.stderr


def test_two_shards_in_one_database(migration):
    carried = migration(SOURCE, TARGET, tables("public.t: {shard_by: id}"))
    config = carried.config.read_text(encoding="utf-8")
    carried.config.write_text(config.replace(carried.shard_names[1], carried.shard_names[0]),
                              encoding="utf-8")
    assert "same-database" in refusal(carried)


def test_shards_that_differ(migration):
    carried = migration(SOURCE, "", tables("public.t: {shard_by: id}"))
    carried.shard_sql(0, TARGET)
    carried.shard_sql(1, TARGET + "ALTER TABLE public.t ADD more int;")
    finding = refusal(carried)["shards-differ"]
    assert "has other columns on shard 1" in finding["reason"] and finding["fix"]


def test_a_password_in_the_file(migration):
    carried = migration(SOURCE, TARGET, tables("public.t: {shard_by: id}"))
    config = carried.config.read_text(encoding="utf-8")
    carried.config.write_text(config.replace("portage@", "portage:secret@", 1), encoding="utf-8")
    done = carried.portage.command("--json", "plan")
    finding, = [finding for finding in json.loads(done.stdout)["findings"] if finding["code"] == "password"]
    assert (finding["severity"], finding["line"], finding["column"]) == ("warning", 1, 10)
    assert ".pgpass" in finding["fix"] and "secret" not in done.stdout


def test_a_slot_of_somebody_else_is_named(migration):
    carried = migration(SOURCE, TARGET, tables("public.t: {shard_by: id}"))
    slot = f"pgportage_{carried.name}"
    carried.source_sql("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", [slot])
    code, log = failure(carried)
    assert code == 3 and slot in log and "HINT:" in log


def test_the_role_may_not_create_in_the_schema(migration):
    carried = migration(SOURCE, TARGET, tables("public.t: {shard_by: id}"))
    for shard in range(2):
        carried.shard_sql(shard, "REVOKE CREATE ON SCHEMA public FROM portage, PUBLIC")
    done = carried.portage.command("plan", check=False)
    assert done.returncode == 3
    assert re.search(r"target\.sql:[0-9]+", done.stderr)
    assert 'GRANT USAGE, CREATE ON SCHEMA public TO "portage"' in done.stderr
