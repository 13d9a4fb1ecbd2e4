/*
 * The way back: mappings turned round, from each shard to the old source. Made from the mappings
 * that bind.h gave, by the inverse of each source column; the result is a configuration like any
 * other, which bind_mappings() binds to a shard's catalog as its source and the old source's as its
 * one target.
 *
 *   split  (one table to several): the reversed mappings of its parts have `parts` > 1; each gives only
 *          some columns of a row, which is read and written as a whole (rejoin.h)
 *   merge  (several to one): the constants that tell the parts apart become the reversed `where`
 *   everywhere: the same rows are on all shards; those of shard 0 count. Of the other shards there is
 *          no reversed mapping
 *   where  of the way there needs nothing: what did not pass never came, and is not touched. In a split
 *          it is no way back: its rows are not in all parts
 *
 * A source column without an inverse is a *loss*: a row inserted on the way back has its default, an
 * update leaves it alone. One whose inverse is a constant ("NULL::text") is an accepted loss: a row
 * inserted has the constant, an update leaves it alone. Columns that the source generates need no way.
 */
#ifndef MAPPING_INVERT_H
#define MAPPING_INVERT_H

#include "mapping/findings.h"
#include "mapping/mapping.h"

enum inverse_how { INVERSE_MISSING, INVERSE_DERIVED, INVERSE_GIVEN, INVERSE_CONSTANT };

/* How one mapping gives a column of its source back. */
struct inverse {
    int column;             /* index into source->columns */
    enum inverse_how how;   /* GIVEN and CONSTANT: in `inverse:`; DERIVED: from the select list */
    const char *expr;       /* SQL over the target's columns; NULL when it is missing */
    struct column_set uses; /* of the target's columns */
    bool stored_as_jsonb;   /* a text that went into jsonb: it comes back as jsonb writes it */
    struct select_calls calls;
};

struct inverses {
    unsigned count; /* all columns of the source that it does not generate, in their order */
    struct inverse *items;
};

/* A constant says nothing of the row: there is nothing to prove. */
static inline bool inverse_is_proved(const struct inverse *inverse)
{
    return inverse->how == INVERSE_DERIVED || inverse->how == INVERSE_GIVEN;
}

/* `config` is where the mapping's texts stand. The texts were checked when the mapping was bound. */
void inverses_of(const struct config *config, const struct mapping *mapping, struct arena *arena,
                 struct inverses *inverses);

/* For the binder: an `inverse:` that cannot be used is a finding that refuses. */
bool inverse_check_given(const struct config *config, const struct config_inverse *given,
                         const struct relation *target, struct arena *arena,
                         struct error *err) MUST_CHECK;

/*
 * The configuration of the way back from one shard. The slot is named <slot>_back_<shard>, the
 * publication <publication>_back; limits are those of the way there. Without schema, verify and shard
 * keys. A table that accept_losses names as a whole is left out. `arena` owns what is new; `set` and
 * `config` must outlive it. Binding it says what is wrong with it, as ever.
 */
void invert_config(const struct mapping_set *set, const struct config *config, unsigned shard,
                   struct arena *arena, struct config *back);

/* The slot of the way back from a shard, on that shard. */
const char *invert_slot(const struct config *config, unsigned shard, struct arena *arena);

/* The same without mappings: servers, slot and publication. */
void invert_servers(const struct config *config, unsigned shard, struct arena *arena,
                    struct config *back);

/*
 * What the way back loses or cannot do, as findings; none of them refuses, because the way there does
 * not need it. Of each the object is schema.table.column, or schema.table, of the source:
 *
 *   no-way-back    warning  a column without an inverse; a table that cannot be carried back. While
 *                           there is one of these, a cutover gives something up
 *   accepted-loss  note     the same, but accept_losses names it, or its inverse is a constant
 *   target-only    note     a column of the target from which no column of the source is made
 *   unknown-loss   warning  accept_losses names what is no loss
 *
 * Asks no server.
 */
void invert_check(const struct mapping_set *set, const struct config *config, struct arena *arena,
                  struct findings *findings);

/* Has both servers prepare the statements of the way back, and compute them on sample rows of the
 * shard; findings as above. bind_check_servers() proves the inverses on rows of the source. */
bool invert_check_servers(const struct mapping_set *set, const struct config *config,
                          PGconn *source, PGconn *target, struct arena *arena,
                          struct findings *findings, struct error *err) MUST_CHECK;

/* Whether accept_losses names the table, or the column if it is not NULL. */
bool invert_accepts(const struct config *config, const struct relation *source, const char *column,
                    struct arena *arena);

#endif
