"""The demo bank: schema, data, load and proof."""
import json
import os
import pathlib
import signal
import subprocess

from .portage import program
from .postgres import ROOT

FILES = ROOT / "demos" / "bank"
LOAD_TIMEOUT = 600
CHECK_TIMEOUT = 300


def run_file(server, database, name):
    """psql does it: the files are for people, who use psql too."""
    done = subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", server.dsn(database),
                           "-f", FILES / name],
                          capture_output=True, text=True, check=False,
                          env={**os.environ, "PGOPTIONS": "-c client_min_messages=warning"})
    assert done.returncode == 0, f"{name} in {database} of {server}\n{done.stderr}"


def create_source(server, database):
    server.create_database(database)
    run_file(server, database, "source.sql")
    run_file(server, database, "grants.sql")


def create_shard(server, database):
    """Empty: pgportage lays down target.sql."""
    server.create_database(database)
    run_file(server, database, "grants.sql")


def write_config(path, source, shards):
    """source and shards are connection strings of pgportage's role."""
    text = (FILES / "portage.yaml.in").read_text(encoding="utf-8").replace("@SOURCE@", source)
    for number, shard in enumerate(shards):
        text = text.replace(f"@SHARD{number}@", shard)
    # The file stands elsewhere than the schema that it names.
    text = text.replace("schema: target.sql", f"schema: {FILES / 'target.sql'}")
    pathlib.Path(path).write_text(text, encoding="utf-8")


class Bank:
    """Clients of the bank. Each run() is a client of its own: its seed is its number."""

    def __init__(self, folder, program_path=None):
        self.folder = pathlib.Path(folder)
        self.program = pathlib.Path(program_path or program("demos/bank/bank"))
        self.acks = []
        self.process = None
        self.seed = 0

    def load(self, dsn, rows=1000000, seed=1):
        done = subprocess.run([self.program, "load", "--dsn", dsn, "--rows", str(rows), "--seed",
                               str(seed)], capture_output=True, text=True, check=False,
                              timeout=LOAD_TIMEOUT)
        assert done.returncode == 0, f"bank load\n{done.stdout}{done.stderr}"

    def start(self, source=None, template=None, shards=2, rate=3000, writers=8, large_every=60,
              large_rows=100000):
        assert self.process is None, "the bank is at work"
        self.seed += 1
        self.acks.append(self.folder / f"bank.{self.seed}.ack")
        where = ["--dsn-template", template] if template else ["--source", source]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [self.program, "run", *where, "--shards", str(shards), "--ack", self.acks[-1],
                 "--json", self.json, "--rate", str(rate), "--writers", str(writers),
                 "--seed", str(self.seed), "--large-every", str(large_every),
                 "--large-rows", str(large_rows), "--progress"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        return self

    @property
    def log(self):
        return self.folder / f"bank.{self.seed}.log"

    @property
    def json(self):
        return self.folder / f"bank.{self.seed}.json"

    def acknowledged(self):
        """How many requests so far, up to a second ago."""
        return sum(line.startswith("a ") for line in
                   self.acks[-1].read_text(encoding="ascii").splitlines())

    def check_running(self):
        assert self.process.poll() is None, (
            f"bank run ended with {self.process.returncode}\n{self.log_tail()}")

    def stop(self, timeout=60):
        """Ends the load and gives what it counted."""
        self.check_running()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        self.process = None
        assert code == 0, f"bank run ended with {code}\n{self.log_tail()}"
        return json.loads(self.json.read_text(encoding="utf-8"))

    def check(self, *dsns):
        """What the side made of these databases holds; its findings are in `report`."""
        arguments = [word for ack in self.acks for word in ("--ack", str(ack))]
        arguments += [word for dsn in dsns for word in ("--dsn", dsn)]
        path = self.folder / "bank.check.json"
        done = subprocess.run([self.program, "check", *arguments, "--json", str(path)],
                              capture_output=True, text=True, check=False, timeout=CHECK_TIMEOUT)
        assert done.returncode in (0, 1), f"bank check\n{done.stdout}{done.stderr}"
        return {**json.loads(path.read_text(encoding="utf-8")), "report": done.stdout}

    def log_tail(self, lines=20):
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
