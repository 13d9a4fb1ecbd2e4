"""Real PostgreSQL servers on loopback, each in a folder of its own."""
import contextlib
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import psycopg
from psycopg.conninfo import make_conninfo

from .polling import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_TIMEOUT = 60

SETTINGS = {
    "listen_addresses": "'127.0.0.1'", "unix_socket_directories": "''",
    "wal_level": "logical", "max_wal_senders": "20", "max_replication_slots": "20",
    "max_connections": "200", "max_prepared_transactions": "10",
    "shared_buffers": "'256MB'", "max_wal_size": "'2GB'", "checkpoint_timeout": "'15min'",
    "log_line_prefix": "'%m [%p] %a %d '", "log_lock_waits": "on",
}
# Our machine does not lose power: what a server has written is there after kill -9 of its processes.
CARELESS = {"fsync": "off", "full_page_writes": "off"}


def server_binaries(version):
    """The folder of a version's programs; tools/setup put it there."""
    debian = pathlib.Path(f"/usr/lib/postgresql/{version}/bin")
    if debian.is_dir():
        return debian
    cache = subprocess.run([ROOT / "tools/setup", "--servers"], capture_output=True, check=True,
                           text=True).stdout.strip()
    return pathlib.Path(cache) / f"pg{version}" / "bin"


def free_port():
    """A port that nobody listens on, below those that the kernel gives to clients: a server that is
    restarted finds its port free again."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def as_postgres(command):
    """Servers refuse to run as root. setpriv execs: the child is the command itself."""
    if os.geteuid() != 0:
        return [str(word) for word in command]
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups",
            *(str(word) for word in command)]


def make_folder(prefix, parent=None):
    """A new folder that user postgres can pass through."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    folder.chmod(0o755)
    return folder


class Postgres:
    """One server. Its postmaster is our child; after close() nothing of it is left."""

    def __init__(self, version, folder=None, settings=None, fsync=False, name=None):
        self.version = int(version)
        self.name = name or f"pg{version}"
        self.folder = pathlib.Path(folder) if folder else make_folder(f"pgportage-{self.name}-")
        self.bin = server_binaries(version)
        self.port = free_port()
        self.postmaster = None
        self.initdb()
        self.configure({**SETTINGS, **({} if fsync else CARELESS), **(settings or {})})

    def __repr__(self):
        return f"PostgreSQL {self.version} on port {self.port}"

    @property
    def data(self):
        return self.folder / "data"

    @property
    def log(self):
        return self.folder / "log"

    def initdb(self):
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        initdb = subprocess.run(
            as_postgres([self.bin / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust",
                         "-E", "UTF8", "--locale=C", "--no-sync"]),
            capture_output=True, text=True, check=False, cwd="/")
        assert initdb.returncode == 0, initdb.stderr

    def configure(self, settings):
        """Takes effect at the next start."""
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.writelines(f"{name} = {value}\n" for name, value in settings.items())
            conf.write(f"port = {self.port}\n")

    def start(self):
        assert self.postmaster is None, f"{self} is running"
        with open(self.log, "ab") as log:
            self.postmaster = subprocess.Popen(
                as_postgres([self.bin / "postgres", "-D", self.data]), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, cwd="/")
        wait_until(self.accepts, START_TIMEOUT, f"{self} to accept connections",
                   explain=self.log_tail)
        return self

    def accepts(self):
        if self.postmaster.poll() is not None:
            raise AssertionError(f"{self} ended at its start\n{self.log_tail()}")
        try:
            self.connect(connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, mode="fast"):
        if self.postmaster is None:
            return
        self.postmaster.send_signal({"smart": signal.SIGTERM, "fast": signal.SIGINT,
                                     "immediate": signal.SIGQUIT}[mode])
        self.postmaster.wait(timeout=START_TIMEOUT)
        self.postmaster = None

    def kill9(self):
        """All its processes at once, as when the machine goes away. Stopped first, so that none
        starts another while we look for them."""
        self.postmaster.send_signal(signal.SIGSTOP)
        children = self.processes()
        self.postmaster.kill()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.postmaster.wait()
        self.postmaster = None
        wait_until(lambda: not any(is_alive(pid) for pid in children), START_TIMEOUT,
                   f"the processes of {self} to end")

    def processes(self):
        """The children of the postmaster."""
        text = pathlib.Path(f"/proc/{self.postmaster.pid}/task/{self.postmaster.pid}/children")
        return [int(pid) for pid in text.read_text(encoding="ascii").split()]

    def restart(self, mode="fast"):
        self.stop(mode)
        return self.start()

    def close(self):
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def dsn(self, database="postgres", user="postgres", **more):
        return make_conninfo("", host="127.0.0.1", port=self.port, dbname=database, user=user, **more)

    def uri(self, database="postgres", user="postgres"):
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def connect(self, database="postgres", user="postgres", **more):
        return psycopg.connect(self.dsn(database, user, **more), autocommit=True)

    def sql(self, query, parameters=None, database="postgres", user="postgres", **more):
        """Runs it and returns its rows; without parameters it may be several statements."""
        with self.connect(database, user, **more) as conn:
            cursor = conn.execute(query, parameters)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    def value(self, query, parameters=None, database="postgres", user="postgres"):
        return self.sql(query, parameters, database, user)[0][0]

    def create_database(self, name):
        self.sql(f'CREATE DATABASE "{name}"')
        return name

    def drop_database(self, name):
        """With its slots and sessions."""
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        wait_until(lambda: not self.value("SELECT count(*) FROM pg_replication_slots"
                                          " WHERE database = %s AND active", [name]),
                   10, f"the slots of {name} to be idle")
        for gid, in self.sql("SELECT gid FROM pg_prepared_xacts WHERE database = %s", [name]):
            self.sql(f"ROLLBACK PREPARED '{gid}'", database=name)
        self.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                 " WHERE database = %s", [name])
        wait_until(lambda: not self.value("SELECT count(*) FROM pg_stat_activity WHERE datname = %s",
                                          [name]), 10, f"the sessions of {name} to end")
        self.sql(f'DROP DATABASE IF EXISTS "{name}"')

    def log_position(self):
        return self.log.stat().st_size

    def log_since(self, position):
        return self.log.read_bytes()[position:].decode(errors="replace")

    def log_contains(self, pattern, position=0):
        return re.search(pattern, self.log_since(position)) is not None

    def wait_for_log(self, pattern, position=0, timeout=30):
        wait_until(lambda: self.log_contains(pattern, position), timeout,
                   f"{pattern!r} in the log of {self}", explain=self.log_tail)

    def log_tail(self, lines=30):
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def is_alive(pid):
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
