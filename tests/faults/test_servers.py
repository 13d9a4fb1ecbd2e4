"""Servers that die under us: each comes back, and both sides are equal."""
import json

import pytest

from harness.writers import TableSpec, Writers

SOURCE = """
CREATE TABLE public.items (id bigint PRIMARY KEY, customer_id int NOT NULL, note text);
INSERT INTO public.items SELECT g, g % 97, repeat('x', 100) FROM generate_series(1, 40000) g;
ALTER TABLE public.items REPLICA IDENTITY FULL;
"""
TARGET = "CREATE TABLE public.items (id bigint PRIMARY KEY, customer_id int NOT NULL, note text);"
MAPPING = "shard_by: customer_id\nchunk_ms: 100\ntables:\n  \"public.*\": identical\n"
TABLES = [TableSpec("public.items", "id", {
    "customer_id": lambda dice: dice.randint(1, 97),
    "note": lambda dice: dice.choice(["a", "b", None]),
}, keys=50000)]


@pytest.fixture
def durable(postgres, migration):
    """On servers of its own, with fsync: they will be killed."""
    from conftest import SOURCE_VERSION, TARGET_VERSION
    source = postgres(SOURCE_VERSION, fsync=True)
    targets = [postgres(TARGET_VERSION, fsync=True) for _ in range(2)]
    made = migration(SOURCE, TARGET, MAPPING, source=source, targets=targets)
    return made, source, targets


def restart(server):
    server.kill9()
    server.start()


def test_T8_a_target_dies_after_commit_was_sent(durable):
    carried, _, targets = durable
    with Writers(carried.source_server.dsn(carried.name), TABLES, seed=3, rate=800) as writers:
        writers.wait_for_transactions(50)
        carried.portage.start()
        for target in (targets[0], targets[1], targets[0]):
            writers.wait_for_transactions(300)
            restart(target)
        carried.wait_ready()
        restart(targets[1])
        writers.wait_for_transactions(300)
        carried.finish_load_and_compare(writers)
    assert carried.portage.is_running()


def test_status_tells_what_the_servers_know_that_answer(durable):
    carried, source, targets = durable
    with Writers(carried.source_server.dsn(carried.name), TABLES, seed=4, rate=200) as writers:
        carried.run_until_ready()
        writers.wait_for_transactions(50)
    for server, name in ((targets[1], "shard 1"), (source, "source")):
        server.kill9()
        done = carried.portage.command("--json", "status", check=False)
        status = json.loads(done.stdout)
        assert done.returncode == 4 and [one["on"] for one in status["unreachable"]] == [name]
        assert status["phase"] == "ready"
        assert {lane["shard"] for lane in status["lanes"]} == ({0} if name == "shard 1" else {0, 1})
        assert name in carried.portage.command("status", check=False).stdout
        server.start()
    carried.finish_load_and_compare()
