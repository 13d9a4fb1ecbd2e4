/*
 * Binding: the values of changes as parameters of their statement, which is of one row or of many. Many
 * rows are an array a parameter, in binary where the type has one (pg/arraycodec.h).
 *
 * A row's own values are pointed to and not copied; arrays live here. Both until the next call. One thread.
 */
#ifndef STREAM_BIND_H
#define STREAM_BIND_H

#include "mapping/statements.h"
#include "stream/change.h"

enum { BIND_ROWS_BYTES_MAX = 1024 * 1024 }; /* of values; a larger row goes alone */

/* As libpq takes them. */
struct binding {
    const char **values;
    int *lengths;
    int *formats;
    struct buffer arrays;
};

void binding_init(struct binding *binding);
void binding_release(struct binding *binding);

void bind_row(struct binding *binding, const struct statement *statement,
              const struct change *change);
/* At most GROUP_ROWS_MAX rows. Fails with LIMIT. */
bool bind_rows(struct binding *binding, const struct statement *statement,
               struct change *const *changes, unsigned rows, struct error *err) MUST_CHECK;

#endif
