/*
 * What acts for the application on a server, and must not while rows are applied to it: triggers of users
 * would do again what the other side has done already, and foreign keys cascade, and refuse what one lane
 * brings before another one brings what it points to. The same on the source, while the target is live,
 * and on the shards, while the source is.
 *
 * Where our sessions may set session_replication_role = replica, only triggers that fire ALWAYS act on
 * what they write. Where not, all of them do, and are put aside. Each has a row in portage.deferred of its
 * server, of the kind `foreign key` or `trigger`, and a state:
 *
 *                  put aside            a switch, before `switched`            validated
 *        done ───────────────> waiting ───────────────────────────> back ───────────────────> done
 *                                 ^                                   │ rows violate it
 *                                 ├──── put aside; or aborted ────────┤
 *                                 └────────────────────────────────── invalid (NOT VALID; waits for somebody)
 *
 * Invariants:
 * 1. The row changes in the transaction that changes the object; a definition is never only in our memory.
 * 2. Where all of them act on us, nothing is applied while they are back on a side that is not live. In a
 *    switch the live side is sealed, and all that it has written is there. Who restores takes the lanes
 *    their epoch before the live side opens, and waits for nobody: the lanes end, and the incarnation of
 *    `run` after them puts aside before it applies, for which it waits as long as somebody reads there.
 * 3. What a switch has brought back bears its epoch, and no run takes it away while that is the epoch of
 *    the server: the switch may be just before `switched`. Who restores makes it 0, in the transaction that
 *    takes the lanes theirs. What `run` has built bears none.
 *
 * Triggers are disabled; row triggers of partitioned tables are dropped, because before version 15 the
 * server has only a superuser disable what their partitions have of them. Foreign keys are dropped. They
 * come back NOT VALID, those of partitioned tables leaf by leaf, because those know no NOT VALID: that is a
 * lock each and no scan. `run` validates them beside the application, and gives them to the parent.
 * Beside lanes a row may be seen before its parent: that is no violation until it is seen again and again,
 * with the lanes moving on between.
 */
#ifndef SWITCHOVER_ACTING_H
#define SWITCHOVER_ACTING_H

#include "switchover/side.h"
#include "util/stop.h"

/* A query: kind, schema and name of the table, name, definition of all that act on this server; and
 * whether it acts on us in any case, and the OID of the table. */
extern const char acting_found_sql[];

/* All of the server's, in the caller's transaction, in which nobody else has seen the tables yet, or waits
 * for their locks. */
bool acting_take_all(PGconn *server, struct error *err) MUST_CHECK;

/* What acts on sessions that are opened by `conninfo`. `tables`: only of these and their partitions, as
 * side_tables() gives them; NULL: all. Waits for readers, a moment at a time. */
bool acting_put_aside(PGconn *server, const char *conninfo, const char *tables, struct stop *stop,
                      struct error *err) MUST_CHECK;

/* All that waits on the servers of a side that is about to be live, side by side, each in one transaction,
 * under the switching epoch. Locks are waited for no longer than lock_ms. *count is how many there are. */
bool acting_bring_back(const struct side *side, int64_t epoch, int lock_ms, unsigned *count,
                       struct error *err) MUST_CHECK;

/* What acting_bring_back() has brought back, in this switch or an earlier one that did not come to
 * `switched`, is no switch's any more, and no lane applies anything beside it (invariants 2 and 3). Waits
 * for no reader. Nothing happens where nothing is back. */
bool acting_leave_to_run(const struct side *side, int64_t epoch, struct error *err) MUST_CHECK;

/* Where our sessions may set session_replication_role: builds what waits, one by one, beside the apply. */
bool acting_build(PGconn *server, struct stop *stop, struct error *err) MUST_CHECK;

/* Who writes to the side meanwhile: whether it is live or not. */
enum acting_beside { ACTING_BESIDE_APPLICATION, ACTING_BESIDE_LANES };

/* Validates what is back, one by one. What rows violate stays NOT VALID, is told of, and is no error;
 * `again`: tries also what was found so before. Beside lanes what cannot be told stays `back`, for the
 * next time; what a switch has brought back is left alone. */
bool acting_finish(PGconn *server, enum acting_beside beside, bool again, struct stop *stop,
                   struct error *err) MUST_CHECK;

/* A query: ordinal, and the statements that a key which is back, or invalid, still needs. */
extern const char acting_unfinished_sql[];

/* The end of a migration that may have left something aside: all of it comes back now, whichever side is
 * live. A key that cannot be validated, because rows of a stream are missing, stays NOT VALID: it is
 * logged with the SQL. Needs no table of ours to be there. */
bool acting_give_back(PGconn *source, struct error *err) MUST_CHECK;

#endif
