"""kill -9 at any moment changes nothing: the bank, under load, killed again and again."""
import os
import random
import time

import pytest

from harness import bank as bank_files
from harness.bank import Bank
from harness.compare import compare
from harness.migration import lsn
from harness.polling import wait_until
from harness.portage import Portage

KILLS = 10  # of one migration
READY_TIMEOUT = 180
SEEDS = [1, 2] + [pytest.param(seed, marks=pytest.mark.full) for seed in range(3, 21)]


class BankMigration:
    """The bank on servers that other tests use too, in databases of its own."""

    def __init__(self, folder, source, target, seed):
        self.name = f"kills_{os.getpid()}_{seed}"
        self.source, self.target = source, target
        self.shards = [f"{self.name}_{shard}" for shard in range(2)]
        self.folder = folder
        self.bank = Bank(folder)
        self.portage = Portage(folder / "portage.yaml", folder)
        bank_files.create_source(source, self.name)
        for shard in self.shards:
            bank_files.create_shard(target, shard)
        bank_files.write_config(self.portage.config, source.uri(self.name, "portage"),
                                [target.uri(shard, "portage") for shard in self.shards])
        with open(self.portage.config, "a", encoding="utf-8") as config:
            config.write(f"\nslot: pgportage_{self.name}\n")

    def load(self, rows, seed):
        self.bank.load(self.source.dsn(self.name), rows, seed)
        self.bank.seed = 100 * seed
        self.bank.start(source=self.source.dsn(self.name, "bank"), rate=2000, writers=6,
                        large_every=10, large_rows=20000)

    def passed(self, position):
        self.portage.check_running()
        return all(lsn(progress) >= lsn(position) for shard in self.shards
                   for progress, in self.target.sql("SELECT progress FROM portage.lane",
                                                    database=shard))

    def arrive(self):
        self.bank.stop()
        position = self.source.value("SELECT pg_current_wal_insert_lsn()", database=self.name)
        wait_until(lambda: self.passed(position), READY_TIMEOUT, f"all lanes to pass {position}",
                   explain=self.portage.explain)

    def prove(self):
        comparison = compare(self.portage.config, self.source.uri(self.name),
                             [self.target.uri(shard) for shard in self.shards], folder=self.folder)
        assert comparison.differences == 0, str(comparison)
        audit = self.bank.check(*(self.target.dsn(shard) for shard in self.shards))
        assert audit["ok"], audit["report"]
        assert (audit["lost"], audit["doubled"]) == (0, 0)

    def close(self):
        self.bank.close()
        self.portage.close()
        self.portage.command("abort", check=False)
        self.source.drop_database(self.name)
        for shard in self.shards:
            self.target.drop_database(shard)


@pytest.fixture
def carried_bank(folder, source_server, target_server, request):
    made = BankMigration(folder, source_server, target_server, request.param)
    yield made
    made.close()


@pytest.mark.parametrize("carried_bank", SEEDS, indirect=True)
def test_killed_at_random_moments(carried_bank, request):
    seed = request.node.callspec.params["carried_bank"]
    dice = random.Random(seed)
    carried_bank.load(20000, seed)
    carried_bank.portage.start()
    for _ in range(KILLS):
        # The moment is what is tested: any will do, and the seed names them.
        time.sleep(dice.choice([0.05, 0.3, 1, 3]) * dice.random())  # the moment is what is tested
        carried_bank.portage.kill9()
        carried_bank.portage.restart()
    carried_bank.portage.wait_for_phase("ready", READY_TIMEOUT)
    carried_bank.arrive()
    carried_bank.prove()
    assert carried_bank.portage.kills == KILLS
