"""cutover: how long the bank's clients wait for a write while it is taken to the other side and back.

They are connected to a pooler all the time and see no more of it than that pause: the longest gap
between two acknowledged writes, over all clients, around each switch."""
import statistics
import time

import tables
from base import SHARDS, Bench
from harness.polling import wait_until
from harness.switching import SwitchedBank
from report import Figure

ROWS = 100_000  # transactions that the bank begins with
LARGE_ROWS = 100_000
WRITERS = 8
BETWEEN_SECONDS = 2  # two switches


class CutoverBench(Bench):
    name = "cutover"
    cases = {"3000": "under_load", "full": "under_load", "large_transaction": "under_load"}
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
            stage.verify()
            for _ in range(self.runs):
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

    def figures(self, case, stage, load):
        pauses = [switch.pause_ms(load["gaps"]) for switch in stage.switches]
        self.say(f"{len(pauses)} switches: pauses {min(pauses):,.0f} to {max(pauses):,.0f} ms,"
                 f" {load['client_errors']} client errors, {load['acknowledged']:,} requests")
        assert len(stage.switches) == 2 * self.runs
        return [Figure(case, "median_pause_ms", "ms", [statistics.median(pauses)]),
                Figure(case, "worst_pause_ms", "ms", [max(pauses)]),
                Figure(case, "client_errors", "errors", [load["client_errors"]])]
