#include "verify/judge.h"

#include "util/clock.h"
#include "verify/position.h"
#include "verify/seen.h"

enum {
    BATCH = 512,                  /* suspects looked at together: a round waits for the lanes once … */
    SLICE = 32,                   /* … and asks for so many in one go … */
    BEFORE_US_MAX = 200 * 1000,   /* … but must be short: a row that changes meanwhile is open … */
    BEFORE_BYTES_MAX = 16 << 20,  /* … and fit into memory three times */
    CLOSE_AFTER = 3,              /* rounds without a verdict; then a suspect is looked at alone */
    HISTORY_MAX = 20000,          /* times that the source's row is read then … */
    HISTORY_BYTES_MAX = 64 << 20, /* … and what that may take */
    DESCRIBED_MAX = 10000,        /* differences; more are counted */
    VALUE_BYTES_MAX = 1000,       /* of a value that is shown */
};

/* What an earlier round saw. */
struct evidence {
    struct horizon newest;         /* transactions of the live side that ran then are all below */
    struct digest live, following; /* versions */
};

struct round {
    struct arena arena;
    struct suspect *suspects[BATCH];
    unsigned count;
    struct seen before[BATCH], following[BATCH], after[BATCH]; /* live, the other side, live again */
    struct seen *history;   /* of a close look: the live row between before and after … */
    unsigned history_count; /* … each version once */
    struct horizon oldest;  /* before A: transactions below it have ended */
    struct horizon newest;  /* after B: transactions that have begun are below it */
};

void judgement_init(struct judgement *judgement)
{
    *judgement = (struct judgement){.differences = json_array()};
    CHECK(judgement->differences != NULL);
}

void judgement_release(struct judgement *judgement)
{
    json_decref(judgement->differences);
}

/* ---- a round ---- */

/* The row as the side has it that takes the writes; as the side has it that follows. */
static bool seen_live(struct session *session, struct round *round, unsigned from, unsigned count,
                      struct seen *seen, struct error *err)
{
    return session->backward
               ? seen_target(session, round->suspects + from, count, &round->arena, seen, err)
               : seen_source(session, round->suspects + from, count, &round->arena, seen, err);
}

static bool seen_following(struct session *session, struct round *round, unsigned from,
                           unsigned count, struct seen *seen, struct error *err)
{
    return session->backward
               ? seen_source(session, round->suspects + from, count, &round->arena, seen, err)
               : seen_target(session, round->suspects + from, count, &round->arena, seen, err);
}

static unsigned slice_at(const struct round *round, unsigned from)
{
    return round->count - from < SLICE ? round->count - from : SLICE;
}

/* As many as there is time and room for: the round is of these. */
static bool look_before(struct session *session, struct round *round, struct suspects *suspects,
                        struct error *err)
{
    int64_t began_us = clock_monotonic_us();
    unsigned seen = 0;
    while (seen < round->count && clock_monotonic_us() - began_us < BEFORE_US_MAX &&
           arena_bytes(&round->arena) < BEFORE_BYTES_MAX) {
        unsigned slice = slice_at(round, seen);
        if (!seen_live(session, round, seen, slice, round->before + seen, err))
            return false;
        seen += slice;
    }
    while (round->count > seen)
        suspects_return_first(suspects, round->suspects[--round->count]);
    return true;
}

static bool look_after(struct session *session, struct round *round, struct error *err)
{
    unsigned slice;
    for (unsigned from = 0; from < round->count; from += slice) {
        slice = slice_at(round, from);
        if (!seen_following(session, round, from, slice, round->following + from, err) ||
            !seen_live(session, round, from, slice, round->after + from, err))
            return false;
    }
    return true;
}

/* Reads the live row again and again until the lanes have passed the position. */
static bool follow(struct session *session, struct round *round, const struct position *position,
                   bool *passed, struct error *err)
{
    const struct seen *last = &round->before[0];
    round->history = arena_alloc(&round->arena, HISTORY_MAX * sizeof *round->history);
    for (unsigned reads = 0; !*passed && !session_stopped(session) && reads < HISTORY_MAX &&
                             arena_bytes(&round->arena) < HISTORY_BYTES_MAX;
         reads++) {
        struct seen *seen = &round->history[round->history_count];
        if (!seen_live(session, round, 0, 1, seen, err) ||
            !position_passed(session, position, passed, err))
            return false;
        if (digest_equal(seen->version, last->version))
            continue;
        last = seen;
        round->history_count++;
    }
    return true;
}

static bool is_close(const struct round *round)
{
    return round->count == 1 && round->suspects[0]->rounds >= CLOSE_AFTER;
}

static bool is_ordinary(const struct session *session, const struct round *round)
{
    const struct mapping *last = NULL;
    for (unsigned i = 0; i < round->count; i++) {
        const struct mapping *mapping = round->suspects[i]->mapping;
        if (mapping != last && session_has_own_lanes(session, mapping))
            return false;
        last = mapping;
    }
    return true;
}

static bool look(struct session *session, struct round *round, struct suspects *suspects,
                 bool *passed, struct judgement *judgement, struct error *err)
{
    struct position position;
    *passed = false;
    if (!horizon_oldest(session, &round->oldest, err) ||
        !look_before(session, round, suspects, err) || !position_now(session, &position, err))
        return false;
    position.ordinary = is_ordinary(session, round);
    if (is_close(round) && !follow(session, round, &position, passed, err))
        return false;
    if (!*passed && !position_wait(session, &position, passed, judgement->why_undecided,
                                   sizeof judgement->why_undecided, err))
        return false;
    if (*passed && !look_after(session, round, err))
        return false;
    return horizon_newest(session, &round->newest, err);
}

enum verdict { JUDGED_EQUAL, JUDGED_DIFFERENT, JUDGED_OPEN };

static bool same(const struct session *session, const struct mapping *mapping,
                 const struct seen *live, const struct seen *following)
{
    return session->backward ? seen_equal(session, mapping, following, live)
                             : seen_equal(session, mapping, live, following);
}

static bool was_live(const struct session *session, const struct round *round, unsigned i)
{
    const struct mapping *mapping = round->suspects[i]->mapping;
    const struct seen *following = &round->following[i];
    bool was = same(session, mapping, &round->before[i], following) ||
               same(session, mapping, &round->after[i], following);
    for (unsigned h = 0; !was && h < round->history_count; h++)
        was = same(session, mapping, &round->history[h], following);
    return was;
}

/* Nothing has touched the source's row between the two looks, and its header says so. Of shards that are
 * live only two rounds tell. */
static bool untouched(const struct session *session, const struct seen *before,
                      const struct seen *after)
{
    return !session->backward && before->count == 1 && !before->rows[0].touched &&
           !after->rows[0].touched;
}

static enum verdict judge_one(const struct session *session, const struct round *round, unsigned i)
{
    struct suspect *suspect = round->suspects[i];
    const struct mapping *mapping = suspect->mapping;
    const struct seen *before = &round->before[i], *after = &round->after[i];
    const struct seen *following = &round->following[i];
    if (was_live(session, round, i))
        return JUDGED_EQUAL;
    suspect->rounds++;
    if (!digest_equal(before->version, after->version)) {
        free(suspect->evidence);
        suspect->evidence = NULL;
        return JUDGED_OPEN;
    }
    if (mapping->has_key && untouched(session, before, after))
        return JUDGED_DIFFERENT;
    struct evidence now = {
        .newest = round->newest, .live = after->version, .following = following->version};
    const struct evidence *then = suspect->evidence;
    if (then != NULL && digest_equal(then->live, after->version) &&
        digest_equal(then->following, following->version))
        return horizon_passed(&round->oldest, &then->newest) ? JUDGED_DIFFERENT : JUDGED_OPEN;
    if (suspect->evidence == NULL)
        suspect->evidence = check_malloc(sizeof *suspect->evidence);
    *suspect->evidence = now;
    return JUDGED_OPEN;
}

/* ---- what is told of a difference ---- */

static const char *kind_of(const struct session *session, const struct mapping *mapping,
                           const struct seen *source, const struct seen *target)
{
    unsigned copies = source->count * (mapping->everywhere ? session->shards_count : 1);
    if (source->count == 0)
        return "extra";
    if (target->count < copies)
        return "missing";
    if (target->count > copies)
        return "doubled";
    for (unsigned t = 0; t < target->count; t++) {
        if (!target->rows[t].placed)
            return "wrong shard";
    }
    return "different";
}

static json_t *text_or_null(const char *text)
{
    size_t length = text != NULL ? strnlen(text, VALUE_BYTES_MAX) : 0;
    if (length == VALUE_BYTES_MAX) {
        while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80)
            length--; /* not within a character */
    }
    json_t *value = text != NULL ? json_stringn(text, length) : json_null();
    return value != NULL ? value : json_string("(not UTF-8)");
}

static json_t *describe_key(const struct mapping *mapping, const struct seen_row *row)
{
    json_t *key = json_object();
    for (unsigned i = 0; row != NULL && i < mapping->items_count; i++) {
        if (!mapping->has_key || mapping_item_is_key(mapping, i))
            json_object_set_new(key, mapping->items[i].target->name, text_or_null(row->values[i]));
    }
    return key;
}

static json_t *describe_columns(const struct session *session, const struct mapping *mapping,
                                const struct seen *source, const struct seen *target)
{
    json_t *columns = json_array();
    if (source->count == 0 || target->count == 0 || !mapping->has_key)
        return columns;
    for (unsigned i = 0; i < mapping->items_count; i++) {
        const char *ours = source->rows[0].values[i];
        for (unsigned t = 0; t < target->count; t++) {
            if (value_same(session, mapping, i, ours, target->rows[t].values[i]))
                continue;
            json_array_append_new(columns,
                                  json_pack("{s:s, s:s, s:o, s:i, s:o}", "column",
                                            mapping->items[i].target->name, "expression",
                                            mapping->items[i].select->expr, "source",
                                            text_or_null(ours), "shard", (int)target->rows[t].shard,
                                            "target", text_or_null(target->rows[t].values[i])));
        }
    }
    return columns;
}

static json_t *describe_shards(const struct seen *target)
{
    json_t *shards = json_array();
    for (unsigned t = 0; t < target->count; t++)
        json_array_append_new(shards, json_integer(target->rows[t].shard));
    return shards;
}

static void report(const struct session *session, const struct mapping *mapping,
                   const struct seen *source, const struct seen *target,
                   struct judgement *judgement)
{
    const struct seen_row *row = source->count > 0   ? &source->rows[0]
                                 : target->count > 0 ? &target->rows[0]
                                                     : NULL;
    if (json_array_size(judgement->differences) >= DESCRIBED_MAX)
        return;
    json_array_append_new(judgement->differences,
                          json_pack("{s:s, s:s, s:o, s:o, s:o, s:[]}", "table", mapping->name, "kind",
                                    kind_of(session, mapping, source, target), "key",
                                    describe_key(mapping, row), "shards", describe_shards(target),
                                    "columns", describe_columns(session, mapping, source, target),
                                    "dead_letters"));
}

/* ---- all of them ---- */

static bool judge_batch(struct session *session, struct round *round, struct suspects *suspects,
                        bool *passed, struct judgement *judgement, struct error *err)
{
    if (!look(session, round, suspects, passed, judgement, err))
        return false;
    for (unsigned i = 0; i < round->count; i++) {
        struct suspect *suspect = round->suspects[i];
        enum verdict verdict = *passed ? judge_one(session, round, i) : JUDGED_OPEN;
        if (verdict == JUDGED_EQUAL)
            judgement->equal++;
        if (verdict == JUDGED_DIFFERENT) {
            judgement->different++;
            report(session, suspect->mapping,
                   session->backward ? &round->following[i] : &round->after[i],
                   session->backward ? &round->after[i] : &round->following[i], judgement);
            suspect->next = judgement->guilty;
            judgement->guilty = suspect;
        }
        if (verdict == JUDGED_OPEN)
            suspects_return(suspects, suspect); /* again, behind the others */
    }
    return true;
}

static void take_batch(struct suspects *suspects, struct round *round)
{
    round->count = round->history_count = 0;
    arena_clear(&round->arena);
    bool close = suspects->first->rounds >= CLOSE_AFTER;
    while (suspects->first != NULL && round->count < (close ? 1 : BATCH)) {
        round->suspects[round->count++] = suspects->first;
        suspects->first = suspects->first->next;
    }
    if (suspects->first == NULL)
        suspects->last = &suspects->first;
}

static uint64_t suspects_left(const struct suspects *suspects)
{
    uint64_t count = suspects->not_kept;
    for (const struct suspect *suspect = suspects->first; suspect != NULL; suspect = suspect->next)
        count++;
    return count;
}

bool judge(struct session *session, struct suspects *suspects, struct judgement *judgement,
           struct error *err)
{
    struct round *round = check_calloc(1, sizeof *round);
    int64_t deadline_us = clock_monotonic_us() + session->options->patience_us;
    bool ok = true, passed = true;
    arena_init(&round->arena, 256 * 1024);
    while (ok && passed && suspects->first != NULL && clock_monotonic_us() < deadline_us) {
        if (session_stopped(session)) {
            ok = stop_error(err);
            break;
        }
        take_batch(suspects, round);
        for (unsigned i = 0; ok && i < round->count; i++)
            ok = session_prepare(session, round->suspects[i]->mapping, err);
        ok = ok && judge_batch(session, round, suspects, &passed, judgement, err);
    }
    judgement->undecided = suspects_left(suspects);
    if (ok && judgement->undecided > 0 && judgement->why_undecided[0] == '\0')
        snprintf(judgement->why_undecided, sizeof judgement->why_undecided,
                 "rows that keep changing, or old transactions where they are written");
    arena_release(&round->arena);
    free(round);
    return ok;
}
