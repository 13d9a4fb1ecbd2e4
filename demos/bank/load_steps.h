/* What `bank load` puts into each table: SQL that makes its rows on the server. */
#ifndef BANK_LOAD_STEPS_H
#define BANK_LOAD_STEPS_H

#include <stdbool.h>

struct load_step {
    const char *table;
    const char *sql; /* $1 customers, $2 transactions: both bigint */
    bool late;       /* reads what other steps made: begins when they have ended */
};

/* In the order of the foreign keys. */
extern const struct load_step load_steps[];
extern const unsigned load_steps_count;

/* A function for the session, with the seed for its one %s: pg_temp.pick(n, salt, below) is from 0
 * up to, not including, below; the same for the same n, salt and seed. */
extern const char load_pick[];

/* After the rows: sequences above what they used. */
extern const char load_sequences[];

#endif
