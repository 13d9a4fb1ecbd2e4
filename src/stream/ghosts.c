#include "stream/ghosts.h"

#include <uthash.h>

#include "pg/conn.h"
#include "pg/quote.h"

enum {
    ID_BYTES_MAX = 256 * 1024 * 1024
}; /* a key of the router's limit, each byte of it escaped */

/* `id` is the mapping's name, a NUL, and the key as it stands in portage.ghost. */
struct ghost {
    UT_hash_handle hh;
    size_t length;
    char id[];
};

void ghosts_init(struct ghosts *ghosts, unsigned stream, unsigned lane)
{
    *ghosts = (struct ghosts){.stream = stream, .lane = lane};
    buffer_init(&ghosts->id, ID_BYTES_MAX);
}

static void remove_one(struct ghosts *ghosts, struct ghost *ghost)
{
    HASH_DEL(ghosts->known, ghost);
    free(ghost);
}

void ghosts_release(struct ghosts *ghosts)
{
    struct ghost *ghost, *next;
    HASH_ITER (hh, ghosts->known, ghost, next)
        remove_one(ghosts, ghost);
    buffer_release(&ghosts->id);
}

/* ---- what they are known by ---- */

static void begin_id(struct ghosts *ghosts, const char *mapping)
{
    buffer_clear(&ghosts->id);
    buffer_append(&ghosts->id, mapping, strlen(mapping) + 1);
}

/* The key is written as an array of texts is, each in quotes: key::text[] reads it. */
static void id_of_change(struct ghosts *ghosts, const struct change *change)
{
    const struct mapping *mapping = change->mapping;
    begin_id(ghosts, mapping->name);
    for (unsigned k = 0; k < mapping->key_count; k++) {
        buffer_putc(&ghosts->id, k == 0 ? '{' : ',');
        const struct value *value = &change_row(change)->values[mapping->key[k].source];
        quote_element(&ghosts->id, value->bytes, value->length);
    }
    buffer_putc(&ghosts->id, '}');
    CHECK(!buffer_failed(&ghosts->id));
}

static struct ghost *find(const struct ghosts *ghosts)
{
    struct ghost *found;
    HASH_FIND(hh, ghosts->known, buffer_text(&ghosts->id), ghosts->id.length, found);
    return found;
}

static void remember(struct ghosts *ghosts)
{
    struct ghost *ghost = check_malloc(sizeof *ghost + ghosts->id.length);
    ghost->length = ghosts->id.length;
    memcpy(ghost->id, buffer_text(&ghosts->id), ghost->length);
    HASH_ADD_KEYPTR(hh, ghosts->known, ghost->id, ghost->length, ghost);
}

bool ghosts_know(struct ghosts *ghosts, const struct change *change)
{
    if (ghosts->known == NULL || !change->mapping->has_key)
        return false;
    id_of_change(ghosts, change);
    return find(ghosts) != NULL;
}

/* ---- what is durable ---- */

bool ghosts_load(struct ghosts *ghosts, PGconn *shard, struct error *err)
{
    char stream[12], lane[12];
    const char *const values[] = {stream, lane};
    snprintf(stream, sizeof stream, "%u", ghosts->stream);
    snprintf(lane, sizeof lane, "%u", ghosts->lane);
    PGresult *result = conn_query(shard,
                                  "SELECT mapping, key FROM portage.ghost"
                                  " WHERE stream = $1::int AND lane = $2::int",
                                  2, values, err);
    if (result == NULL)
        return error_context(err, "reading the ghosts of lane %u", ghosts->lane);
    for (int row = 0; row < PQntuples(result); row++) {
        begin_id(ghosts, result_text(result, row, 0));
        buffer_puts(&ghosts->id, result_text(result, row, 1));
        remember(ghosts);
    }
    PQclear(result);
    return true;
}

/* `sql` takes mapping, stream, lane and key of the id at hand. */
static bool run(struct ghosts *ghosts, struct pipeline *pipeline, const char *sql,
                struct error *err)
{
    char stream[12], lane[12];
    const char *mapping = buffer_text(&ghosts->id);
    const char *const values[] = {mapping, stream, lane, mapping + strlen(mapping) + 1};
    snprintf(stream, sizeof stream, "%u", ghosts->stream);
    snprintf(lane, sizeof lane, "%u", ghosts->lane);
    return pipeline_query(pipeline, sql, 4, values, EXPECT_OK, err);
}

bool ghosts_add(struct ghosts *ghosts, struct pipeline *pipeline, const struct change *change,
                struct error *err)
{
    id_of_change(ghosts, change);
    remember(ghosts);
    return run(ghosts, pipeline,
               "INSERT INTO portage.ghost (mapping, stream, lane, key)"
               " VALUES ($1, $2::int, $3::int, $4)",
               err);
}

bool ghosts_forget(struct ghosts *ghosts, struct pipeline *pipeline, const struct change *change,
                   struct error *err)
{
    id_of_change(ghosts, change);
    struct ghost *ghost = find(ghosts);
    CHECK(ghost != NULL);
    remove_one(ghosts, ghost);
    return run(ghosts, pipeline,
               "DELETE FROM portage.ghost"
               " WHERE mapping = $1 AND stream = $2::int AND lane = $3::int AND key = $4",
               err);
}

void ghosts_forget_table(struct ghosts *ghosts, const struct mapping *mapping)
{
    struct ghost *ghost, *next;
    HASH_ITER (hh, ghosts->known, ghost, next) {
        if (strcmp(ghost->id, mapping->name) == 0)
            remove_one(ghosts, ghost);
    }
}

bool ghosts_remove_table(struct pipeline *pipeline, const struct mapping *mapping,
                         struct error *err)
{
    const char *const values[] = {mapping->name};
    return pipeline_query(pipeline, "DELETE FROM portage.ghost WHERE mapping = $1", 1, values,
                          EXPECT_OK, err);
}
