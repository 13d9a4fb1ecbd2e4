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

/* schema.table.column. */
bool column_name_parse(const char *text, struct arena *arena, struct table_name *table,
                       const char **column) MUST_CHECK;

/* A pattern has a * that is not quoted. */
bool name_is_pattern(const char *text);

/* Whether a table matches the pattern, in which * stands for any text within the schema's or the
 * table's name, and what is quoted for itself. Letters are not folded. Without a dot: a table of
 * `public`. */
bool name_matches(const char *pattern, const char *schema, const char *name);

#endif
