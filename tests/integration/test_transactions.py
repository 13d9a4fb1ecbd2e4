"""Hard cases of transactions and the stream (T), each by its id."""
import time

import psycopg
import pytest

from harness.carry import carry
from harness.migration import lsn
from harness.polling import wait_until
from harness.writers import TableSpec, Writers

DDL = "CREATE TABLE public.t (id bigint PRIMARY KEY, grp int NOT NULL, n int);"
ROWS = "INSERT INTO public.t SELECT g, g % 50, g FROM generate_series(1, 3000) g;"
BY_ID = "shard_by: id\ntables:\n  \"public.*\": identical\n"
TABLE = TableSpec("public.t", "id", {"grp": lambda dice: dice.randint(1, 50),
                                     "n": lambda dice: dice.randint(1, 999)}, keys=4000)


@pytest.fixture
def plain(migration):
    return migration(DDL + ROWS, DDL, BY_ID)


def confirmed(carried):
    return carried.source_sql("SELECT confirmed_flush_lsn FROM pg_replication_slots"
                              " WHERE database = current_database()")[0][0]


def test_T1_transactions_commit_in_another_order_than_they_began(plain):
    def interleave():
        dsn = plain.source_server.dsn(plain.name)
        with psycopg.connect(dsn) as first, psycopg.connect(dsn) as second:
            for key in range(1, 100):
                first.execute("UPDATE public.t SET n = 1 WHERE id = %s", [key])
                second.execute("UPDATE public.t SET n = 2 WHERE id = %s", [key + 1000])
                second.commit()
                second.execute("UPDATE public.t SET grp = 7 WHERE id = %s", [key + 2000])
                first.commit()
                second.execute("UPDATE public.t SET n = 3 WHERE id = %s", [key])
                second.commit()
    carry(plain, [TABLE], seed=1, during=interleave)


def test_T2_what_is_confirmed_is_durable(plain):
    with Writers(plain.source_server.dsn(plain.name), [TABLE], seed=2, rate=500) as writers:
        plain.run_until_ready()
        for _ in range(40):
            # The confirmed position first: progress only grows afterwards.
            position = confirmed(plain)
            assert all(lsn(progress) >= lsn(position) for progress in plain.progress())
            writers.wait_for_transactions(10)
        plain.finish_load_and_compare(writers)


def test_T3_wal_of_others_does_not_pile_up(plain):
    plain.run_until_ready()
    plain.source_sql("CREATE TABLE public.other (n int)")
    for _ in range(3):
        plain.source_sql("INSERT INTO public.other SELECT g FROM generate_series(1, 50000) g")
        position = plain.source_position()
        wait_until(lambda position=position: lsn(confirmed(plain)) >= lsn(position), 30,
                   f"the slot to pass {position}", explain=plain.portage.explain)
    plain.assert_equal()


def test_T4_a_large_transaction(plain, request):
    rows = 10000000 if request.config.getoption("--full") else 500000
    plain.run_until_ready()
    plain.source_sql("INSERT INTO public.t SELECT g, g % 50, g"
                     f" FROM generate_series(10000, {10000 + rows}) g")
    wait = 3600 if rows > 1000000 else 300
    plain.wait_caught_up(wait)
    assert plain.portage.peak_rss < 256 * 2**20
    plain.assert_equal()


def test_T5_apply_is_slower_than_the_senders_patience(postgres, migration):
    from conftest import SOURCE_VERSION
    source = postgres(SOURCE_VERSION, settings={"wal_sender_timeout": "2s"})
    carried = migration(DDL + ROWS, DDL, BY_ID, source=source)
    try:
        carried.run_until_ready()
        target = carried.shard_servers[0].dsn(carried.shard_names[0])
        with psycopg.connect(target) as blocker:
            blocker.execute("LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
            carried.source_sql("UPDATE public.t SET n = n + 1")
            until = time.monotonic() + 6
            while time.monotonic() < until:
                carried.portage.check_running()
                time.sleep(0.2)
        carried.finish_load_and_compare()
        assert not carried.portage.log_contains("beginning again")
        assert not source.log_contains("terminating walsender process due to replication timeout")
    finally:
        carried.portage.close()


def test_T6_savepoints_conflicts_and_two_phase_commit(postgres, migration):
    from conftest import SOURCE_VERSION
    source = postgres(SOURCE_VERSION, settings={"max_prepared_transactions": "5"})
    carried = migration(DDL + ROWS, DDL, BY_ID, source=source)

    def change():
        carried.source_sql("""BEGIN; UPDATE public.t SET n = -1 WHERE id < 50; SAVEPOINT a;
            UPDATE public.t SET n = -2 WHERE id < 50; SAVEPOINT b; DELETE FROM public.t WHERE id < 25;
            ROLLBACK TO a; UPDATE public.t SET n = -3 WHERE id = 7; COMMIT;
            INSERT INTO public.t VALUES (7, 1, 1) ON CONFLICT (id) DO UPDATE SET n = t.n - 10;
            INSERT INTO public.t VALUES (8, 1, 1), (-8, 1, 1) ON CONFLICT DO NOTHING;""")
        with psycopg.connect(source.dsn(carried.name), autocommit=True) as conn:
            conn.execute("BEGIN")
            conn.execute("UPDATE public.t SET n = 77 WHERE id BETWEEN 100 AND 200")
            conn.execute("PREPARE TRANSACTION 'two'")
            conn.execute("UPDATE public.t SET n = 78 WHERE id BETWEEN 201 AND 300")
            conn.execute("COMMIT PREPARED 'two'")
    try:
        carry(carried, during=change)
    finally:
        carried.portage.close()


def sessions(server, database, like):
    return server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
                      " AND application_name LIKE %s", [database, like])


def test_T9_sessions_are_lost_and_locks_time_out(plain):
    with Writers(plain.source_server.dsn(plain.name), [TABLE], seed=9, rate=400) as writers:
        writers.wait_for_transactions(20)
        plain.portage.start()
        for round_number in range(6):
            writers.wait_for_transactions(40)
            shard = round_number % 2
            wait_until(lambda shard=shard: sessions(plain.shard_servers[shard], plain.shard_names[shard],
                                                    "pgportage lane%"), 30, "a lane to end",
                       explain=plain.portage.explain)
        plain.wait_ready()
        plain.finish_load_and_compare(writers)
    assert plain.portage.log_contains("beginning again")


def test_T10_the_stream_is_cut_again_and_again(plain):
    with Writers(plain.source_server.dsn(plain.name), [TABLE], seed=10, rate=400) as writers:
        plain.run_until_ready()
        for _ in range(6):
            writers.wait_for_transactions(40)
            plain.source_sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
                             " WHERE database = current_database() AND active")
        plain.finish_load_and_compare(writers)
    assert plain.portage.log_contains("beginning again")
