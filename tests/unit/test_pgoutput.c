#include "unit.h"

#include "pg/pgoutput.h"
#include "util/buffer.h"

/* Messages are built by hand, as the protocol's documentation describes them. */
static void put_int(struct buffer *out, uint64_t value, int bytes)
{
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
        buffer_putc(out, (char)(value >> shift));
}

static void put_text(struct buffer *out, const char *text)
{
    buffer_append(out, text, strlen(text) + 1);
}

static void put_value(struct buffer *out, const char *text)
{
    buffer_putc(out, 't');
    put_int(out, strlen(text), 4);
    buffer_puts(out, text);
}

static void make_begin(struct buffer *out)
{
    buffer_putc(out, 'B');
    put_int(out, 0x1600000010, 8);
    put_int(out, 777, 8);
    put_int(out, 4242, 4);
}

static void make_commit(struct buffer *out)
{
    buffer_putc(out, 'C');
    put_int(out, 0, 1);
    put_int(out, 0x1600000010, 8);
    put_int(out, 0x1600000040, 8);
    put_int(out, 777, 8);
}

static void make_relation(struct buffer *out)
{
    buffer_putc(out, 'R');
    put_int(out, 16385, 4);
    put_text(out, "public");
    put_text(out, "sel\"ect'é");
    buffer_putc(out, 'd');
    put_int(out, 2, 2);
    put_int(out, 1, 1);
    put_text(out, "id");
    put_int(out, 20, 4);
    put_int(out, (uint32_t)-1, 4);
    put_int(out, 0, 1);
    put_text(out, "note");
    put_int(out, 25, 4);
    put_int(out, (uint32_t)-1, 4);
}

/* An update with old key and new row: text, null, unchanged TOAST. */
static void make_update(struct buffer *out)
{
    buffer_putc(out, 'U');
    put_int(out, 16385, 4);
    buffer_putc(out, 'K');
    put_int(out, 3, 2);
    put_value(out, "7");
    buffer_puts(out, "nn");
    buffer_putc(out, 'N');
    put_int(out, 3, 2);
    put_value(out, "8é");
    buffer_puts(out, "nu");
}

static void make_insert(struct buffer *out)
{
    buffer_putc(out, 'I');
    put_int(out, 16385, 4);
    buffer_putc(out, 'N');
    put_int(out, 2, 2);
    put_value(out, "");
    buffer_putc(out, 'n');
}

static void make_delete(struct buffer *out)
{
    buffer_putc(out, 'D');
    put_int(out, 16385, 4);
    buffer_putc(out, 'O');
    put_int(out, 1, 2);
    put_value(out, "old");
}

static void make_truncate(struct buffer *out)
{
    buffer_putc(out, 'T');
    put_int(out, 2, 4);
    put_int(out, 3, 1);
    put_int(out, 16385, 4);
    put_int(out, 16390, 4);
}

static bool decode(const struct buffer *bytes, size_t length, struct arena *arena,
                   struct pgoutput_message *message)
{
    struct error err = ERROR_INIT;
    /* An exact copy, so that reading behind its end is seen by the sanitizers. */
    char *exact = arena_memdup(arena, bytes->bytes, length);
    bool ok = pgoutput_decode(exact, length, arena, message, &err);
    if (!ok)
        assert_int_equal(err.class, ERROR_FATAL);
    return ok;
}

static void with_message(void (*make)(struct buffer *), void (*check)(struct pgoutput_message *))
{
    struct buffer bytes;
    struct arena arena;
    struct pgoutput_message message;
    buffer_init(&bytes, 4096);
    make(&bytes);
    arena_init(&arena, 4096);
    assert_true(decode(&bytes, bytes.length, &arena, &message));
    check(&message);
    arena_release(&arena);
    /* D10: cut at any byte it is an error, never a shorter message. */
    for (size_t cut = 0; cut < bytes.length; cut++) {
        arena_init(&arena, 4096);
        assert_false(decode(&bytes, cut, &arena, &message));
        arena_release(&arena);
    }
    buffer_release(&bytes);
}

static void check_begin(struct pgoutput_message *message)
{
    assert_int_equal(message->kind, PGOUTPUT_BEGIN);
    assert_true(message->begin.final_lsn == 0x1600000010);
    assert_int_equal(message->begin.commit_time, 777);
    assert_int_equal(message->begin.xid, 4242);
}

static void check_commit(struct pgoutput_message *message)
{
    assert_true(message->commit.commit_lsn == 0x1600000010);
    assert_true(message->commit.end_lsn == 0x1600000040);
}

static void check_relation(struct pgoutput_message *message)
{
    assert_int_equal(message->relation.oid, 16385);
    assert_string_equal(message->relation.name, "sel\"ect'é");
    assert_int_equal(message->relation.count, 2);
    assert_true(message->relation.columns[0].in_identity);
    assert_false(message->relation.columns[1].in_identity);
    assert_string_equal(message->relation.columns[1].name, "note");
    assert_int_equal(message->relation.columns[1].type_oid, 25);
}

static void check_update(struct pgoutput_message *message)
{
    assert_int_equal(message->row.old_kind, OLD_KEY);
    assert_int_equal(message->row.old_tuple.count, 3);
    assert_memory_equal(message->row.old_tuple.values[0].bytes, "7", 1);
    assert_int_equal(message->row.new_tuple.values[0].length, 3);
    assert_int_equal(message->row.new_tuple.values[1].kind, VALUE_NULL);
    assert_int_equal(message->row.new_tuple.values[2].kind, VALUE_UNCHANGED);
}

static void check_insert(struct pgoutput_message *message)
{
    assert_int_equal(message->row.old_tuple.count, 0);
    assert_int_equal(message->row.new_tuple.values[0].kind, VALUE_TEXT);
    assert_int_equal(message->row.new_tuple.values[0].length, 0);
}

static void check_delete(struct pgoutput_message *message)
{
    assert_int_equal(message->row.old_kind, OLD_FULL);
    assert_int_equal(message->row.new_tuple.count, 0);
}

static void check_truncate(struct pgoutput_message *message)
{
    assert_int_equal(message->truncate.count, 2);
    assert_int_equal(message->truncate.relation_oids[1], 16390);
    assert_true(message->truncate.cascade);
    assert_true(message->truncate.restart_identity);
}

static void test_D10_messages_whole_and_cut(void **state)
{
    (void)state;
    with_message(make_begin, check_begin);
    with_message(make_commit, check_commit);
    with_message(make_relation, check_relation);
    with_message(make_insert, check_insert);
    with_message(make_update, check_update);
    with_message(make_delete, check_delete);
    with_message(make_truncate, check_truncate);
}

static void test_D10_any_byte_may_be_wrong(void **state)
{
    void (*const makers[])(struct buffer *) = {make_begin, make_commit, make_relation, make_insert,
                                               make_update, make_delete, make_truncate};
    (void)state;
    for (size_t m = 0; m < sizeof makers / sizeof makers[0]; m++) {
        struct buffer bytes;
        buffer_init(&bytes, 4096);
        makers[m](&bytes);
        for (size_t at = 0; at < bytes.length; at++) {
            char before = bytes.bytes[at];
            for (int value = 0; value < 256; value++) {
                struct arena arena;
                struct pgoutput_message message;
                arena_init(&arena, 4096);
                bytes.bytes[at] = (char)value;
                if (!decode(&bytes, bytes.length, &arena, &message))
                    assert_true(true); /* refused; the sanitizers see the rest */
                arena_release(&arena);
            }
            bytes.bytes[at] = before;
        }
        buffer_release(&bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_D10_messages_whole_and_cut),
        cmocka_unit_test(test_D10_any_byte_may_be_wrong),
    };
    return run_unit_tests("pgoutput", tests);
}
