/*
 * Decodes the messages of PostgreSQL's logical replication protocol, version 1 (plugin pgoutput):
 * bytes in, a message out. Free of libpq and of state: relation messages are returned like any
 * other, and whoever keeps them (stream/) drops them on reconnect.
 *
 * Source of the format: PostgreSQL documentation, "Logical Replication Message Formats", and
 * src/backend/replication/logical/proto.c (versions 12 to 18 agree on version 1).
 *
 * What is decoded points into the bytes given (values are not NUL-terminated!), and arrays are taken
 * from the arena given; both must outlive the message. Any input is safe: what is cut, too long or
 * unknown is an error of class FATAL that names the message type and the offset (D10).
 */
#ifndef PG_PGOUTPUT_H
#define PG_PGOUTPUT_H

#include <stddef.h>

#include "pg/lsn.h"
#include "util/arena.h"
#include "util/error.h"

enum pgoutput_kind {
    PGOUTPUT_BEGIN = 'B',
    PGOUTPUT_COMMIT = 'C',
    PGOUTPUT_ORIGIN = 'O',
    PGOUTPUT_RELATION = 'R',
    PGOUTPUT_TYPE = 'Y',
    PGOUTPUT_INSERT = 'I',
    PGOUTPUT_UPDATE = 'U',
    PGOUTPUT_DELETE = 'D',
    PGOUTPUT_TRUNCATE = 'T',
    PGOUTPUT_MESSAGE = 'M',
};

enum value_kind {
    VALUE_NULL = 'n',
    VALUE_UNCHANGED = 'u', /* unchanged TOAST: not sent */
    VALUE_TEXT = 't',
    VALUE_BINARY = 'b',
};

struct value {
    enum value_kind kind;
    uint32_t length; /* bytes; 0 for NULL and unchanged */
    const char *bytes;
};

struct tuple {
    unsigned count;
    struct value *values;
};

/* What an update or delete says of the old row. */
enum old_kind {
    OLD_NONE = 0,   /* update: the replica identity did not change */
    OLD_KEY = 'K',  /* only the identity's columns are meaningful, all others are sent as NULL */
    OLD_FULL = 'O', /* REPLICA IDENTITY FULL: the whole old row */
};

struct pgoutput_column {
    bool in_identity; /* flag 1: part of the replica identity */
    const char *name;
    uint32_t type_oid;
    int32_t typmod;
};

struct pgoutput_message {
    enum pgoutput_kind kind;
    union {
        struct {
            lsn_t final_lsn;       /* LSN of the commit record: what transactions are ordered by */
            int64_t commit_time;   /* microseconds since 2000-01-01 UTC */
            uint32_t xid;
        } begin;
        struct {
            lsn_t commit_lsn;
            lsn_t end_lsn; /* where the next transaction may start: what is confirmed */
            int64_t commit_time;
        } commit;
        struct {
            uint32_t oid;
            const char *schema; /* "pg_catalog" comes as an empty string on the wire; given as sent */
            const char *name;
            char replica_identity; /* as pg_class.relreplident: d n f i */
            unsigned count;
            struct pgoutput_column *columns;
        } relation;
        struct {
            uint32_t relation_oid;
            enum old_kind old_kind;
            struct tuple old_tuple; /* count 0 if OLD_NONE */
            struct tuple new_tuple; /* count 0 for deletes */
        } row;                      /* insert, update, delete */
        struct {
            unsigned count;
            uint32_t *relation_oids;
            bool cascade;
            bool restart_identity;
        } truncate;
        /* origin, type, message: nothing of theirs is used */
    };
};

bool pgoutput_decode(const char *bytes, size_t length, struct arena *arena,
                     struct pgoutput_message *message, struct error *err) MUST_CHECK;

#endif
