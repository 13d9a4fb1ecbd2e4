#include "switchover/sequence_look.h"

#include "pg/conn.h"
#include "pg/quote.h"

enum { NEAR_PERCENT = 80 };

/* ---- reading ---- */

static bool read_server(struct sequence_server *server, PGconn *conn, const char *label,
                        struct arena *arena, struct error *err)
{
    server->conn = conn;
    snprintf(server->label, sizeof server->label, "%s", label);
    return sequence_list_read(conn, arena, &server->list, err);
}

static void match(const struct sequence_side *side, struct sequence_server *server,
                  struct arena *arena)
{
    const struct sequence_list *first = &side->servers[0].list;
    server->named = arena_alloc(arena, (first->count + 1) * sizeof *server->named);
    for (unsigned i = 0; i < first->count; i++)
        server->named[i] =
            sequence_list_find(&server->list, first->items[i].schema, first->items[i].name);
}

static bool read_side(struct sequence_look *look, struct sequence_side *side, bool source,
                      struct error *err)
{
    const struct sequences_sides *sides = look->sides;
    char label[24] = "source";
    side->count = source ? 1 : sides->shards_count;
    side->servers = arena_zalloc(look->arena, side->count * sizeof *side->servers);
    for (unsigned s = 0; s < side->count; s++) {
        if (!source)
            snprintf(label, sizeof label, "shard %u", s);
        if (!read_server(&side->servers[s], source ? sides->source : sides->shards[s], label,
                         look->arena, err))
            return false;
        match(side, &side->servers[s], look->arena);
    }
    return true;
}

void sequence_goal_use(struct sequence_goal *goal, int64_t used)
{
    goal->used = goal->is_used ? sequence_further(&goal->first->own, goal->used, used) : used;
    goal->is_used = true;
}

/* What the feeding sequences have used, as it was when their lists were read. */
static void use_feeds(const struct sequence_look *look, struct sequence_goal *goal)
{
    for (unsigned f = 0; f < goal->feeds.count; f++) {
        for (unsigned s = 0; s < look->from.count; s++) {
            const struct sequence *feed = look->from.servers[s].named[goal->feeds.from[f]];
            if (feed != NULL && feed->may_read)
                sequence_goal_use(goal, sequence_used(&feed->shape, feed->last, feed->called));
        }
    }
}

static void goal_init(const struct sequence_look *look, struct sequence_goal *goal,
                      const struct sequence *first, const struct sequence_feeds *feeds)
{
    unsigned servers = look->to.count;
    *goal = (struct sequence_goal){.first = first, .feeds = *feeds, .end = sequence_end(first)};
    goal->states = arena_zalloc(look->arena, servers * sizeof *goal->states);
    goal->shapes = arena_zalloc(look->arena, servers * sizeof *goal->shapes);
    for (unsigned s = 0; s < servers; s++) {
        const struct sequence *here = look->to.servers[s].named[first->index];
        if (here != NULL)
            goal->states[s] = (struct sequence_state){here->last, here->called};
    }
    use_feeds(look, goal);
}

bool sequence_look_read(struct sequence_look *look, const struct sequences_sides *sides,
                        struct arena *arena, struct findings *findings, struct error *err)
{
    *look = (struct sequence_look){.sides = sides, .arena = arena};
    if (!read_side(look, &look->from, !sides->back, err) ||
        !read_side(look, &look->to, sides->back, err))
        return false;
    const struct sequence_list *to = &look->to.servers[0].list;
    struct sequence_feeds *feeds = sequence_feeds_find(
        sides->config, sides->set, sides->back, &look->from.servers[0].list, to, arena, findings);
    look->goals_count = to->count;
    look->goals = arena_alloc(arena, (to->count + 1) * sizeof *look->goals);
    for (unsigned t = 0; t < to->count; t++)
        goal_init(look, &look->goals[t], &to->items[t], &feeds[t]);
    return true;
}

/* ---- deciding ---- */

/* What lies behind everything used, with the margin; false when nothing is known to be used. */
static bool floor_of(const struct sequence_look *look, const struct sequence_goal *goal,
                     int64_t *floor)
{
    const struct sequence_shape *own = &goal->first->own;
    int64_t end = own->increment < 0 ? INT64_MIN : INT64_MAX;
    if (goal->is_used &&
        !sequence_ahead(own, goal->used, look->sides->config->sequence_margin, floor))
        *floor = end; /* more than a bigint: there is no value behind it */
    return goal->is_used;
}

bool sequence_goal_in_blocks(const struct sequence_look *look, const struct sequence_goal *goal)
{
    return sequence_look_shared(look) && !goal->first->own.cycle &&
           look->sides->config->sequence_shards == SEQUENCE_RANGES;
}

/* What this server has given itself counts as it is; interleaved, what any of them has given. */
static bool add_given(const struct sequence_look *look, const struct sequence_goal *goal,
                      unsigned server, bool known, int64_t *floor)
{
    for (unsigned s = 0; s < look->to.count; s++) {
        if (!goal->states[s].called || (sequence_goal_in_blocks(look, goal) && s != server))
            continue;
        *floor = known ? sequence_further(&goal->first->own, *floor, goal->states[s].last)
                       : goal->states[s].last;
        known = true;
    }
    return known;
}

bool sequence_goal_stand(const struct sequence_look *look, const struct sequence_goal *goal,
                         unsigned server, struct sequence_state *state)
{
    const struct sequence_shape *shape = &goal->shapes[server];
    int64_t floor = 0;
    bool known = floor_of(look, goal, &floor);
    /* Of one that cycles, the largest value says nothing of where it stands. */
    if (!known || !shape->cycle)
        known = add_given(look, goal, server, known, &floor);
    *state = (struct sequence_state){.last = shape->start, .called = known};
    return !known || sequence_stand(shape, floor, goal->end, &state->last);
}

/* The block that a server had is kept while it is less than half used. */
static bool keeps_origin(const struct sequence_look *look, const struct sequence_goal *goal)
{
    const struct sequence_shape *own = &goal->first->own;
    int64_t size = look->sides->config->sequence_range, floor, half;
    bool known = floor_of(look, goal, &floor);
    for (unsigned s = 0; s < look->to.count; s++) {
        const struct sequence *here = look->to.servers[s].named[goal->first->index];
        struct sequence_shape block;
        if (here == NULL || !here->has_origin || here->origin != goal->first->origin ||
            !sequence_block(own, here->origin, size, s, &block) ||
            !sequence_shape_equal(&block, &here->shape) ||
            !sequence_ahead(own, here->origin, size * s + size / 2, &half))
            return false;
        int64_t stands = here->called ? here->last : here->origin;
        if (s == 0 && known)
            stands = sequence_further(own, stands, floor);
        if (sequence_further(own, stands, half) == stands)
            return false;
    }
    return true;
}

static int64_t new_origin(const struct sequence_look *look, const struct sequence_goal *goal)
{
    const struct sequence_shape *own = &goal->first->own;
    int64_t origin = sequence_used(own, own->start, false), floor;
    if (floor_of(look, goal, &floor))
        origin = sequence_further(own, origin, floor);
    for (unsigned s = 0; s < look->to.count; s++) {
        if (goal->states[s].called)
            origin = sequence_further(own, origin, goal->states[s].last);
    }
    return origin;
}

static bool shape_for(const struct sequence_look *look, const struct sequence_goal *goal,
                      unsigned server, struct sequence_shape *shape)
{
    const struct config *config = look->sides->config;
    const struct sequence_shape *own = &goal->first->own;
    *shape = goal->first->shape;
    if (!sequence_look_shared(look))
        return true;
    if (!sequence_goal_in_blocks(look, goal))
        return sequence_interleave(own, server, look->to.count, shape);
    return sequence_block(own, goal->origin, config->sequence_range, server, shape) &&
           sequence_further(own, goal->end, own->increment < 0 ? shape->min : shape->max) ==
               goal->end;
}

/* ---- what stands in the way ---- */

struct judge {
    const struct sequence_look *look;
    enum severity hindrance;
    struct findings *findings;
};

#define CANNOT(judge, code, server, sequence, fix, ...)                                            \
    findings_add((judge)->findings, (judge)->hindrance, code, NULL,                                \
                 arena_printf((judge)->look->arena, "%s, sequence %s", (server)->label,            \
                              (sequence)->quoted),                                                 \
                 fix, __VA_ARGS__)

static void judge_reading(const struct judge *judge, const struct sequence_server *server,
                          const struct sequence *sequence)
{
    struct arena *arena = judge->look->arena;
    const char *role = quote_ident_dup(arena, PQuser(server->conn));
    const char *schema = quote_ident_dup(arena, sequence->schema);
    if (!sequence->may_use_schema)
        CANNOT(judge, "sequence-schema", server, sequence,
               arena_printf(arena, "GRANT USAGE ON SCHEMA %s TO %s;", schema, role),
               "may not be used: no right on its schema");
    else if (!sequence->may_read)
        CANNOT(judge, "sequence-read", server, sequence,
               arena_printf(arena, "GRANT SELECT ON SEQUENCE %s TO %s;", sequence->quoted, role),
               "may not be read, and a switch must know where it stands");
}

static void judge_rights(const struct judge *judge, const struct sequence_server *server,
                         const struct sequence *sequence)
{
    struct arena *arena = judge->look->arena;
    const char *role = quote_ident_dup(arena, PQuser(server->conn));
    judge_reading(judge, server, sequence);
    if (!sequence->may_set)
        CANNOT(judge, "sequence-set", server, sequence,
               arena_printf(arena, "GRANT UPDATE ON SEQUENCE %s TO %s;", sequence->quoted, role),
               "may not be set at a switch");
    if (!sequence->may_alter && sequence_look_shared(judge->look))
        CANNOT(
            judge, "sequence-owner", server, sequence,
            arena_printf(arena, "GRANT %s TO %s;", quote_ident_dup(arena, sequence->owner), role),
            "gets an increment of its own on each shard, which takes its owner, %s",
            sequence->owner);
}

/* The largest blocks that there is room for. */
static const char *range_fix(const struct judge *judge, const struct sequence_goal *goal)
{
    unsigned shards = judge->look->to.count;
    uint64_t room = goal->end > goal->origin ? (uint64_t)goal->end - (uint64_t)goal->origin
                                             : (uint64_t)goal->origin - (uint64_t)goal->end;
    return arena_printf(judge->look->arena,
                        "In portage.yaml: sequence_range: %llu, or sequence_shards: interleave",
                        (unsigned long long)(room / shards));
}

static void judge_room(const struct judge *judge, const struct sequence_server *server,
                       const struct sequence_goal *goal, bool shaped, unsigned number)
{
    const struct sequence *sequence = goal->first;
    struct sequence_state state;
    int percent = goal->is_used ? sequence_percent(&sequence->own, goal->used, goal->end) : 0;
    if (!shaped && sequence_goal_in_blocks(judge->look, goal))
        CANNOT(
            judge, "sequence-range", server, sequence, range_fix(judge, goal),
            "has no room for a block of %lld values: it is to begin behind %lld and ends at %lld",
            (long long)judge->look->sides->config->sequence_range, (long long)goal->origin,
            (long long)goal->end);
    else if (!shaped || !sequence_goal_stand(judge->look, goal, number, &state))
        CANNOT(judge, "sequence-full", server, sequence,
               "A bigint, for the sequence (ALTER SEQUENCE … AS bigint) and for the column; or a"
               " smaller sequence_margin.",
               "ends at %lld: %lld is used, and a margin of %lld does not fit",
               (long long)goal->end, (long long)goal->used,
               (long long)judge->look->sides->config->sequence_margin);
    else if (number == 0 && percent >= NEAR_PERCENT && !sequence->own.cycle)
        findings_add(judge->findings, SEVERITY_WARNING, "sequence-near", NULL,
                     arena_printf(judge->look->arena, "sequence %s", sequence->quoted), NULL,
                     "has used %d %% of the values that fit its columns", percent);
}

/* What is known of one that nothing feeds: its columns, if an index tells. */
static void judge_feeds(const struct judge *judge, const struct sequence_goal *goal)
{
    const struct sequence *sequence = goal->first;
    if (goal->feeds.count > 0)
        return;
    for (unsigned c = 0; c < sequence->columns_count; c++) {
        const struct sequence_column *column = &sequence->columns[c];
        struct arena *arena = judge->look->arena;
        if (column->integer_bytes == 0 || column->indexed)
            continue;
        findings_add(judge->findings, SEVERITY_WARNING, "sequence-blind", NULL,
                     arena_printf(arena, "sequence %s", sequence->quoted),
                     arena_printf(arena, "CREATE INDEX ON %s (%s);",
                                  quote_name_dup(arena, column->schema, column->table),
                                  quote_ident_dup(arena, column->name)),
                     "no sequence of the other side feeds it, and no index gives the largest"
                     " value of %s.%s: it is read whole in the pause",
                     column->table, column->name);
    }
}

static void judge_cycle(const struct judge *judge, const struct sequence_goal *goal)
{
    if (goal->first->own.cycle)
        findings_add(judge->findings, SEVERITY_NOTE, "sequence-cycles", NULL,
                     arena_printf(judge->look->arena, "sequence %s", goal->first->quoted), NULL,
                     "cycles: it goes on where the other side stands, and gives used values again");
}

static void judge_goal(const struct judge *judge, struct sequence_goal *goal)
{
    const struct sequence_look *look = judge->look;
    bool kept = sequence_goal_in_blocks(look, goal) && keeps_origin(look, goal);
    goal->origin = kept ? goal->first->origin : new_origin(look, goal);
    judge_feeds(judge, goal);
    judge_cycle(judge, goal);
    for (unsigned s = 0; s < look->to.count; s++) {
        const struct sequence_server *server = &look->to.servers[s];
        const struct sequence *here = server->named[goal->first->index];
        if (here == NULL) {
            CANNOT(judge, "sequence-missing", server, goal->first,
                   "CREATE SEQUENCE, as on the first shard.", "is not there");
            continue;
        }
        judge_rights(judge, server, here);
        judge_room(judge, server, goal, shape_for(look, goal, s, &goal->shapes[s]), s);
    }
}

/* Those of the from-side that feed nothing go out of use: worth a word when none has their name. */
static void judge_left(const struct judge *judge, const bool *feeds)
{
    const struct sequence_list *from = &judge->look->from.servers[0].list;
    for (unsigned f = 0; f < from->count; f++) {
        if (!feeds[f] && from->items[f].columns_count == 0)
            findings_add(judge->findings, SEVERITY_NOTE, "sequence-left", NULL,
                         arena_printf(judge->look->arena, "sequence %s", from->items[f].quoted),
                         "In portage.yaml: sequences: {sequence of the target: this one}",
                         "no sequence of the other side goes on where it ends");
    }
}

void sequence_look_decide(struct sequence_look *look, enum severity hindrance,
                          struct findings *findings)
{
    struct judge judge = {look, hindrance, findings};
    bool *feeds = arena_zalloc(look->arena, look->from.servers[0].list.count + 1);
    for (unsigned g = 0; g < look->goals_count; g++) {
        struct sequence_goal *goal = &look->goals[g];
        judge_goal(&judge, goal);
        for (unsigned f = 0; f < goal->feeds.count; f++)
            feeds[goal->feeds.from[f]] = true;
    }
    for (unsigned s = 0; s < look->from.count; s++) {
        for (unsigned f = 0; f < look->from.servers[0].list.count; f++) {
            const struct sequence *here = look->from.servers[s].named[f];
            if (feeds[f] && here != NULL)
                judge_reading(&judge, &look->from.servers[s], here);
        }
    }
    if (!look->sides->back)
        judge_left(&judge, feeds);
}
