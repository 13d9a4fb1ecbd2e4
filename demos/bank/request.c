#include "request.h"

#include <inttypes.h>

enum {
    SQL_BYTES_MAX = 1024 * 1024,
    CAMPAIGN_CUSTOMERS_MAX = 1000,
    KYC_CUSTOMER_STEP = 20,   /* every 20th customer has a document from the start */
    LARGE_UPLOAD_ONE_IN = 20, /* of uploads: these have megabytes */
};

static int64_t some_customer(struct client *client)
{
    return 1 + dice_below(&client->dice, client->customers);
}

/* One who shares the database with `other`: no transaction of the bank spans two. */
static int64_t neighbour(struct client *client, int64_t other)
{
    unsigned shard = shard_of(other, client->shards);
    for (;;) {
        int64_t customer = some_customer(client);
        if (shard_of(customer, client->shards) == shard)
            return customer;
    }
}

static int64_t some_account(struct client *client, int64_t customer)
{
    return 2 * customer - dice_below(&client->dice, 2);
}

static int64_t some_cents(struct client *client)
{
    return 1 + dice_below(&client->dice, 5000);
}

static void place(struct request *request, const struct client *client, int64_t customer)
{
    request->shard = shard_of(customer, client->shards);
}

/* "SELECT public.bank_<function>(client, seq, customer", to be gone on with. */
static void call(struct request *request, struct client *client, const char *function,
                 int64_t customer)
{
    place(request, client, customer);
    buffer_printf(&request->sql, "SELECT public.bank_%s(%d, %" PRId64 ", %" PRId64, function,
                  client->id, client->seq, customer);
}

static void make_transfer_of(struct request *request, struct client *client, int64_t payer)
{
    int64_t payee = neighbour(client, payer);
    int64_t payer_account = some_account(client, payer);
    int64_t payee_account = some_account(client, payee);
    if (payer_account == payee_account)
        payee_account = 4 * payee - 1 - payee_account; /* the other one of the two */
    call(request, client, "transfer", payer);
    buffer_printf(&request->sql, ", %" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 ")",
                  payer_account, payee, payee_account, some_cents(client));
}

static void make_transfer(struct request *request, struct client *client)
{
    make_transfer_of(request, client, some_customer(client));
}

static void make_settle(struct request *request, struct client *client)
{
    call(request, client, "settle", some_customer(client));
    buffer_puts(&request->sql, ", 5)");
}

static void make_append_of(struct request *request, struct client *client, int64_t customer)
{
    call(request, client, "append", customer);
    buffer_puts(&request->sql, ")");
}

static void make_append(struct request *request, struct client *client)
{
    make_append_of(request, client, some_customer(client));
}

/* The transfer is undone; if it were not, its number would be there twice. */
static void make_undone(struct request *request, struct client *client)
{
    buffer_puts(&request->sql, "BEGIN; SAVEPOINT undo; ");
    int64_t payer = some_customer(client);
    make_transfer_of(request, client, payer);
    buffer_puts(&request->sql, "; ROLLBACK TO SAVEPOINT undo; ");
    make_append_of(request, client, neighbour(client, payer)); /* on the same shard */
    buffer_puts(&request->sql, "; COMMIT");
}

static void make_hold(struct request *request, struct client *client)
{
    int64_t customer = some_customer(client);
    int64_t account = some_account(client, customer);
    call(request, client, "hold", customer);
    buffer_printf(&request->sql, ", %" PRId64 ", %" PRId64 ")", account, some_cents(client));
}

static void make_of_customer(struct request *request, struct client *client)
{
    call(request, client, request->kind, some_customer(client));
    buffer_puts(&request->sql, ")");
}

static void make_review(struct request *request, struct client *client)
{
    int64_t known = client->customers / KYC_CUSTOMER_STEP;
    call(request, client, "review", KYC_CUSTOMER_STEP * (1 + dice_below(&client->dice, known)));
    buffer_puts(&request->sql, ")");
}

static void make_upload(struct request *request, struct client *client)
{
    int64_t bytes = 8192 + dice_below(&client->dice, 100 * 1024);
    if (dice_below(&client->dice, LARGE_UPLOAD_ONE_IN) == 0)
        bytes = 1024 * 1024 * (1 + dice_below(&client->dice, 4));
    call(request, client, "upload", some_customer(client));
    buffer_printf(&request->sql, ", %" PRId64 ")", bytes);
}

static void make_block(struct request *request, struct client *client)
{
    int64_t customer = some_customer(client);
    call(request, client, "block", customer);
    buffer_printf(&request->sql, ", %" PRId64 ")", some_account(client, customer));
}

static void make_device(struct request *request, struct client *client)
{
    int64_t customer = some_customer(client);
    call(request, client, "move_device", customer);
    buffer_printf(&request->sql, ", %" PRId64 ", %" PRId64 ")", some_customer(client),
                  neighbour(client, customer));
}

/* The application numbers new customers itself, by client and request, so that their shard is known
 * before they exist. */
static void make_open(struct request *request, struct client *client)
{
    int64_t slot = client->id / 1000 % 20 * 100 + client->id % 1000;
    call(request, client, "open", 100000000 + slot * 1000000 + client->seq % 1000000);
    buffer_puts(&request->sql, ")");
}

static const struct recipe {
    const char *kind;
    unsigned weight;
    void (*make)(struct request *request, struct client *client);
} recipes[] = {
    {"transfer", 380, make_transfer}, {"settle", 200, make_settle},
    {"append", 140, make_append},     {"append", 20, make_undone},
    {"hold", 70, make_hold},          {"purge", 50, make_of_customer},
    {"rotate", 50, make_of_customer}, {"profile", 30, make_of_customer},
    {"swap", 15, make_of_customer},   {"postpone", 15, make_of_customer},
    {"block", 8, make_block},         {"review", 8, make_review},
    {"device", 7, make_device},       {"open", 4, make_open},
    {"upload", 3, make_upload},
};

enum { WEIGHTS = 1000 };

void request_init(struct request *request)
{
    *request = (struct request){.kind = NULL};
    buffer_init(&request->sql, SQL_BYTES_MAX);
}

void request_release(struct request *request)
{
    buffer_release(&request->sql);
}

void request_choose(struct request *request, struct client *client)
{
    unsigned luck = (unsigned)dice_below(&client->dice, WEIGHTS);
    const struct recipe *recipe = recipes;
    while (luck >= recipe->weight)
        luck -= recipe++->weight;
    buffer_clear(&request->sql);
    request->kind = recipe->kind;
    recipe->make(request, client);
    CHECK(!buffer_failed(&request->sql));
}

static void make_withdraw(struct request *request, struct client *client)
{
    request->kind = "withdraw";
    call(request, client, "withdraw", client->campaign_customer);
    buffer_printf(&request->sql, ", '%s')", client->campaign);
    client->campaign[0] = '\0';
}

static void make_campaign(struct request *request, struct client *client, int rows)
{
    int customers = rows < CAMPAIGN_CUSTOMERS_MAX ? rows : CAMPAIGN_CUSTOMERS_MAX;
    int64_t first = some_customer(client);
    request->kind = "campaign";
    place(request, client, first);
    buffer_printf(&request->sql, "SELECT public.bank_campaign(%d, %" PRId64 ", ARRAY[%" PRId64,
                  client->id, client->seq, first);
    for (int i = 1; i < customers; i++)
        buffer_printf(&request->sql, ",%" PRId64, neighbour(client, first));
    buffer_printf(&request->sql, "]::bigint[], %d)", rows / customers);
    snprintf(client->campaign, sizeof(client->campaign), "%d-%" PRId64, client->id, client->seq);
    client->campaign_customer = first;
}

void request_large(struct request *request, struct client *client, int rows)
{
    buffer_clear(&request->sql);
    if (client->campaign[0] != '\0')
        make_withdraw(request, client);
    else
        make_campaign(request, client, rows);
    CHECK(!buffer_failed(&request->sql));
}
