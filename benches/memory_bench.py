"""memory: the most that pgportage ever had resident (VmHWM), in its three hardest hours."""
import itertools
import threading

import psycopg

import tables
from base import Bench
from carriage import Carriage
from peers import psql_pipe
from report import Figure
from tables import TRANSACTIONS

COPY_YAML = tables.mapping_yaml() + "  public.documents: {shard_by: id}\n"
SMALL_SQL = """
CREATE TABLE public.small (id bigint PRIMARY KEY, customer_id integer NOT NULL, value integer);
"""
SMALL_YAML = "tables:\n  public.small: {shard_by: customer_id, shard_key: immutable}\n"
# A numeric key has no order of bytes: the table is copied whole, and is on hold for so long.
HELD_SQL = """
CREATE TABLE public.held (id numeric PRIMARY KEY, version integer NOT NULL, note text NOT NULL);
"""
HELD_YAML = "tables:\n  public.held: {shard_by: id}\n"
CHURN_ROWS = 1000  # an update
CHURNERS = 2


class MemoryBench(Bench):
    name = "memory"
    cases = {"copy": "copy", "large_transaction": "large_transaction", "held": "held"}
    runs = 1

    def prepare(self):
        self.rows = 300_000 if self.quick else 2_000_000
        self.documents = 30 if self.quick else 200
        self.large_rows = 1_000_000 if self.quick else 10_000_000
        self.held_rows = 200_000 if self.quick else 1_000_000

    def figure(self, case, run):
        """A new database for each run."""
        return [Figure(case, "rss", "bytes", [run(f"{case}{n}") for n in range(self.runs)])]

    def copy(self, case):
        tables.load_bank(self.source, self.folder, self.rows)
        return self.figure(case, self.copy_run)

    def copy_run(self, name):
        """The bank's transactions, and beside them values of megabytes."""
        carriage = self.carriage(name, tables.source_sql() + tables.DOCUMENTS_SQL,
                                 tables.target_sql() + tables.DOCUMENTS_SQL, COPY_YAML)
        psql_pipe(self.source.dsn(tables.BANK), self.source.dsn(name),
                  f"SELECT * FROM {TRANSACTIONS}", TRANSACTIONS)
        _, largest = tables.load_documents(self.source, name, self.documents)
        self.note(f"copy: {self.rows:,} transactions, {self.documents} values of up to"
                  f" {largest:,} bytes")
        return self.carry(carriage)

    def large_transaction(self, case):
        self.note(f"large_transaction: one transaction inserts {self.large_rows:,} rows")
        return self.figure(case, self.large_transaction_run)

    def large_transaction_run(self, name):
        carriage = self.carriage(name, SMALL_SQL, SMALL_SQL, SMALL_YAML)

        def insert():
            carriage.source_sql(f"INSERT INTO public.small SELECT n, n % 100000, n"
                                f" FROM generate_series(1, {self.large_rows}) n")
            carriage.wait_passed(carriage.source_position())
            assert carriage.rows_of("public.small") == self.large_rows
        return self.carry(carriage, insert)

    def held(self, case):
        return self.figure(case, self.held_run)

    def held_run(self, name):
        carriage = self.carriage(name, HELD_SQL, HELD_SQL, HELD_YAML)
        carriage.source_sql("INSERT INTO public.held SELECT n, 0, repeat(md5(n::text), 16)"
                            f" FROM generate_series(1, {self.held_rows}) n")
        with Churn(self.source.dsn(name), self.held_rows) as churn:
            rss = self.carry(carriage, churn.stop_and(carriage.wait_caught_up), close=False)
        self.note(f"held: {self.held_rows:,} rows; {churn.changes:,} changes to them meanwhile")
        versions = sum(carriage.shard_sql(shard, "SELECT sum(version) FROM public.held")[0][0]
                       for shard in range(len(self.shards)))
        assert versions == churn.changes, f"{versions} of {churn.changes} changes arrived"
        carriage.close()
        return rss

    def carriage(self, name, source_sql, target_sql, mapping_yaml):
        return Carriage(self.folder, self.source, self.shards, source_sql, target_sql, mapping_yaml,
                        name=name)

    def carry(self, carriage, then=lambda: None, close=True):
        """Until ready, and what follows; gives the peak."""
        self.checkpoint()
        carriage.portage.start()
        carriage.wait_for_step("ready")
        then()
        peak = carriage.portage.peak_rss
        self.say(f"{carriage.name}: {peak / 2**20:,.0f} MiB")
        carriage.portage.stop()
        if close:
            carriage.close()
        return peak


class Churn:
    """Writers that update a table as fast as they can, each its own rows, until stopped."""

    def __init__(self, dsn, rows):
        self.dsn, self.rows = dsn, rows
        self.stopping = threading.Event()
        self.counts = [0] * CHURNERS  # each thread its own
        self.threads = [threading.Thread(target=self.work, args=[number], daemon=True)
                        for number in range(CHURNERS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def stop_and(self, then):
        def both():
            self.stop()
            then()
        return both

    @property
    def changes(self):
        return sum(self.counts)

    def work(self, number):
        steps = self.rows // CHURN_ROWS
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            for step in itertools.count(number, CHURNERS):
                if self.stopping.is_set():
                    return
                low = step % steps * CHURN_ROWS
                self.counts[number] += conn.execute(
                    "UPDATE public.held SET version = version + 1, note = reverse(note)"
                    " WHERE id > %s AND id <= %s", [low, low + CHURN_ROWS]).rowcount
