/*
 * Going live on all rows in their last form (cutover.md, "All rows, in their last form"): a switch believes
 * the target only as far as `run` has looked at the source's catalog, and the catalog may change at any time,
 * because no gate stops DDL.
 *
 * What is not in the stream is a version of the catalog here: a new partition, or rows that were rewritten. `run`
 * binds to the version that it finds, and has it on the target when it has copied. A TRUNCATE of one partition
 * is in the stream, and makes a lane begin the table's copy again. `run` may die at any step and is started
 * again; a switch that is refused is tried again. The gate, the drain and the journal are cutover.pml's.
 */
#ifndef CHANGES
#define CHANGES 3 /* of the catalog */
#endif
#ifndef TRUNCATES
#define TRUNCATES 2
#endif
#ifndef TRIES
#define TRIES 3 /* of a switch */
#endif
#ifndef CRASHES
#define CRASHES 2 /* of run */
#endif

/* Mutants: -DWITHOUT=… takes one step out of the protocol. */
#define WAIT_FOR_LOOK     1
#define CENSUS_FIRST      2
#define LOOK_BEHIND       3
#define RECORD_IF_BOUND   4
#define ASK_CENSUS_AGAIN  5
#define ASK_RANGES_AGAIN  6
#ifndef WITHOUT
#define WITHOUT 0
#endif
#define with(step) (WITHOUT != step)

/* ---- the source ---- */

byte catalog;    /* its version */
bool fenced;
chan stream = [6] of { byte }; /* markers by their number, and … */
#define TRUNCATE 255

/* ---- durable, on the target ---- */

byte bound;      /* the version that run works by */
byte copied;     /* … and that which is there with all rows */
bool ranges;     /* a copy is not over */
bool emptied;    /* rows that the source has are not there */
byte passed;     /* the marker that the lanes have judged all before */
byte looked;     /* the marker behind which run has looked */

byte markers;    /* written so far */
bool over;       /* no switch any more */

/* ---- the application, and the stream ---- */

proctype Owner()
{
    byte changes = CHANGES, truncates = TRUNCATES;
end:
    do
    :: d_step { changes > 0 -> changes--; catalog++ } /* fenced or not */
    :: d_step { truncates > 0 && !fenced -> truncates--; emptied = true; stream!TRUNCATE }
    od
}

/* A commit of a lane: what it has judged, and where it stands. */
proctype Lane()
{
    byte it;
end:
    do
    :: d_step {
        stream?it ->
        if
        :: it == TRUNCATE -> ranges = true
        :: else -> passed = it
        fi;
        it = 0
    }
    od
}

/* ---- run ---- */

#define DIES :: crashes > 0 -> crashes--; behind = 0; seen = 0; goto start

proctype Run()
{
    byte behind, seen, crashes = CRASHES;
start:
    do
    :: true ->
        /* one look: where the lanes stand, then the catalog */
        if
        :: with(LOOK_BEHIND) -> behind = passed
        :: else -> seen = catalog
        DIES
        fi;
        if
        :: with(LOOK_BEHIND) -> seen = catalog
        :: else -> behind = passed
        DIES
        fi;
        if
        :: !ranges && (seen == bound || !with(RECORD_IF_BOUND)) && looked < behind -> looked = behind
        :: else
        DIES
        fi;
        /* the next incarnation: what is new gets a range before anything else is done with it */
        if
        :: d_step { seen != bound -> bound = seen; ranges = true }
        :: else
        DIES
        fi;
        if
        :: d_step { ranges -> ranges = false; copied = bound; emptied = stream?? [TRUNCATE] }
        :: else
        DIES
        fi;
        behind = 0;
        seen = 0;
        /* nothing to be done: until something is */
        (over || looked < passed || bound != catalog || ranges)
        if
        :: over && looked == passed && bound == catalog && !ranges -> break
        :: else
        fi
    od
}

/* ---- a switch ---- */

inline write_marker()
{
    d_step { markers++; stream!markers }
}

proctype Switch()
{
    byte census, tries = TRIES;
    do
    :: tries == 0 -> break
    :: tries > 0 ->
        tries--;
        if
        :: with(CENSUS_FIRST) -> census = catalog
        :: else
        fi;
        write_marker();
        looked == markers || !with(WAIT_FOR_LOOK);
        if
        :: !with(CENSUS_FIRST) -> census = catalog
        :: else
        fi;
        fenced = true;
        write_marker();
        passed == markers;
        if
        :: d_step {
            (census == catalog || !with(ASK_CENSUS_AGAIN)) && (!ranges || !with(ASK_RANGES_AGAIN)) ->
            /* what goes live is all that the source has, in its last form */
            assert(copied == catalog);
            assert(!emptied)
        }
            break
        :: else -> fenced = false
        fi
    od;
    over = true
}

init {
    atomic {
        run Owner();
        run Lane();
        run Run();
        run Switch()
    }
}
