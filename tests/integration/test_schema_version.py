"""A schema portage that another version has made: every command refuses it, and leaves it as it is."""
import pytest

SOURCE = """CREATE TABLE public.t (id bigint PRIMARY KEY, n int);
    INSERT INTO public.t SELECT g, g FROM generate_series(1, 300) g;"""
TARGET = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
MAPPING = "shard_by: id\ntables:\n  public.t: identical\n"
COMMANDS = (["plan"], ["run"], ["status"], ["verify"], ["cutover"], ["cutover", "--dry-run"], ["rollback"],
            ["finish"], ["abort"], ["abort", "--keep-target"])
VERSION_SQL = "SELECT obj_description('portage'::regnamespace)"


def at(carried, server, statement):
    """`server` is a shard, or None: the source."""
    return carried.source_sql(statement) if server is None else carried.shard_sql(server, statement)


def refusals(carried, database, version):
    """What each command says; verify has codes of its own, of which 2 is "not decided"."""
    for arguments in COMMANDS:
        done = carried.portage.command(*arguments, check=False)
        assert done.returncode == (2 if arguments == ["verify"] else 3), (arguments, done.stderr)
        for words in (f'schema portage in database "{database}" is of {version}, ',
                      "this pgportage works with version 1", "abort", "begin again"):
            assert words in done.stderr, (arguments, done.stderr)


@pytest.mark.parametrize("server", [None, 0, 1])
def test_another_version_is_refused_by_name(migration, server):
    carried = migration(SOURCE, TARGET, MAPPING)
    carried.run_until_ready()
    carried.portage.stop()
    database = carried.name if server is None else carried.shard_names[server]
    ours = at(carried, server, VERSION_SQL)[0][0]
    assert ours.endswith(" Version 1.")
    for comment, version in ((ours.replace("Version 1.", "Version 12."), "version 12"), (None, "no version")):
        at(carried, server, "COMMENT ON SCHEMA portage IS " + (f"'{comment}'" if comment else "NULL"))
        refusals(carried, database, version)
        journal = carried.portage.command("journal", check=False)
        assert journal.returncode == (3 if server == 0 else 0), journal.stderr
        assert at(carried, server, VERSION_SQL) == [(comment,)]
    at(carried, server, f"COMMENT ON SCHEMA portage IS '{ours}'")
    # Nothing of that has changed anything.
    carried.portage.restart()
    carried.source_sql("UPDATE public.t SET n = -n WHERE id % 3 = 0")
    carried.finish_load_and_compare()
    carried.portage.stop()
    carried.portage.finish()
    assert carried.leftovers() == []


def test_a_source_that_was_left_closed_keeps_the_mark(migration):
    carried = migration(SOURCE + "ALTER TABLE public.t REPLICA IDENTITY FULL;", TARGET, MAPPING)
    carried.run_until_ready()
    carried.portage.wait_for_log("the gates are laid")
    carried.portage.wait_for_log("way back is ready")
    carried.wait_caught_up()
    carried.portage.command("cutover", "--verify")
    carried.portage.wait_for_phase("backward", 30)
    assert carried.portage.stop() is not None
    carried.portage.finish()
    closed = carried.source_sql(VERSION_SQL)[0][0]
    assert "--open-source" in closed and closed.endswith(" Version 1.")
    assert carried.portage.phase() == "finished"
    carried.source_sql("COMMENT ON SCHEMA portage IS 'Version 2.'")
    done = carried.portage.command("finish", "--open-source", check=False)
    assert done.returncode == 3 and "is of version 2" in done.stderr
    carried.source_sql(f"COMMENT ON SCHEMA portage IS '{closed.replace(chr(39), chr(39) * 2)}'")
    carried.portage.finish("--open-source")
    assert carried.leftovers() == []
