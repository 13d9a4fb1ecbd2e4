"""Cutover and rollback: the gate, the steps, and what each failure leaves behind."""
import contextlib
import json
import re
import signal
import subprocess
import threading
import time

import psycopg
import pytest

from harness.polling import wait_until
from harness.writers import TableSpec, Writers

DDL = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
PARTITIONED = """
CREATE TABLE public.p (id bigint, day date NOT NULL, n int, PRIMARY KEY (id, day))
    PARTITION BY RANGE (day);
CREATE TABLE public.p_old PARTITION OF public.p FOR VALUES FROM (MINVALUE) TO ('2026-01-01')
    PARTITION BY RANGE (day);
CREATE TABLE public.p_old_leaf PARTITION OF public.p_old DEFAULT;
CREATE TABLE public.p_new PARTITION OF public.p DEFAULT;
"""
ROWS = "INSERT INTO public.t SELECT g, g FROM generate_series(1, 2000) g;"
BY_ID = "shard_by: id\ntables:\n  \"public.*\": identical\n"
TABLE = TableSpec("public.t", "id", {"n": lambda dice: dice.randint(1, 999)}, keys=4000)
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
    portage = carried.instances[-1] if env is None else carried.instance(f"x{len(carried.instances)}",
                                                                         env=env)
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


def test_cutover_and_rollback(migration):
    carried = prove(make(migration))
    assert open_sides(carried) == {"source"}
    report = json.loads(switch(carried, "cutover").stdout)
    assert report["outcome"] == "switched"
    assert open_sides(carried) == {"target"} and live(carried) == "target"
    entry = carried.shard_sql(0, "SELECT detail FROM portage.journal WHERE step = 'switched'")[0][0]
    assert entry["live"] == "target" and set(entry["positions"]) == {"shard 0", "shard 1"}
    print(json.dumps(report["steps"]), report["closed_ms"])
    again = json.loads(switch(carried, "cutover").stdout)
    assert again["outcome"] == "already live"
    for shard in range(2):
        carried.shard_sql(shard, "UPDATE public.t SET n = -n", gated=True)
    report = json.loads(switch(carried, "rollback").stdout)
    assert report["outcome"] == "switched"
    assert open_sides(carried) == {"source"} and live(carried) == "source"
    assert carried.source_sql("SELECT count(*) FROM public.t WHERE n < 0") == [(2000,)]
    print(json.dumps(report["steps"]), report["closed_ms"])
