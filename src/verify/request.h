/*
 * What a pass proves, as a short text: the same for the same tables, the same statements on both sides
 * (so: the same mappings and columns), the same direction, and the options on which the proof depends.
 * How fast it reads, and what is done about what it finds, is not part of it.
 */
#ifndef VERIFY_REQUEST_H
#define VERIFY_REQUEST_H

#include "verify/session.h"

/* By the arena. `tables` as they are compared (narrow.h). */
const char *request_of(const struct session *session, const struct mapping *const *tables,
                       unsigned tables_count, struct arena *arena);

#endif
