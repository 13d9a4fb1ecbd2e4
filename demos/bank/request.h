/*
 * What a client of the bank asks for: one transaction, as SQL that calls the functions both schemas
 * have. Which requests, and how often, stands in the table of request.c; all choices come from the
 * client's dice.
 */
#ifndef BANK_REQUEST_H
#define BANK_REQUEST_H

#include "dice.h"
#include "shard.h"
#include "util/buffer.h"

/* One thread's. */
struct client {
    int id;
    int64_t seq;       /* of the next request */
    int64_t customers; /* of `bank load`: 1 to customers */
    unsigned shards;
    struct dice dice;
    char campaign[32];         /* the last one that was not withdrawn, or empty */
    int64_t campaign_customer; /* whose shard it is on */
};

struct request {
    const char *kind; /* as in api_requests */
    unsigned shard;
    struct buffer sql;
};

void request_init(struct request *request);
void request_release(struct request *request);

/* The next request of the mix, with the client's present number. */
void request_choose(struct request *request, struct client *client);

/* A transaction of `rows` rows: a campaign, or the withdrawal of the one before. */
void request_large(struct request *request, struct client *client, int rows);

#endif
