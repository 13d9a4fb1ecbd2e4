/* A small text file: read whole, and replaced at once, so that who reads it sees the old or the new. */
#ifndef ENDPOINT_TEXTFILE_H
#define ENDPOINT_TEXTFILE_H

#include "util/buffer.h"
#include "util/error.h"

enum { TEXTFILE_MAX = 4 << 20 };

bool textfile_read(const char *path, struct buffer *text, struct error *err) MUST_CHECK;

/* Whether textfile_replace() could: owner and mode kept. Changes nothing. */
bool textfile_can_replace(const char *path, struct error *err) MUST_CHECK;

/* By a new file beside it that takes its name: same owner and mode, on disk when this returns. A symbolic
 * link stays one. */
bool textfile_replace(const char *path, const struct buffer *text, struct error *err) MUST_CHECK;

#endif
