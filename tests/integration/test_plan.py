"""What `plan` tells of each table."""
import json

SOURCE = """CREATE TABLE public.customers (id int PRIMARY KEY, full_name text, code char(5));
    CREATE TABLE public.payments (id bigint PRIMARY KEY, customer_id int NOT NULL,
        amount numeric(12,2), status text, metadata text, cents int, grp int);
    CREATE SCHEMA "Shop"; CREATE TABLE "Shop"."Orders" (id bigint PRIMARY KEY);"""
TARGET = """CREATE TABLE public.users (id bigint PRIMARY KEY, display_name text, code char(5),
        CONSTRAINT one_name UNIQUE (display_name));
    CREATE TABLE public.payments (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES public.users,
        amount_cents bigint, status varchar(9), metadata jsonb, euros int, both_of_them text,
        origin text);
    CREATE INDEX payments_status ON public.payments (status);
    CREATE SCHEMA "Shop"; CREATE TABLE "Shop"."Orders" (id bigint PRIMARY KEY);"""
MAPPING = """
    tables:
      public.users: {from: public.customers, select: "id, full_name AS display_name, code"}
      public.payments:
        select: |
          id, customer_id AS user_id,
          (amount * 100)::bigint AS amount_cents,
          status, metadata::jsonb AS metadata,
          cents / 100 AS euros,
          status || metadata AS both_of_them, 'old' AS origin
      '"Shop".*': identical
"""


def test_plan_shows_what_is_lost_and_what_waits(migration):
    carried = migration(SOURCE, TARGET, MAPPING, shards=1)
    plan = json.loads(carried.portage.command("--json", "plan").stdout)
    tables = {table["name"]: table for table in plan["tables"]}
    assert set(tables) == {"public.users", "public.payments", "Shop.Orders"}
    assert {column["target"]: (column["lossless"], column["inverse_is"])
            for column in tables["public.payments"]["columns"]} == {
        "id": (True, "derived"), "user_id": (True, "derived"), "amount_cents": (True, "derived"),
        "status": (False, "derived"), "metadata": (False, "derived"), "euros": (False, "missing"),
        "both_of_them": (False, "missing"), "origin": (True, "none needed")}
    assert [(item["kind"], item["name"]) for item in tables["public.payments"]["deferred"]] == [
        ("foreign key", "payments_user_id_fkey"), ("index", "payments_status")]
    assert tables["public.users"]["deferred"] == [
        {"kind": "unique", "name": "one_name", "definition": "UNIQUE (display_name)"}]

    shown = carried.portage.command("plan").stdout.splitlines()
    columns = [line for line in shown if line.endswith((" lossless", " lossy"))]
    assert len(columns) == 3 + 8 + 1
    assert "    foreign key  payments_user_id_fkey: FOREIGN KEY (user_id) REFERENCES public.users(id)" in shown


def test_plan_tells_the_same_once_begun(migration):
    carried = migration(SOURCE, TARGET, MAPPING, shards=1)
    before = json.loads(carried.portage.command("--json", "plan").stdout)
    carried.run_until_ready()
    after = json.loads(carried.portage.command("--json", "plan").stdout)
    for table_before, table_after in zip(before["tables"], after["tables"]):
        assert table_before["columns"] == table_after["columns"]
        assert table_before["deferred"] == table_after["deferred"]
        assert table_before["one_lane"] == table_after["one_lane"]
