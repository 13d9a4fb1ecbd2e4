/*
 * `endpoint` and `hooks` of portage.yaml, as written: how the application is led from one side to the
 * other, and what is to be run on the way. Part of struct config (config.h), which owns it.
 */
#ifndef MAPPING_CONFIG_ENDPOINT_H
#define MAPPING_CONFIG_ENDPOINT_H

#include "mapping/config_text.h"
#include "mapping/sides.h"

enum endpoint_kind { ENDPOINT_NONE, ENDPOINT_PGBOUNCER, ENDPOINT_DNS, ENDPOINT_COMMAND };

/* An entry of the section [databases] of a pooler: what it says about the server, per side. */
struct config_database {
    struct config_text name;
    struct config_text sides[SIDES]; /* "host=… port=… dbname=…" */
};

struct config_pooler {
    struct config_text admin; /* connection string of its console; may hold a password */
    struct config_text login; /* who may come through it, to try; .text NULL: nobody is known */
    struct config_text file;  /* with the entries; resolved against portage.yaml's folder */
    unsigned databases_count;
    struct config_database *databases;
};

/* A name and the addresses that it has, per side: IPv4, IPv6, or a name (then it is an alias). */
struct config_name {
    struct config_text name;
    unsigned counts[SIDES];
    struct config_text *sides[SIDES];
};

struct config_dns {
    struct config_text server;
    struct config_text zone;     /* .text NULL: nsupdate finds out */
    struct config_text key_file; /* TSIG; resolved; .text NULL: none */
    unsigned names_count;
    struct config_name *names;
};

enum hook_phase {
    HOOK_BEFORE_PAUSE, /* still time to refuse: nothing was touched */
    HOOK_PAUSED,
    HOOK_FENCED,
    HOOK_DRAINED,
    HOOK_SWITCHED, /* behind the point of no return; what it returns is told, no more */
    HOOK_RESUMED,
    HOOK_ABORTED,
    HOOK_PHASES,
};

struct config_endpoint {
    enum endpoint_kind kind;
    struct config_text at; /* where `endpoint` stands; .text NULL when it was left out */
    unsigned poolers_count;
    struct config_pooler *poolers;
    struct config_dns dns;
    struct config_text command;
    struct config_text hooks[HOOK_PHASES]; /* .text NULL: none */
};

/* before_pause, paused, … */
const char *hook_phase_name(enum hook_phase phase);

#endif
