"""Hard cases of values (D), each by its id."""
import pytest

from harness.carry import carry, failure, refusal
from harness.writers import TableSpec

ONE_KEY = "shard_by: id\ntables:\n  \"public.*\": identical\n"


def test_D1_extreme_values(migration):
    ddl = """CREATE TABLE public.extremes (id bigint PRIMARY KEY, d date, ts timestamp,
        tz timestamptz, n numeric, f float8, i interval, r real);"""
    rows = """
        ({id} + 1, 'infinity', '-infinity', 'infinity', 'NaN', 'NaN', '178000000 years', 'NaN'),
        ({id} + 2, '-infinity', '4713-01-01 00:00:00 BC', '294276-12-31 23:59:59.999999+00',
         repeat('9', 131072)::numeric, 'Infinity', '-178000000 years', '-Infinity'),
        ({id} + 3, '4713-01-01 BC', '0001-01-01', '4713-01-01 00:00:00+00 BC', -0.000001,
         '-Infinity', '1 year -1 month 3 days -04:05:06.789', '-0')"""
    insert = "INSERT INTO public.extremes VALUES " + rows
    carried = migration(ddl + insert.format(id=0) + ";", ddl, ONE_KEY)
    carry(carried, during=lambda: carried.source_sql(insert.format(id=100)))


def test_D1_extreme_values_many_in_a_statement(migration):
    """As the elements of arrays, which travel in binary where their types let them."""
    ddl = """CREATE TABLE public.t (id bigint PRIMARY KEY, i2 int2, i4 int4, i8 int8, b bool, d date,
        ts timestamp, tz timestamptz, u uuid, t text, v varchar(20), c char(5), j json, jb jsonb,
        n numeric, f float8, y bytea, iv interval);"""
    rows = """INSERT INTO public.t SELECT {id} + 4 * g + k, i2, i4, i8, b, d, ts, tz, u, t, v, c, j, j::jsonb,
            n, f, y, iv
        FROM generate_series(0, 49) g, (VALUES
        (0, '-32768'::int2, '-2147483648'::int4, '-9223372036854775808'::int8, true, date '4713-01-01 BC',
         timestamp '4713-01-01 BC 00:00:00', timestamptz '4713-01-01 BC 00:00:00+00',
         uuid '00000000-0000-0000-0000-000000000000', '', '', '', json '{{"a": "\\"b,\\\\"}}',
         'NaN'::numeric, '-Infinity'::float8, bytea '\\x00', interval '-178000000 years'),
        (1, 32767, 2147483647, 9223372036854775807, false, '5874897-12-31', '294276-12-31 23:59:59.999999',
         '294276-12-31 23:59:59.999999+00', 'ffffffff-ffff-ffff-ffff-ffffffffffff', E'\\n{{}}",\\\\', 'NULL',
         'a b', '[1e400, null]', -1e-1000, 'NaN', '\\x5c22', '1 mon -1 day 00:00:00.000001'),
        (2, 0, 0, 0, NULL, '-infinity', 'infinity', '-infinity', NULL, NULL, '€𝄞', NULL, 'null', 1e1000,
         5e-324, '', '0'),
        (3, NULL, NULL, NULL, true, 'infinity', '0001-01-01 00:00:00.1 BC', '2024-02-29 23:59:59.9+05:30', NULL,
         'NULL', NULL, 'é', NULL, NULL, NULL, NULL, NULL)) AS r
        (k, i2, i4, i8, b, d, ts, tz, u, t, v, c, j, n, f, y, iv)"""
    carried = migration(ddl + rows.format(id=0) + ";", ddl, ONE_KEY)

    def write():
        carried.source_sql(rows.format(id=1000))
        carried.source_sql("UPDATE public.t SET i4 = -1 - i4, t = t || '\"', b = NOT b, n = -n WHERE id > 1000")
    carry(carried, during=write)


def test_D3_floats(migration):
    ddl = "CREATE TABLE public.floats (id bigint PRIMARY KEY, f float8, r float4);"
    insert = """INSERT INTO public.floats VALUES ({id} + 1, -216237.00000035969, 1.1),
        ({id} + 2, 1e-300, 1e-37), ({id} + 3, '-0', '-0'), ({id} + 4, 0.1 + 0.2, 16777217)"""
    carried = migration(ddl + insert.format(id=0) + ";", ddl, ONE_KEY)
    carry(carried, during=lambda: carried.source_sql(insert.format(id=100)))


def test_D4_settings_of_the_role_do_not_leak(migration):
    ddl = """CREATE TABLE public.leaky (id bigint PRIMARY KEY, d date, tz timestamptz, i interval,
        f float8, b bytea, c text);"""
    insert = """INSERT INTO public.leaky SELECT {id} + g, '2024-02-03', '2024-02-03 04:05:06+02',
        '1 mon 2 days 03:00', 0.1::float8 + g, '\\xdeadbeef', 'é' FROM generate_series(1, 50) g"""
    carried = migration(ddl + insert.format(id=0) + ";", ddl, ONE_KEY)
    settings = {"datestyle": "SQL, DMY", "intervalstyle": "sql_standard",
                "timezone": "Asia/Kathmandu", "extra_float_digits": "-5",
                "bytea_output": "escape", "client_encoding": "LATIN1"}
    for name, value in settings.items():
        carried.source_sql(f"ALTER DATABASE {carried.name} SET {name} = '{value}'")
        for shard, database in enumerate(carried.shard_names):
            carried.shard_sql(shard, f"ALTER DATABASE {database} SET {name} = '{value}'")
    carry(carried, during=lambda: carried.source_sql(insert.format(id=1000)))


JSON_SOURCE = """CREATE TABLE public.documents (id bigint PRIMARY KEY, body text);
    INSERT INTO public.documents SELECT g, '{"n": ' || g || '}' FROM generate_series(1, 20000) g;
    INSERT INTO public.documents SELECT 100000 + g, repeat('x', 1000) FROM generate_series(1, 1) g
     WHERE false;"""
JSON_TARGET = "CREATE TABLE public.documents (id bigint PRIMARY KEY, body jsonb);"
JSON_MAPPING = """
    shard_by: id
    tables:
      public.documents: {select: "id, body::jsonb AS body"}
"""


@pytest.mark.parametrize("value", ['{"a": "\\u0000"}', "{not json"])
def test_D6_what_is_no_jsonb_stops_the_copy_and_is_named(migration, value):
    carried = migration(JSON_SOURCE, JSON_TARGET, JSON_MAPPING)
    # Above the size up to which a table is one chunk, so that the row is found by bisecting.
    carried.source_sql("INSERT INTO public.documents SELECT 200000 + g, to_json(repeat('y', 400))"
                       " FROM generate_series(1, 20000) g")
    carried.source_sql("UPDATE public.documents SET body = %s WHERE id = 777", [value])
    carried.source_sql("ANALYZE public.documents")
    code, log = failure(carried)
    assert code == 4
    assert "id = 777" in log and "public.documents" in log
    carried.source_sql("UPDATE public.documents SET body = '{}' WHERE id = 777")
    carried.portage.start()
    carried.wait_ready()
    carried.finish_load_and_compare()


def test_D6_what_is_no_jsonb_stops_the_stream_and_is_named(migration):
    carried = migration(JSON_SOURCE, JSON_TARGET, JSON_MAPPING)
    carried.run_until_ready()
    carried.source_sql("UPDATE public.documents SET body = '{broken' WHERE id = 5")
    assert carried.portage.wait(60) == 4
    log = carried.portage.logs()
    assert "public.documents" in log and "json" in log


def test_D6_one_change_of_many_in_a_statement_is_found(migration):
    carried = migration(JSON_SOURCE, JSON_TARGET, JSON_MAPPING)
    carried.run_until_ready()
    carried.source_sql("INSERT INTO public.documents SELECT 300000 + g, CASE WHEN g = 250 THEN '{'"
                       " ELSE '{}' END FROM generate_series(1, 500) g")
    assert carried.portage.wait(60) == 4
    log = carried.portage.logs()
    assert "applying one by one" in log and "INSERT of public.documents with id=300250" in log


def test_a_row_that_somebody_took_from_the_target_is_a_conflict_and_is_named(migration):
    ddl = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
    carried = migration(ddl + "INSERT INTO public.t SELECT g, 0 FROM generate_series(1, 500) g;",
                        ddl, ONE_KEY)
    carried.run_until_ready()
    for shard in (0, 1):
        carried.shard_sql(shard, "DELETE FROM public.t WHERE id = 333")
    carried.source_sql("UPDATE public.t SET n = id")
    assert carried.portage.wait(60) not in (0, None)
    log = carried.portage.logs()
    assert "conflict" in log and "UPDATE of public.t with id=333" in log


def test_D11_names_and_values_that_need_quoting(migration):
    ddl = """CREATE SCHEMA "Sch ema";
        CREATE TABLE "Sch ema"."sel""ect'é" ("I d" bigint PRIMARY KEY, "select" text,
            "quo""te" text, "ünï" text);"""
    insert = r"""INSERT INTO "Sch ema"."sel""ect'é" VALUES ({id} + 1, '\.', '\N', E'\r\n\t\\'),
        ({id} + 2, E'a\tb', '''', '"'), ({id} + 3, '', NULL, '€𝄞'), ({id} + 4, '\\N', '\x', 'NULL')"""
    carried = migration(ddl + insert.format(id=0) + ";", ddl, """
        tables:
          "Sch ema.*": {shard_by: "I d"}
    """)
    carry(carried, during=lambda: carried.source_sql(insert.format(id=100)))


def test_D14_types_of_the_users_own(migration):
    ddl = """CREATE TYPE public.mood AS ENUM ('sad', 'ok', 'happy');
        CREATE DOMAIN public.cents AS bigint CHECK (VALUE >= 0);
        CREATE TYPE public.pair AS (a int, b text);
        CREATE TABLE public.odd (id bigint PRIMARY KEY, m public.mood, c public.cents,
            p public.pair, ms public.mood[], r int4range, t text[], b box, q text);"""
    # Boxes have another sign between the elements of an array than all others.
    insert = """INSERT INTO public.odd SELECT {id} + g, 'happy', g, ROW(g, 'x,"y')::public.pair,
        '{{sad,ok}}', '[1,5)', '{{a,NULL,"b c"}}', box(point(g, 1), point(2, 3)),
        nullif('{{"NULL",\\' || g % 3, '{{"NULL",\\0') FROM generate_series(1, 100) g"""
    update = """UPDATE public.odd SET m = 'sad', c = c + 1, p = NULL, ms = '{{}}', r = 'empty',
        t = ARRAY[q, NULL, ''], b = NULL WHERE id > {id} AND id % 2 = 0"""
    # The OIDs of the types differ between the sides.
    target = "CREATE TYPE public.other AS ENUM ('a', 'b', 'c'); DROP TYPE public.other;" + ddl
    carried = migration(ddl + insert.format(id=0) + ";", target, ONE_KEY)

    def write():
        carried.source_sql(insert.format(id=1000))
        carried.source_sql(update.format(id=1000))
    carry(carried, during=write)


def test_D14_many_rows_that_are_too_large_for_one_statement(migration):
    ddl = "CREATE TABLE public.large (id bigint PRIMARY KEY, t text NOT NULL);"
    insert = """INSERT INTO public.large SELECT g, repeat('ab', (100 * 2 ^ (g % 15))::int)
        FROM generate_series({}, {}) g"""
    carried = migration(ddl + insert.format(1, 100) + ";", ddl, ONE_KEY)

    def write():
        carried.source_sql(insert.format(1001, 1300))
        carried.source_sql("UPDATE public.large SET t = t || '\\\\\"' WHERE id > 1000")
    carry(carried, during=write)


def test_D17_a_key_under_another_collation(migration):
    ddl = """CREATE TABLE public.words (word text COLLATE "{}" PRIMARY KEY, n int NOT NULL);"""
    insert = """INSERT INTO public.words SELECT md5(g::text), g FROM generate_series({}, {}) g"""
    carried = migration(ddl.format("C") + insert.format(1, 20000) + ";",
                        ddl.format("ucs_basic"),
                        "tables:\n  public.words: {shard_by: word}\n")
    carry(carried, during=lambda: carried.source_sql(insert.format(20001, 20100)))


def test_D18_a_volatile_expression_is_refused(migration):
    carried = migration("CREATE TABLE public.t (id bigint PRIMARY KEY);",
                        "CREATE TABLE public.t (id bigint PRIMARY KEY, r float8);",
                        "tables:\n  public.t: {select: 'id, random() AS r', shard_by: id}\n")
    found = refusal(carried)
    assert "random()" in found["volatile-expression"]["reason"]
    assert found["volatile-expression"]["line"] > 0


def test_D18_a_value_that_is_too_long_is_not_cut(migration):
    carried = migration(
        "CREATE TABLE public.t (id bigint PRIMARY KEY, c text);"
        "INSERT INTO public.t VALUES (1, 'abc');",
        "CREATE TABLE public.t (id bigint PRIMARY KEY, c varchar(3));", ONE_KEY)
    carried.run_until_ready()
    carried.source_sql("INSERT INTO public.t VALUES (2, 'abcd')")
    assert carried.portage.wait(60) == 4
    assert "value too long" in carried.portage.logs()


def test_D19_an_enum_is_no_shard_key(migration):
    ddl = """CREATE TYPE public.mood AS ENUM ('sad', 'ok');
        CREATE TABLE public.t (id bigint PRIMARY KEY, m public.mood NOT NULL);
        ALTER TABLE public.t REPLICA IDENTITY FULL;"""
    carried = migration(ddl, ddl, "tables:\n  public.t: {shard_by: m}\n")
    assert "shard-key-type" in refusal(carried)


# A value of each type that can be a shard key, from a number.
SHARD_KEYS = {
    "int2": "(g % 32000)::int2", "int4": "g::int4", "int8": "g * 1000003::int8",
    "text": "md5(g::text)", "varchar": "md5(g::text)::varchar", "bpchar": "(g || ' ')::bpchar(12)",
    "uuid": "md5(g::text)::uuid", "numeric": "(g::numeric / 7)", "date": "date '1970-01-01' + g",
    "timestamp": "timestamp '2000-01-01' + g * interval '7.000001 s'",
    "timestamptz": "timestamptz '2000-01-01' + g * interval '7.000001 s'",
    "bytea": "decode(md5(g::text), 'hex')", "bool": "g % 2 = 0",
}


@pytest.mark.parametrize("key_type", SHARD_KEYS)
def test_D19_rows_are_where_hash_partitioning_puts_them(migration, key_type, request):
    rows = 1000000 if request.config.getoption("--full") else 20000
    ddl = f"CREATE TABLE public.t (id bigint PRIMARY KEY, k {key_type} NOT NULL);"
    carried = migration(
        ddl + f"INSERT INTO public.t SELECT g, {SHARD_KEYS[key_type]}"
              f" FROM generate_series(1, {rows}) g;", ddl,
        "tables:\n  public.t: {shard_by: k, shard_key: immutable}\n", shards=3)
    carried.run_until_ready()
    carried.source_sql(f"INSERT INTO public.t SELECT g, {SHARD_KEYS[key_type]}"
                       f" FROM generate_series({rows + 1}, {rows + 1000}) g")
    carried.wait_caught_up()
    total = 0
    for shard in range(3):
        # The servers themselves say where each row belongs.
        carried.shard_sql(shard, f"CREATE TABLE public.p (k {key_type}) PARTITION BY HASH (k)")
        wrong, here = carried.shard_sql(
            shard, f"SELECT count(*) FILTER (WHERE NOT satisfies_hash_partition("
                   f"'public.p'::regclass, 3, {shard}, k)), count(*) FROM public.t")[0]
        assert wrong == 0
        total += here
    assert total == rows + 1000


VALUE_TABLE = TableSpec("public.mixed", "id", {
    "t": lambda dice: "".join(dice.choices("ab\\\n\t'\"é€", k=dice.randint(0, 20))),
    "n": lambda dice: dice.choice([None, dice.uniform(-1e9, 1e9)]),
})


def test_D11_random_text_under_load(migration):
    ddl = "CREATE TABLE public.mixed (id bigint PRIMARY KEY, t text, n float8);"
    carry(migration(ddl, ddl, ONE_KEY), [VALUE_TABLE], seed=7)
