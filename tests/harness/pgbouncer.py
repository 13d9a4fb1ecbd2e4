"""Real PgBouncers on loopback, each in a folder of its own."""
import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from .polling import wait_until
from .postgres import as_postgres, free_port, make_folder

START_TIMEOUT = 20
ADMIN = "pooler_admin"

SETTINGS = {
    "listen_addr": "127.0.0.1", "auth_type": "trust", "pool_mode": "transaction",
    "max_client_conn": "1000", "default_pool_size": "40", "ignore_startup_parameters":
    "extra_float_digits,options", "admin_users": ADMIN, "stats_users": "pooler_stats",
    "log_connections": "0", "log_disconnections": "0",
}


class PgBouncer:
    """One pooler. `databases` is name: what its entry says ("host=… port=… dbname=…"), and stands in a
    file of its own, which the main file takes in: that is `databases_file`."""

    def __init__(self, databases, settings=None, users=("postgres",), folder=None, name="pgbouncer"):
        self.name = name
        self.folder = pathlib.Path(folder) if folder else make_folder(f"pgportage-{name}-")
        self.folder.mkdir(exist_ok=True)
        self.port = free_port()
        self.process = None
        self.users = [*users, ADMIN, "pooler_stats"]
        self.settings = {**SETTINGS, "listen_port": self.port, "unix_socket_dir": self.folder,
                         "auth_file": self.folder / "users.txt", **(settings or {})}
        self.write_databases(databases)
        self.configure({})
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)

    def __repr__(self):
        return f"PgBouncer {self.name} on port {self.port}"

    @property
    def config_file(self):
        return self.folder / "pgbouncer.ini"

    @property
    def databases_file(self):
        return self.folder / "databases.ini"

    @property
    def log(self):
        return self.folder / "log"

    def write_databases(self, databases):
        lines = [f"{name} = {entry}\n" for name, entry in databases.items()]
        self.databases_file.write_text("[databases]\n" + "".join(lines), encoding="utf-8")

    def configure(self, settings):
        """Takes effect at the next start, or reload()."""
        self.settings.update(settings)
        lines = [f"{name} = {value}\n" for name, value in self.settings.items()]
        self.config_file.write_text(f"%include {self.databases_file}\n[pgbouncer]\n"
                                    + "".join(lines), encoding="utf-8")
        (self.folder / "users.txt").write_text(
            "".join(f'"{user}" ""\n' for user in self.users), encoding="utf-8")

    def start(self):
        assert self.process is None, f"{self} is running"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                as_postgres(["/usr/sbin/pgbouncer", self.config_file]), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, cwd="/")
        wait_until(self.accepts, START_TIMEOUT, f"{self} to accept connections",
                   explain=self.log_tail)
        return self

    def accepts(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self} ended at its start\n{self.log_tail()}")
        with contextlib.suppress(psycopg.OperationalError):
            self.show("VERSION")
            return True
        return False

    def stop(self):
        """At once: clients are cut off."""
        self.signal(signal.SIGTERM)

    def kill(self):
        self.signal(signal.SIGKILL)

    def signal(self, number):
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(START_TIMEOUT)
            self.process = None

    def freeze(self):
        """It answers nobody until thaw(), and its connections stay."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        if self.process is not None:
            self.thaw()
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def dsn(self, database, user="postgres", **more):
        """For clients."""
        return make_conninfo("", host="127.0.0.1", port=self.port, dbname=database, user=user,
                             **more)

    def template(self, database="bank_%d", user="postgres"):
        """For `bank run --dsn-template`: %d is the shard's number."""
        return f"host=127.0.0.1 port={self.port} dbname={database} user={user}"

    @property
    def admin_dsn(self):
        """Of the console, as portage.yaml names it."""
        return self.dsn("pgbouncer", ADMIN)

    def admin(self, command, timeout=5):
        """A command of the console, in the simple query protocol; gives its rows as dicts."""
        with psycopg.connect(self.admin_dsn, autocommit=True, connect_timeout=timeout,
                             cursor_factory=psycopg.ClientCursor, row_factory=dict_row) as conn:
            cursor = conn.execute(command)
            return cursor.fetchall() if cursor.description else []

    def show(self, what):
        return self.admin(f"SHOW {what}")

    def reload(self):
        self.admin("RELOAD")

    def database(self, name):
        """Its row of SHOW DATABASES."""
        return next(row for row in self.show("DATABASES") if row["name"] == name)

    def leads_to(self, name):
        """(host, port, dbname) that is in force."""
        row = self.database(name)
        return row["host"], int(row["port"]), row["database"]

    def is_paused(self, name):
        return int(self.database(name)["paused"]) != 0

    def portage_entry(self, sides):
        """What portage.yaml says of this pooler; sides is name: (source entry, target entry)."""
        return {"admin": self.admin_dsn, "login": f"user={self.users[0]}",
                "file": str(self.databases_file),
                "databases": {name: {"source": source, "target": target}
                              for name, (source, target) in sides.items()}}

    def log_tail(self, lines=30):
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def entry_of(server, database):
    """The entry that leads to a database of a harness server."""
    return f"host=127.0.0.1 port={server.port} dbname={database}"
