#include "run/rejected.h"

#include <inttypes.h>
#include <jansson.h>

#include "pg/conn.h"
#include "state/setting.h"
#include "switchover/gate.h"
#include "util/clock.h"
#include "util/log.h"

enum { LOOK_EVERY_US = 5 * 1000 * 1000, TELL_EVERY_US = 60 * 1000 * 1000 };

void rejected_init(struct rejected *rejected, struct migration *migration, int64_t epoch)
{
    unsigned count = migration->shards_count + 1;
    *rejected = (struct rejected){.migration = migration, .epoch = epoch};
    rejected->told = check_calloc(count, sizeof *rejected->told);
    rejected->tell_again_us = check_calloc(count, sizeof *rejected->tell_again_us);
    for (unsigned s = 0; s < count; s++)
        rejected->told[s] = -1;
}

void rejected_release(struct rejected *rejected)
{
    free(rejected->told);
    free(rejected->tell_again_us);
}

static bool read_told(const struct rejected *rejected, const char *server, int64_t *told,
                      struct error *err)
{
    PGresult *result = conn_query_row(rejected->migration->control,
                                      "SELECT COALESCE(pg_catalog.max((detail->>'total')::bigint), 0)"
                                      "  FROM portage.journal"
                                      " WHERE step = 'rejected' AND detail->>'server' = $1",
                                      1, &server, err);
    if (result == NULL)
        return false;
    *told = result_int(result, 0, 0);
    PQclear(result);
    return true;
}

static bool tell(const struct rejected *rejected, const char *server, int64_t more, int64_t total,
                 struct error *err)
{
    char detail[128];
    log_warning("%" PRId64 " statements were rejected by the gate of %s, %" PRId64 " in all: somebody"
                " writes to a side that is not live",
                more, server, total);
    snprintf(detail, sizeof detail,
             "{\"server\": \"%s\", \"statements\": %" PRId64 ", \"total\": %" PRId64 "}", server, more,
             total);
    return journal_write(rejected->migration->control, rejected->epoch, "rejected", detail, err);
}

static bool look_at(struct rejected *rejected, unsigned number, struct error *err)
{
    struct migration *migration = rejected->migration;
    bool is_source = number == migration->shards_count;
    int64_t total, *told = &rejected->told[number], now_us = clock_monotonic_us();
    char server[24];
    snprintf(server, sizeof server, "shard %u", number);
    if (is_source)
        snprintf(server, sizeof server, "source");
    if (now_us < rejected->tell_again_us[number])
        return true;
    if ((*told < 0 && !read_told(rejected, server, told, err)) ||
        !gate_rejected(is_source ? migration->source : migration->shards[number], &total, err))
        return false;
    if (total <= *told)
        return true;
    if (!tell(rejected, server, total - *told, total, err))
        return false;
    *told = total;
    rejected->tell_again_us[number] = now_us + TELL_EVERY_US;
    return true;
}

bool rejected_tend(struct rejected *rejected, struct error *err)
{
    if (clock_monotonic_us() < rejected->look_again_us)
        return true;
    rejected->look_again_us = clock_monotonic_us() + LOOK_EVERY_US;
    for (unsigned s = 0; s <= rejected->migration->shards_count; s++) {
        if (!look_at(rejected, s, err))
            return error_context(err, "looking what the gates have rejected");
    }
    return true;
}
