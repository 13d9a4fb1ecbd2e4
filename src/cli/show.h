/* Results as JSON: printed whole for scripts, or cell by cell for people. */
#ifndef CLI_SHOW_H
#define CLI_SHOW_H

#include <jansson.h>

void show_json(const json_t *result);

/* A member of an object: "-" when there is none; of a database's value, NULL. */
const char *show_text(const json_t *object, const char *key);
const char *show_value(const json_t *object, const char *key);
long long show_int(const json_t *object, const char *key);

#endif
