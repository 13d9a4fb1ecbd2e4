"""The main job at its smallest: two tables, two shards, writers at work, one kill, both sides equal."""
import random
import string

import pytest

from harness.writers import TableSpec, Writers

SOURCE = """
CREATE TABLE public.transactions (
    id integer PRIMARY KEY, customer_id integer NOT NULL, amount numeric(12, 2) NOT NULL,
    status text NOT NULL, metadata text, created_at timestamptz NOT NULL DEFAULT now());
-- An update or delete must tell the shard.
ALTER TABLE public.transactions REPLICA IDENTITY FULL;
INSERT INTO public.transactions (id, customer_id, amount, status, metadata)
SELECT n, 1 + n % 500, n / 100.0, 'settled', '{"n": ' || n || '}'
  FROM generate_series(1, 20000) AS n;
CREATE TABLE public.currencies (code integer PRIMARY KEY, name text);
INSERT INTO public.currencies SELECT n, 'currency ' || n FROM generate_series(1, 150) AS n;
"""
TARGET = """
CREATE TABLE public.transactions (
    id bigint PRIMARY KEY, user_id bigint NOT NULL, amount_cents bigint NOT NULL,
    status text NOT NULL, metadata jsonb, created_at timestamptz NOT NULL);
CREATE INDEX transactions_user ON public.transactions (user_id, created_at);
CREATE TABLE public.currencies (code integer PRIMARY KEY, name text);
"""
MAPPING = """
tables:
  public.transactions:
    select: |
      id,
      customer_id            AS user_id,
      (amount * 100)::bigint AS amount_cents,
      status,
      metadata::jsonb        AS metadata,
      created_at
    shard_by: user_id
  public.currencies: {shard_by: everywhere}
"""


def word(dice, length=8):
    return "".join(dice.choices(string.ascii_letters, k=length))


TABLES = [
    TableSpec("public.transactions", "id", {
        "customer_id": lambda dice: dice.randint(1, 500),
        "amount": lambda dice: round(dice.uniform(-1e6, 1e6), 2),
        "status": lambda dice: dice.choice(["pending settlement", "settled"]),
        "metadata": lambda dice: dice.choice([None, '{"a": 1.50}', f'{{"w": "{word(dice, 30)}"}}']),
    }, keys=25000),
    TableSpec("public.currencies", "code", {"name": word}, keys=200),
]


@pytest.fixture
def skeleton(migration):
    return migration(SOURCE, TARGET, MAPPING)


def test_plan_accepts_it(skeleton):
    skeleton.portage.plan()


def test_carries_a_table_under_load_and_a_kill(skeleton):
    dice = random.Random(1)
    with Writers(skeleton.source_server.dsn(skeleton.name), TABLES, seed=1, rate=500) as writers:
        writers.wait_for_transactions(50)
        skeleton.portage.start()
        writers.wait_for_transactions(dice.randint(100, 400))
        skeleton.portage.kill9()
        writers.wait_for_transactions(50)
        skeleton.portage.restart()
        skeleton.wait_ready()
        writers.wait_for_transactions(500)
        skeleton.finish_load_and_compare(writers)
    assert skeleton.portage.stop() in (0, 5), skeleton.portage.log_tail()
    skeleton.portage.finish()
    assert skeleton.leftovers() == []
