#include "check.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>

#include "claims.h"
#include "db.h"

enum { FIGURES_MAX = 64, SQL_BYTES_MAX = 1024 * 1024 };

/* Of bank_audit(), summed over the databases. */
struct figure {
    char name[32];
    long double value; /* of numerics: exact up to 64 bits */
};

struct check {
    const struct check_options *options;
    struct claims *claims;
    struct claims_counts counts;
    uint64_t misplaced;
    unsigned figures_count;
    struct figure figures[FIGURES_MAX];
    uint64_t contradictions;
};

/* Figures that must be equal. The others that must hold end in _off and must be 0. */
static const char *const equal_figures[][2] = {
    {"balance_cents", "opening_cents"},
    {"rotations", "rotations_asked"},
    {"device_moves", "device_moves_asked"},
};

static bool see_row(struct check *check, unsigned shard, const char *row, struct error *err)
{
    int client;
    int64_t seq, customer;
    char kind[16];
    if (sscanf(row, "%d\t%" SCNd64 "\t%" SCNd64 "\t%15s", &client, &seq, &customer, kind) != 4)
        return error_set(err, ERROR_FATAL, "unexpected row of api_requests: %s", row);
    claims_see(check->claims, client, seq, kind);
    unsigned shards = check->options->dsns_count;
    if (shards > 1 && shard_of(customer, shards) != shard)
        check->misplaced++;
    return true;
}

static bool copy_rows(struct check *check, unsigned shard, PGconn *conn, struct error *err)
{
    char *row;
    int length;
    bool good = true;
    while ((length = PQgetCopyData(conn, &row, 0)) > 0) {
        good = good && see_row(check, shard, row, err);
        PQfreemem(row);
    }
    PGresult *result = PQgetResult(conn);
    if (good && (length == -2 || PQresultStatus(result) != PGRES_COMMAND_OK))
        good = db_error(conn, result, err);
    while (result) {
        PQclear(result);
        result = PQgetResult(conn);
    }
    return good;
}

static bool read_requests(struct check *check, unsigned shard, PGconn *conn, struct error *err)
{
    struct buffer sql;
    buffer_init(&sql, SQL_BYTES_MAX);
    buffer_puts(&sql, "COPY (SELECT client_id, seq, customer_id, kind FROM public.api_requests"
                      " WHERE client_id = ANY ('{");
    claims_list_clients(check->claims, &sql);
    buffer_puts(&sql, "}')) TO STDOUT");
    CHECK(!buffer_failed(&sql));
    PGresult *result = PQexec(conn, buffer_text(&sql));
    bool good = PQresultStatus(result) == PGRES_COPY_OUT || db_error(conn, result, err);
    PQclear(result);
    buffer_release(&sql);
    return good && copy_rows(check, shard, conn, err);
}

static struct figure *find_figure(struct check *check, const char *name)
{
    for (unsigned i = 0; i < check->figures_count; i++)
        if (strcmp(check->figures[i].name, name) == 0)
            return &check->figures[i];
    return NULL;
}

static void add_figure(struct check *check, const char *name, const char *value)
{
    struct figure *figure = find_figure(check, name);
    if (!figure) {
        CHECK(check->figures_count < FIGURES_MAX);
        figure = &check->figures[check->figures_count++];
        *figure = (struct figure){.value = 0};
        snprintf(figure->name, sizeof(figure->name), "%s", name);
    }
    figure->value += strtold(value, NULL);
}

static bool read_audit(struct check *check, PGconn *conn, struct error *err)
{
    PGresult *result = PQexec(conn, "SELECT name, value FROM public.bank_audit()");
    bool good = PQresultStatus(result) == PGRES_TUPLES_OK || db_error(conn, result, err);
    for (int row = 0; good && row < PQntuples(result); row++)
        add_figure(check, PQgetvalue(result, row, 0), PQgetvalue(result, row, 1));
    PQclear(result);
    return good;
}

static bool read_database(struct check *check, unsigned shard, struct error *err)
{
    PGconn *conn = db_open(check->options->dsns[shard], err);
    bool good = conn && db_exec(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", err) &&
                read_requests(check, shard, conn, err) && read_audit(check, conn, err) &&
                db_exec(conn, "COMMIT", err);
    PQfinish(conn);
    return good || error_context(err, "database %u", shard);
}

static bool read_all(struct check *check, struct error *err)
{
    for (unsigned i = 0; i < check->options->acks_count; i++)
        if (!claims_read(check->claims, check->options->acks[i], err))
            return false;
    for (unsigned i = 0; i < check->options->dsns_count; i++)
        if (!read_database(check, i, err))
            return false;
    return true;
}

static void judge_equal(struct check *check, const char *left, const char *right)
{
    const struct figure *a = find_figure(check, left);
    const struct figure *b = find_figure(check, right);
    if (a && b && a->value == b->value)
        return;
    check->contradictions++;
    printf("not equal: %s %.0Lf, %s %.0Lf\n", left, a ? a->value : NAN, right, b ? b->value : NAN);
}

static void judge_figures(struct check *check)
{
    for (unsigned i = 0; i < check->figures_count; i++) {
        const struct figure *figure = &check->figures[i];
        size_t length = strlen(figure->name);
        if (length < 4 || strcmp(figure->name + length - 4, "_off") != 0 || figure->value == 0)
            continue;
        check->contradictions++;
        printf("contradiction: %s %.0Lf\n", figure->name, figure->value);
    }
    for (unsigned i = 0; i < sizeof(equal_figures) / sizeof(equal_figures[0]); i++)
        judge_equal(check, equal_figures[i][0], equal_figures[i][1]);
}

static uint64_t differences_of(const struct check *check)
{
    const struct claims_counts *counts = &check->counts;
    return counts->lost + counts->doubled + counts->altered + counts->invented + check->misplaced +
           check->contradictions;
}

static long double figure_value(struct check *check, const char *name)
{
    const struct figure *figure = find_figure(check, name);
    return figure ? figure->value : NAN;
}

static void print_report(struct check *check)
{
    const struct claims_counts *c = &check->counts;
    printf("acknowledged %" PRIu64 ", unknown %" PRIu64 " (%" PRIu64 " are there), present %" PRIu64
           ", not recorded %" PRIu64 "\n",
           c->acknowledged, c->unknown, c->unknown_present, c->present, c->unrecorded);
    printf("lost %" PRIu64 ", doubled %" PRIu64 ", altered %" PRIu64 ", invented %" PRIu64
           ", misplaced %" PRIu64 ", contradictions %" PRIu64 "\n",
           c->lost, c->doubled, c->altered, c->invented, check->misplaced, check->contradictions);
    printf("accounts %.0Lf, transactions %.0Lf, sum of balances %.2Lf\n",
           figure_value(check, "accounts"), figure_value(check, "transactions"),
           figure_value(check, "balance_cents") / 100);
    printf("%s\n", differences_of(check) == 0 ? "ok: nothing lost, nothing doubled"
                                              : "FAILED: this side is not what was acknowledged");
}

static void write_json(struct check *check, FILE *out)
{
    const struct claims_counts *c = &check->counts;
    fprintf(out,
            "{\"ok\": %s, \"acknowledged\": %" PRIu64 ", \"unknown\": %" PRIu64
            ", \"unknown_present\": %" PRIu64 ", \"present\": %" PRIu64 ", \"unrecorded\": %" PRIu64
            ", \"lost\": %" PRIu64 ", \"doubled\": %" PRIu64 ", \"altered\": %" PRIu64
            ", \"invented\": %" PRIu64 ", \"misplaced\": %" PRIu64 ", \"contradictions\": %" PRIu64
            ", \"audit\": {",
            differences_of(check) == 0 ? "true" : "false", c->acknowledged, c->unknown,
            c->unknown_present, c->present, c->unrecorded, c->lost, c->doubled, c->altered,
            c->invented, check->misplaced, check->contradictions);
    for (unsigned i = 0; i < check->figures_count; i++)
        fprintf(out, "%s\"%s\": %.0Lf", i > 0 ? ", " : "", check->figures[i].name,
                check->figures[i].value);
    fprintf(out, "}}\n");
}

static bool print_json(struct check *check, struct error *err)
{
    const char *path = check->options->json;
    FILE *out = path ? fopen(path, "we") : NULL;
    if (path && out)
        write_json(check, out);
    if (path && (!out || fclose(out) != 0))
        return error_set(err, ERROR_CONFIG, "could not write \"%s\": %s", path, strerror(errno));
    return true;
}

bool check_run(const struct check_options *options, uint64_t *differences, struct error *err)
{
    struct check check = {.options = options, .claims = claims_new()};
    bool good = read_all(&check, err);
    if (good) {
        claims_compare(check.claims, stdout, &check.counts);
        judge_figures(&check);
        print_report(&check);
        *differences = differences_of(&check);
        good = print_json(&check, err);
    }
    claims_free(check.claims);
    return good;
}
