/*
 * In any text of a pooler's file the entry is found or not; led to another server it says so when it is
 * read again, and leading it there once more changes nothing.
 */
#include "fuzz.h"

#include "endpoint/entries.h"
#include "endpoint/textfile.h"

static const char *const seeds[] = {
    "[databases]\nshop = host=old port=5432 dbname=bank\nother=host=old\n[pgbouncer]\nshop = x=1\n",
    "shop = pool_size=7 host=old auth_user='the user' connect_query='SET a = ''b c'''\r\n",
    "; shop = host=old\n[databases]\n'shop' = host=old password=''\n%include a.ini\n* = host=old\n",
    "  [databases]\n\t shop\t =  host = old   dbname =bank \t\nshop=host=twice",
};

bool fuzz_seed(unsigned number, struct buffer *bytes)
{
    return fuzz_seed_of(seeds, sizeof seeds / sizeof seeds[0], number, bytes);
}

static void check_rewrite(const struct buffer *text, const struct pairs *target, struct arena *arena)
{
    struct buffer once, twice;
    struct pairs again;
    bool found;
    buffer_init(&once, TEXTFILE_MAX);
    buffer_init(&twice, TEXTFILE_MAX);
    entries_rewrite(text, "shop", target, &once);
    CHECK(!buffer_failed(&once));
    CHECK(entries_find(&once, "shop", arena, &again, &found) && found);
    CHECK(strcmp(pairs_get(&again, "host"), "new") == 0);
    entries_rewrite(&once, "shop", target, &twice);
    CHECK(once.length == twice.length &&
          memcmp(buffer_text(&once), buffer_text(&twice), once.length) == 0);
    buffer_release(&once);
    buffer_release(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct arena arena;
    struct buffer text;
    struct pairs pairs, target = {.count = 1, .items = {{"host", "new"}}};
    bool found;
    arena_init(&arena, 4096);
    buffer_init(&text, TEXTFILE_MAX);
    buffer_append(&text, (const char *)bytes, length);
    if (!buffer_failed(&text) && entries_find(&text, "shop", &arena, &pairs, &found) && found)
        check_rewrite(&text, &target, &arena);
    buffer_release(&text);
    arena_release(&arena);
    return 0;
}
