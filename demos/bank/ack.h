/*
 * The ack file: which requests the server acknowledged. Text, appended to, one event a line:
 *
 *   s CLIENT SEQ        the client begins; its first request will have this number
 *   a CLIENT SEQ KIND   acknowledged: must be there, once
 *   u CLIENT SEQ KIND   the connection went before the answer came: may be there, once
 *   e CLIENT SEQ        a clean end; this number was never sent
 *
 * A request that was rolled back for certain leaves no line: its number is used again. Lines are
 * written in batches, so a bank that is killed proves a little less, never something wrong.
 * Thread-safe.
 */
#ifndef BANK_ACK_H
#define BANK_ACK_H

#include <stdint.h>

#include "util/error.h"

struct ack;

struct ack *ack_open(const char *path, struct error *err) MUST_CHECK;
/* False if any line could not be written. Frees it. */
bool ack_close(struct ack *ack, struct error *err) MUST_CHECK;

void ack_add(struct ack *ack, char event, int client, int64_t seq, const char *kind);
/* Called by the clock; writes what has gathered. */
void ack_flush(struct ack *ack);

/* Reading. Lines that a kill cut short at the end of the file are left out. */
struct ack_line {
    char event;
    int client;
    int64_t seq;
    char kind[16];
};
typedef bool ack_visit(void *context, const struct ack_line *line, struct error *err);
bool ack_read(const char *path, ack_visit *visit, void *context, struct error *err) MUST_CHECK;

#endif
