"""stream: how fast a recorded backlog is applied, against a native subscription."""
import tables
from base import Bench, Stopwatch
from carriage import POLL_SECONDS, Carriage
from harness.migration import lsn
from harness.polling import wait_until
from peers import PEER, Subscription, fresh_database, psql_pipe
from report import Figure
from tables import TRANSACTIONS

EACH = 40  # changes in a transaction, half of them inserts and half updates
BASE_ROWS = 100_000  # that are there before, to be updated
LAST_ROWS = 200  # of the transaction after the backlog: some for each lane
TIMEOUT = 1800

# The updates of one transaction hit rows that are not neighbours; 7919 has no factor in common with
# BASE_ROWS, so they differ.
BACKLOG_SQL = f"""
CREATE PROCEDURE public.insert_transactions(wanted integer) LANGUAGE sql AS $$
    INSERT INTO {TRANSACTIONS} (customer_id, account_id, counterparty_id, amount, currency, reference,
                                metadata)
    SELECT 1 + floor(random() * 50000), 1 + floor(random() * 100000),
           1 + floor(random() * 100000), (1 + floor(random() * 100000)) / 100.0, 'EUR',
           'transfer ' || n, '{{"mcc": "' || 1000 + n || '", "shop": "Käse & ' || n % 977 || '"}}'
      FROM generate_series(1, wanted) n
$$;
CREATE PROCEDURE public.write_backlog(transactions integer) LANGUAGE plpgsql AS $$
BEGIN
    FOR t IN 1..transactions LOOP
        CALL public.insert_transactions({EACH // 2});
        UPDATE {TRANSACTIONS} SET status = 'settled', updated_at = clock_timestamp()
         WHERE id IN (SELECT 1 + (t::bigint * {EACH // 2} + i) * 7919 % {BASE_ROWS}
                        FROM generate_series(1, {EACH // 2}) i);
        COMMIT;
    END LOOP;
END $$;
"""
SIDE_SQL = "SELECT count(*), sum({amount}), count(*) FILTER (WHERE status = 'settled') FROM {table}"


class StreamBench(Bench):
    name = "stream"
    cases = {"mapping": "mapping"}

    def mapping(self, case):
        self.changes = 100_000 if self.quick else 400_000
        runs = [self.run(f"{case}{number}", ours_first=number % 2 == 0)
                for number in range(self.runs)]
        self.note(f"{self.changes:,} changes in transactions of {EACH}; more changes/s are better")
        return [Figure(case, "rate", "changes/s", [self.changes / ours for ours, _ in runs],
                       [self.changes / peer for _, peer in runs]),
                Figure(case, "seconds", "s", [ours for ours, _ in runs], [peer for _, peer in runs])]

    def run(self, name, ours_first):
        """One backlog, applied by both."""
        carriage = Carriage(self.folder, self.source, self.shards, tables.source_sql() + BACKLOG_SQL,
                            tables.target_sql(), tables.mapping_yaml(), name=name)
        self.source.sql(f"CALL public.insert_transactions({BASE_ROWS})", database=name)
        self.source.sql(f"VACUUM ANALYZE {TRANSACTIONS}", database=name)
        subscription = self.subscribe(name)
        carriage.run_until_ready()
        carriage.portage.stop()
        end = self.write_backlog(name)
        sides = [lambda: self.ours(carriage, end), lambda: self.peer(subscription, end)]
        seconds = [side() for side in (sides if ours_first else reversed(sides))]
        self.check(carriage)
        subscription.drop()
        carriage.close()
        return tuple(seconds if ours_first else reversed(seconds))

    def subscribe(self, name):
        fresh_database(self.shards[0], tables.source_sql())
        psql_pipe(self.source.dsn(name), self.shards[0].dsn(PEER), f"SELECT * FROM {TRANSACTIONS}",
                  TRANSACTIONS)
        self.shards[0].sql(f"VACUUM ANALYZE {TRANSACTIONS}", database=PEER)
        return Subscription(self.source, name, self.shards[0], TRANSACTIONS)

    def write_backlog(self, name):
        """Gives its end. A lane with nothing to do notes its progress once a second only; so one more
        transaction follows that has work for each lane, and shows at once that the end is passed."""
        self.source.sql(f"CALL public.write_backlog({self.changes // EACH})", database=name)
        end = self.source.value("SELECT pg_current_wal_insert_lsn()")
        self.source.sql(f"CALL public.insert_transactions({LAST_ROWS})", database=name)
        return end

    def ours(self, carriage, end):
        """From the start of the process on."""
        self.warm(zip(carriage.shard_servers, carriage.shard_names))
        with Stopwatch() as watch:
            carriage.portage.restart()
            carriage.wait_passed(end)
        self.say(f"ours: {watch.seconds:.2f} s, {self.changes / watch.seconds:,.0f} changes/s")
        carriage.portage.stop()
        return watch.seconds

    def peer(self, subscription, end):
        """From ENABLE on."""
        server = subscription.target
        self.warm([(server, PEER)])
        with server.connect(PEER) as conn, Stopwatch() as watch:
            subscription.enable()
            wait_until(lambda: self.origin(conn) >= lsn(end), TIMEOUT, f"{PEER} to pass {end}",
                       POLL_SECONDS, explain=server.log_tail)
        self.say(f"subscription: {watch.seconds:.2f} s, {self.changes / watch.seconds:,.0f} changes/s")
        # At rest, so that the other side has the machine for itself.
        server.sql(f"ALTER SUBSCRIPTION {PEER} DISABLE", database=PEER)
        return watch.seconds

    @staticmethod
    def origin(conn):
        """What the subscription has applied."""
        found = conn.execute("SELECT max(remote_lsn)::text FROM pg_replication_origin_status"
                             " WHERE external_id LIKE 'pg\\_%'").fetchone()[0]
        return lsn(found) if found else 0

    def warm(self, databases):
        for server, database in databases:
            server.sql(f"SELECT count(*) FROM {TRANSACTIONS} t WHERE t::text IS NOT NULL",
                       database=database)
        self.checkpoint()

    def check(self, carriage):
        """Both have done the same work, and all of it."""
        source = carriage.source_sql(SIDE_SQL.format(amount="(amount * 100)::bigint",
                                                     table=TRANSACTIONS))[0]
        peer = self.shards[0].sql(SIDE_SQL.format(amount="(amount * 100)::bigint",
                                                  table=TRANSACTIONS), database=PEER)[0]
        shards = [carriage.shard_sql(shard, SIDE_SQL.format(amount="amount_cents",
                                                            table=TRANSACTIONS))[0]
                  for shard in range(len(self.shards))]
        ours = tuple(sum(column) for column in zip(*shards))
        assert source == peer == ours, f"source {source}, subscription {peer}, ours {ours}"
