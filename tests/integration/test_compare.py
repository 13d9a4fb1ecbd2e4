"""The comparison that ends every test must itself be right (O15): each kind of damage is found."""
import pytest

SOURCE = """
CREATE TABLE public.payments (
    id integer PRIMARY KEY, customer_id integer NOT NULL, amount numeric(12, 2), note text,
    made_at timestamptz, body bytea);
INSERT INTO public.payments
SELECT n, n % 97, CASE WHEN n % 10 > 0 THEN n / 100.0 END,
       CASE n % 4 WHEN 0 THEN '' WHEN 1 THEN E'tab\\t line\\n \\\\. \\\\N é' WHEN 2 THEN 'plain' END,
       timestamptz '2024-01-01 00:00+02' + n * interval '1 minute',
       decode(repeat('00ff', n), 'hex')
  FROM generate_series(1, 3000) AS n;
CREATE TABLE public.countries (code text PRIMARY KEY, name text);
INSERT INTO public.countries VALUES ('at', 'Austria'), ('', NULL), ('be', 'België');
CREATE TABLE public.emails (customer_id integer, email text, PRIMARY KEY (customer_id, email));
CREATE TABLE public.phones (customer_id integer, phone text, PRIMARY KEY (customer_id, phone));
INSERT INTO public.emails SELECT n, 'a' || n FROM generate_series(1, 100) AS n;
INSERT INTO public.phones SELECT n, '+' || n FROM generate_series(1, 100) AS n;
CREATE TABLE public.keyless (customer_id integer, word varchar(20));
INSERT INTO public.keyless SELECT n % 10, 'w' FROM generate_series(1, 100) AS n;
"""
TARGET = """
CREATE TABLE public.payments (
    id bigint NOT NULL, user_id bigint NOT NULL, amount_cents bigint, note text,
    made_at timestamptz NOT NULL, body bytea, big boolean GENERATED ALWAYS AS (amount_cents > 1000) STORED,
    PRIMARY KEY (id, made_at));
CREATE TABLE public.countries (code text PRIMARY KEY, name text);
CREATE TABLE public.contacts (user_id bigint, kind text, value text, PRIMARY KEY (user_id, kind, value));
CREATE TABLE public.keyless (customer_id integer, word varchar(20));
"""
MAPPING = """
shard_by: [user_id, customer_id]
tables:
  public.payments:
    select: |
      id, customer_id AS user_id, (amount * 100)::bigint AS amount_cents, note, made_at, body
    where: amount IS NOT NULL
  public.countries: {shard_by: everywhere}
  public.contacts:
    - from: public.emails
      select: customer_id AS user_id, 'e-mail'::text AS kind, email AS value
    - from: public.phones
      select: customer_id AS user_id, 'phone'::text AS kind, phone AS value
  "public.*": identical
"""
# The source's rows as the mapping makes them, by COPY from the source: the test moves them itself.
MOVES = {
    "public.payments (id, user_id, amount_cents, note, made_at, body)":
        "SELECT id, customer_id, (amount * 100)::bigint, note, made_at, body FROM public.payments"
        " WHERE amount IS NOT NULL AND satisfies_hash_partition('public.by_customer'::regclass,"
        " 2, {shard}, customer_id::bigint)",
    "public.countries": "SELECT * FROM public.countries",
    "public.contacts":
        "SELECT * FROM (SELECT customer_id, 'e-mail', email FROM public.emails UNION ALL"
        " SELECT customer_id, 'phone', phone FROM public.phones) AS both_kinds"
        " WHERE satisfies_hash_partition('public.by_customer'::regclass,"
        " 2, {shard}, customer_id::bigint)",
    "public.keyless": "SELECT * FROM public.keyless WHERE satisfies_hash_partition("
                      "'public.by_customer'::regclass, 2, {shard}, customer_id::bigint)",
}


@pytest.fixture
def moved(migration):
    """Both sides, equal, without any help of pgportage."""
    both = migration(SOURCE, TARGET, MAPPING)
    both.source_sql("CREATE TABLE public.by_customer (k bigint) PARTITION BY HASH (k)")
    for shard, name in enumerate(both.shard_names):
        both.shard_sql(shard, TARGET)
        with (both.source_server.connect(both.name) as source,
              both.shard_servers[shard].connect(name) as target):
            for table, select in MOVES.items():
                with (source.cursor().copy(f"COPY ({select.format(shard=shard)}) TO STDOUT") as out,
                      target.cursor().copy(f"COPY {table} FROM STDIN") as into):
                    for rows in out:
                        into.write(rows)
    return both


def damaged(moved, shard, statement):
    moved.shard_sql(shard, statement)
    return moved.compare()


def test_equal_sides_are_equal(moved):
    comparison = moved.compare()
    assert comparison.differences == 0, str(comparison)
    assert {table.table: table.rows_source for table in comparison.tables} == {
        "public.payments": 2700, "public.countries": 3, "public.contacts": 200,
        "public.keyless": 100}


@pytest.mark.parametrize("statement, counts", [
    ("UPDATE public.payments SET body = set_byte(body, 4000, 1) WHERE id = (SELECT max(id)"
     " FROM public.payments)", {"different": 1}),
    ("UPDATE public.payments SET amount_cents = NULL WHERE id = (SELECT min(id)"
     " FROM public.payments)", {"different": 1}),
    ("UPDATE public.payments SET note = '' WHERE id = (SELECT min(id)"
     " FROM public.payments WHERE note IS NULL)", {"different": 1}),
    ("UPDATE public.countries SET name = '' WHERE code = ''", {"different": 1}),
    ("DELETE FROM public.countries WHERE code = ''", {"missing": 1}),
    ("DELETE FROM public.payments WHERE id IN (SELECT id FROM public.payments ORDER BY id LIMIT 3)",
     {"missing": 3}),
    ("INSERT INTO public.payments SELECT 100000, user_id, 1, 'x', made_at FROM public.payments"
     " LIMIT 1", {"extra": 1}),
    # One id in two partitions (R15).
    ("INSERT INTO public.payments SELECT id, user_id, amount_cents, note, made_at + '1 year', body"
     " FROM public.payments LIMIT 1", {"doubled": 1}),
    ("INSERT INTO public.keyless SELECT * FROM public.keyless LIMIT 1", {"doubled": 1}),
    ("DELETE FROM public.keyless WHERE ctid = (SELECT min(ctid) FROM public.keyless)",
     {"missing": 1}),
    ("DELETE FROM public.contacts WHERE kind = 'phone' AND user_id = (SELECT min(user_id)"
     " FROM public.contacts)", {"missing": 1}),
])
def test_damage_is_found(moved, statement, counts):
    comparison = damaged(moved, 1, statement)
    assert comparison.counts == counts, str(comparison)


def test_row_on_the_wrong_shard_is_found(moved):
    row = moved.shard_sql(0, "DELETE FROM public.contacts WHERE (user_id, kind) ="
                             " (SELECT user_id, kind FROM public.contacts LIMIT 1) RETURNING *")[0]
    moved.shard_sql(1, "INSERT INTO public.contacts VALUES (%s, %s, %s)", row)
    comparison = moved.compare()
    assert comparison.counts == {"wrong shard": 1}, str(comparison)


def test_row_on_both_shards_is_found(moved):
    row = moved.shard_sql(0, "SELECT * FROM public.contacts LIMIT 1")[0]
    moved.shard_sql(1, "INSERT INTO public.contacts VALUES (%s, %s, %s)", row)
    comparison = moved.compare()
    assert comparison.counts == {"doubled": 1, "wrong shard": 1}, str(comparison)
