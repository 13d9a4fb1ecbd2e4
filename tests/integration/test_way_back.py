"""What the way back hangs on before anybody goes: its slots, and what is confirmed."""
import json

import pytest

from conftest import SOURCE_VERSION, TARGET_VERSION
from harness.cutover import DDL, live, make, prove, switch
from harness.polling import wait_until
from harness.writers import TableSpec, Writers

ROWS = "INSERT INTO public.t SELECT g, g FROM generate_series(1, 2000) g;"
ALL = 'tables:\n  "public.*": identical\n'
TABLE = TableSpec("public.t", "id", {"n": lambda dice: dice.randint(1, 999)}, keys=4000)
SLOTS = "SELECT wal_status FROM pg_replication_slots WHERE slot_name LIKE '%back_0'"
LITTLE = {"max_slot_wal_keep_size": "'1MB'", "min_wal_size": "'32MB'", "max_wal_size": "'32MB'"}
FILL = "INSERT INTO public.junk SELECT repeat('x', 1000) FROM generate_series(1, 20000)"


@pytest.fixture
def small(postgres, migration):
    """The target keeps no more WAL than it must."""
    assert TARGET_VERSION >= 13, "before that no slot is lost"
    target = postgres(TARGET_VERSION, settings=LITTLE)
    return prove(make(migration, mapping=ALL, source=DDL + ROWS, shards=1,
                      targets=[target])), target


def lose(server):
    """The slot's WAL, while nobody advances it."""
    server.sql("CREATE TABLE IF NOT EXISTS public.junk (x text)")

    def lost():
        server.sql(FILL)
        server.sql("SELECT pg_switch_wal()")
        server.sql("CHECKPOINT")
        return server.sql(SLOTS) == [("lost",)]
    wait_until(lost, 60, "the slot to be lost")


def way_back(done):
    return [finding["reason"] for finding in json.loads(done.stdout)["findings"]
            if finding["code"] == "way-back"]


def test_a_slot_that_is_lost_is_made_anew(small):
    carried, target = small
    carried.portage.stop()
    lose(target)
    done = switch(carried, "cutover", check=False)
    assert done.returncode == 1 and "has lost its WAL" in str(way_back(done)), done.stdout
    carried.portage.start()
    carried.portage.wait_for_log("has lost its WAL.*made anew")
    carried.portage.wait_for_log("way back is ready")
    assert target.sql(SLOTS) != [("lost",)]
    switch(carried, "cutover")
    with Writers(target.dsn(carried.shard_names[0]), [TABLE], rate=200, seed=5) as writers:
        writers.wait_for_transactions(50)
    switch(carried, "rollback")
    assert live(carried) == "source"
    carried.finish_load_and_compare()


def test_a_server_without_a_free_sender(small):
    carried, target = small
    target.sql("ALTER SYSTEM SET max_wal_senders = 0")
    carried.portage.stop()
    target.restart()
    carried.portage.start()
    carried.wait_ready()
    done = switch(carried, "cutover", check=False)
    assert done.returncode == 1 and "no free WAL sender" in str(way_back(done)), done.stdout
    assert live(carried) == "source"


def test_what_is_confirmed_is_durable(postgres, migration):
    """Where commits of a server are asynchronous it forgets the last of them when it is killed."""
    targets = [postgres(TARGET_VERSION, fsync=True, settings={
        "synchronous_commit": "off", "wal_writer_delay": "'10s'"}) for _ in range(2)]
    carried = migration(DDL + ROWS, DDL, "shard_by: id\n" + ALL, source=postgres(SOURCE_VERSION),
                        targets=targets)
    carried.run_until_ready()
    with Writers(carried.source_server.dsn(carried.name), [TABLE], seed=3, rate=300) as writers:
        for server in targets:
            writers.wait_for_transactions(300)
            server.kill9()
            server.start()
        carried.finish_load_and_compare(writers)
