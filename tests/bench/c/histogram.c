#include "histogram.h"

#include <math.h>

void histogram_add(struct histogram *histogram, uint64_t us)
{
    double octave = log2((double)(us + 1));
    unsigned class = (unsigned)(octave * CLASSES_PER_OCTAVE);

    if (class >= OCTAVES * CLASSES_PER_OCTAVE)
        class = OCTAVES * CLASSES_PER_OCTAVE - 1;
    histogram->counts[class]++;
    histogram->total++;
    if (us > histogram->max_us)
        histogram->max_us = us;
}

double histogram_quantile_ms(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)ceil(share * (double)histogram->total);
    uint64_t seen = 0;

    if (histogram->total == 0)
        return 0;
    for (unsigned class = 0; class < OCTAVES * CLASSES_PER_OCTAVE; class++) {
        seen += histogram->counts[class];
        if (seen >= wanted)
            return (exp2((class + 0.5) / CLASSES_PER_OCTAVE) - 1) / 1000;
    }
    return (double)histogram->max_us / 1000;
}
