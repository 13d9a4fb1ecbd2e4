"""Servers for a session, databases for a test."""
import itertools
import os
import pathlib
import re
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from harness.migration import Migration  # noqa: E402
from harness.postgres import Postgres, make_folder  # noqa: E402

SOURCE_VERSION = int(os.environ.get("PGPORTAGE_SOURCE", "12"))
TARGET_VERSION = int(os.environ.get("PGPORTAGE_TARGET", "15"))
numbers = itertools.count(1)


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="also the tests marked full")


def pytest_configure(config):
    config.addinivalue_line("markers", "full: takes long; only run with --full")


def pytest_collection_modifyitems(config, items):
    """Left out, not skipped: a skipped test is a failed one (./test). With them, they begin first: what
    takes minutes must not be what one worker is left with at the end."""
    if config.getoption("--full"):
        items.sort(key=lambda item: item.get_closest_marker("full") is None)
        return
    later = [item for item in items if item.get_closest_marker("full")]
    if later:
        config.hook.pytest_deselected(items=later)
        items[:] = [item for item in items if item not in later]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    setattr(item, f"report_{report.when}", report)
    if report.when == "call" and report.failed:
        for migration in getattr(item, "migrations", []):
            for portage in migration.instances:
                report.sections.append((f"pgportage {portage.name}", portage.log_tail(80)))


@pytest.fixture(scope="session")
def servers():
    """Starts servers on demand, one of each (version, name); the session ends them all."""
    started = {}

    def server(version, name="", settings=None, fsync=False):
        key = (version, name)
        if key not in started:
            started[key] = Postgres(version, settings=settings, fsync=fsync,
                                    name=f"pg{version}{name}")
            started[key].start()
        return started[key]
    yield server
    for postgres in started.values():
        postgres.close()


@pytest.fixture(scope="session")
def source_server(servers):
    return servers(SOURCE_VERSION, "source")


@pytest.fixture(scope="session")
def target_server(servers):
    return servers(TARGET_VERSION, "target")


@pytest.fixture
def postgres():
    """Servers of one test alone, for what shared ones must not suffer (kills, settings)."""
    started = []

    def start(version, **options):
        started.append(Postgres(version, **options))
        return started[-1].start()
    yield start
    for server in started:
        server.close()


@pytest.fixture
def folder(request):
    """A folder of the test; what failed stays to be looked at."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:60]
    path = make_folder(f"pgportage-{name}-")
    yield path
    report = getattr(request.node, "report_call", None)
    if report is not None and report.failed:
        print(f"kept: {path}")
    else:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def migration(request, folder, source_server, target_server):
    """Makes Migrations: migration(source_sql, target_sql, mapping_yaml, shards=2)."""
    made = request.node.migrations = []

    def make(source_sql, target_sql, mapping_yaml, shards=2, source=None, targets=None):
        name = f"t{os.getpid()}_{next(numbers)}"
        made.append(Migration(folder, source or source_server, targets or [target_server],
                              source_sql, target_sql, mapping_yaml, shards, name))
        return made[-1]
    yield make
    for one in made:
        one.close()
