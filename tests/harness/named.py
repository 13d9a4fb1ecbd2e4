"""A real name server: BIND on loopback, in a folder of its own, that takes signed updates."""
import base64
import contextlib
import os
import pathlib
import pwd
import secrets
import shutil
import subprocess

from .polling import wait_until
from .postgres import as_postgres, free_port, make_folder

START_TIMEOUT = 20

NAMED_CONF = """\
include "{folder}/key";
options {{
    directory "{folder}"; pid-file none; session-keyfile none; managed-keys-directory "{folder}";
    listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
    recursion no; dnssec-validation no; notify no;
}};
controls {{ }};
zone "{zone}" {{ type primary; file "{folder}/zone"; update-policy {{ grant mover zonesub any; }}; }};
"""
ZONE = """\
$TTL 60
@ IN SOA ns.{zone}. root.{zone}. 1 60 60 60 60
@ IN NS ns.{zone}.
ns IN A 127.0.0.1
{records}
"""


class Named:
    def __init__(self, records, zone="shop.example", folder=None):
        self.zone = zone
        self.folder = pathlib.Path(folder) if folder else make_folder("pgportage-named-")
        self.folder.mkdir(exist_ok=True)
        self.port = free_port()
        self.process = None
        self.write("named.conf", NAMED_CONF.format(folder=self.folder, port=self.port, zone=zone))
        self.write("zone", ZONE.format(zone=zone, records="\n".join(records)))
        self.write_key("key", base64.b64encode(secrets.token_bytes(32)).decode())
        self.write_key("wrong_key", base64.b64encode(secrets.token_bytes(32)).decode())
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)

    def write(self, name, text):
        (self.folder / name).write_text(text, encoding="utf-8")

    def write_key(self, name, secret):
        self.write(name, f'key "mover" {{ algorithm hmac-sha256; secret "{secret}"; }};\n')

    @property
    def key_file(self):
        return self.folder / "key"

    @property
    def log(self):
        return self.folder / "log"

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                as_postgres(["/usr/sbin/named", "-g", "-n", "1", "-c", self.folder / "named.conf"]),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/")
        wait_until(self.answers, START_TIMEOUT, f"named on port {self.port} to answer",
                   explain=lambda: self.log.read_text(encoding="utf-8"))
        return self

    def answers(self):
        assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
        return self.lookup("ns", "A") == ["127.0.0.1"]

    def lookup(self, name, kind):
        done = subprocess.run(["dig", "@127.0.0.1", "-p", str(self.port), "+short", "+time=1",
                               "+tries=1", f"{name}.{self.zone}", kind],
                              capture_output=True, text=True, check=False)
        return sorted(done.stdout.split()) if done.returncode == 0 else None

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)
