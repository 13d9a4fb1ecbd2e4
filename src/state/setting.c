#include "state/setting.h"

#include "pg/conn.h"

const char *setting_name(const char *setting, const char *suffix, char name[SETTING_NAME_MAX])
{
    snprintf(name, SETTING_NAME_MAX, "%s%s", setting, suffix);
    return name;
}

bool setting_get(PGconn *control, const char *name, char **value, struct error *err)
{
    PGresult *result = conn_query(control, "SELECT value FROM portage.setting WHERE name = $1", 1,
                                  &name, err);
    if (result == NULL)
        return false;
    *value = PQntuples(result) > 0 ? check_strdup(result_text(result, 0, 0)) : NULL;
    PQclear(result);
    return true;
}

bool setting_put(PGconn *control, const char *name, const char *value, struct error *err)
{
    const char *const values[] = {name, value};
    return conn_run(control,
                    "INSERT INTO portage.setting (name, value) VALUES ($1, $2)"
                    " ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value",
                    2, values, err);
}

bool setting_remove(PGconn *control, const char *name, struct error *err)
{
    return conn_run(control, "DELETE FROM portage.setting WHERE name = $1", 1, &name, err);
}

bool journal_write(PGconn *control, int64_t epoch, const char *step, const char *detail,
                   struct error *err)
{
    char epoch_text[24];
    snprintf(epoch_text, sizeof epoch_text, "%lld", (long long)epoch);
    const char *const values[] = {epoch_text, step, detail};
    return conn_run(control,
                    "INSERT INTO portage.journal (epoch, step, detail)"
                    " VALUES ($1::bigint, $2, $3::jsonb)",
                    3, values, err);
}
