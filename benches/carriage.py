"""A migration that is measured: its shards can be made anew, and it tells the time from the journal."""
import psycopg

from base import Stopwatch
from harness.migration import ROLE_SQL, TARGET_GRANTS_SQL, Migration, lsn
from harness.polling import wait_until

STEP_TIMEOUT = 1800
POLL_SECONDS = 0.02
JOURNAL_SQL = ("SELECT step, extract(epoch FROM min(at))::float8 FROM portage.journal"
               " GROUP BY step")
PROGRESS_SQL = "SELECT min(progress)::text, sum(changes)::bigint FROM portage.lane"


class Carriage(Migration):
    def wait_for_step(self, step, timeout=STEP_TIMEOUT):
        """Until the journal has this step; gives when each step was written, in seconds of the epoch.
        One connection that asks little: the machine is the measured ones'."""
        with self.shard_servers[0].connect(self.shard_names[0]) as conn:
            def steps():
                self.portage.check_running()
                try:
                    found = dict(conn.execute(JOURNAL_SQL).fetchall())
                except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
                    return None
                return found if step in found else None
            return wait_until(steps, timeout, f"step {step!r} in the journal", POLL_SECONDS,
                              explain=self.portage.explain)

    def carry_until(self, step):
        """Runs until the step. Gives the journal, and the wall time from the process' start."""
        with Stopwatch() as watch:
            self.portage.start()
            steps = self.wait_for_step(step)
        return steps, steps[step] - watch.begun

    def wait_passed(self, position, timeout=STEP_TIMEOUT):
        """Until all lanes have passed the position."""
        conns = [server.connect(name) for server, name in zip(self.shard_servers, self.shard_names)]
        try:
            def passed():
                self.portage.check_running()
                return all(lsn(conn.execute(PROGRESS_SQL).fetchone()[0]) >= lsn(position)
                           for conn in conns)
            wait_until(passed, timeout, f"all lanes to pass {position}", POLL_SECONDS,
                       explain=self.portage.explain)
        finally:
            for conn in conns:
                conn.close()

    def rows_of(self, table):
        return sum(self.shard_sql(shard, f"SELECT count(*) FROM {table}")[0][0]
                   for shard in range(len(self.shard_names)))

    def renew(self):
        """As before the first run: nothing of ours anywhere, empty shards."""
        self.portage.stop()
        self.portage.abort()
        for server, name in zip(self.shard_servers, self.shard_names):
            server.drop_database(name)
            server.create_database(name)
            server.sql(ROLE_SQL, database=name)
            server.sql(TARGET_GRANTS_SQL, database=name)
