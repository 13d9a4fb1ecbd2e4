#include "mapping/connections.h"

enum { ALWAYS = 2, READBACK_LEAST = 1, REST = 1, VERIFY = 2 };

unsigned connections_copy_workers(const struct config *config)
{
    int most = config->source_connections_max - ALWAYS - READBACK_LEAST;
    CHECK(most > 0);
    return (unsigned)(config->copy_workers < most ? config->copy_workers : most);
}

unsigned connections_readback(const struct config *config, unsigned lanes)
{
    if (config->reversed)
        return lanes;
    int copying = (int)connections_copy_workers(config);
    int ready = REST + (config->verify_every_s > 0 ? VERIFY : 0);
    int left = config->source_connections_max - ALWAYS - (copying > ready ? copying : ready);
    CHECK(left >= READBACK_LEAST);
    return (unsigned)left < lanes ? (unsigned)left : lanes;
}
