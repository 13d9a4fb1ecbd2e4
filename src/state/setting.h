/* Named values and the journal, on control. */
#ifndef STATE_SETTING_H
#define STATE_SETTING_H

#include <libpq-fe.h>

#include "util/error.h"

/* The id of a marker of a switch: behind it `run` has looked at the source, and carries what it saw. With
 * "_back_" and its number for a shard. */
#define SETTING_LOOKED "looked"

/* The name that a setting of one direction has: with the suffix of that one. */
enum { SETTING_NAME_MAX = 64 };
const char *setting_name(const char *setting, const char *suffix, char name[SETTING_NAME_MAX]);

/* *value is NULL when there is none; the caller frees it. */
bool setting_get(PGconn *control, const char *name, char **value, struct error *err) MUST_CHECK;
bool setting_put(PGconn *control, const char *name, const char *value, struct error *err)
    MUST_CHECK;
bool setting_remove(PGconn *control, const char *name, struct error *err) MUST_CHECK;

/* `detail` is a JSON object, or NULL. */
bool journal_write(PGconn *control, int64_t epoch, const char *step, const char *detail,
                   struct error *err) MUST_CHECK;

#endif
