"""cutover: how long the bank's clients wait for a write while it is taken to the other side and back.

They are connected to a pooler all the time and see no more of it than that pause: the longest gap
between two acknowledged writes, over all clients, around each switch."""
import json
import statistics
import time

import tables
from base import SHARDS, Bench
from harness.migration import Migration
from harness.polling import wait_until
from harness.switching import SwitchedBank
from report import Figure

ROWS = 100_000  # transactions that the bank begins with
LARGE_ROWS = 100_000
WRITERS = 8
BETWEEN_SECONDS = 2  # two switches
TABLES_TIMEOUT = 1200


class CutoverBench(Bench):
    name = "cutover"
    settings = {"max_locks_per_transaction": "1024"}  # for a schema of 5,000 tables in one transaction
    cases = {"3000": "under_load", "full": "under_load", "large_transaction": "under_load",
             "tables_41": "of_tables", "tables_5000": "of_tables"}
    runs, runs_quick = 20, 3
    loads = {"3000": {"rate": 3000, "large_every": 0},
             "full": {"rate": 0, "large_every": 0},
             "large_transaction": {"rate": 3000, "large_every": 5, "large_rows": LARGE_ROWS}}

    def prepare(self):
        self.note(f"{self.runs} cutovers and as many rollbacks a case, through PgBouncer; a pause is"
                  " the longest gap between two acknowledged writes over all clients")

    def under_load(self, case):
        folder = self.folder / case
        folder.mkdir()
        folder.chmod(0o755)
        stage = SwitchedBank(folder, self.source, self.shards, name=f"bank_{case}")
        try:
            stage.load(ROWS)
            stage.begin(writers=WRITERS, **self.loads[case])
            for _ in range(self.runs):
                stage.verify()
                self.switch(case, stage, "cutover", "target")
                self.switch(case, stage, "rollback", "source")
            time.sleep(BETWEEN_SECONDS)
            load = stage.bank.stop()
            stage.prove("source")
            return self.figures(case, stage, load)
        finally:
            stage.close()

    def switch(self, case, stage, command, live):
        time.sleep(BETWEEN_SECONDS)
        if case == "large_transaction":
            wait_until(lambda: stage.large_in_flight(command), 60, "a large transaction in flight",
                       interval=0.02)
        stage.switch(command)
        stage.wait_for_way_back(live)

    def of_tables(self, case):
        """How long no database takes writes, by how many tables there are: from the command itself."""
        count = int(case.removeprefix("tables_"))
        folder = self.folder / case
        folder.mkdir()
        folder.chmod(0o755)
        ddl = "".join(f"CREATE TABLE public.t{n} (id bigint PRIMARY KEY, v int);" for n in range(count))
        rows = "".join(f"INSERT INTO public.t{n} SELECT g, g FROM generate_series(1, 10) g;"
                       for n in range(count))
        stage = Migration(folder, self.source, self.shards, ddl + rows, ddl,
                          'shard_by: id\ntables:\n  "public.*": identical\n', name=case)
        try:
            closed = self.switch_tables(stage)
        finally:
            stage.portage.stop()
            stage.portage.command("abort", check=False, timeout=TABLES_TIMEOUT)
            stage.close()
        self.say(f"{count} tables: closed for {min(closed):,.0f} to {max(closed):,.0f} ms")
        return [Figure(case, "median_closed_ms", "ms", [statistics.median(closed)]),
                Figure(case, "worst_closed_ms", "ms", [max(closed)])]

    def switch_tables(self, stage):
        stage.run_until_ready(TABLES_TIMEOUT)
        stage.portage.wait_for_log("the gates are laid", TABLES_TIMEOUT)
        stage.portage.wait_for_log("way back is ready", TABLES_TIMEOUT)
        closed = []
        for _ in range(self.runs):
            stage.portage.command("verify", timeout=TABLES_TIMEOUT)
            for command, phase in (("cutover", "backward"), ("rollback", "ready")):
                self.wait_until_possible(stage, command)
                done = stage.portage.command("--json", command, "--verified-within", "86400",
                                             timeout=TABLES_TIMEOUT)
                closed.append(json.loads(done.stdout)["closed_ms"])
                stage.portage.wait_for_phase(phase, TABLES_TIMEOUT)
        return closed

    @staticmethod
    def wait_until_possible(stage, command):
        """The phase is ready behind a rollback, before `run` has turned round."""
        wait_until(lambda: stage.portage.command("--dry-run", command, "--verified-within", "86400",
                                                 check=False, timeout=TABLES_TIMEOUT).returncode == 0,
                   TABLES_TIMEOUT, f"a {command} to be possible", interval=1)

    def figures(self, case, stage, load):
        pauses = [switch.pause_ms(load["gaps"]) for switch in stage.switches]
        self.say(f"{len(pauses)} switches: pauses {min(pauses):,.0f} to {max(pauses):,.0f} ms,"
                 f" {load['client_errors']} client errors, {load['acknowledged']:,} requests")
        assert len(stage.switches) == 2 * self.runs
        return [Figure(case, "median_pause_ms", "ms", [statistics.median(pauses)]),
                Figure(case, "worst_pause_ms", "ms", [max(pauses)]),
                Figure(case, "client_errors", "errors", [load["client_errors"]])]
