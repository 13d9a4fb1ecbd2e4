/*
 * A row that changes its shard, on its way back to the source. Its delete comes from one shard and its
 * insert from another, by two streams that know nothing of each other. DESIGN.md, "Reverse".
 *
 * One key, two shards that take writes, one source that follows. Each write makes a new version. An
 * application moves the row by two transactions, in either order, and truncates the table of a shard,
 * or a partition of it, at any time. Rollback fences the shards, waits for both streams, reads dirty keys again, and may
 * still be aborted.
 */
#ifndef CHANGES
#define CHANGES 7
#endif
#ifndef ROLLBACKS
#define ROLLBACKS 2
#endif

/* Mutants: -DWITHOUT=… takes one step out of the protocol. */
#define DIRTY_BY_UPSERT     1
#define DIRTY_BY_DELETE     2
#define DIRTY_WITH_ROW      3
#define DIRTY_UNTIL_JOURNAL 4
#define READ_AFTER_FENCE    5
#define READ_AFTER_DRAIN    6
#define OWN_WRITES_DROPPED  7
#define TRUNCATE_BY_OWNER   8
#define DIRTY_BY_UPDATE     9
#define DIRTY_BY_LOOK       10
#ifndef WITHOUT
#define WITHOUT 0
#endif
#define with(step) (WITHOUT != step)

#define NONE 0 /* no row */

mtype = { INSERT, UPDATE, DELETE, TRUNCATE, LOOK };

byte version = 1; /* of the latest write */
byte row[2];      /* on each shard */
chan wal[2] = [CHANGES] of { mtype, byte };
bool fenced;

/* ---- the source: durable ---- */

byte copy = 1;
byte owner;       /* the shard of `copy`, by its shard key */
bool dirty;
byte marker;      /* the stream that marked it last */

chan echo = [CHANGES] of { byte, byte }; /* without OWN_WRITES_DROPPED: what the forward stream brings */
bool switched;

/* ---- the application ---- */

inline write(shard)
{
    version++;
    wal[shard]!(row[shard] -> UPDATE : INSERT), version;
    row[shard] = version
}

inline delete(shard)
{
    row[shard] = NONE;
    wal[shard]!DELETE, NONE
}

inline truncate(shard)
{
    row[shard] = NONE;
    wal[shard]!TRUNCATE, NONE
}

/* A partition that has the row, or another one: what is gone is found by looking at the shard. */
inline truncate_partition(shard)
{
    if
    :: row[shard] = NONE
    :: true
    fi;
    wal[shard]!LOOK, NONE
}

proctype Application()
{
    byte left = CHANGES;
    byte at;    /* the shard of the row */
    bool moves; /* it is still on the other one too */
end:
    do
    :: d_step { left > 0 && !fenced && !moves -> write(at); left-- }
    :: d_step { left > 0 && !fenced && !moves && row[at] -> delete(at); left-- }
    :: d_step { left > 1 && !fenced && !moves -> at = 1 - at; write(at); moves = row[1 - at]; left-- }
    :: d_step { left > 1 && !fenced && !moves && row[at] -> delete(at); at = 1 - at; left--  }
    :: d_step { !fenced && moves -> delete(1 - at); moves = false; left-- }
    :: d_step { left > 0 && !fenced -> truncate(1 - at); moves = false; left-- }
    :: d_step { left > 0 && !fenced -> truncate(at); at = (moves -> 1 - at : at); moves = false; left-- }
    :: atomic { left > moves && !fenced -> truncate_partition(at); left--;
                if
                :: moves && !row[at] -> at = 1 - at; moves = false
                :: else
                fi }
    od
}

/* ---- a reverse stream ---- */

/*
 * Whose row stands there a delete knows by the marks alone; a truncate by the shard key. It marks
 * nothing: which keys it would have met no row of is not told. Who looks at the shard takes away early
 * what its stream has still to delete.
 */
inline apply(shard, kind, received)
{
    wal[shard]?kind, received;
    kept = dirty && marker != shard;
    if
    :: kind == INSERT -> marks = (copy || dirty) && with(DIRTY_BY_UPSERT)
    :: kind == UPDATE -> marks = !copy && with(DIRTY_BY_UPDATE); received = (copy -> received : NONE)
    :: kind == DELETE -> marks = !copy && !kept && with(DIRTY_BY_DELETE); received = (kept -> copy : NONE)
    :: kind == TRUNCATE -> received = (owner != shard && with(TRUNCATE_BY_OWNER) -> copy : NONE)
    :: kind == LOOK ->
        received = (owner != shard || row[shard] -> copy : NONE);
        marks = copy && !received && with(DIRTY_BY_LOOK)
    fi;
    owner = (kind == INSERT || kind == UPDATE -> shard : owner);
    copy = received
}

proctype Stream(byte shard)
{
    mtype kind;
    byte received;
    bool kept, marks;
end:
    do
    :: atomic {
        nempty(wal[shard]) ->
        apply(shard, kind, received);
        if /* in the transaction of the row */
        :: marks -> dirty = true; marker = shard
        :: !marks
        :: marks && !with(DIRTY_WITH_ROW) /* a crash comes between */
        fi;
        if
        :: !with(OWN_WRITES_DROPPED) && received -> echo!shard, received
        :: else
        fi;
        kind = 0;
        received = 0;
        kept = false;
        marks = false
    }
    od
}

/* Without OWN_WRITES_DROPPED, what we wrote at the source comes back to its shard. */
proctype Echo()
{
    byte shard, received;
end:
    do
    :: atomic { echo?shard, received -> row[shard] = received; shard = 0; received = 0 }
    od
}

/* ---- rollback ---- */

inline read_again()
{
    if
    :: dirty && row[0] -> copy = row[0]; owner = 0
    :: dirty && row[1] -> copy = row[1]; owner = 1
    :: dirty && !row[0] && !row[1] -> copy = NONE
    :: !dirty
    fi;
    if
    :: !with(DIRTY_UNTIL_JOURNAL) -> dirty = false
    :: else
    fi
}

#define drained (empty(wal[0]) && empty(wal[1]))

proctype Rollback()
{
    byte attempts = ROLLBACKS;
    do
    :: attempts > 0 ->
        attempts--;
        if
        :: !with(READ_AFTER_FENCE) -> drained; atomic { read_again() }
        :: else
        fi;
        fenced = true;
        if
        :: !with(READ_AFTER_DRAIN) -> atomic { read_again() }
        :: else
        fi;
        drained;
        if
        :: with(READ_AFTER_FENCE) && with(READ_AFTER_DRAIN) -> atomic { read_again() }
        :: else
        fi;
        if
        :: attempts > 0 -> fenced = false /* aborted */
        :: break /* journaled */
        fi
    od;
    switched = true
}

/*
 * The source has the row as a shard has it, or has none where none has. A row whose move the fence
 * caught half-way is on both shards: then either is right.
 */
init {
    atomic {
        row[0] = 1;
        run Application();
        run Stream(0);
        run Stream(1);
        run Echo();
        run Rollback()
    }
    switched;
    assert(copy == row[0] || copy == row[1]);
    assert(copy || (!row[0] && !row[1]))
}
