#include "gaps.h"

#include "util/clock.h"

static struct gap *shortest(struct gaps *gaps)
{
    struct gap *least = &gaps->gaps[0];
    for (unsigned g = 1; g < gaps->count; g++) {
        if (gaps->gaps[g].us < least->us)
            least = &gaps->gaps[g];
    }
    return least;
}

static void keep(struct gaps *gaps, struct gap gap)
{
    if (gaps->count < GAPS_MAX) {
        gaps->gaps[gaps->count++] = gap;
        return;
    }
    struct gap *least = shortest(gaps);
    if (gap.us > least->us)
        *least = gap;
}

void gaps_acknowledged(struct gaps *gaps)
{
    int64_t now_us = clock_monotonic_us();
    int64_t us = gaps->last_us == 0 ? 0 : now_us - gaps->last_us;
    gaps->last_us = now_us;
    if (us >= GAP_LEAST_US)
        keep(gaps, (struct gap){.begun_us = clock_wall_us() - us, .us = us});
}

void gaps_print_json(const struct gaps *gaps, FILE *out)
{
    fputs("[", out);
    for (unsigned g = 0; g < gaps->count; g++)
        fprintf(out, "%s[%.6f, %.3f]", g > 0 ? ", " : "", (double)gaps->gaps[g].begun_us / 1e6,
                (double)gaps->gaps[g].us / 1e3);
    fputs("]", out);
}
