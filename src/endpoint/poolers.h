/*
 * The poolers of the configuration, each with its console and, per database, one more: PAUSE keeps a
 * console busy until it is done, and all databases are to pause together. Private to pgbouncer*.c.
 */
#ifndef ENDPOINT_POOLERS_H
#define ENDPOINT_POOLERS_H

#include "endpoint/console.h"
#include "endpoint/endpoint.h"
#include "mapping/config.h"
#include "mapping/findings.h"
#include "mapping/pairs.h"

struct pooled {
    const struct config_database *config;
    struct pairs sides[SIDES];
    struct pairs wanted;    /* its entry for the side of this call: filled by pooler_wants() */
    struct console console; /* for PAUSE and RESUME */
    int row;                /* in the pooler's last answer to SHOW DATABASES; -1 if not there */
};

struct pooler {
    const struct config_pooler *config;
    struct arena *arena;
    struct console control;
    unsigned count;
    struct pooled *databases;
    struct error err; /* what kept it from taking part in this call */
};

struct poolers {
    const struct config *config;
    struct stop *stop;
    struct arena arena; /* as long as the endpoint */
    struct arena call;  /* one call */
    unsigned count;
    struct pooler *items;
    unsigned consoles_count;
    struct console **consoles; /* of all databases */
    int64_t paused_since_us;   /* the last PAUSE */
};

/* The row of this name in the last answer to SHOW DATABASES; -1 if not there. */
int pooler_row(const struct pooler *pooler, const char *name);

/* Asks SHOW DATABASES, and finds ours in it. */
bool pooler_look(struct pooler *pooler, struct error *err) MUST_CHECK;

/* Reads the file: what each entry has to be for this side, and whether all are. `text` is the file. */
bool pooler_wants(struct pooler *pooler, enum which_side side, struct buffer *text,
                  bool *written, struct error *err) MUST_CHECK;

/* After the two above: whether the pooler uses the address that is wanted. */
bool pooled_in_force(const struct pooler *pooler, const struct pooled *database);
bool pooled_paused(const struct pooler *pooler, const struct pooled *database);

/* A call begins, and ends: with the first pooler's error, if any. */
void poolers_begin(struct poolers *poolers);
bool poolers_end(const struct poolers *poolers, struct error *err) MUST_CHECK;

/* Sends `verb "database"` to all databases of a pooler, each by its own console. */
bool pooler_send(struct pooler *pooler, const char *verb, struct error *err);

/* Until every pooler has answered what its console was asked. */
void poolers_wait_for_controls(struct poolers *poolers);

/* Of poolers that have not failed in this call. */
void poolers_resume_all(struct poolers *poolers);

/* pgbouncer_pause.c */
bool poolers_pause(void *state, enum which_side to, struct error *err) MUST_CHECK;

/* What stands against it (pgbouncer_check.c). */
bool poolers_check(void *state, enum which_side live, int switch_limit_ms,
                   const struct endpoint_servers *to, struct findings *findings,
                   struct error *err) MUST_CHECK;

/* Tries to come through to `to` (pgbouncer_probe.c). Only while the file is what the pooler uses, and it
 * leads to the other side. False when it could not. */
bool pooler_probe(struct poolers *poolers, struct pooler *pooler, enum which_side to,
                  const struct endpoint_servers *servers, struct findings *findings,
                  struct error *err) MUST_CHECK;

#endif
