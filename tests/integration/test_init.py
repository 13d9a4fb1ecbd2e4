"""`init` proposes a file that `plan` accepts where the sides match, and marks what must be decided."""


def test_init_proposes_what_matches_and_marks_the_rest(migration):
    source = """CREATE TABLE public.same (id bigint PRIMARY KEY, "No te" text);
        CREATE TABLE public.wider (id int PRIMARY KEY, gone text, body text);
        CREATE TABLE public.only_here (id int PRIMARY KEY);"""
    target = """CREATE TABLE public.same (id bigint PRIMARY KEY, "No te" text);
        CREATE TABLE public.wider (id bigint PRIMARY KEY, body jsonb, extra int);
        CREATE TABLE public.only_there (id int PRIMARY KEY);"""
    carried = migration(source, target, "tables: {}\n", shards=1)
    carried.shard_sql(0, f"SET ROLE portage; {target}")
    proposal = carried.folder / "proposed.yaml"
    carried.portage.config = proposal
    arguments = ["init", "--source", carried.source_server.uri(carried.name, "portage"), "--shard",
                 carried.shard_uris("portage")[0]]
    shown = carried.portage.command("--dry-run", *arguments).stdout
    assert not proposal.exists()
    carried.portage.command(*arguments)
    text = proposal.read_text(encoding="utf-8")
    assert text == shown
    assert '"public.same": identical' in text
    assert '"id"::bigint AS "id", -- DECIDE: it is integer at the source' in text
    assert "DECIDE: column gone of the source stays behind" in text
    assert 'no table of the source has this name: "public.only_there"' in text
    assert "nothing reads public.only_here" in text
    # It is a file that plan reads, and what was proposed stands up to both servers.
    carried.portage.plan()
    assert carried.portage.command(*arguments, check=False).returncode == 3  # never over a file
