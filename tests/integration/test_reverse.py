"""The stream in both directions: markers, what is our own, and the way back from the shards."""
from harness.polling import wait_until

DDL = "CREATE TABLE public.t (id bigint PRIMARY KEY, n int);"
ROWS = "INSERT INTO public.t SELECT g, g FROM generate_series(1, 1000) g;"
BY_ID = "shard_by: id\ntables:\n  \"public.*\": identical\n"
MARKER_SQL = "INSERT INTO portage.marker (purpose) VALUES ('switch') RETURNING id"


def markers(carried):
    return {marker for shard in range(2)
            for marker, in carried.shard_sql(shard, "SELECT marker FROM portage.lane")}


def test_a_marker_is_written_through_to_every_lane(migration):
    carried = migration(DDL + ROWS, DDL, BY_ID).run_until_ready()
    # In a transaction of its own, and in one that also changes rows of some lanes.
    for writes in ("", "UPDATE public.t SET n = n + 1 WHERE id = 7;"):
        with carried.source_server.connect(carried.name) as conn, conn.transaction():
            if writes:
                conn.execute(writes)
            marker = conn.execute(MARKER_SQL).fetchone()[0]
        wait_until(lambda: markers(carried) == {marker}, 10, f"marker {marker} in all lanes",
                   interval=0.02, explain=lambda: markers(carried))
    carried.source_sql("INSERT INTO portage.marker (purpose) VALUES ('other')")
    carried.finish_load_and_compare()
    assert markers(carried) == {marker}


def test_T11_what_is_ours_is_not_carried(migration):
    carried = migration(DDL + ROWS, DDL, BY_ID).run_until_ready()
    with carried.source_server.connect(carried.name) as conn:
        with conn.transaction():  # as a lane does it
            conn.execute("UPDATE portage.instance SET epoch = epoch")
            conn.execute("UPDATE public.t SET n = -1 WHERE id = 1")
            conn.execute("TRUNCATE public.t")
        with conn.transaction():  # not ours: it only comes across a table of ours
            conn.execute("INSERT INTO public.t VALUES (5000, 1)")
            conn.execute("UPDATE portage.instance SET epoch = epoch")
            conn.execute("INSERT INTO public.t VALUES (5001, 1)")
    carried.wait_caught_up()
    rows = [carried.shard_sql(shard, "SELECT count(*), count(*) FILTER (WHERE n = -1),"
                                     " count(*) FILTER (WHERE id >= 5000) FROM public.t")[0]
            for shard in range(2)]
    assert [sum(column) for column in zip(*rows)] == [1002, 0, 2]
