/*
 * What the ack files claim, and how often each claimed request was then seen. One thread's.
 */
#ifndef BANK_CLAIMS_H
#define BANK_CLAIMS_H

#include <stdint.h>

#include "util/buffer.h"
#include "util/error.h"

struct claims;

struct claims_counts {
    uint64_t acknowledged;
    uint64_t unknown;         /* claimed as may be there */
    uint64_t unknown_present; /* of these, those that are there */
    uint64_t present;         /* rows of clients that the files name */
    uint64_t lost;
    uint64_t doubled;
    uint64_t altered;    /* there, and of another kind */
    uint64_t invented;   /* there, and never sent, or rolled back for certain */
    uint64_t unrecorded; /* at the end of a file that was cut short: may be there */
};

struct claims *claims_new(void);
void claims_free(struct claims *claims);

bool claims_read(struct claims *claims, const char *ack_path, struct error *err) MUST_CHECK;

/* The clients, as the elements of an SQL array. */
void claims_list_clients(const struct claims *claims, struct buffer *out);

/* One row of api_requests. */
void claims_see(struct claims *claims, int client, int64_t seq, const char *kind);

/* Compares, and tells the first differences of each kind on `out`. */
void claims_compare(struct claims *claims, FILE *out, struct claims_counts *counts);

#endif
