/*
 * One-dimensional arrays as parameters of a statement, in binary where that is cheap to make from the
 * elements' texts: the server then takes the bytes over, where it would look for quotes and commas and call
 * a type's input function.
 * Source of the format: array_recv() and the types' receive functions in PostgreSQL's sources.
 */
#ifndef PG_ARRAYCODEC_H
#define PG_ARRAYCODEC_H

#include <stddef.h>
#include <stdint.h>

#include "util/buffer.h"

struct array_element {
    const char *text; /* as pinned sessions give it (pg/conn.h); NULL is null */
    size_t length;
};

/*
 * Appends the array of `count` elements, at least one. Gives false, and appends nothing, where the type
 * (an OID) has no binary form here, or a text is none that we read: array_put_text() then does it. All types
 * of integers, bool, text, varchar, uuid, date, timestamp(tz), json and jsonb have one. Texts are a server's:
 * that there is no 30th of February is not looked at.
 */
bool array_put_binary(struct buffer *out, uint32_t type, const struct array_element *elements,
                      unsigned count);

/* The array's literal, with a NUL behind it, as libpq wants texts. */
void array_put_text(struct buffer *out, const struct array_element *elements, unsigned count);

#endif
