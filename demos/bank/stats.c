#include "stats.h"

#include <inttypes.h>

struct stats *stats_new(void)
{
    struct stats *stats = check_calloc(1, sizeof(*stats));
    pthread_mutex_init(&stats->lock, NULL);
    return stats;
}

void stats_free(struct stats *stats)
{
    pthread_mutex_destroy(&stats->lock);
    free(stats);
}

void stats_acknowledged(struct stats *stats, int64_t changes, int64_t latency_us)
{
    pthread_mutex_lock(&stats->lock);
    stats->counts.acknowledged++;
    gaps_acknowledged(&stats->gaps);
    stats->counts.changes += (uint64_t)changes;
    histogram_add(&stats->total, latency_us);
    histogram_add(&stats->second, latency_us);
    pthread_mutex_unlock(&stats->lock);
}

void stats_large(struct stats *stats, int64_t changes)
{
    pthread_mutex_lock(&stats->lock);
    stats->counts.acknowledged++;
    gaps_acknowledged(&stats->gaps);
    stats->counts.large_transactions++;
    stats->counts.large_changes += (uint64_t)changes;
    pthread_mutex_unlock(&stats->lock);
}

/* The place of an SQLSTATE; when there are too many kinds, the last takes them all. */
static struct stats_state *state_of(struct stats *stats, const struct error *err)
{
    for (unsigned i = 0; i < stats->states_count; i++)
        if (strcmp(stats->states[i].sqlstate, err->sqlstate) == 0)
            return &stats->states[i];
    if (stats->states_count == STATS_STATES_MAX)
        return &stats->states[STATS_STATES_MAX - 1];
    struct stats_state *state = &stats->states[stats->states_count++];
    memcpy(state->sqlstate, err->sqlstate, sizeof(state->sqlstate));
    snprintf(state->example, sizeof(state->example), "%.200s", err->message);
    return state;
}

void stats_failed(struct stats *stats, const struct error *err, bool unknown)
{
    pthread_mutex_lock(&stats->lock);
    stats->counts.errors++;
    stats->counts.unknown += unknown;
    state_of(stats, err)->count++;
    pthread_mutex_unlock(&stats->lock);
}

void stats_take_second(struct stats *stats, struct stats_counts *counts,
                       struct histogram *latencies)
{
    pthread_mutex_lock(&stats->lock);
    *counts = stats->counts;
    *latencies = stats->second;
    histogram_clear(&stats->second);
    pthread_mutex_unlock(&stats->lock);
}

static double quantile_ms(const struct stats *stats, double quantile)
{
    return (double)histogram_quantile_us(&stats->total, quantile) / 1e3;
}

void stats_print(const struct stats *stats, FILE *out, double seconds)
{
    const struct stats_counts *counts = &stats->counts;
    fprintf(out, "acknowledged  %" PRIu64 " requests, %" PRIu64 " changes, %.0f changes/s\n",
            counts->acknowledged, counts->changes + counts->large_changes,
            (double)counts->changes / seconds);
    fprintf(out, "large         %" PRIu64 " transactions, %" PRIu64 " changes\n",
            counts->large_transactions, counts->large_changes);
    fprintf(out, "latency       p50 %.2f ms, p99 %.2f ms, max %.2f ms\n", quantile_ms(stats, 0.5),
            quantile_ms(stats, 0.99), (double)stats->total.max_us / 1e3);
    fprintf(out, "errors        %" PRIu64 ", of which %" PRIu64 " with an unknown outcome\n",
            counts->errors, counts->unknown);
    for (unsigned i = 0; i < stats->states_count; i++)
        fprintf(out, "  %s  %" PRIu64 "  %s\n", stats->states[i].sqlstate, stats->states[i].count,
                stats->states[i].example);
}

void stats_print_json(const struct stats *stats, FILE *out, double seconds)
{
    const struct stats_counts *counts = &stats->counts;
    fprintf(out,
            "{\"seconds\": %.3f, \"acknowledged\": %" PRIu64 ", \"unknown\": %" PRIu64
            ", \"client_errors\": %" PRIu64 ", \"changes\": %" PRIu64
            ", \"changes_per_second\": %.1f, \"large_transactions\": %" PRIu64
            ", \"large_changes\": %" PRIu64,
            seconds, counts->acknowledged, counts->unknown, counts->errors, counts->changes,
            (double)counts->changes / seconds, counts->large_transactions, counts->large_changes);
    fprintf(out, ", \"latency_ms\": {\"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f}, \"errors\": {",
            quantile_ms(stats, 0.5), quantile_ms(stats, 0.99), (double)stats->total.max_us / 1e3);
    for (unsigned i = 0; i < stats->states_count; i++)
        fprintf(out, "%s\"%s\": %" PRIu64, i > 0 ? ", " : "", stats->states[i].sqlstate,
                stats->states[i].count);
    fputs("}, \"gaps\": ", out);
    gaps_print_json(&stats->gaps, out);
    fputs("}\n", out);
}
