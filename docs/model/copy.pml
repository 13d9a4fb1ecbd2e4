/*
 * Copy while streaming: one snapshot per chunk. Step numbers as in docs/design/copy.md.
 *
 * One table, two shards with one lane each, one copier. The value of a row is the set of the
 * transactions whose change it has, so a change that is lost, doubled or out of order shows at once.
 * Transactions lock the rows they write, and become visible some time after their commit record is in
 * the WAL. What an instance knows is in variables, not in program counters: a crash takes it away at
 * any moment, and the last commit of each of its sessions may land later.
 *
 * Sets of keys, transactions and shards are bit masks. Positions in the WAL count commit records.
 */
#ifndef KEYS
#define KEYS 2
#endif
#ifndef TRANSACTIONS
#define TRANSACTIONS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef SYNCHRONOUS
#define SYNCHRONOUS 0 /* 1: no commit becomes visible before we have confirmed it */
#endif
#define SHARDS 2

/* Mutants: -DWITHOUT=… takes one step out of the protocol. */
#define EPOCH               1
#define EPOCH_BEFORE_READ   2
#define IN_PROGRESS         3
#define W_UNTIL_ENDED       4
#define W_BEFORE_HOLD       5
#define IGNORE_PROGRESS     6
#define DISCARD             7
#define DISCARD_BY_SNAPSHOT 8
#define PROGRESS_WITH_ROWS  9
#define CONFIRM_LEAST      10
#define HOLD               11
#define NO_OVERTAKING      12
#define REACH_H            13
#define SKIPPED_SEEN       14
#define ONLY_BEFORE_H      15
#define CURSOR_WITH_ROWS   16
#define LEAVE_OUT_AHEAD    17
#define L_AFTER_SNAPSHOT   18
#define HOLD_TO_COMMIT     19
#define KEEP_SNAPSHOT      20
#define DROP_WHEN_DURABLE  21
#ifndef WITHOUT
#define WITHOUT 0
#endif
#define with(step) (WITHOUT != step)

#define bit(i) (1 << (i))
#define has(set, i) (((set) >> (i)) & 1)
#define below(key) (bit(key) - 1)
#define shard_of(key) ((key) & 1)
#define keys_of(shard) (85 << (shard)) /* every second bit */
#define least(a, b) ((a) < (b) -> (a) : (b))
#define most(a, b) ((a) < (b) -> (b) : (a))

/* ---- the source ---- */

byte writes[TRANSACTIONS];   /* the keys that each one changes */
byte wal[TRANSACTIONS];      /* transactions in the order of their commit records */
byte wal_end;
byte begun, logged, visible; /* have an id; have a commit record; are seen by snapshots */
byte locked;                 /* keys */

/* ---- the shards: durable ---- */

byte row[KEYS];
byte cursor[SHARDS];   /* keys below it are done */
byte progress[SHARDS]; /* commit records below it are done */
byte kept[KEYS];       /* the snapshot of the chunk that holds the key … */
byte kept_until[KEYS]; /* … and its L */

/* ---- the instance: lost in a crash ---- */

mtype = { STARTING, PLANNING, HOLDING, SEEING, COPYING };
mtype phase = PLANNING;
byte in_progress;    /* W */
byte at[SHARDS];     /* commit records below it have been judged */
byte opened[KEYS];   /* changes in the lane's open transaction */
byte aside[KEYS];    /* without NO_OVERTAKING: those that others have overtaken, for after the chunk */
byte known[SHARDS];  /* the cursor */
byte skipped;        /* transactions that the next snapshot must see … */
byte skipped_later;  /* … and those skipped at or behind h, which the one after must see */
byte behind;         /* shards that the chunk is for */
byte lower, upper;   /* its keys: lower <= key < upper */
byte h;
byte snapshot, chunk_end; /* chunk_end: L */

/* ---- sent by an instance that is dead ---- */

byte late_opened[KEYS], late_at[SHARDS];
byte late_behind, late_lower, late_upper, late_snapshot, late_end;

/* Used inside of a d_step only. */
hidden byte k, i, taken, gap; /* set to 0 at the end where a d_step would end in a loop */

/* ---- the source ---- */

#define confirmed \
    (with(CONFIRM_LEAST) -> least(progress[0], progress[1]) : most(progress[0], progress[1]))

proctype Transaction(byte me)
{
    byte x;
    atomic {
        me == 0 || has(begun, me - 1); /* they are all alike: one order of beginning is enough */
        select(x : 1 .. below(KEYS));
        !(locked & x) ->
        locked = locked | x;
        writes[me] = x;
        begun = begun | bit(me);
        x = 0
    }
    d_step {
        x = wal_end;
        wal[wal_end] = me;
        wal_end++;
        logged = logged | bit(me)
    }
    d_step { /* only now do snapshots see it */
        !SYNCHRONOUS || (phase != STARTING && confirmed > x) ->
        locked = locked & ~writes[me];
        visible = visible | bit(me);
        x = 0
    }
}

/* ---- what a shard's transactions write ---- */

#define changed_by(tx, key) has(writes[tx], key)

/* A row has the first changes of its key, in the order of commits, without a gap. */
inline check_row(key)
{
    gap = false;
    for (i : 0 .. wal_end - 1) {
        if
        :: changed_by(wal[i], key) && !has(row[key], wal[i]) -> gap = true
        :: changed_by(wal[i], key) && has(row[key], wal[i]) -> assert(!gap)
        :: else
        fi
    }
}

/* A lane's transaction. */
inline write_changes(s, changes)
{
    for (k : 0 .. KEYS - 1) {
        if
        :: shard_of(k) == s ->
            assert(!(row[k] & changes));
            row[k] = row[k] | changes;
            changes = 0;
            check_row(k)
        :: else
        fi
    }
    k = 0
}

/* A chunk's transaction. */
inline write_chunk(s, from, to, seen, end)
{
    for (k : from .. to - 1) {
        if
        :: shard_of(k) == s ->
            assert(!row[k]);
            row[k] = aside[k];
            aside[k] = 0;
            for (i : 0 .. wal_end - 1) {
                if
                :: changed_by(wal[i], k) -> row[k] = row[k] | (bit(wal[i]) & seen)
                :: else
                fi
            }
            kept[k] = seen;
            kept_until[k] = end
        :: else
        fi
    }
}

/* Step 8 */
inline drop_snapshots(s, passed)
{
    for (k : 0 .. KEYS - 1) {
        if
        :: shard_of(k) == s && (kept_until[k] <= passed || !with(KEEP_SNAPSHOT)) ->
            kept[k] = 0;
            kept_until[k] = 0
        :: else
        fi
    }
    k = 0
}

/* ---- lanes ---- */

#define on_hold(s) (has(behind, s) && with(HOLD) && at[s] >= h && \
                    (phase == HOLDING || with(HOLD_TO_COMMIT)))
#define held_keys(s) (on_hold(s) -> below(upper) & ~below(lower) : 0)
#define next_keys(s) (writes[wal[at[s]]] & keys_of(s))
#define seen_by_chunk(key, tx, position) \
    (with(DISCARD) && \
     (with(DISCARD_BY_SNAPSHOT) -> has(kept[key], tx) : position < kept_until[key]))

/* Step 3, for all that a transaction changes on a shard. */
inline judge(s)
{
    taken = wal[at[s]];
    for (k : 0 .. KEYS - 1) {
        if
        :: !has(next_keys(s), k) || (k < known[s] && seen_by_chunk(k, taken, at[s]))
        :: has(next_keys(s), k) && k < known[s] && !seen_by_chunk(k, taken, at[s]) ->
            opened[k] = opened[k] | bit(taken)
        :: has(next_keys(s), k) && k >= known[s] ->
            if
            :: has(held_keys(s), k) -> aside[k] = aside[k] | bit(taken)
            :: !has(held_keys(s), k) && behind && at[s] >= h && with(ONLY_BEFORE_H) ->
                skipped_later = skipped_later | bit(taken)
            :: else -> skipped = skipped | bit(taken)
            fi
        fi
    }
    at[s]++
}

proctype Lane(byte s)
{
end:
    do
    :: d_step { /* step 2: in order; one on hold stalls all behind it */
        phase != STARTING && at[s] < wal_end &&
            (!(next_keys(s) & held_keys(s)) || !with(NO_OVERTAKING)) ->
        judge(s);
        if
        :: !with(DROP_WHEN_DURABLE) -> drop_snapshots(s, at[s])
        :: else
        fi
    }
    :: atomic { /* step 4 */
        phase != STARTING && at[s] > progress[s] ->
        d_step { write_changes(s, opened[k]) }
        if
        :: d_step { progress[s] = at[s]; drop_snapshots(s, progress[s]) }
        :: !with(PROGRESS_WITH_ROWS)
        fi
    }
    od
}

/* ---- the copier ---- */

inline forget_chunk()
{
    lower = 0;
    upper = 0;
    h = 0;
    snapshot = 0;
    chunk_end = 0
}

#define reached (at[0] >= h && at[1] >= h)
#define must_see (in_progress | (with(SKIPPED_SEEN) -> skipped : 0))

proctype Copier()
{
    byte x;
end:
    do
    :: d_step { /* step 1: who is seen idle in transaction has no commit record, and leaves W */
        phase != STARTING && (in_progress & ~logged) -> in_progress = in_progress & logged
    }
    :: d_step { /* delivered again for one lane; another, which is further, ignores it */
        phase != STARTING && in_progress && !with(W_UNTIL_ENDED) ->
        for (i : confirmed .. wal_end - 1) {
            in_progress = in_progress & ~bit(wal[i])
        }
        i = 0
    }
    :: atomic { /* step 5: the interval, then h. Step 6: shards that are ahead end it */
        phase == PLANNING && least(known[0], known[1]) < KEYS &&
            (!(in_progress & ~visible) || !with(W_BEFORE_HOLD)) ->
        in_progress = in_progress & ~visible;
        lower = least(known[0], known[1]);
        if
        :: known[0] == known[1] -> select(x : lower + 1 .. KEYS)
        :: else -> x = most(known[0], known[1])
        fi;
        upper = x;
        behind = (known[0] == lower || !with(LEAVE_OUT_AHEAD)) |
                 (known[1] == lower || !with(LEAVE_OUT_AHEAD)) << 1;
        x = most(at[0], at[1]);
        select(x : x .. wal_end);
        h = x;
        x = 0;
        chunk_end = (with(L_AFTER_SNAPSHOT) -> 0 : wal_end);
        phase = HOLDING
    }
    :: d_step { /* step 5: the snapshot */
        phase == HOLDING && (reached || !with(REACH_H)) && !(must_see & ~visible) ->
        snapshot = visible;
        in_progress = 0;
        skipped = skipped & ~visible;
        phase = SEEING
    }
    :: d_step { /* step 6: L */
        phase == SEEING ->
        chunk_end = (with(L_AFTER_SNAPSHOT) -> wal_end : chunk_end);
        phase = COPYING
    }
    :: atomic { /* steps 6 and 7 */
        phase == COPYING ->
        x = (has(behind, 0) -> 0 : 1);
        d_step {
            write_chunk(x, lower, upper, snapshot, chunk_end);
            known[x] = upper;
            drop_snapshots(x, progress[x]);
            behind = behind & ~bit(x)
        }
        if
        :: cursor[x] = upper
        :: !with(CURSOR_WITH_ROWS)
        fi;
        x = 0;
        if
        :: behind
        :: !behind ->
            skipped = skipped | skipped_later;
            skipped_later = 0;
            forget_chunk();
            phase = PLANNING
        fi
    }
    od
}

/* ---- crashes ---- */

/* What was sent for a shard may still commit, and nobody is there to see it. */
inline die()
{
    for (i : 0 .. SHARDS - 1) {
        late_at[i] = (at[i] > progress[i] -> at[i] : 0);
        at[i] = 0;
        known[i] = 0
    }
    for (k : 0 .. KEYS - 1) {
        late_opened[k] = opened[k];
        opened[k] = 0;
        aside[k] = 0
    }
    if
    :: phase == COPYING ->
        late_behind = behind;
        late_lower = lower;
        late_upper = upper;
        late_snapshot = snapshot;
        late_end = chunk_end
    :: else
    fi;
    behind = 0;
    forget_chunk();
    in_progress = 0;
    skipped = 0;
    skipped_later = 0;
    phase = STARTING
}

/* It waits for what is in flight, or makes it fail. */
inline raise_epoch(s)
{
    if
    :: with(EPOCH) ->
        late_at[s] = 0;
        for (k : 0 .. KEYS - 1) {
            late_opened[k] = (shard_of(k) == s -> 0 : late_opened[k])
        }
        late_behind = late_behind & ~bit(s);
        if
        :: late_behind
        :: !late_behind -> late_lower = 0; late_upper = 0; late_snapshot = 0; late_end = 0
        fi
    :: else
    fi
}

inline read_state(s)
{
    at[s] = (with(IGNORE_PROGRESS) -> most(progress[s], confirmed) : confirmed);
    known[s] = cursor[s]
}

proctype LateCommits(byte s)
{
end:
    do
    :: d_step {
        late_at[s] ->
        write_changes(s, late_opened[k]);
        progress[s] = late_at[s];
        late_at[s] = 0;
        drop_snapshots(s, progress[s])
    }
    :: d_step {
        has(late_behind, s) ->
        write_chunk(s, late_lower, late_upper, late_snapshot, late_end);
        cursor[s] = late_upper;
        late_behind = late_behind & ~bit(s);
        drop_snapshots(s, progress[s])
    }
    od
}

proctype Incarnations()
{
    byte crashes;
    select(crashes : 0 .. CRASHES);
    do
    :: crashes > 0 ->
        d_step { die(); crashes-- }
        /* step 1 */
        if
        :: with(EPOCH_BEFORE_READ) ->
            d_step { raise_epoch(0) }
            d_step { raise_epoch(1) }
            d_step { read_state(0) }
            d_step { read_state(1) }
        :: else ->
            d_step { read_state(0) }
            d_step { read_state(1) }
            d_step { raise_epoch(0) }
            d_step { raise_epoch(1) }
        fi;
        d_step {
            in_progress = (with(IN_PROGRESS) -> begun & ~visible : 0);
            phase = PLANNING
        }
    :: else -> break
    od
}

/* ---- what must hold in the end, which must come ---- */

#define all_seen (visible == below(TRANSACTIONS))
#define all_copied (known[0] == KEYS && known[1] == KEYS)
#define drained (progress[0] == wal_end && progress[1] == wal_end)

init {
    byte n;
    atomic {
        for (n : 0 .. TRANSACTIONS - 1) {
            run Transaction(n)
        }
        for (n : 0 .. SHARDS - 1) {
            run Lane(n);
            run LateCommits(n)
        }
        run Copier();
        run Incarnations();
        n = 0
    }
    d_step {
        phase != STARTING && all_seen && all_copied && drained ->
        for (k : 0 .. KEYS - 1) {
            for (i : 0 .. wal_end - 1) {
                assert(has(row[k], wal[i]) == changed_by(wal[i], k))
            }
        }
    }
}
