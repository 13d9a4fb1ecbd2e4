"""How the application is led to the other side: real poolers under load, a real name server."""
import os
import re
import socket
import stat
import subprocess
import threading
import time

import psycopg
import pytest
import yaml

from harness.named import Named
from harness.pgbouncer import PgBouncer, entry_of
from harness.polling import wait_until
from harness.portage import program

SWITCH = ["pause:target", "lead:target", "resume:target"]


class Tool:
    """Calls of the endpoint, each process anew."""

    def __init__(self, folder, endpoint, **more):
        self.config = folder / "portage.yaml"
        self.env = {**os.environ, **({"ENDPOINT_TOOL_SERVERS": "1"} if "target" in more else {})}
        self.config.write_text(yaml.safe_dump({
            "source": "host=src port=1 dbname=shop user=u password=secret",
            "target": {"shards": ["host=shard0 dbname=shop", "host=shard1 dbname=shop"]},
            "tables": {"public.*": "identical"}, "endpoint": endpoint, **more}), encoding="utf-8")

    def popen(self, *calls):
        return subprocess.Popen([program("tests/tools/endpoint_tool"), self.config, *calls],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=self.env)

    def run(self, *calls, code=0):
        process = self.popen(*calls)
        self.out, self.err = process.communicate(timeout=60)
        assert process.returncode == code, self.out + self.err
        assert "secret" not in self.out + self.err
        return self

    def ms(self, call):
        return float(re.search(rf"^{re.escape(call)} ok ([\d.]+)$", self.out, re.M).group(1))

    def findings(self, live="source"):
        self.run(f"check:{live}")
        return {line.split()[2]: line for line in self.out.splitlines()
                if line.startswith("finding")}


class Clients:
    """Ask all the time, each over a connection that it keeps, which database answers."""

    def __init__(self, dsn, count=8):
        self.dsn, self.errors, self.answers = dsn, [], []
        self.longest = 0.0
        self.done = threading.Event()
        self.threads = [threading.Thread(target=self.ask, daemon=True) for _ in range(count)]

    def ask(self):
        try:
            with psycopg.connect(self.dsn, autocommit=True, prepare_threshold=None) as conn:
                while not self.done.is_set():
                    began = time.monotonic()
                    with conn.transaction():
                        conn.execute("INSERT INTO asked DEFAULT VALUES")
                        row = conn.execute("SELECT current_database()").fetchone()
                    self.answers.append((began, row[0]))
                    self.longest = max(self.longest, time.monotonic() - began)
        except psycopg.Error as error:
            self.errors.append(str(error))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.wait_for_more()
        return self

    def wait_for_more(self, count=100):
        goal = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= goal or self.errors, 30, "answers")
        assert not self.errors

    def __exit__(self, *_):
        self.done.set()
        for thread in self.threads:
            thread.join(30)


@pytest.fixture
def sides(target_server):
    """Two databases of one server: where the application is, and where it goes."""
    name = f"endpoint_{os.getpid()}_{time.monotonic_ns()}"
    names = [f"{name}_source", f"{name}_target"]
    for one in names:
        target_server.create_database(one)
        target_server.sql("CREATE TABLE asked (at timestamptz DEFAULT clock_timestamp())", database=one)
    yield [entry_of(target_server, one) for one in names]
    for one in names:
        target_server.drop_database(one)


@pytest.fixture
def bouncer(folder):
    made = []

    def make(databases, settings=None):
        made.append(PgBouncer(databases, settings=settings, folder=folder / f"pooler{len(made)}",
                              name=f"pooler{len(made)}"))
        return made[-1].start()
    yield make
    for one in made:
        one.close()


def database_of(entry):
    return entry.rpartition("=")[2]


def one_pooler(folder, bouncer, sides, settings=None, **endpoint):
    pooler = bouncer({"shop": f"{sides[0]} pool_size=20"}, settings)
    tool = Tool(folder, {"pgbouncer": [pooler.portage_entry({"shop": sides})], **endpoint})
    return pooler, tool


def test_lead_under_load(folder, bouncer, sides):
    """There, back, and there again: no client sees an error, and none asks the old side afterwards."""
    pooler, tool = one_pooler(folder, bouncer, sides)
    assert set(tool.findings()) == {"endpoint-login-retry"}
    with Clients(pooler.dsn("shop")) as clients:
        for turn in range(20):
            goal = ("target", "source")[turn % 2]
            tool.run(f"pause:{goal}", f"lead:{goal}", f"resume:{goal}")
            resumed = time.monotonic()
            clients.wait_for_more()
            late = {name for began, name in clients.answers if began > resumed}
            assert late == {database_of(sides[goal == "target"])}
    assert clients.errors == []
    assert clients.longest < 1
    assert set(tool.findings()) == {"endpoint-login-retry"}
    assert pooler.database("shop")["pool_size"] == 20


def test_new_clients_while_paused(folder, bouncer, sides):
    """Who connects during the switch waits as the others do, and comes to the new side."""
    pooler, tool = one_pooler(folder, bouncer, sides)
    tool.run("pause:target")
    clients = Clients(pooler.dsn("shop"), count=3)
    for thread in clients.threads:
        thread.start()
    wait_until(lambda: sum(client["database"] == "shop" for client in pooler.show("CLIENTS")) == 3,
               10, "clients to come")
    assert clients.answers == []
    tool.run("lead:target", "resume:target")
    clients.wait_for_more(10)
    clients.done.set()
    assert {name for _, name in clients.answers} == {database_of(sides[1])}


def test_pause_while_connections_are_made(folder, bouncer, postgres):
    """PgBouncer takes a login that PAUSE cut off for a server that fails: it would then make no connection
    for server_login_retry (15 s), and turn away who asks meanwhile."""
    server = postgres(15, settings={"pre_auth_delay": "1"})
    for name in ("shop_source", "shop_target"):
        server.create_database(name)
        server.sql("CREATE TABLE asked (at timestamptz DEFAULT clock_timestamp())", database=name)
    sides = [entry_of(server, name) for name in ("shop_source", "shop_target")]
    pooler, tool = one_pooler(folder, bouncer, sides)
    with Clients(pooler.dsn("shop"), count=1) as clients, \
            psycopg.connect(pooler.dsn("shop"), autocommit=True, prepare_threshold=None) as late:
        pooler.admin("RECONNECT shop")
        wait_until(lambda: any(pool["sv_login"] for pool in pooler.show("POOLS")
                               if pool["database"] == "shop"), 10, "a login", interval=0.01)
        tool.run(*SWITCH)
        began = time.monotonic()
        assert late.execute("SELECT current_database()").fetchone()[0] == "shop_target"
        assert time.monotonic() - began < 10
        clients.wait_for_more()
    assert clients.errors == []


def test_two_databases_of_one_pooler(folder, bouncer, sides):
    """A source that becomes two shards: both entries change in one go, and others stay as they are."""
    pooler = bouncer({"shop_0": sides[0], "other": sides[0], "shop_1": sides[0]})
    tool = Tool(folder, {"pgbouncer": pooler.portage_entry(
        {"shop_0": sides, "shop_1": (sides[0], sides[1].replace("_target", "_target_1"))})})
    before = pooler.databases_file.stat()
    with Clients(pooler.dsn("other"), count=2) as others, Clients(pooler.dsn("shop_0")) as clients:
        tool.run("pause:target")
        assert pooler.is_paused("shop_0") and pooler.is_paused("shop_1")
        assert not pooler.is_paused("other")
        others.wait_for_more()
        tool.run("lead:target", "resume:target")
        clients.wait_for_more()
    assert others.errors == clients.errors == []
    assert pooler.leads_to("shop_1")[2].endswith("_target_1")
    assert pooler.leads_to("other")[2] == database_of(sides[0])
    after = pooler.databases_file.stat()
    assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (
        before.st_uid, before.st_gid, stat.S_IMODE(before.st_mode))
    assert not list(pooler.folder.glob("databases.ini.*"))


def test_transaction_that_takes_longer(folder, bouncer, sides):
    """It is named; the others wait no longer than the limit, each time, and nothing stays paused."""
    pooler, tool = one_pooler(folder, bouncer, sides, pause_ms=150, pause_attempts=3)
    with psycopg.connect(pooler.dsn("shop"), prepare_threshold=None) as holder:
        pid = holder.execute("SELECT pg_backend_pid()").fetchone()[0]
        with Clients(pooler.dsn("shop")) as clients:
            tool.run("pause:target", code=1)
            clients.wait_for_more()
            assert f'"shop" is held by server process {pid}' in tool.err
            assert not pooler.is_paused("shop")
            assert clients.longest < 1
        holder.rollback()
    assert clients.errors == []
    tool.run(*SWITCH)


def test_transaction_that_ends_in_time(folder, bouncer, sides):
    """A later attempt succeeds."""
    pooler, tool = one_pooler(folder, bouncer, sides, pause_ms=100, pause_attempts=20)
    with psycopg.connect(pooler.dsn("shop"), prepare_threshold=None) as holder:
        holder.execute("SELECT 1")
        process = tool.popen("pause:target")
        wait_until(lambda: "attempt" in process.stderr.readline(), 10, "a failed attempt")
        holder.rollback()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, out + err
    assert pooler.is_paused("shop")
    tool.run("restore:source")
    assert not pooler.is_paused("shop")


def two_poolers(folder, bouncer, sides, **endpoint):
    poolers = [bouncer({"shop": sides[0]}) for _ in range(2)]
    tool = Tool(folder, {"pgbouncer": [pooler.portage_entry({"shop": sides}) for pooler in poolers],
                         **endpoint})
    return poolers, tool


def test_two_poolers(folder, bouncer, sides):
    poolers, tool = two_poolers(folder, bouncer, sides)
    with Clients(poolers[0].dsn("shop"), 4) as first, Clients(poolers[1].dsn("shop"), 4) as second:
        tool.run(*SWITCH)
        first.wait_for_more()
        second.wait_for_more()
    assert first.errors == second.errors == []


def test_one_of_two_poolers_is_gone(folder, bouncer, sides):
    """Nobody is paused for a switch that cannot be; after the point of no return the other one goes on."""
    poolers, tool = two_poolers(folder, bouncer, sides)
    with Clients(poolers[0].dsn("shop")) as clients:
        poolers[1].kill()
        assert "endpoint-unreachable" in tool.findings()
        tool.run("pause:target", code=1)
        assert not poolers[0].is_paused("shop")
        poolers[1].start()
        tool.run("pause:target")
        poolers[1].kill()
        tool.run("lead:target?", "resume:target", code=1)
        clients.wait_for_more()
        assert clients.answers[-1][1] == database_of(sides[1])
        poolers[1].start()
        assert poolers[1].leads_to("shop")[2] == database_of(sides[1])
        tool.run("lead:target", "resume:target")
    assert clients.errors == []


def test_one_of_two_poolers_holds(folder, bouncer, sides):
    """One that cannot pause resumes the other."""
    poolers, tool = two_poolers(folder, bouncer, sides, pause_ms=100, pause_attempts=2)
    with psycopg.connect(poolers[1].dsn("shop"), prepare_threshold=None) as holder:
        holder.execute("SELECT 1")
        with Clients(poolers[0].dsn("shop")) as clients:
            tool.run("pause:target", code=1)
            clients.wait_for_more()
        assert not any(pooler.is_paused("shop") for pooler in poolers)
    assert clients.errors == []


def test_a_pooler_that_does_not_answer(folder, bouncer, sides):
    """It hangs: no call hangs with it."""
    poolers, tool = two_poolers(folder, bouncer, sides, pause_attempts=1)
    poolers[1].freeze()
    began = time.monotonic()
    tool.run("pause:target", code=1)
    assert time.monotonic() - began < 20
    poolers[1].thaw()
    assert not poolers[0].is_paused("shop")


def test_restore(folder, bouncer, sides):
    """By another process than the one that paused and led."""
    pooler, tool = one_pooler(folder, bouncer, sides)
    original = pooler.databases_file.read_text(encoding="utf-8")
    with Clients(pooler.dsn("shop")) as clients:
        tool.run("pause:target", "lead:target")
        tool.run("restore:source")
        clients.wait_for_more()
        tool.run("restore:source")
        clients.wait_for_more()
    assert clients.errors == []
    assert {name for _, name in clients.answers} == {database_of(sides[0])}
    assert sorted(pooler.databases_file.read_text(encoding="utf-8").split()) == sorted(original.split())


def test_each_call_twice(folder, bouncer, sides):
    """Nothing is written or reloaded for what is there already."""
    pooler, tool = one_pooler(folder, bouncer, sides)
    with Clients(pooler.dsn("shop")) as clients:
        tool.run("pause:target", "pause:target")
        tool.run("lead:target", "lead:target")
        before = pooler.databases_file.stat().st_ino
        tool.run("lead:target")
        assert pooler.databases_file.stat().st_ino == before
        assert pooler.log.read_text(encoding="utf-8").count("RELOAD command") == 1
        tool.run("resume:target", "resume:target")
        clients.wait_for_more()
    assert clients.errors == []


def test_killed_between_writing_and_reloading(folder, bouncer, sides):
    """The file is new and the pooler old: to lead again reloads."""
    pooler, tool = one_pooler(folder, bouncer, sides)
    tool.run("pause:target")
    pooler.write_databases({"shop": f"{sides[1]} pool_size=20"})
    tool.run("resume:target", code=1)
    assert pooler.is_paused("shop")
    tool.run("lead:target", "resume:target")
    assert pooler.leads_to("shop")[2] == database_of(sides[1])


def test_a_file_that_the_pooler_does_not_read(folder, bouncer, sides):
    """The file changes and the pooler does not: that is seen, not believed."""
    pooler, tool = one_pooler(folder, bouncer, sides)
    pooler.config_file.write_text(
        pooler.config_file.read_text(encoding="utf-8").replace(
            "%include", f"[databases]\nshop = {sides[0]}\n;"), encoding="utf-8")
    pooler.reload()
    tool.run("pause:target", "lead:target", code=1)
    assert "does not use" in tool.err
    tool.run("restore:source")
    assert not pooler.is_paused("shop")


@pytest.mark.parametrize("settings, entry, code", [
    ({"pool_mode": "session"}, "", "endpoint-pool-mode"),
    ({}, " pool_mode=session", "endpoint-pool-mode"),
    ({"query_wait_timeout": "3"}, "", "endpoint-wait-timeout"),
    ({"client_login_timeout": "4"}, "", "endpoint-login-timeout"),
    ({"server_login_retry": "15"}, "", "endpoint-login-retry"),
    ({"admin_users": "somebody", "stats_users": "pooler_admin"}, "", "endpoint-privilege"),
])
def test_findings(folder, bouncer, sides, settings, entry, code):
    pooler = bouncer({"shop": sides[0] + entry}, {"server_login_retry": "1", **settings})
    tool = Tool(folder, {"pgbouncer": pooler.portage_entry({"shop": sides})})
    assert set(tool.findings()) == {code}


def test_findings_of_entries(folder, bouncer, sides):
    pooler, tool = one_pooler(folder, bouncer, sides, {"server_login_retry": "1"})
    assert set(tool.findings(live="target")) == {"endpoint-side"}
    pooler.admin("PAUSE shop")
    assert set(tool.findings()) == {"endpoint-paused"}
    pooler.admin("RESUME shop")
    tool = Tool(folder, {"pgbouncer": pooler.portage_entry({"shop": sides, "attic": sides})})
    assert set(tool.findings()) == {"endpoint-entry", "endpoint-file"}
    pooler.databases_file.unlink()
    assert "endpoint-file" in tool.findings()


# ---- what is tried before a switch ----

QUICK = {"server_login_retry": "1"}


def conninfo(entry, user="postgres"):
    return f"{entry} user={user}"


def probing(folder, bouncer, sides, entry=None, shards=None, settings=None, **pooler_keys):
    """A tool that knows the servers. `entry` is what the pooler's says of the target; `shards` are those
    of the migration."""
    pooler = bouncer({"shop": f"{sides[0]} pool_size=20"}, {**QUICK, **(settings or {})})
    keys = {**pooler.portage_entry({"shop": (sides[0], entry or sides[1])}), **pooler_keys}
    tool = Tool(folder, {"pgbouncer": {key: value for key, value in keys.items() if value}},
                source=conninfo(sides[0]),
                target={"shards": [conninfo(shard) for shard in shards or [sides[1]]]})
    return pooler, tool


def test_probes_leave_everything_as_it_was(folder, bouncer, sides):
    """Under load: no client notices, the file is the same byte by byte, and nothing is left of them; also
    of a check that died."""
    pooler, tool = probing(folder, bouncer, sides)
    original = pooler.databases_file.read_bytes()
    with Clients(pooler.dsn("shop")) as clients:
        for _ in range(5):
            assert tool.findings() == {}
            clients.wait_for_more()
        pooler.databases_file.write_bytes(original + b"pgportage_probe_9 = host=127.0.0.1\n")
        pooler.reload()
        assert tool.findings() == {}
        clients.wait_for_more()
    assert clients.errors == [] and clients.longest < 1
    assert {name for _, name in clients.answers} == {database_of(sides[0])}
    assert pooler.databases_file.read_bytes() == original
    assert {row["name"] for row in pooler.show("DATABASES")} == {"shop", "pgbouncer"}


def test_a_file_that_was_changed_and_not_reloaded(folder, bouncer, sides):
    """It is said, and it is not us who reload it: the application would be led away."""
    pooler, tool = probing(folder, bouncer, sides)
    pooler.write_databases({"shop": sides[1]})
    findings = tool.findings()
    assert set(findings) == {"endpoint-file"} and "leads it elsewhere" in findings["endpoint-file"]
    assert pooler.leads_to("shop")[2] == database_of(sides[0])
    assert "RELOAD" not in pooler.log.read_text(encoding="utf-8")


def test_a_file_that_is_not_the_one_that_is_read(folder, bouncer, sides):
    """It says the same as the other one: only a change shows it."""
    pooler, tool = probing(folder, bouncer, sides)
    main = pooler.config_file.read_text(encoding="utf-8")
    pooler.config_file.write_text(main.replace("%include", f"[databases]\nshop = {sides[0]}\n;"),
                                  encoding="utf-8")
    pooler.reload()
    before = pooler.databases_file.read_bytes()
    findings = tool.findings()
    assert set(findings) == {"endpoint-file"} and "does not take up" in findings["endpoint-file"]
    assert pooler.databases_file.read_bytes() == before
    pooler.config_file.write_text(main, encoding="utf-8")
    pooler.reload()
    assert tool.findings() == {}


def test_a_reload_that_fails(folder, bouncer, sides):
    pooler, tool = probing(folder, bouncer, sides)
    main = pooler.config_file.read_text(encoding="utf-8")
    pooler.config_file.write_text("what is this\n" + main, encoding="utf-8")
    assert set(tool.findings()) == {"endpoint-file"}
    assert pooler.leads_to("shop")[2] == database_of(sides[0])


@pytest.mark.parametrize("wrong", ["user=no_such_role", "dbname=no_such_database", "port=1"])
def test_the_pooler_cannot_log_in_at_the_target(folder, bouncer, sides, wrong):
    pooler, tool = probing(folder, bouncer, sides, entry=f"{sides[1]} {wrong}")
    with Clients(pooler.dsn("shop"), 2) as clients:
        findings = tool.findings()
        clients.wait_for_more()
    assert set(findings) == {"endpoint-login"}, findings
    assert findings["endpoint-login"].startswith("finding refuse") and clients.errors == []
    tool.findings()  # and nobody asks a dead server for ever
    assert {row["name"] for row in pooler.show("DATABASES")} == {"shop", "pgbouncer"}


def test_a_login_that_the_pooler_refuses(folder, bouncer, sides):
    _, tool = probing(folder, bouncer, sides, login="user=stranger password=secret")
    findings = tool.findings()  # run() looks for the secret
    assert set(findings) == {"endpoint-login"}, findings


def test_an_entry_that_leads_somewhere_else(folder, bouncer, sides, target_server):
    """To a database that works, and is none of the migration's."""
    other = f"{database_of(sides[1])}_other"
    target_server.create_database(other)
    try:
        for login in ("user=postgres", None):
            _, tool = probing(folder, bouncer, sides, entry=entry_of(target_server, other),
                              login=login)
            findings = tool.findings()
            assert "refuse" in findings["endpoint-target"], findings
            assert "none of the target's" in findings["endpoint-target"]
        _, tool = probing(folder, bouncer, sides,
                          shards=[sides[1], entry_of(target_server, other)])
        findings = tool.findings()
        assert set(findings) == {"endpoint-target"} and "warning" in findings["endpoint-target"]
        assert other in findings["endpoint-target"]
    finally:
        target_server.drop_database(other)


def test_without_a_login_we_look_ourselves(folder, bouncer, sides):
    _, tool = probing(folder, bouncer, sides, login=None)
    findings = tool.findings()
    assert set(findings) == {"endpoint-login"} and "not tried" in findings["endpoint-login"]
    _, tool = probing(folder, bouncer, sides, login=None, entry=f"{sides[1]} port=1")
    findings = tool.findings()
    assert set(findings) == {"endpoint-login", "endpoint-target"}
    assert all("warning" in finding for finding in findings.values())  # the pooler may see it


def test_password_of_the_console_is_not_shown(folder, bouncer, sides):
    pooler = bouncer({"shop": sides[0]})
    entry = pooler.portage_entry({"shop": sides})
    entry["admin"] += " password=secret"
    tool = Tool(folder, {"pgbouncer": entry})
    pooler.kill()
    assert "endpoint-unreachable" in tool.findings()
    tool.run("pause:target", code=1)  # run() looks for the secret


@pytest.fixture
def named(folder):
    server = Named(["db 3 IN A 192.0.2.1", "alias 3 IN CNAME old.shop.example."],
                   folder=folder / "named").start()
    yield server
    server.close()


def dns(named, **more):
    return {"dns": {"server": "127.0.0.1", "port": named.port, "ttl": "2", "key_file":
                    str(named.key_file), "names": {
                        "db.shop.example": {"source": "192.0.2.1",
                                            "target": ["192.0.2.2", "192.0.2.3", "2001:db8:0::2"]},
                        "alias.shop.example": {"source": "old.shop.example",
                                               "target": "new.shop.example"}}, **more}}


@pytest.mark.parametrize("zone", [{}, {"zone": "shop.example"}])
def test_names(folder, named, zone):
    """Led there and back; lead returns when no cache can hold the old answer."""
    tool = Tool(folder, dns(named, **zone))
    findings = tool.findings()
    assert set(findings) == {"endpoint-ttl"}
    tool.run(*SWITCH)
    assert tool.ms("lead:target") >= 2000
    assert named.lookup("db", "A") == ["192.0.2.2", "192.0.2.3"]
    assert named.lookup("db", "AAAA") == ["2001:db8::2"]
    assert named.lookup("alias", "CNAME") == ["new.shop.example."]
    assert tool.findings(live="target") == {}
    assert "endpoint-side" in tool.findings(live="source")
    tool.run("restore:source")
    assert named.lookup("db", "A") == ["192.0.2.1"]
    assert named.lookup("db", "AAAA") == []
    tool.run("restore:source")
    assert tool.ms("restore:source") < 2000
    assert tool.findings() == {}


def test_names_with_a_wrong_key(folder, named):
    tool = Tool(folder, dns(named, key_file=str(named.folder / "wrong_key"), ttl="3"))
    assert set(tool.findings()) == {"endpoint-privilege"}
    tool.run("lead:target", code=1)
    assert named.lookup("db", "A") == ["192.0.2.1"]


def test_names_without_a_server(folder, named):
    named.process.kill()
    tool = Tool(folder, dns(named))
    assert "endpoint-unreachable" in tool.findings()
    tool.run("lead:target", code=1)


def test_command(folder):
    """Each phase with what it has to know, and no password."""
    told = folder / "told"
    tool = Tool(folder, {"command": f'env | grep ^PGPORTAGE_ >>{told}; echo "said $PGPORTAGE_PHASE"'})
    assert tool.findings() == {}
    tool.run(*SWITCH, "restore:source")
    text = told.read_text(encoding="utf-8")
    for phase in ("check", "pause", "lead", "resume", "restore"):
        assert f"PGPORTAGE_PHASE={phase}\n" in text
    assert "PGPORTAGE_SIDE=target\n" in text
    assert "PGPORTAGE_SOURCE=host=src port=1 dbname=shop user=u\n" in text
    assert "PGPORTAGE_ADDRESSES=host=shard0" in text
    assert "secret" not in text
    assert "said lead" in tool.err


def test_command_that_fails(folder):
    """What a pause began is taken back."""
    told = folder / "told"
    tool = Tool(folder, {"command": f'echo "$PGPORTAGE_PHASE $PGPORTAGE_SIDE" >>{told};'
                                    ' echo "no way"; test $PGPORTAGE_PHASE != pause'})
    tool.run("pause:target", code=1)
    assert "command pause ended with 1" in tool.err and "no way" in tool.err
    assert told.read_text(encoding="utf-8").split("\n")[:2] == ["pause target", "restore source"]
    assert "endpoint-command" in Tool(folder, {"command": "exit 3"}).findings()


def test_command_that_hangs(folder):
    """It is ended with all that it started."""
    told = folder / "told"
    tool = Tool(folder, {"command": f"(sleep 300; true) & echo $! >{told}; wait", "time_limit": "1"})
    began = time.monotonic()
    tool.run("lead:target", code=1)
    assert "took longer than 1 s" in tool.err
    assert time.monotonic() - began < 10
    pid = int(told.read_text(encoding="utf-8"))
    wait_until(lambda: not os.path.exists(f"/proc/{pid}")
               or "Z" in open(f"/proc/{pid}/stat", encoding="ascii").read().split()[2], 5,
               "the command's child to end")


def test_command_that_leaves_a_child_behind(folder):
    """What goes on in the background does not hold up the switch."""
    tool = Tool(folder, {"command": "sleep 5 & exit 0"})
    tool.run("lead:target")
    assert tool.ms("lead:target") < 3000


def test_hooks(folder):
    tool = Tool(folder, "none", hooks={"paused": "echo at $PGPORTAGE_PHASE to $PGPORTAGE_SIDE",
                                       "fenced": "exit 7", "time_limit": "5"})
    tool.run("hook:before_pause:target", "hook:paused:target")
    assert "hook paused: at paused to target" in tool.err
    tool.run("hook:fenced:target", code=1)
    assert "hook fenced ended with 7" in tool.err


def test_none(folder):
    """It is said what is to be done, and nothing else happens."""
    tool = Tool(folder, "none")
    assert set(tool.findings()) == {"endpoint-none"}
    tool.run(*SWITCH, "restore:source")
    assert "lead the application to the target now" in tool.err
    assert "host=shard1 dbname=shop" in tool.err


def test_no_pooler_listens(folder):
    """The port is another program's, that takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        entry = {"admin": f"host=127.0.0.1 port={listener.getsockname()[1]} dbname=pgbouncer user=u",
                 "file": "none.ini", "databases": {"shop": {"source": "host=a", "target": "host=b"}}}
        tool = Tool(folder, {"pgbouncer": entry})
        assert "endpoint-unreachable" in tool.findings()
