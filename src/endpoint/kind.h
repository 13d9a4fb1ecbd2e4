/*
 * What each kind of endpoint does, behind endpoint.h; its comments are the contract. Private to this
 * folder.
 */
#ifndef ENDPOINT_KIND_H
#define ENDPOINT_KIND_H

#include "endpoint/endpoint.h"

struct endpoint_ops {
    void *(*open)(const struct config *config, struct stop *stop);
    void (*close)(void *state);
    bool (*check)(void *state, enum which_side live, int switch_limit_ms,
                  const struct endpoint_servers *to, struct findings *findings, struct error *err);
    bool (*pause)(void *state, enum which_side to, struct error *err);
    bool (*lead)(void *state, enum which_side side, struct error *err);
    bool (*resume)(void *state, enum which_side side, struct error *err);
    bool (*restore)(void *state, enum which_side live, struct error *err);
    int64_t (*paused_since_us)(const void *state); /* NULL: this kind lets nobody wait */
};

extern const struct endpoint_ops endpoint_pgbouncer;
extern const struct endpoint_ops endpoint_dns;
extern const struct endpoint_ops endpoint_command;
extern const struct endpoint_ops endpoint_none;

#endif
