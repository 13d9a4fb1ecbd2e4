#include "run/direction.h"

#include "pg/conn.h"

bool direction_position(PGconn *control, enum which_side live, const char *publisher, lsn_t *position,
                        struct error *err)
{
    const char *const values[] = {publisher, side_name(live)};
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
