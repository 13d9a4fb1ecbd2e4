#include "verify/digest.h"

#include "pg/conn.h"
#include "verify/reading.h"

enum { STATEMENT_MAX = 1 << 20 };

enum type {
    INT8 = 20,
    INT2 = 21,
    INT4 = 23,
    BPCHAR = 1042,
    DATE = 1082,
    TIME = 1083,
    TIMESTAMP = 1114,
    TIMESTAMPTZ = 1184,
    UUID = 2950,
};

/* ---- the statement ---- */

/* A function of a type's own whose hash says all of the value; NULL. It is the same from 12 on. */
static const char *own_hash(enum type type)
{
    switch (type) {
    case INT2:
        return "hashint2extended";
    case INT4:
        return "hashint4extended";
    case UUID:
        return "uuid_hash_extended";
    default:
        return NULL;
    }
}

/* What gives the binary form of a type whose text costs three times as much; NULL. */
static const char *own_send(enum type type)
{
    switch (type) {
    case DATE:
        return "date_send";
    case TIME:
        return "time_send";
    case TIMESTAMP:
        return "timestamp_send";
    case TIMESTAMPTZ:
        return "timestamptz_send";
    default:
        return NULL;
    }
}

/*
 * bigint's hash folds the value to 32 bits, so that it is the same as integer's: its upper half is
 * hashed first. That names the item twice, and an expression is evaluated as often as it is named:
 * only what is a plain column is hashed so.
 *
 * Hashed as texts, because the type's own hash says too little: numeric (not the sign), jsonb (not
 * a number's scale), floats and intervals (not what compares equal). Under "C", because other
 * collations may call different texts equal.
 */
static void put_hash(struct buffer *sql, const struct mapping *mapping, unsigned item)
{
    const struct mapping_item *mapped = &mapping->items[item];
    bool binary = reading_is_binary(mapping, item);
    enum type type = mapped->target->base_oid;
    unsigned seed = item + 1;
    if (binary && own_hash(type) != NULL)
        buffer_printf(sql, "pg_catalog.%s(portage_%u, %u)", own_hash(type), item, seed);
    else if (binary && own_send(type) != NULL)
        buffer_printf(sql,
                      "pg_catalog.hashtextextended(pg_catalog.encode(pg_catalog.%s(portage_%u),"
                      " 'hex') COLLATE pg_catalog.\"C\", %u)",
                      own_send(type), item, seed);
    else if (binary && type == BPCHAR)
        buffer_printf(sql, "pg_catalog.hashbpcharextended(portage_%u COLLATE pg_catalog.\"C\", %u)",
                      item, seed);
    else if (binary && type == INT8 && mapped->select->kind == SELECT_COLUMN)
        buffer_printf(sql,
                      "pg_catalog.hashint8extended(portage_%u,"
                      " pg_catalog.hashint8extended(portage_%u >> 32, %u))",
                      item, item, seed);
    else
        buffer_printf(sql,
                      "pg_catalog.hashtextextended(portage_%u::text COLLATE pg_catalog.\"C\", %u)",
                      item, seed);
}

/*
 * The hashes joined, then mixed, by both halves again. OFFSET 0 keeps the planner from putting the
 * join where it is named twice.
 */
static const char *digest_sql(const struct mapping *mapping, const char *select, bool target,
                              struct arena *arena)
{
    struct buffer sql;
    buffer_init(&sql, STATEMENT_MAX);
    buffer_printf(&sql,
                  "SELECT pg_catalog.count(*), COALESCE(pg_catalog.sum("
                  "pg_catalog.hashint8extended(joined,"
                  " pg_catalog.hashint8extended(joined >> 32, 0))), 0),"
                  " COALESCE(pg_catalog.bool_and(placed), true) FROM (SELECT %s AS placed, ",
                  target ? "portage_placed" : "true");
    for (unsigned i = 0; i < mapping->items_count; i++) {
        buffer_puts(&sql, i > 0 ? " # COALESCE(" : "COALESCE(");
        put_hash(&sql, mapping, i);
        buffer_printf(&sql, ", %u)", i + 1);
    }
    buffer_printf(&sql, " AS joined FROM (%s) AS portage_rows OFFSET 0) AS portage_hashed", select);
    return arena_take(arena, &sql);
}

/* ---- question and answer ---- */

bool digest_ask(PGconn *conn, const struct mapping *mapping, const char *select, bool target,
                struct error *err)
{
    struct arena arena;
    arena_init(&arena, 64 * 1024);
    int sent = PQsendQuery(conn, digest_sql(mapping, select, target, &arena));
    arena_release(&arena);
    return sent == 1 || conn_error(conn, err);
}

/* A sum of signed 64-bit hashes, modulo 2^64. */
static uint64_t sum_of(const char *text)
{
    bool negative = text[0] == '-';
    uint64_t value = 0;
    for (const char *digit = text + negative; *digit >= '0' && *digit <= '9'; digit++)
        value = value * 10 + (uint64_t)(*digit - '0');
    return negative ? 0 - value : value;
}

bool digest_answer(PGconn *conn, struct server_digest *digest, struct error *err)
{
    PGresult *result = PQgetResult(conn), *end;
    bool ok = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;
    if (ok)
        *digest = (struct server_digest){.rows = (uint64_t)result_int(result, 0, 0),
                                         .sum = sum_of(result_text(result, 0, 1)),
                                         .placed = result_bool(result, 0, 2)};
    else
        conn_result_error(conn, result, err);
    PQclear(result);
    while ((end = PQgetResult(conn)) != NULL)
        PQclear(end);
    return ok;
}
