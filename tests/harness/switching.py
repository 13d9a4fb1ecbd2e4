"""The bank behind a pooler, switched from one side to the other and back while its clients write."""
import json
import time

import psycopg
import yaml

from . import bank as bank_files
from .bank import Bank
from .compare import compare
from .pgbouncer import PgBouncer, entry_of
from .polling import wait_until
from .portage import Portage

ROLE = "portage"
TARGET_ONLY = "      'server'::text    AS origin,\n"  # of portage.yaml.in
READY_TIMEOUT = 300
SWITCH_TIMEOUT = 120
VERIFY_TIMEOUT = 600
# What a gap may begin before, and end after, the command that made it.
AROUND_SECONDS = 0.5


class Switch:
    """One cutover or rollback, as the operator saw it."""

    def __init__(self, command, begun, ended, done):
        self.command, self.begun, self.ended, self.done = command, begun, ended, done

    @property
    def report(self):
        return json.loads(self.done.stdout)

    def pause_ms(self, gaps):
        """The longest gap between two acknowledged writes of any client around this switch."""
        return max((ms for begun, ms in gaps
                    if begun < self.ended + AROUND_SECONDS
                    and begun + ms / 1000 > self.begun - AROUND_SECONDS), default=0.0)


class SwitchedBank:
    """The bank on `source` and `shards`, each in a database of this name; a pooler leads its clients."""

    def __init__(self, folder, source, shards, name="bank", settings=""):
        self.folder, self.source, self.servers, self.name = folder, source, shards, name
        # Shards may be databases of one server.
        self.shards = [f"{name}_{number}" for number in range(len(shards))]
        self.bank = Bank(folder)
        self.portage = Portage(folder / "portage.yaml", folder)
        self.switches = []
        bank_files.create_source(source, name)
        for server, shard in zip(shards, self.shards):
            bank_files.create_shard(server, shard)
        sides = {f"bank_{number}": (entry_of(source, name), entry_of(server, shard))
                 for number, (server, shard) in enumerate(zip(shards, self.shards))}
        self.pooler = PgBouncer({entry: before for entry, (before, _) in sides.items()},
                                users=("postgres", "bank"), folder=folder / "pooler")
        self.pooler.start()
        bank_files.write_config(self.portage.config, source.uri(name, ROLE),
                                [server.uri(shard, ROLE)
                                 for server, shard in zip(shards, self.shards)])
        with open(self.portage.config, "a", encoding="utf-8") as config:
            config.write(f"\nslot: {name}\npublication: {name}\n{settings}")
            config.write(yaml.safe_dump(
                {"endpoint": {"pgbouncer": [self.pooler.portage_entry(sides)]}}))

    def load(self, rows, seed=1):
        self.bank.load(self.source.dsn(self.name), rows, seed)
        return self

    def begin(self, **load):
        """Clients at work through the pooler, and pgportage ready."""
        self.start_clients(**load)
        self.portage.start()
        self.portage.wait_for_phase("ready", READY_TIMEOUT)
        return self

    def start_clients(self, rate=3000, **more):
        self.bank.start(template=self.pooler.template("bank_{shard}", "bank"), shards=len(self.shards),
                        rate=rate, **more)

    def switch(self, command, *options, check=True):
        begun = time.time()
        done = self.portage.command("--json", command, *options, check=check,
                                    timeout=SWITCH_TIMEOUT)
        switch = Switch(command, begun, time.time(), done)
        self.switches.append(switch)
        return switch

    def wait_for_way_back(self, live):
        """Until `run` streams from the side that is live."""
        phase = {"source": "ready", "target": "backward"}[live]
        wait_until(lambda: self.portage.phase() == phase, READY_TIMEOUT, f"phase {phase}",
                   explain=self.portage.explain)

    def large_in_flight(self, command):
        """Whether the bank's large transaction runs on the side that this command leaves."""
        servers = [self.source] if command == "cutover" else self.servers
        return any(server.value("SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                                " AND query LIKE 'SELECT public.bank_campaign(%%'"
                                " AND datname LIKE %s", [f"{self.name}%"]) for server in servers)

    def live(self):
        """The side whose gate is open, by trying: exactly one may be."""
        open_sides = [side for side, dsns in (("source", [self.source.dsn(self.name)]),
                                              ("target", self.shard_dsns()))
                      if any(accepts_writes(dsn) for dsn in dsns)]
        assert len(open_sides) == 1, f"open to writes: {open_sides}"
        return open_sides[0]

    def shard_dsns(self):
        return [server.dsn(shard) for server, shard in zip(self.servers, self.shards)]

    def live_dsns(self, live):
        return [self.source.dsn(self.name)] if live == "source" else self.shard_dsns()

    def verify(self):
        verified = self.portage.command("--json", "verify", check=False, timeout=VERIFY_TIMEOUT)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        return json.loads(verified.stdout)

    def prove(self, live):
        """With the clients at rest: both sides equal, nothing lost, nothing doubled."""
        self.verify()
        audit = self.bank.check(*self.live_dsns(live))
        assert audit["ok"], audit["report"]
        assert (audit["lost"], audit["doubled"]) == (0, 0)

    def compare(self):
        """Without the one column that only the target knows: the application writes there what it likes."""
        config = self.folder / "compared.yaml"
        config.write_text(self.portage.config.read_text(encoding="utf-8").replace(TARGET_ONLY, ""),
                          encoding="utf-8")
        return compare(config, self.source.uri(self.name),
                       [server.uri(shard) for server, shard in zip(self.servers, self.shards)],
                       folder=self.folder)

    def close(self):
        self.bank.close()
        self.portage.close()
        self.pooler.close()
        self.portage.command("abort", "--keep-target", check=False)
        self.source.drop_database(self.name)
        for server, shard in zip(self.servers, self.shards):
            server.drop_database(shard)


def accepts_writes(dsn):
    """Whether a write of an ordinary session passes the gate; it is rolled back."""
    with psycopg.connect(dsn, autocommit=False) as conn:
        try:
            conn.execute("DELETE FROM public.api_requests WHERE client_id = -1")
            return True
        except psycopg.errors.OperatorIntervention:
            return False
        except psycopg.Error as error:
            assert error.sqlstate == "57P06", error
            return False
        finally:
            conn.rollback()
