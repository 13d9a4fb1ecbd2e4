"""A small migration that is switched: what it is made of, the command in front and in the background,
and which side takes writes."""
import contextlib
import pathlib
import signal
import subprocess

import psycopg
import pytest

from .polling import wait_until

DDL = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
ROWS = "INSERT INTO public.t SELECT g, g FROM generate_series(1, 2000) g;"
BY_ID = "shard_by: id\ntables:\n  \"public.*\": identical\n"
CLOSED = "57P06"
QUICK = ("--verified-within", "86400")


def make(migration, source=DDL + ROWS, target=DDL, mapping=BY_ID, **more):
    """Ready to be switched: gates laid, way back made, and a proof that both sides are equal."""
    carried = migration(source, target, mapping, **more)
    carried.run_until_ready()
    carried.portage.wait_for_log("the gates are laid")
    carried.portage.wait_for_log("way back is ready")
    return carried


def prove(carried):
    carried.wait_caught_up()
    carried.portage.command("verify")
    return carried


def switch(carried, verb, *options, check=True, env=None, timeout=60):
    portage = carried.portage
    if env is not None:
        portage = carried.instance(f"x{len(carried.instances)}", env=env)
    done = portage.command("--json", verb, *QUICK, *options, check=False, timeout=timeout)
    assert not check or done.returncode == 0, f"{done.returncode}\n{done.stdout}{done.stderr}"
    return done


def live(carried):
    rows = carried.shard_sql(0, "SELECT value FROM portage.setting WHERE name = 'live'")
    return rows[0][0] if rows else "source"


def servers(carried):
    """(side, server, database) of all."""
    return [("source", carried.source_server, carried.name)] + [
        ("target", server, name)
        for server, name in zip(carried.shard_servers, carried.shard_names)]


def is_open(server, database):
    """By what the application meets: a write of no row."""
    try:
        server.sql("DELETE FROM public.t WHERE false", None, database)
    except psycopg.Error as error:
        assert error.sqlstate == CLOSED, error
        return False
    return True


def open_sides(carried):
    return {side for side, server, database in servers(carried) if is_open(server, database)}


def refused(function, *arguments):
    with pytest.raises(psycopg.Error) as error:
        function(*arguments)
    assert error.value.sqlstate == CLOSED, error.value
    return error.value


class InBackground:
    """A command that is at work while the test does something."""

    def __init__(self, carried, *arguments, env=None):
        portage = carried.instance(f"b{len(carried.instances)}", env=env)
        self.process = subprocess.Popen(portage.command_line(*arguments), env=portage.env, text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)

    def wait(self, code, timeout=60):
        out, err = self.process.communicate(timeout=timeout)
        assert self.process.returncode == code, f"{self.process.returncode}\n{out}{err}"
        return out + err


@contextlib.contextmanager
def writer(carried, write="UPDATE public.t SET n = 77777 WHERE id = 1", user="postgres"):
    """A transaction that has written and does not end, unless it is ended."""
    conn = psycopg.connect(carried.source_server.dsn(carried.name, user,
                                                     application_name="slow app"))
    with contextlib.closing(conn):
        conn.execute(write)
        yield conn
        with contextlib.suppress(psycopg.OperationalError):
            conn.commit()


def wait_closed(carried):
    wait_until(lambda: not open_sides(carried), 30, "the fence", interval=0.02)


def process_state(pid):
    """The letter of /proc, "T" when it is stopped; empty when there is none."""
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return status.rpartition(")")[2].split()[0]


@contextlib.contextmanager
def halted(carried, verb, cell, *options):
    """The command in the background, stopped at this step; it goes on afterwards."""
    command = InBackground(carried, verb, *QUICK, *options, env={"PGPORTAGE_HALT_AT": cell})
    wait_until(lambda: process_state(command.process.pid) == "T" or command.process.poll() is not None,
               30, f"{verb} to stop at {cell}")
    assert command.process.poll() is None, command.process.communicate()
    try:
        yield command
    finally:
        command.process.send_signal(signal.SIGCONT)
