/* Latencies in microseconds, with an error below 2 %, in constant space. A plain value; one thread
 * at a time. */
#ifndef BANK_HISTOGRAM_H
#define BANK_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_BUCKETS = 64 * 48 };

struct histogram {
    uint64_t count;
    int64_t max_us;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_clear(struct histogram *histogram);
void histogram_add(struct histogram *histogram, int64_t us);
int64_t histogram_quantile_us(const struct histogram *histogram, double quantile);

#endif
