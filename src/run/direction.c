#include "run/direction.h"

#include "pg/conn.h"
#include "state/setting.h"

static const char *const sides[] = {"source", "target"};

bool direction_read(PGconn *control, enum live *live, struct error *err)
{
    char *value;
    if (!setting_get(control, "live", &value, err))
        return error_context(err, "reading which side is live");
    bool ok = true;
    *live = LIVE_SOURCE;
    if (value != NULL && strcmp(value, sides[LIVE_TARGET]) == 0)
        *live = LIVE_TARGET;
    else if (value != NULL && strcmp(value, sides[LIVE_SOURCE]) != 0)
        ok = error_set(err, ERROR_FATAL, "the setting \"live\" is \"%.20s\"", value);
    free(value);
    return ok;
}

bool direction_position(PGconn *control, enum live live, const char *publisher, lsn_t *position,
                        struct error *err)
{
    const char *const values[] = {publisher, sides[live]};
    PGresult *result = conn_query(control,
                                  "SELECT COALESCE(detail->'positions'->>$1, '0/0'),"
                                  "       detail->>'live' = $2"
                                  "  FROM portage.journal WHERE step = 'switched'"
                                  " ORDER BY id DESC LIMIT 1",
                                  2, values, err);
    bool ok = result != NULL;
    *position = 0;
    if (ok && PQntuples(result) > 0 && result_bool(result, 0, 1))
        ok = result_lsn(result, 0, 0, position, err);
    PQclear(result);
    return ok || error_context(err, "reading the last switch");
}
