#include "run/spilled.h"

#include "state/setting.h"
#include "util/clock.h"

enum { PUT_EVERY_US = 1000 * 1000 };

void spilled_init(struct spilled *spilled, PGconn *control, const struct flow *flow)
{
    *spilled = (struct spilled){.control = control, .flow = flow};
}

void spilled_release(struct spilled *spilled)
{
    free(spilled->put);
    spilled->put = NULL;
}

int64_t spilled_bytes(const struct flow *flow)
{
    int64_t sum = 0;
    for (unsigned s = 0; s < flow->migration->shards_count; s++) {
        for (unsigned l = 0; l < flow->stream.lanes_per_shard; l++)
            sum += flow_spilled(flow, s, l);
    }
    return sum;
}

/* By shard and lane, those for which something waits: {"0/2": 1048576}. */
static json_t *of_lanes(const struct flow *flow)
{
    json_t *lanes = json_object();
    char name[32];
    for (unsigned s = 0; s < flow->migration->shards_count; s++) {
        for (unsigned l = 0; l < flow->stream.lanes_per_shard; l++) {
            int64_t bytes = flow_spilled(flow, s, l);
            snprintf(name, sizeof name, "%u/%u", s, l);
            if (bytes > 0)
                json_object_set_new(lanes, name, json_integer(bytes));
        }
    }
    return lanes;
}

static bool put(struct spilled *spilled, char *text, struct error *err)
{
    bool same = spilled->put != NULL && strcmp(spilled->put, text) == 0;
    bool ok = same || setting_put(spilled->control, "spilled", text, err);
    free(spilled->put);
    spilled->put = ok ? text : NULL;
    if (!ok)
        free(text);
    return ok;
}

bool spilled_tell(struct spilled *spilled, struct error *err)
{
    int64_t now_us = clock_monotonic_us();
    if (spilled->put != NULL && now_us - spilled->put_us < PUT_EVERY_US)
        return true;
    spilled->put_us = now_us;
    json_t *lanes = of_lanes(spilled->flow);
    bool ok = put(spilled, json_dumps(lanes, JSON_COMPACT | JSON_SORT_KEYS), err);
    json_decref(lanes);
    return ok;
}

bool spilled_read(PGconn *control, json_t **spilled, struct error *err)
{
    char *text;
    if (!setting_get(control, "spilled", &text, err))
        return false;
    *spilled = text != NULL ? json_loads(text, 0, NULL) : NULL;
    free(text);
    return true;
}

int64_t spilled_of_lane(const json_t *spilled, unsigned shard, int64_t lane)
{
    char name[48];
    snprintf(name, sizeof name, "%u/%lld", shard, (long long)lane);
    return (int64_t)json_integer_value(json_object_get(spilled, name));
}
