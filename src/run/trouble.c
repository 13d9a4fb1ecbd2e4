#include "run/trouble.h"

#include <jansson.h>

#include "state/setting.h"
#include "util/log.h"

bool trouble_is_new(struct trouble *trouble, const struct error *err)
{
    if (strncmp(trouble->told, err->message, sizeof trouble->told - 1) == 0)
        return false;
    snprintf(trouble->told, sizeof trouble->told, "%s", err->message);
    return true;
}

void trouble_is_over(struct trouble *trouble)
{
    trouble->told[0] = '\0';
}

void trouble_journal(PGconn *control, int64_t epoch, const char *step, const struct error *err)
{
    struct error ignored = ERROR_INIT;
    json_t *detail = json_pack("{s:s, s:s, s:s}", "problem", err->message, "detail", err->detail,
                               "hint", err->hint);
    char *text = detail != NULL ? json_dumps(detail, 0) : NULL;
    if (!journal_write(control, epoch, step, text, &ignored))
        log_error_as(LOG_WARNING, &ignored);
    free(text);
    json_decref(detail);
}
