"""lag: seconds from a commit at the source to the commit on the shard, under the bank's load.

Both servers note the time of each commit, and their clocks are one. The bank writes a row of
api_requests in each transaction and never touches it again: so the row's two transaction ids give
the lag of each transaction, and nobody has to ask while it is measured."""
import statistics
import time

import tables
from base import SHARDS, Bench
from harness import bank as bank_files
from harness.bank import Bank
from harness.migration import lsn
from harness.polling import wait_until
from harness.portage import Portage
from report import Figure
from tables import BANK

ROLE = "portage"
ROWS = 200_000  # transactions that the bank begins with
READY_TIMEOUT = 300
DRAIN_TIMEOUT = 900
WRITERS_MIN, WRITER_RATE = 8, 1000  # enough of them that waiting for answers is no limit
WARM_SECONDS = 5  # of load, before what counts
COMMITS_SQL = ("SELECT client_id, seq, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8"
               "  FROM public.api_requests"
               " WHERE pg_xact_commit_timestamp(xmin) >= to_timestamp(%s)")
UNITS = {"p50": "s", "p99": "s", "max": "s", "growth": "ratio", "achieved": "changes/s", "drain": "s"}


class LagBench(Bench):
    name = "lag"
    cases = {"3000": "under_load", "30000": "under_load"}
    runs = 1
    settings = {"track_commit_timestamp": "on"}

    def prepare(self):
        self.seconds = 15 if self.quick else 60
        tables.load_bank(self.source, self.folder, 20_000 if self.quick else ROWS)
        self.bank = Bank(self.folder)
        self.portage = Portage(self.folder / "portage.yaml", self.folder)
        for shard in self.shards:
            bank_files.create_shard(shard, BANK)
        bank_files.write_config(self.portage.config, self.source.uri(BANK, ROLE),
                                [shard.uri(BANK, ROLE) for shard in self.shards])
        self.portage.start()
        self.portage.wait_for_phase("ready", READY_TIMEOUT)
        self.note(f"load of {self.seconds} s, without the bank's bursts; lag from commit to commit,"
                  " of every transaction")
        self.note("growth: median of the last third / of the first; achieved: what the load came"
                  " to; drain: how long the shards took after the last commit")

    def under_load(self, case):
        runs = [self.run(int(case)) for _ in range(self.runs)]
        if statistics.median(run["achieved"] for run in runs) < 0.95 * int(case):
            self.note(f"{case}: this machine could not offer so many")
        return [Figure(case, metric, unit, [run[metric] for run in runs])
                for metric, unit in UNITS.items()]

    def run(self, rate):
        self.checkpoint()
        # Without the bank's bursts of 100,000 rows: those would not be the rate that the case names.
        self.bank.start(source=self.source.dsn(BANK, "bank"), shards=SHARDS, rate=rate,
                        writers=max(WRITERS_MIN, rate // WRITER_RATE), large_every=0)
        time.sleep(WARM_SECONDS)
        begun = time.time()
        time.sleep(self.seconds)
        ended = time.time()
        load = self.bank.stop()
        self.wait_drained()
        commits = self.commits(begun)
        lags = [arrived - at for at, arrived in commits if at <= ended]
        found = {**summary(lags), "achieved": load["changes"] / load["seconds"],
                 "drain": max(arrived for _, arrived in commits) - commits[-1][0]}
        self.say(f"{len(lags):,} transactions, {found['achieved']:,.0f} changes/s,"
                 f" p99 {found['p99'] * 1000:,.0f} ms, {load['client_errors']} client errors")
        return found

    def wait_drained(self):
        """Until the shards have all that was written."""
        position = lsn(self.source.value("SELECT pg_current_wal_insert_lsn()"))

        def passed():
            self.portage.check_running()
            return all(lsn(progress) >= position for shard in self.shards for progress, in
                       shard.sql("SELECT progress FROM portage.lane", database=BANK))
        wait_until(passed, DRAIN_TIMEOUT, "the lanes to drain", explain=self.portage.explain)

    def commits(self, begun):
        """When each transaction since then was committed on either side, in the source's order."""
        arrived = {(client, seq): at for shard in self.shards
                   for client, seq, at in shard.sql(COMMITS_SQL, [begun], BANK)}
        source = self.source.sql(COMMITS_SQL, [begun], BANK)
        lost = [(client, seq) for client, seq, _ in source if (client, seq) not in arrived]
        assert source and not lost, f"{len(lost)} of {len(source)} did not arrive: {lost[:5]}"
        return sorted((at, arrived[client, seq]) for client, seq, at in source)

    def close(self, keep=False):
        if hasattr(self, "bank"):
            self.bank.close()
            self.portage.close()
        super().close(keep)


def summary(lags):
    third = len(lags) // 3
    ordered = sorted(lags)
    return {"p50": statistics.median(ordered), "p99": ordered[int(0.99 * (len(ordered) - 1))],
            "max": ordered[-1],
            "growth": statistics.median(lags[-third:]) / statistics.median(lags[:third])}
