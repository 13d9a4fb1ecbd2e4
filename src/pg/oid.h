/* Types of PostgreSQL itself by their OIDs, which are the same in all versions. */
#ifndef PG_OID_H
#define PG_OID_H

#include <stdbool.h>
#include <stdint.h>

enum {
    OID_BOOL = 16, OID_BYTEA = 17, OID_CHAR = 18, OID_NAME = 19, OID_INT8 = 20, OID_INT2 = 21,
    OID_INT4 = 23, OID_TEXT = 25, OID_OID = 26, OID_JSON = 114, OID_BOX = 603, OID_CIDR = 650,
    OID_FLOAT4 = 700, OID_FLOAT8 = 701, OID_MACADDR8 = 774, OID_MONEY = 790, OID_MACADDR = 829, OID_INET = 869,
    OID_ACLITEM = 1033, OID_BPCHAR = 1042, OID_VARCHAR = 1043, OID_DATE = 1082, OID_TIME = 1083,
    OID_TIMESTAMP = 1114, OID_TIMESTAMPTZ = 1184, OID_NUMERIC = 1700, OID_UUID = 2950,
    OID_JSONB = 3802,
};

/* OID_IN(oid, OID_TEXT, OID_VARCHAR) */
#define OID_IN(oid, ...) oid_in(oid, (const uint32_t[]){__VA_ARGS__, 0})

static inline bool oid_in(uint32_t oid, const uint32_t *list)
{
    for (; *list != 0; list++) {
        if (*list == oid)
            return true;
    }
    return false;
}

#endif
