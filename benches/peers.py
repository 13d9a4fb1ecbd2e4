"""The tools that ours is compared with, used as their manuals say."""
import shutil
import subprocess

PEER = "peer"  # the database that a peer fills
TIMEOUT = 1800


def fresh_database(server, sql=""):
    server.drop_database(PEER)
    server.create_database(PEER)
    if sql:
        server.sql(sql, database=PEER)


def psql_pipe(source_dsn, target_dsn, select, table):
    """psql | psql with binary COPY."""
    copy_out = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", source_dsn, "-c",
                f"COPY ({select}) TO STDOUT (FORMAT binary)"]
    copy_in = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", target_dsn, "-c",
               f"COPY {table} FROM STDIN (FORMAT binary)"]
    with subprocess.Popen(copy_out, stdout=subprocess.PIPE) as reader:
        done = subprocess.run(copy_in, stdin=reader.stdout, check=False, timeout=TIMEOUT)
        reader.stdout.close()
    assert done.returncode == 0 and reader.returncode == 0, "psql | psql failed"


def pgcopydb(folder, source_uri, target_uri, *command):
    """pgcopydb with as many jobs as the machine has cores; it keeps a folder for its state."""
    work = folder / "pgcopydb.state"
    shutil.rmtree(work, ignore_errors=True)
    done = subprocess.run(
        ["pgcopydb", *command, "--source", source_uri, "--target", target_uri, "--dir", work,
         "--table-jobs", "2", "--index-jobs", "2"],
        capture_output=True, text=True, errors="replace", check=False, timeout=TIMEOUT)
    assert done.returncode == 0, f"pgcopydb {' '.join(command)}\n{done.stdout}{done.stderr}"


class Subscription:
    """A native subscription to one table. It is made while it is disabled: its slot keeps what is
    written until it is enabled."""

    def __init__(self, source, source_database, target, table):
        self.source, self.source_database, self.target = source, source_database, target
        source.sql(f"CREATE PUBLICATION {PEER} FOR TABLE {table}", database=source_database)
        target.sql(f"CREATE SUBSCRIPTION {PEER} CONNECTION '{source.dsn(source_database)}'"
                   f" PUBLICATION {PEER}"
                   " WITH (copy_data = false, enabled = false, create_slot = true)", database=PEER)

    def enable(self):
        self.target.sql(f"ALTER SUBSCRIPTION {PEER} ENABLE", database=PEER)

    def drop(self):
        self.target.sql(f"ALTER SUBSCRIPTION {PEER} DISABLE", database=PEER)
        self.target.sql(f"DROP SUBSCRIPTION {PEER}", database=PEER)
        self.source.sql(f"DROP PUBLICATION {PEER}", database=self.source_database)
