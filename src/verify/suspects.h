/*
 * Suspects: keys at which the two sides were read and differed. Most are rows in flight; the judge
 * (judge.h) tells. Any thread may add one.
 */
#ifndef VERIFY_SUSPECTS_H
#define VERIFY_SUSPECTS_H

#include <pthread.h>

#include "verify/rows.h"

enum {
    SUSPECTS_MAX = 200 * 1000,   /* more are only counted … */
    SUSPECT_BYTES_MAX = 1 << 26, /* … or keys of more bytes */
};

struct suspect {
    struct suspect *next; /* in order of arrival */
    const struct mapping *mapping;
    struct buffer key;         /* as rows_key() gives it */
    unsigned rounds;           /* of the judge, without a verdict */
    struct evidence *evidence; /* the judge's; NULL before the first round */
};

struct suspects {
    pthread_mutex_t lock;
    struct suspect *first;
    struct suspect **last; /* where the next one is put */
    const struct suspect *last_added;
    struct suspect_index *by_key;
    unsigned count;
    size_t bytes;      /* of keys */
    uint64_t not_kept; /* beyond these limits */
};

void suspects_init(struct suspects *suspects);
void suspects_release(struct suspects *suspects);

void suspects_add(struct suspects *suspects, const struct mapping *mapping, const char *key,
                  size_t key_length);

/* While they are only added to: the last one, and the one behind another (the first one behind NULL);
 * NULL when there is none. */
const struct suspect *suspects_last(struct suspects *suspects);
const struct suspect *suspects_after(struct suspects *suspects, const struct suspect *suspect);
uint64_t suspects_not_kept(struct suspects *suspects);

/* Puts one that was taken out of the list at its end again. Not while others add. */
void suspects_return(struct suspects *suspects, struct suspect *suspect);
void suspects_return_first(struct suspects *suspects, struct suspect *suspect); /* at its beginning */

#endif
