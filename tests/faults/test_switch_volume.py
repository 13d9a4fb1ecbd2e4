"""A rollback takes back what was written while the target was live, however much."""
import pytest

from harness.polling import wait_until
from harness.switching import SwitchedBank

ROWS = 2000
ARRIVE_TIMEOUT = 600
INSERTED_SQL = "SELECT sum(n_tup_ins) FROM pg_stat_user_tables WHERE schemaname = 'public'"


@pytest.fixture
def stage(folder, postgres):
    from conftest import SOURCE_VERSION, TARGET_VERSION
    made = SwitchedBank(folder, postgres(SOURCE_VERSION, name="source"),
                        [postgres(TARGET_VERSION, name=f"shard{number}") for number in range(2)])
    yield made.load(ROWS)
    made.close()


def inserted(stage):
    return sum(server.value(INSERTED_SQL, database=shard)
               for server, shard in zip(stage.servers, stage.shards))


@pytest.mark.parametrize("rows", [50_000, pytest.param(1_000_000, marks=pytest.mark.full)])
def test_rollback_with_many_rows_written_on_the_new_side(stage, rows):
    stage.begin(rate=500, writers=4, large_every=0)
    stage.verify()
    stage.switch("cutover")
    stage.bank.stop()
    stage.wait_for_way_back("target")
    before = inserted(stage)
    stage.start_clients(rate=500, writers=4, large_every=1, large_rows=rows // 2)
    wait_until(lambda: inserted(stage) - before >= rows, ARRIVE_TIMEOUT, f"{rows} rows on the shards",
               interval=0.5, explain=stage.bank.log_tail)
    stage.bank.stop()
    stage.start_clients(rate=500, writers=4, large_every=0)
    # Refused while the way back lags; then the operator asks again.
    wait_until(lambda: stage.switch("rollback", check=False).done.returncode == 0, ARRIVE_TIMEOUT,
               "the rollback", interval=1, explain=lambda: stage.switches[-1].done.stdout)
    load = stage.bank.stop()
    assert load["client_errors"] == 0 and stage.live() == "source"
    stage.wait_for_way_back("source")
    stage.prove("source")
    comparison = stage.compare()
    assert comparison.differences == 0, str(comparison)
