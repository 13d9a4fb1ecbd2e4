#include "claims.h"

#include <inttypes.h>

#include "ack.h"

enum {
    KINDS_MAX = 64,
    SEQ_MAX = 100000000, /* of one client: bounds what a file can make us allocate */
    TOLD_MAX = 10,       /* differences of a kind that are told one by one */
};

struct claim {
    char event;   /* 'a', 'u', '?': what a bank that was killed did not write, or 0 */
    uint8_t kind; /* index into kinds */
    uint8_t seen_kind;
    uint8_t seen; /* how often, at most 255 */
};

struct claimant {
    int id;
    int64_t first; /* what is before is another file's */
    int64_t end;   /* behind the last line */
    bool clean;    /* the last line is an end: nothing can be behind it */
    int64_t capacity;
    struct claim *claims; /* by seq */
};

struct claims {
    unsigned kinds_count;
    char kinds[KINDS_MAX][16];
    unsigned count;
    struct claimant *claimants;
    uint64_t beyond; /* rows with a number that no client could have reached */
};

struct claims *claims_new(void)
{
    return check_calloc(1, sizeof(struct claims));
}

void claims_free(struct claims *claims)
{
    for (unsigned i = 0; i < claims->count; i++)
        free(claims->claimants[i].claims);
    free(claims->claimants);
    free(claims);
}

static uint8_t kind_of(struct claims *claims, const char *name)
{
    for (unsigned i = 0; i < claims->kinds_count; i++)
        if (strcmp(claims->kinds[i], name) == 0)
            return (uint8_t)i;
    if (claims->kinds_count == KINDS_MAX)
        return KINDS_MAX;
    snprintf(claims->kinds[claims->kinds_count], sizeof(claims->kinds[0]), "%s", name);
    return (uint8_t)claims->kinds_count++;
}

static struct claimant *find(struct claims *claims, int id)
{
    for (unsigned i = 0; i < claims->count; i++)
        if (claims->claimants[i].id == id)
            return &claims->claimants[i];
    return NULL;
}

static struct claimant *find_or_add(struct claims *claims, int id, int64_t first)
{
    struct claimant *found = find(claims, id);
    if (found)
        return found;
    claims->claimants =
        check_realloc(claims->claimants, (claims->count + 1) * sizeof(*claims->claimants));
    found = &claims->claimants[claims->count++];
    *found = (struct claimant){.id = id, .first = first, .end = first};
    return found;
}

/* The claim of a number, which must be from 0 to SEQ_MAX. */
static struct claim *claim_at(struct claimant *claimant, int64_t seq)
{
    if (seq >= claimant->capacity) {
        int64_t capacity = claimant->capacity < 1024 ? 1024 : claimant->capacity;
        while (capacity <= seq)
            capacity *= 2;
        claimant->claims =
            check_realloc(claimant->claims, (size_t)capacity * sizeof(*claimant->claims));
        memset(claimant->claims + claimant->capacity, 0,
               (size_t)(capacity - claimant->capacity) * sizeof(*claimant->claims));
        claimant->capacity = capacity;
    }
    return &claimant->claims[seq];
}

/* A start that goes on behind what the file knows: the bank was killed before it wrote the rest. */
static void take_start(struct claimant *claimant, int64_t seq)
{
    for (int64_t missing = claimant->end; missing < seq; missing++)
        claim_at(claimant, missing)->event = '?';
}

static bool take_line(void *context, const struct ack_line *line, struct error *err)
{
    struct claims *claims = context;
    if (line->seq < 1 || line->seq > SEQ_MAX)
        return error_set(err, ERROR_CONFIG, "client %d: %" PRId64 " is no number of a request",
                         line->client, line->seq);
    struct claimant *claimant = find_or_add(claims, line->client, line->seq);
    if (line->event == 's' && !claimant->clean)
        take_start(claimant, line->seq);
    claimant->clean = line->event == 'e';
    if (line->seq < claimant->first)
        claimant->first = line->seq;
    bool recorded = line->event == 'a' || line->event == 'u';
    if (line->seq + recorded > claimant->end)
        claimant->end = line->seq + recorded;
    if (recorded) {
        struct claim *claim = claim_at(claimant, line->seq);
        claim->event = line->event;
        claim->kind = kind_of(claims, line->kind);
    }
    return true;
}

bool claims_read(struct claims *claims, const char *ack_path, struct error *err)
{
    return ack_read(ack_path, take_line, claims, err);
}

void claims_list_clients(const struct claims *claims, struct buffer *out)
{
    for (unsigned i = 0; i < claims->count; i++)
        buffer_printf(out, "%s%d", i > 0 ? "," : "", claims->claimants[i].id);
}

void claims_see(struct claims *claims, int client, int64_t seq, const char *kind)
{
    struct claimant *claimant = find(claims, client);
    if (!claimant || (seq < claimant->first && seq >= 0))
        return;
    if (seq < 0 || seq > SEQ_MAX) {
        claims->beyond++;
        return;
    }
    struct claim *claim = claim_at(claimant, seq);
    claim->seen_kind = kind_of(claims, kind);
    if (claim->seen < UINT8_MAX)
        claim->seen++;
}

struct telling {
    FILE *out;
    const struct claims *claims;
    const struct claimant *claimant;
};

static void tell(const struct telling *telling, int64_t seq, const char *what, uint64_t *count)
{
    if (++*count > TOLD_MAX)
        return;
    const struct claim *claim = &telling->claimant->claims[seq];
    uint8_t kind = claim->event == 'a' || claim->event == 'u' ? claim->kind : claim->seen_kind;
    fprintf(telling->out, "%-8s client %d, request %" PRId64 " (%s)\n", what, telling->claimant->id,
            seq, kind < KINDS_MAX ? telling->claims->kinds[kind] : "?");
}

static void compare_claim(const struct telling *telling, int64_t seq, struct claims_counts *counts)
{
    const struct claimant *claimant = telling->claimant;
    const struct claim *claim = &claimant->claims[seq];
    counts->acknowledged += claim->event == 'a';
    counts->unknown += claim->event == 'u';
    counts->unknown_present += claim->event == 'u' && claim->seen > 0;
    counts->present += claim->seen;
    if (claim->event == 'a' && claim->seen == 0)
        tell(telling, seq, "lost", &counts->lost);
    if (claim->seen > 1)
        tell(telling, seq, "doubled", &counts->doubled);
    bool recorded = claim->event == 'a' || claim->event == 'u';
    if (recorded && claim->seen > 0 && claim->kind != claim->seen_kind)
        tell(telling, seq, "altered", &counts->altered);
    if (recorded || claim->seen == 0)
        return;
    if (claim->event == '?' || (seq >= claimant->end && !claimant->clean))
        counts->unrecorded++;
    else
        tell(telling, seq, "invented", &counts->invented);
}

void claims_compare(struct claims *claims, FILE *out, struct claims_counts *counts)
{
    *counts = (struct claims_counts){.invented = claims->beyond};
    for (unsigned i = 0; i < claims->count; i++) {
        struct telling telling = {out, claims, &claims->claimants[i]};
        for (int64_t seq = 0; seq < claims->claimants[i].capacity; seq++)
            compare_claim(&telling, seq, counts);
    }
}
