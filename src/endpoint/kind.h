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
    bool (*check)(void *state, enum endpoint_side live, int switch_limit_ms,
                  struct findings *findings, struct error *err);
    bool (*pause)(void *state, enum endpoint_side to, struct error *err);
    bool (*lead)(void *state, enum endpoint_side side, struct error *err);
    bool (*resume)(void *state, enum endpoint_side side, struct error *err);
    bool (*restore)(void *state, enum endpoint_side live, struct error *err);
};

extern const struct endpoint_ops endpoint_pgbouncer;
extern const struct endpoint_ops endpoint_dns;
extern const struct endpoint_ops endpoint_command;
extern const struct endpoint_ops endpoint_none;

static inline enum endpoint_side other_side(enum endpoint_side side)
{
    return side == ENDPOINT_SOURCE ? ENDPOINT_TARGET : ENDPOINT_SOURCE;
}

#endif
