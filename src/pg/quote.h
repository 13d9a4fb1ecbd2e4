/* The one place where identifiers and literals are quoted (D11). */
#ifndef PG_QUOTE_H
#define PG_QUOTE_H

#include "util/arena.h"
#include "util/buffer.h"

/* Always quoted, "like ""this""": keywords, spaces, case and quotes need no thought. */
void quote_ident(struct buffer *out, const char *name);
void quote_name(struct buffer *out, const char *schema, const char *name); /* "s"."n" */

/* E'…' when there is a backslash, '…' otherwise: the same on every setting of the server. */
void quote_literal(struct buffer *out, const char *text);

/* "like \"this\"", NULL for null bytes: an element of an array's text, '{' and ',' not included. */
void quote_element(struct buffer *out, const char *bytes, size_t length);

/* {"like \"this\"", …}: an array's text, whole. */
void quote_array(struct buffer *out, const char *const *texts, unsigned count);

/* prefix and suffix as one name, in at most NAME_MAX_BYTES: the server would cut it there, in silence. It
 * is the prefix that is cut, between two characters of UTF-8. */
enum { NAME_MAX_BYTES = 63 };
char *name_join(struct arena *arena, const char *prefix, const char *suffix);

/* The first `word` of SQL that the server has written which is not within "a name" or 'a text'; NULL: none. */
const char *sql_find(const char *sql, const char *word);

char *quote_ident_dup(struct arena *arena, const char *name);
char *quote_name_dup(struct arena *arena, const char *schema, const char *name);

#endif
