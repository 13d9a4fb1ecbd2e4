"""The demo: a bank on PostgreSQL 12 moves to two shards of PostgreSQL 15 and another schema, back, and
there again, while its clients write through a pooler, and pgportage is killed on the way. Run it with
./demo, which builds first."""
import argparse
import contextlib
import json
import pathlib
import shutil
import signal
import sys
import threading
import time

import psycopg

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))

from harness.polling import wait_until  # noqa: E402
from harness.postgres import Postgres, make_folder  # noqa: E402
from harness.switching import SwitchedBank  # noqa: E402

SHARDS = 2
RATE = 3000  # changes/s
ROLE = "portage"
DATABASE = "bank"
STREAM_SECONDS = 10  # under load, after each of: ready, second kill
LIVE_SECONDS = 8  # of writes on a side before the next switch
COPY_TIMEOUT = 150
VERIFY_TIMEOUT = 1800
COPYING = ("new", "preparing", "copying")


class Teller:
    """Says what goes on, with the time since the beginning."""

    def __init__(self):
        self.begun = time.monotonic()

    def seconds(self):
        return time.monotonic() - self.begun

    def __call__(self, text):
        print(f"{self.seconds():6.1f} s  {text}", flush=True)


class SnapshotWatch:
    """How long pgportage's sessions hold back the source: the oldest transaction of theirs that has a
    snapshot, sampled until stop()."""
    SQL = ("SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8"
           "  FROM pg_stat_activity WHERE usename = %s AND backend_xmin IS NOT NULL")

    def __init__(self, server, interval=0.1):
        self.server, self.interval = server, interval
        self.age_max_seconds = 0.0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        with self.server.connect(DATABASE) as conn:
            while not self.stopping.wait(self.interval):
                age = conn.execute(self.SQL, [ROLE]).fetchone()[0]
                self.age_max_seconds = max(self.age_max_seconds, age)

    def stop(self):
        self.stopping.set()
        self.thread.join()
        return self.age_max_seconds


class Demo:
    def __init__(self, options):
        self.options = options
        self.say = Teller()
        self.folder = make_folder("pgportage-demo-", options.folder)
        self.source = None
        self.shards = []
        self.stage = None
        self.report = {"switches": 0, "verifications": 0, "rows_compared": 0, "in_flight": 0,
                       "differences": 0, "verify_seconds": 0.0}
        self.verifications = []

    @property
    def portage(self):
        return self.stage.portage

    @property
    def bank(self):
        return self.stage.bank

    def run(self):
        self.start_servers()
        self.load()
        self.stage.start_clients(rate=RATE, large_every=0)
        self.say(f"8 clients at work through PgBouncer, {RATE:,} changes/s")
        self.carry()
        self.stream("pgportage streams", STREAM_SECONDS)
        self.kill("while it streams")
        self.stream("pgportage goes on", STREAM_SECONDS)
        self.verify()
        for command, live in (("cutover", "target"), ("rollback", "source"), ("cutover", "target")):
            self.switch(command, live)
            self.verify()
        self.rest()
        self.audit_requests()

    def start_servers(self):
        self.source = self.server(12, "source")
        self.shards = [self.server(15, f"shard{i}") for i in range(SHARDS)]
        self.report["source_version"] = self.source.value("SHOW server_version")
        self.report["target_version"] = self.shards[0].value("SHOW server_version").split()[0]
        self.report["shards"] = SHARDS
        self.say(f"PostgreSQL {self.report['source_version']} (source) and {SHARDS} x "
                 f"{self.report['target_version']} (shards) in {self.folder}")

    def server(self, version, name):
        folder = self.folder / name
        folder.mkdir()
        return Postgres(version, folder, name=name).start()

    def load(self):
        self.stage = SwitchedBank(self.folder, self.source, self.shards, name=DATABASE)
        self.stage.load(self.options.rows)
        size = self.source.value("SELECT pg_size_pretty(pg_database_size(%s))", [DATABASE])
        self.say(f"the bank is loaded: {self.options.rows:,} transactions, {size}")

    def carry(self):
        """From the first command to `ready`, with a kill in the middle of the copy."""
        self.portage.plan()
        self.say("plan: nothing to refuse")
        watch = SnapshotWatch(self.source)
        self.portage.start()
        self.wait_until("the copy to begin", lambda: self.rows_copied() > 0, COPY_TIMEOUT)
        begun = time.monotonic()
        self.wait_until("a third of the copy", lambda: self.rows_copied() > self.third(),
                        COPY_TIMEOUT)
        self.kill("in the middle of the copy")
        self.wait_until("the end of the copy", lambda: self.portage.phase() not in COPYING,
                        COPY_TIMEOUT)
        self.report["copy_seconds"] = round(time.monotonic() - begun, 2)
        self.report["rows_copied"] = self.rows_copied()
        self.report["snapshot_age_max_seconds"] = round(watch.stop(), 2)
        self.say(f"copied: {self.report['rows_copied']:,} rows")
        self.wait_until("readiness", lambda: self.portage.phase() == "ready", COPY_TIMEOUT)
        self.say("ready to cut over")

    def third(self):
        return self.options.rows / 3

    def wait_until(self, what, predicate, timeout):
        def checked():
            self.portage.check_running()
            self.bank.check_running()
            self.portage.note_rss()
            return predicate()
        wait_until(checked, timeout, what, interval=0.1, explain=self.portage.explain)

    def rows_copied(self):
        return self.sum_of_shards("SELECT coalesce(sum(rows), 0)::bigint FROM portage.range")

    def sum_of_shards(self, query):
        total = 0
        for server, shard in zip(self.shards, self.stage.shards):
            # The schema portage comes with the first start.
            with contextlib.suppress(psycopg.errors.UndefinedTable,
                                     psycopg.errors.InvalidSchemaName):
                total += server.value(query, database=shard)
        return total

    def kill(self, when):
        self.portage.kill9()
        self.say(f"kill -9 of pgportage, {when}; started again")
        self.portage.restart()

    def stream(self, what, seconds):
        self.say(f"{what} for {seconds} s")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.5)
            self.portage.check_running()
            self.bank.check_running()
            self.portage.note_rss()

    def switch(self, command, live):
        """To the other side, and some seconds of writes there. How long the clients waited is known
        when they are at rest."""
        self.say(f"pgportage {command}: the clients go on through the pooler")
        switch = self.stage.switch(command)
        self.report["switches"] += 1
        self.say(f"the {live} takes the writes, {switch.ended - switch.begun:.1f} s after the command")
        self.report["sequences_checked"] = self.shards[0].value(
            "SELECT (detail->>'sequences')::int FROM portage.journal"
            " WHERE step = 'check' AND state = 'done' ORDER BY id DESC LIMIT 1",
            database=self.stage.shards[0])
        self.stage.wait_for_way_back(live)
        self.stream(f"writes on the {live}, and the stream the other way", LIVE_SECONDS)

    def rest(self):
        """The load ends; what it counted."""
        self.load_report = self.bank.stop()
        self.say("the clients rest")
        pauses = [(switch.command, switch.pause_ms(self.load_report["gaps"]))
                  for switch in self.stage.switches]
        self.report["write_pause_ms"] = round(max(ms for command, ms in pauses
                                                  if command == "cutover"), 1)
        self.report["rollback_pause_ms"] = round(max(ms for command, ms in pauses
                                                     if command == "rollback"), 1)
        self.report["pauses_ms"] = [round(ms, 1) for _, ms in pauses]
        self.report["changes_applied"] = self.sum_of_shards(
            "SELECT coalesce(sum(changes), 0)::bigint FROM portage.lane")
        self.report["changes_applied_back"] = self.source.value(
            "SELECT coalesce(sum(changes), 0)::bigint FROM portage.lane", database=DATABASE)
        self.report["peak_rss_bytes"] = self.portage.peak_rss
        self.report["kills"] = self.portage.kills
        self.report["acknowledged"] = self.load_report["acknowledged"]
        self.report["client_errors"] = self.load_report["client_errors"]

    def verify(self):
        """Both sides, row by row through the mapping, while the clients go on writing."""
        self.say("pgportage verify: comparing both sides while the clients write")
        done = self.portage.command("--json", "verify", check=False, timeout=VERIFY_TIMEOUT)
        assert done.stdout, done.stderr
        found = json.loads(done.stdout)
        rows = sum(table["source_rows"] for table in found["tables"])
        self.verifications.append(found)
        self.report["verify"] = ("equal" if all(one["outcome"] == "equal"
                                                for one in self.verifications) else found["outcome"])
        self.report["verifications"] += 1
        self.report["verify_seconds"] = round(self.report["verify_seconds"] + found["seconds"], 1)
        self.report["tables"] = len(found["tables"])
        self.report["rows_compared"] += rows
        self.report["in_flight"] += found["in_flight"]
        self.report["differences"] += found["different"] + found["undecided"]
        self.say(f"{found['outcome']}: {rows:,} rows in {found['seconds']:.1f} s;"
                 f" {found['in_flight']:,} that were on their way were followed until they were equal")

    def audit_requests(self):
        self.say("asking the bank for each request that it acknowledged")
        self.audit = self.bank.check(*self.stage.shard_dsns())
        self.report["lost"] = self.audit["lost"]
        self.report["doubled"] = self.audit["doubled"]
        self.report["seconds"] = round(self.say.seconds(), 1)

    def holds(self):
        return (self.report["verify"] == "equal" and self.audit["ok"]
                and self.report["client_errors"] == 0)

    def close(self):
        """Ends everything; what failed leaves its folder, with all logs."""
        if self.stage is not None:
            self.bank.close()
            self.portage.close()
            self.stage.pooler.close()
        for server in [self.source, *self.shards]:
            if server is not None:
                server.stop("immediate")
        if "seconds" in self.report and self.holds():
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            print(f"The logs are in {self.folder}", file=sys.stderr)


def mebibytes(count):
    return f"{count / 2**20:,.0f} MiB"


def milliseconds(report, switches):
    return [f"{report['pauses_ms'][switch]:.0f} ms" for switch in switches]


def print_report(demo):
    r, load = demo.report, demo.load_report
    lines = [
        ("from", f"PostgreSQL {r['source_version']}, one server"),
        ("to", f"PostgreSQL {r['target_version']}, {r['shards']} shards, another schema"),
        ("copied", f"{r['rows_copied']:,} rows in {r['copy_seconds']:.1f} s, under load"),
        ("streamed", f"{r['changes_applied']:,} changes there, {r['changes_applied_back']:,} back"),
        ("cutovers", f"no write for {', '.join(milliseconds(r, (0, 2)))}"),
        ("rollback", f"no write for {', '.join(milliseconds(r, (1,)))}"),
        ("sequences", f"{r['sequences_checked']} above every value, on every shard"),
        ("clients", f"{r['acknowledged']:,} requests acknowledged, {r['client_errors']} errors, "
                    f"p99 {load['latency_ms']['p99']:.1f} ms"),
        ("kill -9", f"{r['kills']} times"),
        ("oldest snapshot", f"{r['snapshot_age_max_seconds']:.1f} s on the source"),
        ("peak memory", mebibytes(r["peak_rss_bytes"])),
        ("requests lost", f"{r['lost']}"),
        ("requests doubled", f"{r['doubled']}"),
        ("verified", f"{r['verifications']} times, {r['rows_compared']:,} rows of {r['tables']} tables"
                     f" in {r['verify_seconds']:.1f} s, under load"),
        ("rows that differ", f"{r['differences']}"),
    ]
    print()
    for name, text in lines:
        print(f"  {name:<18}{text}")
    print()
    if demo.holds():
        print(f"Both sides are equal. {r['seconds']:.0f} s in all.")
    else:
        print("A CLIENT MET AN ERROR." if r["client_errors"] else "BOTH SIDES ARE NOT EQUAL.")
        print(json.dumps([one for found in demo.verifications
                          for one in found["differences"]][:20], indent=2))
        print(demo.audit["report"])


def print_servers(demo):
    print("\nEverything goes on running:")
    print(f"  source   psql '{demo.source.uri(DATABASE)}'")
    for number, shard in enumerate(demo.shards):
        print(f"  shard {number}  psql '{shard.uri(demo.stage.shards[number])}'")
    print(f"  status   {' '.join(demo.portage.command_line('status'))}")
    servers = [server.postmaster.pid for server in [demo.source, *demo.shards]]
    print(f"  to end it: kill {demo.portage.process.pid}; kill -INT {' '.join(map(str, servers))}; "
          f"rm -r {demo.folder}")


def options():
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="transactions to begin with")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="the report for scripts")
    parser.add_argument("--keep", action="store_true", help="leave everything running")
    parser.add_argument("--folder", metavar="DIR", help="where the servers' folder is made")
    return parser.parse_args()


def main():
    # As on Ctrl-C: what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    demo = Demo(options())
    keep = demo.options.keep
    try:
        demo.run()
        print_report(demo)
        if demo.options.json:
            demo.options.json.write_text(json.dumps(demo.report, indent=2) + "\n",
                                         encoding="utf-8")
        if keep:
            print_servers(demo)
        return 0 if demo.holds() else 1
    except AssertionError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    finally:
        if not keep:
            demo.close()


if __name__ == "__main__":
    sys.exit(main())
