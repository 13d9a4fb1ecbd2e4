"""copy: the copy of one table, against psql | psql and pgcopydb. `copy` is the time from the slot
being there to all rows being on the shards with their keys, by the journal; `wall` also counts all
that comes before and, for pgcopydb, the indexes."""
import json

import tables
from base import Bench, Stopwatch
from carriage import Carriage
from peers import PEER, fresh_database, pgcopydb, psql_pipe
from report import Figure
from tables import TRANSACTIONS

DOCUMENTS = "public.documents"


class CopyBench(Bench):
    name = "copy"
    cases = {"mapping": "mapping", "identity": "identity", "large": "large", "pgcopydb": "pgcopydb"}

    def prepare(self):
        self.rows = 300_000 if self.quick else 2_000_000
        self.documents = 30 if self.quick else 120
        self.has_bank = False

    def bank(self):
        """The database with the bank's transactions, made when the first case needs it."""
        if not self.has_bank:
            tables.load_bank(self.source, self.folder, self.rows)
            self.has_bank = True
            self.note(f"transactions: {self.rows:,} rows")
        return self.source.dsn(tables.BANK)

    def mapping(self, case):
        carriage = self.transactions(case, tables.target_sql(), tables.mapping_yaml())
        plan = json.loads(carriage.portage.command("--json", "plan").stdout)
        select = tables.mapped_select(plan)
        return self.against_psql(carriage, case, TRANSACTIONS, select, tables.target_sql())

    def identity(self, case):
        carriage = self.transactions(case, tables.source_sql(), tables.identity_yaml())
        return self.against_psql(carriage, case, TRANSACTIONS, f"SELECT * FROM {TRANSACTIONS}",
                                 tables.source_sql())

    def large(self, case):
        carriage = self.carriage(case, tables.DOCUMENTS_SQL, tables.DOCUMENTS_SQL,
                                 tables.DOCUMENTS_YAML)
        total, largest = tables.load_documents(self.source, case, self.documents)
        self.note(f"large: {self.documents} values, {total >> 20:,} MiB, at most {largest >> 20} MiB")
        return self.against_psql(carriage, case, DOCUMENTS, f"SELECT * FROM {DOCUMENTS}",
                                 tables.DOCUMENTS_SQL)

    def pgcopydb(self, case):
        """The same table from one server to one server: that is what pgcopydb can do."""
        carriage = self.transactions(case, tables.source_sql(), tables.identity_yaml(), shards=1)
        ours, copies, clones = self.alternate(
            lambda: self.carry(carriage, TRANSACTIONS, "ready"),
            lambda: self.pgcopydb_run(case, tables.source_sql(), "copy", "table-data"),
            lambda: self.pgcopydb_run(case, "", "clone", "--no-owner", "--no-acl"))
        carriage.close()
        self.note("pgcopydb: ours has one shard here, as pgcopydb has; copy: `pgcopydb copy"
                  " table-data`, wall: `pgcopydb clone`")
        return [Figure(case, "copy", "s", [copy for copy, _ in ours], copies),
                Figure(case, "wall", "s", [wall for _, wall in ours], clones)]

    def transactions(self, case, target_sql, mapping_yaml, shards=2):
        carriage = self.carriage(case, tables.source_sql(), target_sql, mapping_yaml, shards)
        psql_pipe(self.bank(), self.source.dsn(case), f"SELECT * FROM {TRANSACTIONS}", TRANSACTIONS)
        self.source.sql(f"VACUUM ANALYZE {TRANSACTIONS}", database=case)
        return carriage

    def carriage(self, case, source_sql, target_sql, mapping_yaml, shards=2):
        return Carriage(self.folder, self.source, self.shards, source_sql, target_sql, mapping_yaml,
                        shards=shards, name=case)

    def against_psql(self, carriage, case, table, select, peer_sql):
        ours, peer = self.alternate(
            lambda: self.carry(carriage, table, "indexing"),
            lambda: self.psql_run(case, table, select, peer_sql))
        carriage.close()
        return [Figure(case, "copy", "s", [copy for copy, _ in ours], peer),
                Figure(case, "wall", "s", [wall for _, wall in ours], peer)]

    def carry(self, carriage, table, last_step):
        """Ours, once: the time of the copy, and the wall time from the start to the last step."""
        rows = self.begin(carriage.name, table)
        steps, wall = carriage.carry_until(last_step)
        copy = steps["indexing"] - steps["copying"]
        assert carriage.rows_of(table) == rows, f"{carriage.name}: not all rows of {table} arrived"
        carriage.renew()
        self.say(f"ours: copy {copy:.2f} s, wall {wall:.2f} s")
        return copy, wall

    def psql_run(self, case, table, select, peer_sql):
        return self.peer_run(case, table, peer_sql, "psql | psql", lambda: psql_pipe(
            self.source.dsn(case), self.shards[0].dsn(PEER), select, table))

    def pgcopydb_run(self, case, peer_sql, *command):
        return self.peer_run(case, TRANSACTIONS, peer_sql, f"pgcopydb {command[0]}", lambda: pgcopydb(
            self.folder, self.source.uri(case), self.shards[0].uri(PEER), *command))

    def peer_run(self, case, table, peer_sql, what, work):
        fresh_database(self.shards[0], peer_sql)
        rows = self.begin(case, table)
        with Stopwatch() as watch:
            work()
        count = self.shards[0].value(f"SELECT count(*) FROM {table}", database=PEER)
        assert count == rows, f"{what}: {count} of {rows} rows of {table} arrived"
        self.shards[0].drop_database(PEER)
        self.say(f"{what}: {watch.seconds:.2f} s")
        return watch.seconds

    def begin(self, database, table):
        """Everything is written back, and the source has read the whole table; gives its rows."""
        self.checkpoint()
        return self.source.value(f"SELECT count(*) FROM {table} t WHERE t::text IS NOT NULL",
                                 database=database)
