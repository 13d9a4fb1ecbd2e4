"""The program under test, as a user runs it."""
import contextlib
import json
import os
import pathlib
import re
import subprocess

from .polling import wait_until
from .postgres import ROOT

COMMAND_TIMEOUT = 120
STOP_TIMEOUT = 60


def program(path):
    """A program of the build under test; PGPORTAGE_BUILD names another build (sanitizers)."""
    build = pathlib.Path(os.environ.get("PGPORTAGE_BUILD", "build"))
    return ROOT / build / path


class Portage:
    """pgportage with one configuration. Several of them with the same one are rival instances."""

    def __init__(self, config, folder, name="portage", program_path=None, env=None):
        self.config = pathlib.Path(config)
        self.folder = pathlib.Path(folder)
        self.name = name
        self.program = pathlib.Path(program_path or program("src/cli/pgportage"))
        self.env = {**os.environ, **(env or {})}
        self.process = None
        self.starts = 0
        self.kills = 0
        self._peak_rss = 0

    def command_line(self, *arguments):
        return [str(self.program), "--config", str(self.config), *map(str, arguments)]

    def command(self, *arguments, timeout=COMMAND_TIMEOUT, check=True):
        """Runs a command to its end. With check, an exit code other than 0 is a failure."""
        done = subprocess.run(self.command_line(*arguments), capture_output=True, text=True,
                              timeout=timeout, check=False, stdin=subprocess.DEVNULL, env=self.env)
        assert not check or done.returncode == 0, (
            f"pgportage {' '.join(map(str, arguments))} exited with {done.returncode}\n"
            f"{done.stdout}{done.stderr}")
        return done

    def plan(self, **more):
        return self.command("plan", **more)

    def finish(self, *options, **more):
        return self.command("finish", *options, **more)

    def abort(self, **more):
        return self.command("abort", **more)

    def status(self):
        return json.loads(self.command("--json", "status").stdout)

    def verify(self, *arguments, code=None, **more):
        """The report of `verify`; its exit code must be this one, if one is given."""
        done = self.command("--json", "verify", *arguments, check=False, **more)
        assert done.stdout, done.stderr
        assert code is None or done.returncode == code, (
            f"verify exited with {done.returncode}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def phase(self):
        return self.status()["phase"]

    @property
    def log(self):
        """What the latest `run` says."""
        return self.folder / f"{self.name}.{self.starts}.log"

    def start(self, *options):
        """Starts `run`."""
        assert self.process is None, f"{self.name} is running"
        self.starts += 1
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                self.command_line("run", *options), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, env=self.env)
        return self

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill9(self):
        self.note_rss()
        assert self.is_running(), f"{self.name} ended by itself\n{self.log_tail()}"
        self.process.kill()
        self.process.wait()
        self.process = None
        self.kills += 1

    def restart(self, *options):
        """After a kill, or after stop()."""
        return self.start(*options)

    def stop(self, timeout=STOP_TIMEOUT):
        """SIGTERM; gives the exit code, None if it was not running."""
        if self.process is None:
            return None
        self.note_rss()
        self.process.terminate()
        return self.wait(timeout)

    def wait(self, timeout):
        """Waits for `run` to end by itself, and gives the exit code."""
        code = self.process.wait(timeout)
        self.process = None
        return code

    def close(self):
        """Whatever its state, afterwards it does not run."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def note_rss(self):
        """Takes the kernel's own high-water mark while the process is still there."""
        if self.process is None:
            return
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
            mark = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
            if mark:
                self._peak_rss = max(self._peak_rss, int(mark[1]) * 1024)

    @property
    def peak_rss(self):
        """In bytes, over all starts."""
        self.note_rss()
        return self._peak_rss

    def wait_for_phase(self, phase, timeout):
        """Waits until `status` says so; a `run` that ends meanwhile is a failure."""
        def reached():
            self.check_running()
            return self.phase() == phase
        wait_until(reached, timeout, f"phase {phase!r} of {self.name}", interval=0.25,
                   explain=self.explain)

    def check_running(self):
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"`run` of {self.name} ended with {self.process.returncode}\n"
                                 f"{self.log_tail()}")

    def wait_for_log(self, pattern, timeout=30):
        def said():
            self.check_running()
            return self.log_contains(pattern)
        wait_until(said, timeout, f"{pattern!r} in the log of {self.name}", explain=self.log_tail)

    def log_contains(self, pattern):
        return self.log.exists() and re.search(
            pattern, self.log.read_text(encoding="utf-8", errors="replace")) is not None

    def logs(self):
        """All that all starts have said."""
        return "".join(path.read_text(encoding="utf-8", errors="replace")
                       for path in sorted(self.folder.glob(f"{self.name}.*.log")))

    def log_tail(self, lines=40):
        text = f"--- {self.log}\n"
        if self.log.exists():
            text += "\n".join(
                self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        return text

    def explain(self):
        status = self.command("--json", "status", check=False)
        return f"status: {status.stdout}{status.stderr}\n{self.log_tail()}"
