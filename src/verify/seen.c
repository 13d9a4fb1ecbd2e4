#include "verify/seen.h"

#include <xxhash.h>

#include "pg/conn.h"
#include "verify/reading.h"

enum { PARAMS_MAX = RELATION_COLUMNS_MAX, TEXT_OID = 25, NUMERIC_OID = 1700 };

/* Parameters of a statement by key, in the form in which the key was read. */
struct key_params {
    int count;
    Oid types[PARAMS_MAX];
    const char *values[PARAMS_MAX];
    int lengths[PARAMS_MAX];
    int formats[PARAMS_MAX];
};

static unsigned key_item(const struct mapping *mapping, unsigned k)
{
    return mapping->has_key ? (unsigned)mapping->key[k].item : k;
}

static void key_params(const struct suspect *suspect, struct arena *arena,
                       struct key_params *params)
{
    const struct mapping *mapping = suspect->mapping;
    const char *at = buffer_text(&suspect->key);
    params->count = (int)(mapping->has_key ? mapping->key_count : mapping->items_count);
    for (int k = 0; k < params->count; k++) {
        unsigned item = key_item(mapping, (unsigned)k);
        bool binary = reading_is_binary(mapping, item);
        int32_t length;
        memcpy(&length, at, sizeof length);
        at += sizeof length;
        params->types[k] = binary ? mapping->items[item].target->base_oid : TEXT_OID;
        params->formats[k] = binary;
        params->lengths[k] = length > 0 ? length : 0;
        /* text parameters end in a NUL */
        params->values[k] =
            length < 0 ? NULL : arena_strndup(arena, at, (size_t)params->lengths[k]);
        at += params->lengths[k];
    }
}

/* A sum, because a scan may give the rows in another order each time. */
static void version_add(struct seen *seen, unsigned shard, const char *version)
{
    XXH128_hash_t hash = XXH3_128bits_withSeed(version, strlen(version), shard);
    seen->version.low += hash.low64;
    seen->version.high += hash.high64;
}

/* Rows of a result: version, touched or placed, items. */
static void take_rows(const struct mapping *mapping, const PGresult *result, unsigned shard,
                      struct arena *arena, struct seen *seen)
{
    unsigned fresh = (unsigned)PQntuples(result);
    struct seen_row *rows = arena_alloc(arena, (seen->count + fresh) * sizeof *rows);
    if (seen->count > 0)
        memcpy(rows, seen->rows, seen->count * sizeof *rows);
    for (unsigned r = 0; r < fresh; r++) {
        struct seen_row *row = &rows[seen->count + r];
        bool flag = result_bool(result, (int)r, 1);
        *row = (struct seen_row){.shard = shard, .touched = flag, .placed = flag};
        row->values = arena_alloc(arena, mapping->items_count * sizeof *row->values);
        for (unsigned i = 0; i < mapping->items_count; i++)
            row->values[i] = PQgetisnull(result, (int)r, (int)i + 2)
                                 ? NULL
                                 : arena_strdup(arena, result_text(result, (int)r, (int)i + 2));
        row->version = arena_strdup(arena, result_text(result, (int)r, 0));
        version_add(seen, shard, row->version);
    }
    seen->rows = rows;
    seen->count += fresh;
}

/* ---- many at once ---- */

/* What is asked of one server. */
struct question {
    PGconn *conn;
    const char *(*sql_of)(const struct session *session, const struct mapping *mapping,
                          unsigned shard, struct arena *arena);
    unsigned shard;
};

/* One statement for neighbours of one mapping. */
static bool send_all(const struct session *session, const struct question *question,
                     struct suspect *const *suspects, unsigned count, struct arena *arena)
{
    const struct mapping *last = NULL;
    bool sent = true;
    for (unsigned i = 0; sent && i < count; i++) {
        const struct mapping *mapping = suspects[i]->mapping;
        struct key_params params;
        key_params(suspects[i], arena, &params);
        if (mapping != last)
            sent = PQsendPrepare(question->conn, "",
                                 question->sql_of(session, mapping, question->shard, arena),
                                 params.count, params.types) == 1;
        sent = sent && PQsendQueryPrepared(question->conn, "", params.count, params.values,
                                           params.lengths, params.formats, 0) == 1;
        last = mapping;
    }
    return sent && PQpipelineSync(question->conn) == 1;
}

/* All answers, also behind an error, until the server is in step again. */
static bool take_all(const struct question *question, struct suspect *const *suspects,
                     unsigned count, struct arena *arena, struct seen *seen, struct error *err)
{
    unsigned taken = 0;
    bool ok = true, in_step = false;
    while (!in_step) {
        PGresult *result = PQgetResult(question->conn);
        ExecStatusType status = PQresultStatus(result);
        if (result == NULL && PQstatus(question->conn) == CONNECTION_BAD)
            return ok && conn_error(question->conn, err);
        if (status == PGRES_TUPLES_OK) {
            take_rows(suspects[taken]->mapping, result, question->shard, arena, &seen[taken]);
            taken++;
        } else if (result != NULL && status == PGRES_FATAL_ERROR && ok) {
            conn_result_error(question->conn, result, err);
            ok = error_context(err, "reading a row of %s",
                               suspects[taken < count ? taken : count - 1]->mapping->name);
        }
        in_step = result != NULL && status == PGRES_PIPELINE_SYNC;
        PQclear(result);
    }
    return ok;
}

/* Adds to what has been seen of them on other servers. */
static bool ask_all_rows(const struct session *session, const struct question *question,
                         struct suspect *const *suspects, unsigned count, struct arena *arena,
                         struct seen *seen, struct error *err)
{
    if (PQenterPipelineMode(question->conn) != 1)
        return conn_error(question->conn, err);
    bool ok = send_all(session, question, suspects, count, arena)
                  ? take_all(question, suspects, count, arena, seen, err)
                  : conn_error(question->conn, err);
    if (PQexitPipelineMode(question->conn) != 1)
        return ok && conn_error(question->conn, err);
    return ok;
}

static const char *source_sql(const struct session *session, const struct mapping *mapping,
                              unsigned shard, struct arena *arena)
{
    (void)session;
    (void)shard;
    return reading_source_row(mapping, arena);
}

static const char *target_sql(const struct session *session, const struct mapping *mapping,
                              unsigned shard, struct arena *arena)
{
    return reading_target_row(mapping, shard, session->shards_count, arena);
}

bool seen_source(struct session *session, struct suspect *const *suspects, unsigned count,
                 struct arena *arena, struct seen *seen, struct error *err)
{
    const struct question question = {.conn = session->source, .sql_of = source_sql};
    memset(seen, 0, count * sizeof *seen);
    return ask_all_rows(session, &question, suspects, count, arena, seen, err) ||
           error_context(err, "the source");
}

bool seen_target(struct session *session, struct suspect *const *suspects, unsigned count,
                 struct arena *arena, struct seen *seen, struct error *err)
{
    memset(seen, 0, count * sizeof *seen);
    for (unsigned s = 0; s < session->shards_count; s++) {
        const struct question question = {
            .conn = session->shards[s], .sql_of = target_sql, .shard = s};
        if (!ask_all_rows(session, &question, suspects, count, arena, seen, err))
            return error_context(err, "shard %u", s);
    }
    return true;
}

bool seen_execute(PGconn *shard, const char *sql, const struct suspect *suspect,
                  struct arena *arena, struct error *err)
{
    struct key_params params;
    key_params(suspect, arena, &params);
    PGresult *result = PQexecParams(shard, sql, params.count, params.types, params.values,
                                    params.lengths, params.formats, 0);
    bool ok = PQresultStatus(result) == PGRES_COMMAND_OK || conn_result_error(shard, result, err);
    PQclear(result);
    return ok;
}

/* 1.50 and 1.5 are the same number. */
static size_t without_trailing_zeros(const char *number)
{
    size_t length = strlen(number);
    if (strchr(number, '.') == NULL)
        return length;
    while (number[length - 1] == '0')
        length--;
    return number[length - 1] == '.' ? length - 1 : length;
}

bool value_same(const struct session *session, const struct mapping *mapping, unsigned item,
                const char *a, const char *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    if (strcmp(a, b) == 0)
        return true;
    if (session->options->strict || !mapping->has_key ||
        mapping->items[item].target->base_oid != NUMERIC_OID)
        return false;
    size_t length = without_trailing_zeros(a);
    return length == without_trailing_zeros(b) && memcmp(a, b, length) == 0;
}

static bool rows_same(const struct session *session, const struct mapping *mapping,
                      const struct seen_row *source, const struct seen_row *target)
{
    if (!target->placed)
        return false;
    for (unsigned i = 0; i < mapping->items_count; i++) {
        if (!value_same(session, mapping, i, source->values[i], target->values[i]))
            return false;
    }
    return true;
}

bool seen_equal(const struct session *session, const struct mapping *mapping,
                const struct seen *source, const struct seen *target)
{
    unsigned copies = mapping->everywhere ? session->shards_count : 1;
    if (target->count != source->count * copies)
        return false;
    for (unsigned t = 0; t < target->count; t++) {
        if (!target->rows[t].placed ||
            (mapping->has_key && !rows_same(session, mapping, &source->rows[0], &target->rows[t])))
            return false;
    }
    /* The rows are in the order of the shards: each of them has as many as the source. */
    for (unsigned t = 0; copies > 1 && t < target->count; t++) {
        if (target->rows[t].shard != t / source->count)
            return false;
    }
    return true;
}
