"""Concurrent writers on any small table: seeded, so that a failure names the load that found it."""
import contextlib
import dataclasses
import random
import threading
import time
import typing

import psycopg
from psycopg import sql

from .polling import wait_until

KEYS_MAX = 5000  # keys are drawn from so few that writers meet
LOCKED_MAX = 60  # seconds without a lock that a writer wants


@dataclasses.dataclass
class TableSpec:
    """A table with one integer key. `columns` gives a new value for each other column."""
    name: str  # schema.table
    key: str
    columns: dict[str, typing.Callable[[random.Random], typing.Any]]
    keys: int = KEYS_MAX
    keys_from: int = 1
    truncate: bool = False  # now and then
    moves: bool = True  # keys change

    @property
    def identifier(self):
        return sql.Identifier(*self.name.split("."))


@dataclasses.dataclass
class Counts:
    committed: int = 0
    rolled_back: int = 0
    changes: int = 0


class Writers:
    """Threads that write until stop(). Transactions of 1 to 8 changes: inserts, updates, deletes,
    key changes, savepoints rolled back, whole transactions rolled back."""

    def __init__(self, dsn, tables, seed=1, threads=4, rate=None):
        self.dsn, self.tables, self.seed = dsn, tables, seed
        self.interval = threads / rate if rate else 0  # seconds a transaction
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.counts = Counts()  # guarded by lock
        self.errors = []  # guarded by lock
        self.threads = [threading.Thread(target=self.work, args=[number], daemon=True)
                        for number in range(threads)]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stopping.set()
        self.join()

    def stop(self):
        self.stopping.set()
        self.join()
        assert not self.errors, f"writers with seed {self.seed}: {self.errors[:3]}"
        return self.counts

    def join(self):
        for thread in self.threads:
            thread.join(timeout=60)
            assert not thread.is_alive(), "a writer hangs"

    def wait_for_transactions(self, more, timeout=60):
        """Until so many more are committed: a wait for work done, not for time."""
        wanted = self.counts.committed + more
        wait_until(lambda: self.counts.committed >= wanted or self.errors, timeout,
                   f"{more} more transactions of the writers")

    def work(self, number):
        dice = random.Random(f"{self.seed}/{number}")
        try:
            with psycopg.connect(self.dsn) as conn:
                give_way(conn)
                waiting_since = None
                while not self.stopping.is_set():
                    if self.transaction(conn, dice):
                        waiting_since = None
                    else:
                        waiting_since = waiting_since or time.monotonic()
                        assert time.monotonic() < waiting_since + LOCKED_MAX, "what it needs is locked"
                    if self.interval:
                        time.sleep(dice.uniform(0, 2 * self.interval))
        except Exception as error:  # pylint: disable=broad-except
            with self.lock:
                self.errors.append(f"writer {number}: {error!r}")

    def transaction(self, conn, dice):
        """False if it had to let go of what somebody else has locked."""
        changes = 0
        try:
            for _ in range(dice.randint(1, 8)):
                changes += self.step(conn, dice)
            if dice.random() < 0.1:
                raise Undo
            conn.commit()
            with self.lock:
                self.counts.committed += 1
                self.counts.changes += changes
            return True
        except (Undo, psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable,
                psycopg.errors.UniqueViolation,
                psycopg.errors.SerializationFailure) as error:  # a row moved to another partition
            conn.rollback()
            with self.lock:
                self.counts.rolled_back += 1
            return not isinstance(error, psycopg.errors.LockNotAvailable)

    def step(self, conn, dice):
        table = dice.choice(self.tables)
        if dice.random() < 0.15:
            with contextlib.suppress(Undo), conn.transaction():  # a savepoint, rolled back
                self.change(conn, dice, table)
                raise Undo
        return self.change(conn, dice, table)

    def change(self, conn, dice, table):
        kind = dice.choices(["insert", "update", "delete", "move", "truncate"],
                            [40, 35, 15, 10 if table.moves else 0, 0.2 if table.truncate else 0])[0]
        return getattr(self, kind)(conn, dice, table)

    def insert(self, conn, dice, table):
        names = [table.key, *table.columns]
        values = [self.some_key(dice, table), *(make(dice) for make in table.columns.values())]
        return conn.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO NOTHING").format(
                table.identifier, sql.SQL(", ").join(map(sql.Identifier, names)),
                sql.SQL(", ").join([sql.Placeholder()] * len(names)), sql.Identifier(table.key)),
            values).rowcount

    def update(self, conn, dice, table):
        # Not always all columns: those left alone may be unchanged TOAST (R1).
        names = dice.sample(list(table.columns), dice.randint(1, len(table.columns)))
        return conn.execute(
            sql.SQL("UPDATE {} SET {} WHERE {} = %s").format(
                table.identifier,
                sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(n)) for n in names),
                sql.Identifier(table.key)),
            [*(table.columns[name](dice) for name in names), self.some_key(dice, table)]).rowcount

    def delete(self, conn, dice, table):
        return conn.execute(
            sql.SQL("DELETE FROM {} WHERE {} = %s").format(table.identifier,
                                                           sql.Identifier(table.key)),
            [self.some_key(dice, table)]).rowcount

    def move(self, conn, dice, table):
        """Changes the key, to one that is free (R6)."""
        old, new = self.some_key(dice, table), self.some_key(dice, table)
        key = sql.Identifier(table.key)
        return conn.execute(
            sql.SQL("UPDATE {t} SET {k} = %s WHERE {k} = %s"
                    " AND NOT EXISTS (SELECT FROM {t} WHERE {k} = %s)").format(
                        t=table.identifier, k=key), [new, old, new]).rowcount

    def truncate(self, conn, _dice, table):
        conn.execute(sql.SQL("TRUNCATE {}").format(table.identifier))
        return 1

    @staticmethod
    def some_key(dice, table):
        return dice.randint(table.keys_from, table.keys)


class Undo(Exception):
    """Rolls back on purpose."""


def give_way(conn):
    """In a deadlock between a writer and a statement of the test the writer must be the one that ends.
    Each looks for it once, when it has waited for deadlock_timeout: a writer that came later finds it
    after 20 ms, and one that came first has left when the test's statement looks, after 1 s."""
    conn.execute("SET lock_timeout = '500ms'")
    if is_superuser(conn):
        conn.execute("SET deadlock_timeout = '20ms'")
    conn.commit()


def is_superuser(conn):
    return conn.info.parameter_status("is_superuser") == "on"
