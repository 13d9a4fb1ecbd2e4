#include "stream/readback.h"

#include "mapping/statements.h"
#include "pg/conn.h"

void readback_init(struct readback *readback, const char *conninfo)
{
    *readback = (struct readback){.conninfo = conninfo};
}

void readback_release(struct readback *readback)
{
    conn_close(readback->conn);
    readback->conn = NULL;
}

static bool row_gone(const struct mapping *mapping, struct error *err)
{
    error_set(err, ERROR_FATAL,
              "a changed row of %s.%s is gone from the source before its unchanged large values "
              "could be read",
              mapping->source->schema, mapping->source->name);
    return error_hint(err, "ALTER TABLE \"%s\".\"%s\" REPLICA IDENTITY FULL; then \"pgportage abort\" and begin again.",
                      mapping->source->schema, mapping->source->name);
}

static void fill_values(struct change *change, const struct column_set *missing,
                        const PGresult *result, struct arena *arena)
{
    int column = 0;
    for (unsigned c = 0; c < change->new_row.count; c++) {
        if (!column_set_has(missing, c))
            continue;
        struct value *value = &change->new_row.values[c];
        int length = PQgetlength(result, 0, column);
        if (PQgetisnull(result, 0, column))
            *value = (struct value){.kind = VALUE_NULL};
        else
            *value = (struct value){
                .kind = VALUE_TEXT,
                .length = (uint32_t)length,
                .bytes = arena_strndup(arena, PQgetvalue(result, 0, column), (size_t)length),
            };
        column++;
    }
}

/* An update of a row that is gone by now: its delete follows in the stream. Until then the target
 * columns that would need the missing values are left as they are. */
static bool may_stay_unfilled(const struct change *change)
{
    return change->op == CHANGE_UPDATE && change->mapping->where == NULL;
}

bool readback_fill(struct readback *readback, struct change *change,
                   const struct column_set *missing, struct arena *arena, struct error *err)
{
    const struct mapping *mapping = change->mapping;
    const char *key[RELATION_COLUMNS_MAX];
    if (readback->conn == NULL)
        readback->conn = conn_open(readback->conninfo, CONN_SESSION, "read back", err);
    if (readback->conn == NULL)
        return false;
    for (unsigned k = 0; k < mapping->key_count; k++)
        key[k] = change->new_row.values[mapping->key[k].source].bytes;
    PGresult *result = conn_query(readback->conn, statement_read_back(mapping, missing, arena),
                                  (int)mapping->key_count, key, err);
    if (result == NULL)
        return error_context(err, "reading back a row of %s", mapping->name);
    bool found = PQntuples(result) == 1;
    if (found)
        fill_values(change, missing, result, arena);
    PQclear(result);
    return found || may_stay_unfilled(change) || row_gone(mapping, err);
}
