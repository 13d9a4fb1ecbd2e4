/* Table names as written in portage.yaml: schema.table, parts quoted where needed, and * in patterns. */
#ifndef MAPPING_NAMES_H
#define MAPPING_NAMES_H

#include "mapping/config.h"
#include "pg/catalog.h"

struct table_name {
    const char *schema, *name; /* without quotes; `public` when no schema is written */
};

/* False when it is not a name. Unquoted parts are folded to lower case, as PostgreSQL does. */
bool name_parse(const char *text, struct arena *arena, struct table_name *name) MUST_CHECK;

/* Whether "schema.table" matches the pattern, in which * stands for any text. */
bool name_matches(const char *pattern, const char *schema, const char *name);

#endif
