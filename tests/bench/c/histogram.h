/* Latencies in logarithmic classes of under 2 % width, from a microsecond to an hour. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

#define CLASSES_PER_OCTAVE 64
#define OCTAVES 32

struct histogram {
    uint64_t total;
    uint64_t max_us;
    uint64_t counts[OCTAVES * CLASSES_PER_OCTAVE];
};

void histogram_add(struct histogram *histogram, uint64_t us);

/* The latency that `share` (0 to 1) of all do not exceed, in milliseconds; 0 where there is none. */
double histogram_quantile_ms(const struct histogram *histogram, double share);

#endif
