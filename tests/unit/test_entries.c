#include "unit.h"

#include <sys/stat.h>
#include <unistd.h>

#include "endpoint/entries.h"
#include "endpoint/textfile.h"

static const char source_text[] = "host=old port=5432 dbname=bank";
static const char target_text[] = "host=new port=6000 dbname=bank_0";

static void parse(const char *text, struct arena *arena, struct pairs *pairs)
{
    size_t bad;
    assert_true(pairs_parse(text, strlen(text), arena, pairs, &bad));
}

static void fill(struct buffer *buffer, const char *text)
{
    buffer_init(buffer, TEXTFILE_MAX);
    buffer_puts(buffer, text);
}

/* Text before, entry's name, text after it was led to the target. NULL: there is no such entry. */
static const struct {
    const char *row, *before, *after;
} rewrites[] = {
    {"plain", "[databases]\nshop = host=old port=5432 dbname=bank\n",
     "[databases]\nshop = host=new port=6000 dbname=bank_0\n"},
    {"last line without an end", "[databases]\nshop=host=old dbname=bank",
     "[databases]\nshop=host=new port=6000 dbname=bank_0"},
    {"lines that end in CR LF", "[databases]\r\nshop = host=old\r\nother = host=old\r\n",
     "[databases]\r\nshop = host=new port=6000 dbname=bank_0\r\nother = host=old\r\n"},
    {"spaces of all kinds", "  [databases]\n\t shop\t =  host = old   dbname =bank \t\n",
     "  [databases]\n\t shop\t =  host=new port=6000 dbname=bank_0 \t\n"},
    {"what else it says stays", "[databases]\nshop = pool_size=7 host=old auth_user='the user'\n",
     "[databases]\nshop = host=new port=6000 dbname=bank_0 pool_size=7 auth_user='the user'\n"},
    {"a quote within a quote", "[databases]\nshop = host=old connect_query='SET a = ''b c'''\n",
     "[databases]\nshop = host=new port=6000 dbname=bank_0 connect_query='SET a = ''b c'''\n"},
    {"an empty value", "[databases]\nshop = host=old password=''\n",
     "[databases]\nshop = host=new port=6000 dbname=bank_0 password=''\n"},
    {"an empty entry", "[databases]\nshop =\n",
     "[databases]\nshop =host=new port=6000 dbname=bank_0\n"},
    {"comments",
     "; shop = host=old\n[databases]\n# shop = host=old\n;shop=host=old\nshop = host=old\n",
     "; shop = host=old\n[databases]\n# shop = host=old\n;shop=host=old\n"
     "shop = host=new port=6000 dbname=bank_0\n"},
    {"a name in quotes", "[databases]\n'shop' = host=old\n'shop 2' = host=old\n",
     "[databases]\n'shop' = host=new port=6000 dbname=bank_0\n'shop 2' = host=old\n"},
    {"other names",
     "[databases]\nshop_2 = host=old\nmyshop = host=old\n* = host=old\nshop = host=old\n",
     "[databases]\nshop_2 = host=old\nmyshop = host=old\n* = host=old\n"
     "shop = host=new port=6000 dbname=bank_0\n"},
    {"other sections",
     "[users]\nshop = pool_mode=session\n[databases]\nshop = host=old\n[pgbouncer]\n"
     "shop = host=old\n",
     "[users]\nshop = pool_mode=session\n[databases]\nshop = host=new port=6000 dbname=bank_0\n"
     "[pgbouncer]\nshop = host=old\n"},
    {"without a section", "shop = host=old\n", "shop = host=new port=6000 dbname=bank_0\n"},
    {"%include", "%include a.ini\n[databases]\n%include shop = host=old\nshop = host=old\n",
     "%include a.ini\n[databases]\n%include shop = host=old\n"
     "shop = host=new port=6000 dbname=bank_0\n"},
    {"twice", "[databases]\nshop = host=older\nshop = host=old\n",
     "[databases]\nshop = host=new port=6000 dbname=bank_0\n"
     "shop = host=new port=6000 dbname=bank_0\n"},
    {"behind its section", "[databases] shop = host=old\n",
     "[databases] shop = host=new port=6000 dbname=bank_0\n"},
    {"empty lines", "\n\n[databases]\n\n\nshop = host=old\n\n",
     "\n\n[databases]\n\n\nshop = host=new port=6000 dbname=bank_0\n\n"},
    {"led already", "[databases]\nshop = host=new port=6000 dbname=bank_0\n",
     "[databases]\nshop = host=new port=6000 dbname=bank_0\n"},
    {"none", "[databases]\nother = host=old\n", NULL},
    {"in another section only", "[pgbouncer]\nshop = host=old\n", NULL},
    {"no file", "", NULL},
    {"a quote that is not closed", "[databases]\n'shop = host=old\n", NULL},
    {"a section that is not closed", "[pgbouncer]\n[databases\nshop = host=old\n", NULL},
};

static void rewrite(const char *before, struct buffer *out, bool *found)
{
    struct buffer text;
    struct arena arena;
    struct pairs entry, sides[2], merged;
    arena_init(&arena, 1024);
    parse(source_text, &arena, &sides[0]);
    parse(target_text, &arena, &sides[1]);
    fill(&text, before);
    buffer_init(out, TEXTFILE_MAX);
    assert_true(entries_find(&text, "shop", &arena, &entry, found));
    if (*found) {
        assert_true(entries_merge(&entry, &sides[1], &sides[0], &merged));
        entries_rewrite(&text, "shop", &merged, out);
        assert_false(buffer_failed(out));
    }
    buffer_release(&text);
    arena_release(&arena);
}

static void test_rewrites(void **state)
{
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rewrites); r++) {
        struct buffer out;
        bool found;
        rewrite(rewrites[r].before, &out, &found);
        assert_row(found == (rewrites[r].after != NULL), rewrites[r].row);
        if (found && strcmp(buffer_text(&out), rewrites[r].after) != 0)
            fail_msg("%s:\n%s", rewrites[r].row, buffer_text(&out));
        buffer_release(&out);
    }
}

/* What is put in beside an entry is taken away again, and all else is as it was. */
static void test_added_and_taken_away(void **state)
{
    static const struct {
        const char *before, *with;
    } rows[] = {
        {"[databases]\nshop = host=old\n[users]\na = b\n",
         "[databases]\nshop = host=old\nprobe_0 = host=new port=6000 dbname=bank_0\n[users]\na = b\n"},
        {"shop = host=old\nother = host=old\n",
         "shop = host=old\nprobe_0 = host=new port=6000 dbname=bank_0\nother = host=old\n"},
        {"[databases] shop = host=old\n# the end\n",
         "[databases] shop = host=old\nprobe_0 = host=new port=6000 dbname=bank_0\n# the end\n"},
        {"shop = host=old\r\nshop = host=older\r\n",
         "shop = host=old\r\nshop = host=older\r\nprobe_0 = host=new port=6000 dbname=bank_0\n"},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct buffer before, with, after;
        struct arena arena;
        struct pairs pairs;
        arena_init(&arena, 1024);
        fill(&before, rows[r].before);
        buffer_init(&with, TEXTFILE_MAX);
        buffer_init(&after, TEXTFILE_MAX);
        parse(target_text, &arena, &pairs);
        entries_add(&before, "shop", "probe_0", &pairs, &with);
        assert_string_equal(buffer_text(&with), rows[r].with);
        entries_without(&with, "probe_", &after);
        assert_string_equal(buffer_text(&after), rows[r].before);
        buffer_release(&before);
        buffer_release(&with);
        buffer_release(&after);
        arena_release(&arena);
    }
}

/* What is not quoted as it should be is no entry to be guessed at. */
static void test_unreadable(void **state)
{
    static const char *const texts[] = {"shop = host", "shop = host=old nonsense",
                                        "shop = password='not closed", "shop = =old"};
    (void)state;
    for (size_t t = 0; t < COUNT_OF(texts); t++) {
        struct buffer text;
        struct arena arena;
        struct pairs pairs;
        bool found;
        arena_init(&arena, 1024);
        fill(&text, texts[t]);
        assert_row(!entries_find(&text, "shop", &arena, &pairs, &found) && found, texts[t]);
        buffer_release(&text);
        arena_release(&arena);
    }
}

static void test_too_many_pairs(void **state)
{
    struct arena arena;
    struct buffer text;
    struct pairs pairs;
    size_t bad;
    (void)state;
    arena_init(&arena, 1024);
    buffer_init(&text, 4096);
    for (int p = 0; p < PAIRS_MAX; p++)
        buffer_printf(&text, "k%d=v ", p);
    parse(buffer_text(&text), &arena, &pairs);
    assert_int_equal(pairs.count, PAIRS_MAX);
    assert_string_equal(pairs_get(&pairs, "k31"), "v");
    assert_null(pairs_get(&pairs, "k32"));
    buffer_puts(&text, "one=more");
    assert_false(pairs_parse(buffer_text(&text), text.length, &arena, &pairs, &bad));
    buffer_release(&text);
    arena_release(&arena);
}

/* A file that is replaced keeps its mode, and its link stays one; nothing is left beside it. */
static void test_replace(void **state)
{
    char folder[] = "/tmp/pgportage_entries_XXXXXX", path[64], link[64];
    struct buffer text;
    struct error err = ERROR_INIT;
    struct stat status;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/databases.ini", folder);
    snprintf(link, sizeof link, "%s/link.ini", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("old", file);
    fclose(file);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(symlink("databases.ini", link), 0);
    fill(&text, "new\n");
    assert_true(textfile_can_replace(link, &err));
    assert_true(textfile_replace(link, &text, &err));
    buffer_clear(&text);
    assert_true(textfile_read(path, &text, &err));
    assert_string_equal(buffer_text(&text), "new\n");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    assert_int_equal(lstat(link, &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    assert_int_equal(unlink(link) + unlink(path) + rmdir(folder), 0);
    assert_false(textfile_can_replace(path, &err));
    assert_false(textfile_read(path, &text, &err));
    assert_int_equal(err.class, ERROR_CONFIG);
    buffer_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rewrites),
        cmocka_unit_test(test_added_and_taken_away), cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_too_many_pairs),
        cmocka_unit_test(test_replace),
    };
    return run_unit_tests("entries", tests);
}
