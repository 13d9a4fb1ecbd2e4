/*
 * PgBouncer, as it is from 1.18 on:
 *
 * - PAUSE lets transactions end, closes their server connections, and answers when none is left. A
 *   database stays paused when who asked for it goes away, and until RESUME or a restart.
 * - There is no cancelling the PAUSE of one database: its console is closed, and another resumes it.
 * - A console that waits for PAUSE is answered when no paused database of the pooler has a connection
 *   left: together or not at all. It must be gone before the next PAUSE, whose answer it would take.
 * - A login at the server that PAUSE cuts off counts as one that failed: after RESUME no connection would be
 *   made for server_login_retry, and clients that ask meanwhile be turned away. So PAUSE is for when no
 *   login is under way (pgbouncer_pause.c).
 * - RELOAD answers before anything is known to be in force, and also when the file could not be read:
 *   SHOW DATABASES tells.
 */
#include "endpoint/entries.h"
#include "endpoint/kind.h"
#include "endpoint/poolers.h"
#include "endpoint/textfile.h"
#include "util/clock.h"
#include "util/log.h"

enum { ANSWER_MS = 3000 };

/* ---- life ---- */

static void init_pooled(struct poolers *poolers, struct pooler *pooler, unsigned number)
{
    struct pooled *database = &pooler->databases[number];
    size_t bad;
    database->config = &pooler->config->databases[number];
    for (unsigned side = 0; side < SIDES; side++) {
        const char *text = database->config->sides[side].text;
        CHECK(pairs_parse(text, strlen(text), &poolers->arena, &database->sides[side], &bad));
    }
    console_init(&database->console, pooler->config->admin.text);
    poolers->consoles[poolers->consoles_count++] = &database->console;
}

static void init_pooler(struct poolers *poolers, unsigned number)
{
    struct pooler *pooler = &poolers->items[number];
    pooler->config = &poolers->config->endpoint.poolers[number];
    pooler->arena = &poolers->call;
    pooler->count = pooler->config->databases_count;
    pooler->databases = arena_zalloc(&poolers->arena, pooler->count * sizeof *pooler->databases);
    console_init(&pooler->control, pooler->config->admin.text);
    for (unsigned d = 0; d < pooler->count; d++)
        init_pooled(poolers, pooler, d);
}

static void *poolers_open(const struct config *config, struct stop *stop)
{
    struct poolers *poolers = check_calloc(1, sizeof *poolers);
    unsigned consoles = 0;
    *poolers =
        (struct poolers){.config = config, .stop = stop, .count = config->endpoint.poolers_count};
    arena_init(&poolers->arena, 16 * 1024);
    arena_init(&poolers->call, 16 * 1024);
    for (unsigned p = 0; p < poolers->count; p++)
        consoles += config->endpoint.poolers[p].databases_count;
    poolers->items = arena_zalloc(&poolers->arena, poolers->count * sizeof *poolers->items);
    poolers->consoles = arena_zalloc(&poolers->arena, consoles * sizeof(struct console *));
    for (unsigned p = 0; p < poolers->count; p++)
        init_pooler(poolers, p);
    return poolers;
}

static void poolers_close(void *state)
{
    struct poolers *poolers = state;
    for (unsigned c = 0; c < poolers->consoles_count; c++)
        console_release(poolers->consoles[c]);
    for (unsigned p = 0; p < poolers->count; p++)
        console_release(&poolers->items[p].control);
    arena_release(&poolers->arena);
    arena_release(&poolers->call);
    free(poolers);
}

void poolers_begin(struct poolers *poolers)
{
    arena_clear(&poolers->call);
    for (unsigned p = 0; p < poolers->count; p++)
        error_clear(&poolers->items[p].err);
}

static bool failed(const struct pooler *pooler)
{
    return pooler->err.class != ERROR_NONE;
}

bool poolers_end(const struct poolers *poolers, struct error *err)
{
    for (unsigned p = 0; p < poolers->count; p++) {
        if (failed(&poolers->items[p])) {
            *err = poolers->items[p].err;
            return false;
        }
    }
    return true;
}

/* ---- what a pooler does, and what it should ---- */

int pooler_row(const struct pooler *pooler, const char *name)
{
    int found = -1;
    for (int row = 0; row < PQntuples(pooler->control.result); row++) {
        const char *other = console_cell(&pooler->control, row, "name");
        if (other != NULL && strcmp(other, name) == 0)
            found = row;
    }
    return found;
}

bool pooler_look(struct pooler *pooler, struct error *err)
{
    if (!console_ask(&pooler->control, "SHOW DATABASES", err))
        return false;
    for (unsigned d = 0; d < pooler->count; d++) {
        struct pooled *database = &pooler->databases[d];
        database->row = pooler_row(pooler, database->config->name.text);
    }
    return true;
}

static bool same(const char *one, const char *other)
{
    return one == NULL || other == NULL ? one == other : strcmp(one, other) == 0;
}

static const char *or_else(const char *text, const char *preset)
{
    return text != NULL ? text : preset;
}

bool pooled_in_force(const struct pooler *pooler, const struct pooled *database)
{
    const struct pairs *wanted = &database->wanted;
    const struct console *console = &pooler->control;
    return database->row >= 0 &&
           same(console_cell(console, database->row, "host"), pairs_get(wanted, "host")) &&
           same(console_cell(console, database->row, "port"),
                or_else(pairs_get(wanted, "port"), "5432")) &&
           same(console_cell(console, database->row, "database"),
                or_else(pairs_get(wanted, "dbname"), database->config->name.text));
}

bool pooled_paused(const struct pooler *pooler, const struct pooled *database)
{
    const char *paused =
        database->row < 0 ? NULL : console_cell(&pooler->control, database->row, "paused");
    return paused != NULL && strcmp(paused, "0") != 0;
}

static bool same_pairs(const struct pairs *one, const struct pairs *other)
{
    if (one->count != other->count)
        return false;
    for (unsigned p = 0; p < one->count; p++) {
        if (!same(pairs_get(other, one->items[p].key), one->items[p].value))
            return false;
    }
    return true;
}

static bool entry_error(const struct pooler *pooler, const struct pooled *database,
                        const char *problem, struct error *err)
{
    error_set(err, ERROR_CONFIG, "\"%s\" %s \"%s\"", pooler->config->file.text, problem,
              database->config->name.text);
    return error_hint(err,
                      "Name the file that holds the entry itself, in its section [databases].");
}

static bool pooled_wants(struct pooler *pooler, struct pooled *database, enum which_side side,
                         const struct buffer *text, bool *written, struct error *err)
{
    struct pairs entry;
    bool found;
    if (!entries_find(text, database->config->name.text, pooler->arena, &entry, &found) ||
        (found && !entries_merge(&entry, &database->sides[side], &database->sides[side_other(side)],
                                 &database->wanted)))
        return entry_error(pooler, database, "has an unreadable entry", err);
    if (!found)
        return entry_error(pooler, database, "has no entry", err);
    *written = *written && same_pairs(&entry, &database->wanted);
    return true;
}

bool pooler_wants(struct pooler *pooler, enum which_side side, struct buffer *text,
                  bool *written, struct error *err)
{
    *written = true;
    if (!textfile_read(pooler->config->file.text, text, err))
        return false;
    for (unsigned d = 0; d < pooler->count; d++) {
        if (!pooled_wants(pooler, &pooler->databases[d], side, text, written, err))
            return false;
    }
    return true;
}

/* ---- lead ---- */

static bool write_entries(struct pooler *pooler, struct buffer *text, struct error *err)
{
    for (unsigned d = 0; d < pooler->count; d++) {
        const struct pooled *database = &pooler->databases[d];
        struct buffer next;
        buffer_init(&next, TEXTFILE_MAX);
        entries_rewrite(text, database->config->name.text, &database->wanted, &next);
        buffer_release(text);
        *text = next;
    }
    if (buffer_failed(text))
        return error_set(err, ERROR_LIMIT, "\"%s\" would be larger than %d bytes",
                         pooler->config->file.text, TEXTFILE_MAX);
    return textfile_replace(pooler->config->file.text, text, err);
}

static bool all_in_force(const struct pooler *pooler)
{
    for (unsigned d = 0; d < pooler->count; d++) {
        if (!pooled_in_force(pooler, &pooler->databases[d]))
            return false;
    }
    return true;
}

/* Writes what must be written, and asks for RELOAD unless the file was right and is in force. */
static bool begin_lead(struct pooler *pooler, enum which_side side, struct error *err)
{
    struct buffer text;
    bool written;
    buffer_init(&text, TEXTFILE_MAX);
    bool ok = pooler_wants(pooler, side, &text, &written, err) &&
              (written || write_entries(pooler, &text, err));
    buffer_release(&text);
    if (!ok)
        return false;
    if (written) {
        if (!pooler_look(pooler, err))
            return false;
        if (all_in_force(pooler))
            return true;
    }
    return console_send(&pooler->control, "RELOAD", err);
}

static bool end_lead(struct pooler *pooler, struct error *err)
{
    if (!console_answered(&pooler->control, err) || !pooler_look(pooler, err))
        return false;
    if (all_in_force(pooler))
        return true;
    error_set(err, ERROR_CONFIG, "the pooler at %s does not use \"%s\" as it is now",
              pooler->control.name, pooler->config->file.text);
    return error_hint(err,
                      "Its log says why its RELOAD failed, or the file is not one that it reads.");
}

void poolers_wait_for_controls(struct poolers *poolers)
{
    struct console **controls =
        arena_alloc(&poolers->call, poolers->count * sizeof(struct console *));
    for (unsigned p = 0; p < poolers->count; p++)
        controls[p] = &poolers->items[p].control;
    consoles_wait(controls, poolers->count, clock_monotonic_us() + ANSWER_MS * 1000, NULL);
}

static void lead_all(struct poolers *poolers, enum which_side side)
{
    for (unsigned p = 0; p < poolers->count; p++)
        begin_lead(&poolers->items[p], side, &poolers->items[p].err);
    poolers_wait_for_controls(poolers);
    for (unsigned p = 0; p < poolers->count; p++) {
        if (!failed(&poolers->items[p]))
            end_lead(&poolers->items[p], &poolers->items[p].err);
    }
}

static bool poolers_lead(void *state, enum which_side side, struct error *err)
{
    struct poolers *poolers = state;
    poolers_begin(poolers);
    lead_all(poolers, side);
    return poolers_end(poolers, err);
}

/* ---- resume ---- */

bool pooler_send(struct pooler *pooler, const char *verb, struct error *err)
{
    char question[128];
    for (unsigned d = 0; d < pooler->count; d++) {
        struct pooled *database = &pooler->databases[d];
        snprintf(question, sizeof question, "%s \"%s\"", verb, database->config->name.text);
        if (!console_send(&database->console, question, err))
            return false;
    }
    return true;
}

static void close_waiting(struct poolers *poolers)
{
    for (unsigned c = 0; c < poolers->consoles_count; c++) {
        if (poolers->consoles[c]->waiting)
            console_close(poolers->consoles[c]);
    }
}

/* RESUME of what is not paused is refused, and all the same to us. */
static bool end_resume(struct pooler *pooler, struct error *err)
{
    struct error first = ERROR_INIT, error = ERROR_INIT;
    for (unsigned d = 0; d < pooler->count; d++) {
        if (!console_answered(&pooler->databases[d].console, &error) && first.class == ERROR_NONE)
            first = error;
    }
    if (first.class == ERROR_NONE)
        return true;
    if (!pooler_look(pooler, err))
        return false;
    for (unsigned d = 0; d < pooler->count; d++) {
        if (pooled_paused(pooler, &pooler->databases[d])) {
            *err = first;
            return false;
        }
    }
    return true;
}

void poolers_resume_all(struct poolers *poolers)
{
    close_waiting(poolers);
    for (unsigned p = 0; p < poolers->count; p++) {
        if (!failed(&poolers->items[p]))
            pooler_send(&poolers->items[p], "RESUME", &poolers->items[p].err);
    }
    consoles_wait(poolers->consoles, poolers->consoles_count,
                  clock_monotonic_us() + ANSWER_MS * 1000, NULL);
    for (unsigned p = 0; p < poolers->count; p++) {
        if (!failed(&poolers->items[p]))
            end_resume(&poolers->items[p], &poolers->items[p].err);
    }
    close_waiting(poolers);
}

static bool leads_there(struct pooler *pooler, enum which_side side, struct error *err)
{
    struct buffer text;
    bool written;
    buffer_init(&text, TEXTFILE_MAX);
    bool ok = pooler_wants(pooler, side, &text, &written, err) && pooler_look(pooler, err);
    buffer_release(&text);
    return ok && (all_in_force(pooler) ||
                  error_set(err, ERROR_CONFIG, "the pooler at %s does not lead to the %s",
                            pooler->control.name, side_name(side)));
}

static bool poolers_resume(void *state, enum which_side side, struct error *err)
{
    struct poolers *poolers = state;
    poolers_begin(poolers);
    for (unsigned p = 0; p < poolers->count; p++)
        leads_there(&poolers->items[p], side, &poolers->items[p].err);
    poolers_resume_all(poolers);
    return poolers_end(poolers, err);
}

static bool poolers_restore(void *state, enum which_side live, struct error *err)
{
    struct poolers *poolers = state;
    struct error first = ERROR_INIT;
    poolers_begin(poolers);
    lead_all(poolers, live);
    bool led = poolers_end(poolers, &first);
    poolers_begin(poolers); /* those that could not be led too */
    poolers_resume_all(poolers);
    if (led)
        return poolers_end(poolers, err);
    *err = first;
    return false;
}

static int64_t poolers_paused_since_us(const void *state)
{
    const struct poolers *poolers = state;
    return poolers->paused_since_us;
}

const struct endpoint_ops endpoint_pgbouncer = {
    .open = poolers_open,
    .close = poolers_close,
    .check = poolers_check,
    .pause = poolers_pause,
    .lead = poolers_lead,
    .resume = poolers_resume,
    .restore = poolers_restore,
    .paused_since_us = poolers_paused_since_us,
};
