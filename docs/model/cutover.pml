/*
 * Cutover and rollback: which side takes the application's writes. Step numbers as in DESIGN.md,
 * "Cutover"; the rollback is the same with the sides exchanged.
 *
 * A source and two shards, the first of which is control. Each run raises an epoch of its own, server
 * by server, then goes by the journal. Runs overlap at will: one that has died and whose last commands
 * land late is one that is slow. Besides, a fence that was sent twice, or a journal entry whose answer
 * was lost, may land at any time; deadlines end at any time; clients write wherever a gate is open.
 *
 * A side's writes are counted, and the streams carry counts: what is in a row is reverse.pml's.
 */
#ifndef RUNS
#define RUNS 2
#endif
#ifndef WRITES
#define WRITES 1 /* of a client; each server has one */
#endif

/* Mutants: -DWITHOUT=… takes one step out of the protocol. */
#define EPOCH_CHECK          1
#define EPOCH_ON_ALL         2
#define EPOCH_UPWARD         3
#define EPOCH_BEFORE_READ    4
#define WAIT_FOR_WRITERS     5
#define SEAL                 6
#define SEAL_VERY_FENCE      7
#define SEAL_STAYS           8
#define MARKER_AFTER_SEAL    9
#define DRAIN_ALL_SHARDS    10
#define OUTCOME_KNOWN       11
#define JOURNAL_BEFORE_OPEN 12
#define JOURNAL_DECIDES     13
#define FENCED_FROM_START   14
#ifndef WITHOUT
#define WITHOUT 0
#endif
#define with(step) (WITHOUT != step)

#define SERVERS 3
#define SOURCE 0
#define CONTROL 1

/* A side is named by its first server. */
#define TARGET 1
#define other(side) (1 - (side))
#define last(side) (2 * (side))
#define side_of(server) ((server) > 0)

/* ---- durable, on each server ---- */

byte epoch[SERVERS];
byte fence[SERVERS];     /* who set it: each has an id; 0: the gate is open */
byte sealed_by[SERVERS]; /* an epoch; 0: the fence lifts itself some time */
byte written[SERVERS];   /* acknowledged */
byte forward[SERVERS];   /* of the source's writes, durable on this shard */
byte reverse[SERVERS];   /* of this shard's writes, durable on the source */
byte live = SOURCE;      /* the journal, on control */

/* ---- on their way ---- */

byte under_way[SERVERS];  /* transactions of clients that have passed the gate */
byte late_fence;          /* epoch of a fence command that was sent twice … */
byte late_server;         /* … to this server */
byte late_switch;         /* epoch of a journal entry whose answer was lost … */
byte late_side;           /* … and the side that it names */

byte begun, ended; /* runs */

/* ---- what must hold ---- */

#define is_open(side) \
    ((side) == SOURCE -> !fence[SOURCE] : !fence[1] || !fence[2])
#define all_open(side) \
    ((side) == SOURCE -> !fence[SOURCE] : !fence[1] && !fence[2])
#define busy(side) \
    ((side) == SOURCE -> under_way[SOURCE] : under_way[1] || under_way[2])
#define carried(side) \
    ((side) == SOURCE -> forward[1] == written[SOURCE] && forward[2] == written[SOURCE] \
                      : reverse[1] == written[1] && reverse[2] == written[2])

/* Whoever opens a side finds the other one fenced, and all its writes here. */
inline open_gate(server)
{
    fence[server] = 0;
    sealed_by[server] = 0;
    assert(!is_open(other(side_of(server))));
    assert(!busy(other(side_of(server))));
    assert(carried(other(side_of(server))))
}

/* ---- clients, streams, deadlines, late commands ---- */

proctype Client(byte server)
{
    byte writes = WRITES;
end:
    do
    :: atomic { writes > 0 && !fence[server] -> under_way[server] = 1; writes-- }
    :: d_step {
        under_way[server] ->
        under_way[server] = 0;
        written[server]++;
        assert(!is_open(other(side_of(server)))) /* else it is one of two histories */
    }
    :: d_step { under_way[server] -> under_way[server] = 0 } /* rolled back */
    od
}

proctype Streams(byte shard)
{
end:
    do
    :: forward[shard] < written[SOURCE] -> forward[shard]++
    :: reverse[shard] < written[shard] -> reverse[shard]++
    od
}

#define ID (me + 1) /* of a run's fence: it sets one on each server */
#define SENT_TWICE 254
#define FIRST_DAY 255

inline set_fence(server, its_id)
{
    fence[server] = its_id;
    sealed_by[server] = 0
}

#define valid(server, its_epoch) \
    (epoch[server] == its_epoch || !with(EPOCH_CHECK) || (server != CONTROL && !with(EPOCH_ON_ALL)))
#define may_fence(server, its_epoch) \
    (valid(server, its_epoch) && (sealed_by[server] != its_epoch || !with(SEAL_STAYS)))

proctype Later(byte server)
{
end:
    do
    :: d_step { fence[server] && !sealed_by[server] -> open_gate(server) } /* the deadline */
    :: d_step {
        late_fence && late_server == server ->
        if
        :: may_fence(server, late_fence) -> set_fence(server, SENT_TWICE)
        :: else
        fi;
        late_fence = 0;
        late_server = 0
    }
    :: d_step {
        server == CONTROL && late_switch ->
        if
        :: valid(CONTROL, late_switch) -> live = late_side
        :: else
        fi;
        late_switch = 0;
        late_side = 0
    }
    od
}

/* ---- a run ---- */

/* A run may die at any step, as long as another one is to come. */
#define DIES :: begun < RUNS -> goto over

#define passed(mark) \
    (side == SOURCE \
        -> forward[1] >= mark[SOURCE] && (forward[2] >= mark[SOURCE] || !with(DRAIN_ALL_SHARDS)) \
        :  reverse[1] >= mark[1] && (reverse[2] >= mark[2] || !with(DRAIN_ALL_SHARDS)))

/* Control gives the number. The others follow one by one, and never go back. */
inline raise_epoch()
{
    d_step { epoch[CONTROL]++; mine = epoch[CONTROL] }
    for (s in epoch) {
        if
        :: s == CONTROL
        :: d_step { s != CONTROL && (epoch[s] < mine || !with(EPOCH_UPWARD)) -> epoch[s] = mine }
        :: s != CONTROL && epoch[s] > mine && with(EPOCH_UPWARD) -> goto over
        DIES
        fi
    }
}

inline write_markers()
{
    for (s : side .. last(side)) {
        if
        :: mark[s] = written[s]
        DIES
        fi
    }
}

/* Only forward from here. The answer may be lost: then only a new epoch tells what happened. */
inline write_journal()
{
    if
    :: d_step { valid(CONTROL, mine) -> live = goal }
    :: !valid(CONTROL, mine) -> goto over
    :: d_step { !late_switch -> late_switch = mine; late_side = goal }
        if
        :: with(OUTCOME_KNOWN) -> goto again
        :: else -> goal = side
        fi
    DIES
    fi
}

inline open_side()
{
    for (s : goal .. last(goal)) {
        if
        :: d_step { valid(s, mine) -> open_gate(s) }
        :: !valid(s, mine) -> goto over
        DIES
        fi
    }
}

/* What is not needed any more shall not tell states apart. */
inline forget()
{
    for (s in mark) {
        mark[s] = 0
    }
    s = 0;
    side = 0;
    goal = 0
}

proctype Run(byte me)
{
    byte mine, side, goal, s;
    byte mark[SERVERS];
    bool restores; /* after a first attempt that failed */

    begun == me; /* they are all alike */
    begun++;
again:
    atomic { forget(); side = live }
    raise_epoch();
    if
    :: with(EPOCH_BEFORE_READ) -> side = live
    :: else
    fi;
    if
    :: !restores -> goal = other(side)
    :: goal = side; goto open
    :: !with(JOURNAL_DECIDES) -> goal = other(side); goto open
    fi;
    restores = true;
    if
    :: !with(MARKER_AFTER_SEAL) -> write_markers()
    :: else
    fi;

    for (s : side .. last(side)) { /* step 2 */
        if
        :: d_step { may_fence(s, mine) -> set_fence(s, ID) }
        :: d_step { may_fence(s, mine) && !late_fence ->
            set_fence(s, ID);
            late_fence = mine;
            late_server = s
        }
        :: !may_fence(s, mine) -> goto over
        DIES
        fi
    }
    for (s : side .. last(side)) { /* who came after the fence had lifted itself is not waited for */
        if
        :: !under_way[s] || fence[s] != ID || !with(WAIT_FOR_WRITERS)
        DIES
        fi
    }
    for (s : side .. last(side)) { /* step 3 */
        if
        :: !with(SEAL)
        :: d_step {
            with(SEAL) && valid(s, mine) && fence[s] && (fence[s] == ID || !with(SEAL_VERY_FENCE)) ->
            sealed_by[s] = mine
        }
        :: with(SEAL) && fence[s] != ID -> goto again /* too late */
        :: !valid(s, mine) -> goto over
        DIES
        fi
    }
    if /* step 4 */
    :: with(MARKER_AFTER_SEAL) -> write_markers()
    :: else
    fi;
    if
    :: passed(mark)
    DIES
    fi;

    d_step { mark[0] = 0; mark[1] = 0; mark[2] = 0 }
    if /* steps 6 and 7 */
    :: with(JOURNAL_BEFORE_OPEN) -> write_journal()
    :: else -> open_side(); write_journal()
    fi;
open:
    open_side();
over:
    atomic { forget(); mine = 0; restores = false; ended++ }
}

/* ---- what must come ---- */

init {
    byte n;
    atomic {
        if
        :: with(FENCED_FROM_START) ->
            for (n : TARGET .. last(TARGET)) {
                fence[n] = FIRST_DAY;
                sealed_by[n] = FIRST_DAY
            }
        :: else
        fi;
        for (n : 0 .. SERVERS - 1) {
            run Client(n);
            run Later(n);
            if
            :: n != SOURCE -> run Streams(n)
            :: else
            fi
        }
        for (n : 0 .. RUNS - 1) {
            run Run(n)
        }
        n = 0
    }
    /* exactly one side is open, and stays so */
    ended == RUNS && !late_switch && !late_fence && all_open(live)
}
