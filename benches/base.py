"""What the benches have in common: servers, runs that alternate, notes for who reads the figures."""
import contextlib
import shutil
import time

from harness.postgres import Postgres, make_folder

SOURCE_VERSION, TARGET_VERSION, SHARDS = 12, 15, 2
# As in production, for ours and for the peer: both write to the same servers.
FSYNC = True


class Bench:
    """One bench with servers of its own. A case is a method that gives figures."""
    name = ""
    cases = {}  # name: name of the method
    runs, runs_quick = 3, 1
    settings = {}  # of all servers

    def __init__(self, options):
        self.options = options
        self.quick = options.quick
        self.runs = options.runs or (self.runs_quick if self.quick else self.runs)
        self.notes = []
        self.folder = make_folder(f"pgportage-bench-{self.name}-", options.folder)
        self.servers = []
        self.source = None
        self.shards = []

    def measure(self, chosen=None):
        """The figures of all cases, or of the chosen one."""
        self.start_servers()
        figures = []
        for case, method in self.cases.items():
            if chosen in (None, case):
                self.say(f"case {case}")
                figures += getattr(self, method)(case)
        return figures

    def start_servers(self):
        self.source = self.server(SOURCE_VERSION, "source")
        self.shards = [self.server(TARGET_VERSION, f"shard{i}") for i in range(SHARDS)]
        self.prepare()

    def server(self, version, name):
        folder = self.folder / name
        folder.mkdir()
        self.servers.append(Postgres(version, folder, settings=self.settings, fsync=FSYNC,
                                     name=name))
        return self.servers[-1].start()

    def prepare(self):
        """For a bench: what all of its cases need."""

    def checkpoint(self):
        """Nobody pays for what the run before has written."""
        for server in self.servers:
            server.sql("CHECKPOINT")

    def alternate(self, *sides):
        """Calls each side once a run, by turns the first: none has the better place. Gives a list of
        results for each side."""
        results = [[] for _ in sides]
        for run in range(self.runs):
            order = list(range(len(sides)))
            for number in order if run % 2 == 0 else reversed(order):
                results[number].append(sides[number]())
        return results

    def say(self, text):
        print(f"  {text}", flush=True)

    def note(self, text):
        """Stands below the table."""
        self.notes.append(text)

    def versions(self):
        return (f"PostgreSQL {self.source.value('SHOW server_version')} to {len(self.shards)} x "
                f"{self.shards[0].value('SHOW server_version').split()[0]}, "
                f"fsync {'on' if FSYNC else 'off'}")

    def close(self, keep=False):
        for server in self.servers:
            with contextlib.suppress(Exception):
                server.stop("immediate")
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


class Stopwatch:
    """Wall time of what stands in its `with`; `begun` is comparable with the servers' clocks, which
    are this machine's."""

    def __enter__(self):
        self.begun = time.time()
        self.begun_monotonic = time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.begun_monotonic
