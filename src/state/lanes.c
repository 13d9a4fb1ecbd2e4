#include "state/lanes.h"

#include "pg/conn.h"

struct texts {
    char stream[12], lanes[12], position[LSN_TEXT_SIZE], epoch[24];
};

static void put_texts(struct texts *texts, unsigned stream, unsigned lanes, lsn_t position,
                      int64_t epoch)
{
    snprintf(texts->stream, sizeof texts->stream, "%u", stream);
    snprintf(texts->lanes, sizeof texts->lanes, "%u", lanes);
    lsn_text(position, texts->position);
    snprintf(texts->epoch, sizeof texts->epoch, "%lld", (long long)epoch);
}

bool lanes_create(PGconn *server, unsigned stream, unsigned lanes, lsn_t progress, int64_t epoch,
                  struct error *err)
{
    struct texts texts;
    put_texts(&texts, stream, lanes, progress, epoch);
    const char *const values[] = {texts.stream, texts.lanes, texts.position, texts.epoch};
    PGresult *result = conn_query(server,
                                  "INSERT INTO portage.lane (stream, lane, progress, epoch)"
                                  " SELECT $1::int, l, $3::pg_lsn, $4::bigint"
                                  "   FROM pg_catalog.generate_series(0, $2::int - 1) AS l"
                                  " ON CONFLICT DO NOTHING",
                                  4, values, err);
    PQclear(result);
    return result != NULL || error_context(err, "creating the lanes of stream %u", stream);
}

bool lanes_raise(PGconn *server, unsigned stream, lsn_t position, int64_t epoch, struct error *err)
{
    struct texts texts;
    put_texts(&texts, stream, 0, position, epoch);
    const char *const values[] = {texts.stream, texts.position, texts.epoch};
    /* An UPDATE of nothing would be a transaction all the same. */
    PGresult *result = conn_query(server,
                                  "UPDATE portage.lane SET progress = $2::pg_lsn,"
                                  "   partial_lsn = NULL, partial = 0"
                                  " WHERE stream = $1::int AND progress < $2::pg_lsn"
                                  "   AND epoch = $3::bigint",
                                  3, values, err);
    PQclear(result);
    return result != NULL || error_context(err, "raising the lanes of stream %u", stream);
}

bool lanes_least(PGconn *server, unsigned stream, lsn_t *least, bool *known, struct error *err)
{
    struct texts texts;
    put_texts(&texts, stream, 0, 0, 0);
    const char *const values[] = {texts.stream};
    PGresult *result = conn_query_row(server,
                                      "SELECT COALESCE(l.progress, '0/0'), l.progress IS NOT NULL"
                                      "  FROM (SELECT) AS one LEFT JOIN"
                                      "       (SELECT progress FROM portage.lane"
                                      "         WHERE stream = $1::int ORDER BY progress LIMIT 1)"
                                      "       AS l ON true",
                                      1, values, err);
    bool ok = result != NULL && result_lsn(result, 0, 0, least, err);
    *known = ok && result_bool(result, 0, 1);
    PQclear(result);
    return ok;
}
