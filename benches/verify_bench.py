"""verify: the exact comparison of both sides, against reading the slower side once (COPY to /dev/null)
and against hashing the rows' text in SQL on both sides at once, which is what pgcopydb compares by."""
import concurrent.futures
import json
import os
import subprocess
import threading

import tables
from base import Bench, Stopwatch
from carriage import Carriage
from peers import psql_pipe
from report import Figure
from tables import TRANSACTIONS

AGE_SQL = ("SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::float8"
           " FROM pg_stat_activity WHERE application_name = 'pgportage verify'"
           " AND state <> 'idle'")
POLL_SECONDS = 0.05


class VerifyBench(Bench):
    name = "verify"
    cases = {"identity": "identity", "mapping": "mapping", "server_hash": "server_hash"}

    def prepare(self):
        self.rows = 300_000 if self.quick else 2_000_000
        tables.load_bank(self.source, self.folder, self.rows)
        self.note(f"{self.rows:,} rows; copy: the slower side's COPY (SELECT …) TO STDOUT;"
                  " hash: sum(hashtextextended(row::text)) on all servers at once")

    def identity(self, case):
        return self.against_peers(case, tables.source_sql(), tables.identity_yaml(), "stream")

    def mapping(self, case):
        return self.against_peers(case, tables.target_sql(), tables.mapping_yaml(), "stream")

    def server_hash(self, case):
        return self.against_peers(case, tables.target_sql(), tables.mapping_yaml(), "server")

    def against_peers(self, case, target_sql, mapping_yaml, digest):
        carriage = Carriage(self.folder, self.source, self.shards, tables.source_sql(), target_sql,
                            mapping_yaml, name=case)
        psql_pipe(self.source.dsn(tables.BANK), self.source.dsn(case),
                  f"SELECT * FROM {TRANSACTIONS}", TRANSACTIONS)
        self.source.sql(f"VACUUM ANALYZE {TRANSACTIONS}", database=case)
        carriage.run_until_ready()
        for server, name in zip(carriage.shard_servers, carriage.shard_names):
            server.sql(f"VACUUM ANALYZE {TRANSACTIONS}", database=name)
        plan = json.loads(carriage.portage.command("--json", "plan").stdout)
        self.selects = [(self.source.dsn(case), tables.mapped_select(plan))]
        self.selects += [(server.dsn(name), f"SELECT * FROM {TRANSACTIONS}")
                         for server, name in zip(carriage.shard_servers, carriage.shard_names)]
        self.checkpoint()
        ours, copies, hashes = self.alternate(lambda: self.ours(carriage, digest), self.copy,
                                              self.hash)
        carriage.close()
        seconds = [seconds for seconds, _, _ in ours]
        return [Figure(case, "copy", "s", seconds, copies),
                Figure(case, "hash", "s", seconds, hashes),
                Figure(case, "rate", "rows/s", [self.rows / one for one in seconds]),
                Figure(case, "rss", "MiB", [rss for _, rss, _ in ours]),
                Figure(case, "snapshot", "s", [age for _, _, age in ours])]

    def ours(self, carriage, digest):
        """The whole command. Gives its time, its peak RSS, its oldest snapshot at the source."""
        ages, over = [0.0], threading.Event()

        def watch_snapshots():
            with self.source.connect() as conn:
                while not over.wait(POLL_SECONDS):
                    ages.append(conn.execute(AGE_SQL).fetchone()[0] or 0.0)
        watcher = threading.Thread(target=watch_snapshots)
        watcher.start()
        with Stopwatch() as watch:
            command = carriage.portage.command_line("--json", "verify", "--digest", digest)
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                report = json.loads(process.stdout.read())
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
        over.set()
        watcher.join()
        assert process.returncode == 0, f"verify says {report['outcome']}"
        assert report["tables"][0]["source_rows"] == self.rows
        self.say(f"ours: {watch.seconds:.2f} s")
        return watch.seconds, usage.ru_maxrss / 1024, max(ages)

    def copy(self):
        """The slower side: the source, or all shards one after the other on one core."""
        source, *shards = [self.copy_one(dsn, select) for dsn, select in self.selects]
        self.say(f"copy: source {source:.2f} s, shards {sum(shards):.2f} s")
        return max(source, sum(shards))

    @staticmethod
    def copy_one(dsn, select):
        with Stopwatch() as watch:
            subprocess.run(["psql", "-X", "-q", "-d", dsn, "-c",
                            f"COPY ({select}) TO STDOUT (FORMAT binary)"],
                           stdout=subprocess.DEVNULL, check=True)
        return watch.seconds

    def hash(self):
        with concurrent.futures.ThreadPoolExecutor(len(self.selects)) as pool, Stopwatch() as watch:
            list(pool.map(self.hash_one, self.selects))
        self.say(f"hash: {watch.seconds:.2f} s")
        return watch.seconds

    @staticmethod
    def hash_one(side):
        dsn, select = side
        subprocess.run(["psql", "-X", "-q", "-d", dsn, "-c",
                        "SELECT sum(hashtextextended(t::text, 0)::numeric)"
                        f" FROM ({select}) AS t"],
                       stdout=subprocess.DEVNULL, check=True)
