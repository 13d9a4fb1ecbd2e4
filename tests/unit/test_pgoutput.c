#include "unit.h"

#include "pg/pgoutput.h"
#include "samples.h"

/* Builds a sample by its name and decodes it; the message points into `bytes` and `arena`. */
struct decoded {
    struct buffer bytes;
    struct arena arena;
    struct pgoutput_message message;
};

static struct decoded decode_sample(const char *name)
{
    struct decoded decoded;
    struct error err = ERROR_INIT;
    buffer_init(&decoded.bytes, 4096);
    arena_init(&decoded.arena, 1024);
    for (size_t s = 0; s < SAMPLES_PGOUTPUT; s++) {
        if (strcmp(samples_pgoutput[s].name, name) == 0)
            samples_pgoutput[s].build(&decoded.bytes);
    }
    if (!pgoutput_decode(buffer_text(&decoded.bytes), decoded.bytes.length, &decoded.arena,
                         &decoded.message, &err))
        fail_msg("%s: %s", name, err.message);
    assert_int_equal(err.class, ERROR_NONE);
    return decoded;
}

static void decoded_release(struct decoded *decoded)
{
    arena_release(&decoded->arena);
    buffer_release(&decoded->bytes);
}

static void assert_value(const struct value *value, enum value_kind kind, const char *bytes,
                         size_t length)
{
    assert_int_equal(value->kind, kind);
    assert_int_equal(value->length, length);
    if (length > 0)
        assert_memory_equal(value->bytes, bytes, length);
}

static void assert_text(const struct value *value, const char *text)
{
    assert_value(value, VALUE_TEXT, text, strlen(text));
}

static void test_begin(void **state)
{
    struct decoded decoded = decode_sample("begin");
    (void)state;
    assert_int_equal(decoded.message.kind, PGOUTPUT_BEGIN);
    assert_true(decoded.message.begin.final_lsn == UINT64_C(0x16B374D848));
    assert_true(decoded.message.begin.commit_time == INT64_C(762436800000000));
    assert_true(decoded.message.begin.xid == 4294967290);
    decoded_release(&decoded);
}

static void test_commit(void **state)
{
    struct decoded decoded = decode_sample("commit");
    (void)state;
    assert_int_equal(decoded.message.kind, PGOUTPUT_COMMIT);
    assert_true(decoded.message.commit.commit_lsn == UINT64_C(0x16B374D848));
    assert_true(decoded.message.commit.end_lsn == UINT64_C(0x16B374D878));
    assert_true(decoded.message.commit.commit_time == INT64_C(762436800000000));
    decoded_release(&decoded);
}

static void test_relation(void **state)
{
    struct decoded decoded = decode_sample("relation");
    const struct pgoutput_column *columns = decoded.message.relation.columns;
    (void)state;
    assert_int_equal(decoded.message.kind, PGOUTPUT_RELATION);
    assert_int_equal(decoded.message.relation.oid, 16385);
    assert_string_equal(decoded.message.relation.schema, "shop");
    assert_string_equal(decoded.message.relation.name, "sel\"ect'é");
    assert_int_equal(decoded.message.relation.replica_identity, 'f');
    assert_int_equal(decoded.message.relation.count, 3);
    assert_string_equal(columns[0].name, "id");
    assert_true(columns[0].in_identity);
    assert_int_equal(columns[0].type_oid, 20);
    assert_true(columns[0].typmod == -1);
    assert_string_equal(columns[1].name, "größe");
    assert_false(columns[1].in_identity);
    assert_int_equal(columns[1].type_oid, 1700);
    assert_true(columns[1].typmod == 655366);
    assert_string_equal(columns[2].name, "");
    assert_true(columns[2].in_identity);
    decoded_release(&decoded);
    decoded = decode_sample("relation without columns");
    assert_string_equal(decoded.message.relation.schema, "");
    assert_int_equal(decoded.message.relation.replica_identity, 'n');
    assert_int_equal(decoded.message.relation.count, 0);
    decoded_release(&decoded);
}

static void assert_new_row(const struct tuple *tuple)
{
    assert_int_equal(tuple->count, 5);
    assert_text(&tuple->values[0], "42");
    assert_value(&tuple->values[1], VALUE_NULL, NULL, 0);
    assert_value(&tuple->values[2], VALUE_UNCHANGED, NULL, 0);
    assert_value(&tuple->values[3], VALUE_BINARY, "\0\xFF\0\x2A", 4);
    assert_text(&tuple->values[4], "");
}

static void test_insert(void **state)
{
    struct decoded decoded = decode_sample("insert");
    (void)state;
    assert_int_equal(decoded.message.kind, PGOUTPUT_INSERT);
    assert_int_equal(decoded.message.row.relation_oid, 16385);
    assert_int_equal(decoded.message.row.old_kind, OLD_NONE);
    assert_int_equal(decoded.message.row.old_tuple.count, 0);
    assert_new_row(&decoded.message.row.new_tuple);
    decoded_release(&decoded);
    decoded = decode_sample("insert, multibyte");
    assert_int_equal(decoded.message.row.new_tuple.count, 2);
    assert_text(&decoded.message.row.new_tuple.values[0], "größe €𝄞");
    assert_text(&decoded.message.row.new_tuple.values[1], "日本");
    decoded_release(&decoded);
    decoded = decode_sample("insert without columns");
    assert_int_equal(decoded.message.row.new_tuple.count, 0);
    decoded_release(&decoded);
}

static void test_update(void **state)
{
    struct decoded decoded = decode_sample("update");
    const struct tuple *old = &decoded.message.row.old_tuple;
    (void)state;
    assert_int_equal(decoded.message.kind, PGOUTPUT_UPDATE);
    assert_int_equal(decoded.message.row.old_kind, OLD_NONE);
    assert_int_equal(old->count, 0);
    assert_new_row(&decoded.message.row.new_tuple);
    decoded_release(&decoded);
    decoded = decode_sample("update with old key");
    assert_int_equal(decoded.message.row.old_kind, OLD_KEY);
    assert_int_equal(old->count, 2);
    assert_text(&old->values[0], "41");
    assert_value(&old->values[1], VALUE_NULL, NULL, 0);
    assert_new_row(&decoded.message.row.new_tuple);
    decoded_release(&decoded);
    decoded = decode_sample("update with old row");
    assert_int_equal(decoded.message.row.old_kind, OLD_FULL);
    assert_text(&old->values[1], "old");
    assert_new_row(&decoded.message.row.new_tuple);
    decoded_release(&decoded);
}

static void test_delete(void **state)
{
    struct decoded decoded = decode_sample("delete by key");
    const struct tuple *old = &decoded.message.row.old_tuple;
    (void)state;
    assert_int_equal(decoded.message.kind, PGOUTPUT_DELETE);
    assert_int_equal(decoded.message.row.relation_oid, 16385);
    assert_int_equal(decoded.message.row.old_kind, OLD_KEY);
    assert_int_equal(old->count, 2);
    assert_text(&old->values[0], "-7");
    assert_value(&old->values[1], VALUE_NULL, NULL, 0);
    assert_int_equal(decoded.message.row.new_tuple.count, 0);
    decoded_release(&decoded);
    decoded = decode_sample("delete by row");
    assert_int_equal(decoded.message.row.old_kind, OLD_FULL);
    assert_int_equal(old->count, 1);
    assert_text(&old->values[0], "gone");
    decoded_release(&decoded);
}

static void test_truncate(void **state)
{
    struct decoded decoded = decode_sample("truncate");
    (void)state;
    assert_int_equal(decoded.message.kind, PGOUTPUT_TRUNCATE);
    assert_int_equal(decoded.message.truncate.count, 2);
    assert_true(decoded.message.truncate.relation_oids[0] == 16385);
    assert_true(decoded.message.truncate.relation_oids[1] == 4294967295);
    assert_true(decoded.message.truncate.cascade);
    assert_true(decoded.message.truncate.restart_identity);
    decoded_release(&decoded);
}

static void test_unused_kinds(void **state)
{
    static const struct {
        const char *name;
        enum pgoutput_kind kind;
    } rows[] = {
        {"origin", PGOUTPUT_ORIGIN}, {"type", PGOUTPUT_TYPE}, {"message", PGOUTPUT_MESSAGE}};
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct decoded decoded = decode_sample(rows[r].name);
        assert_int_equal(decoded.message.kind, rows[r].kind);
        decoded_release(&decoded);
    }
}

/* ---- what is refused ---- */

/* Decodes a copy of just this size. */
static bool decodes(const char *bytes, size_t length, struct error *err)
{
    struct pgoutput_message message;
    struct arena arena;
    char *copy = exact_copy(bytes, length);
    arena_init(&arena, 1024);
    error_clear(err);
    bool ok = pgoutput_decode(copy, length, &arena, &message, err);
    arena_release(&arena);
    free(copy);
    return ok;
}

/* D10: whatever the message and wherever it is cut, within a character of several bytes as well. */
static void test_D10_every_cut(void **state)
{
    struct error err;
    (void)state;
    for (size_t s = 0; s < SAMPLES_PGOUTPUT; s++) {
        struct buffer bytes;
        buffer_init(&bytes, 4096);
        samples_pgoutput[s].build(&bytes);
        for (size_t length = 0; length < bytes.length; length++) {
            if (decodes(buffer_text(&bytes), length, &err))
                fail_msg("%s, cut to %zu of %zu bytes, was taken for whole",
                         samples_pgoutput[s].name, length, bytes.length);
            assert_int_equal(err.class, ERROR_FATAL);
        }
        assert_true(decodes(buffer_text(&bytes), bytes.length, &err));
        buffer_release(&bytes);
    }
}

/* D10: one wrong byte, any value of it: refused or decoded, the sanitizers see to the rest. */
static void test_D10_every_wrong_byte(void **state)
{
    (void)state;
    for (size_t s = 0; s < SAMPLES_PGOUTPUT; s++) {
        struct buffer bytes;
        struct error err;
        buffer_init(&bytes, 4096);
        samples_pgoutput[s].build(&bytes);
        for (size_t at = 0; at < bytes.length; at++) {
            char before = bytes.bytes[at];
            for (int value = 0; value < 256; value++) {
                bytes.bytes[at] = (char)value;
                bool ok = decodes(buffer_text(&bytes), bytes.length, &err);
                assert_int_equal(err.class, ok ? ERROR_NONE : ERROR_FATAL);
            }
            bytes.bytes[at] = before;
        }
        buffer_release(&bytes);
    }
}

/* A message that goes on is as little what we take it for as one that is cut. */
static void test_D10_every_tail(void **state)
{
    struct error err;
    (void)state;
    for (size_t s = 0; s < SAMPLES_PGOUTPUT; s++) {
        struct buffer bytes;
        buffer_init(&bytes, 4096);
        samples_pgoutput[s].build(&bytes);
        buffer_putc(&bytes, '\0');
        assert_row(!decodes(buffer_text(&bytes), bytes.length, &err), samples_pgoutput[s].name);
        assert_int_equal(err.class, ERROR_FATAL);
        assert_non_null(strstr(err.message, "goes on"));
        buffer_release(&bytes);
    }
}

static void test_messages(void **state)
{
    static const struct {
        const char *bytes;
        size_t length;
        const char *message;
    } rows[] = {
        {"", 0, "the stream sent an empty message"},
        {"S\0\0\0\1\1", 6, "the stream sent a message of unknown type 0x53"},
        {"\xFF", 1, "the stream sent a message of unknown type 0xff"},
        {"\0", 1, "the stream sent a message of unknown type 0x00"},
        {"B\0\0\0", 4, "the stream sent a message of type 'B' that is cut or malformed at offset 1"
                       " of 4"},
        {"T\0\0\0\1\0\0\0\0\1\2", 11, "the stream sent a message of type 'T' that goes on at offset"
                                      " 10 of 11"},
        {"I\0\0@\1N\0\1t\0\0\0\3ab", 15, "the stream sent a message of type 'I' that is cut or"
                                         " malformed at offset 13 of 15"},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct error err;
        assert_row(!decodes(rows[r].bytes, rows[r].length, &err), rows[r].message);
        assert_string_equal(err.message, rows[r].message);
        assert_int_equal(err.class, ERROR_FATAL);
    }
}

/* Whole in length, wrong in kind; and counts that promise more than there is. */
static void test_malformed(void **state)
{
    static const struct {
        const char *name, *bytes;
        size_t length;
    } rows[] = {
        {"insert with an old row", "I\0\0@\1K\0\0", 8},
        {"insert of an unknown tuple", "I\0\0@\1X\0\0", 8},
        {"update with two old rows", "U\0\0@\1K\0\0O\0\0", 11},
        {"update with an old row only", "U\0\0@\1O\0\0", 8},
        {"update with two new rows", "U\0\0@\1N\0\0N\0\0", 11},
        {"delete with a new row", "D\0\0@\1N\0\0", 8},
        {"delete with both", "D\0\0@\1K\0\0N\0\0", 11},
        {"value of unknown kind", "I\0\0@\1N\0\1x", 9},
        {"value of 4 GB", "I\0\0@\1N\0\1t\xFF\xFF\xFF\xFF", 13},
        {"value of 2 GB", "I\0\0@\1N\0\1b\x7F\xFF\xFF\xFF", 13},
        {"65535 columns", "I\0\0@\1N\xFF\xFF", 8},
        {"more columns than bytes", "I\0\0@\1N\0\3nn", 10},
        {"relation of 65535 columns", "R\0\0@\1s\0t\0d\xFF\xFF", 12},
        {"schema without an end", "R\0\0@\1schema", 11},
        {"4 G truncated tables", "T\xFF\xFF\xFF\xFF\0\0\0@\1", 10},
        {"1 G truncated tables", "T\x40\0\0\0\0\0\0@\1", 10},
    };
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct error err;
        assert_row(!decodes(rows[r].bytes, rows[r].length, &err), rows[r].name);
        assert_int_equal(err.class, ERROR_FATAL);
    }
}

/* 1664 is what PostgreSQL allows in a target list; beyond it is not a row. */
static void test_most_columns(void **state)
{
    struct buffer bytes;
    struct error err;
    (void)state;
    for (unsigned columns = 1664; columns <= 1665; columns++) {
        buffer_init(&bytes, 4096);
        buffer_append(&bytes, "I\0\0@\1N", 6);
        put_uint(&bytes, columns, 2);
        for (unsigned c = 0; c < columns; c++)
            buffer_putc(&bytes, 'n');
        assert_int_equal(decodes(buffer_text(&bytes), bytes.length, &err), columns == 1664);
        buffer_release(&bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_begin),        cmocka_unit_test(test_commit),
        cmocka_unit_test(test_relation),     cmocka_unit_test(test_insert),
        cmocka_unit_test(test_update),       cmocka_unit_test(test_delete),
        cmocka_unit_test(test_truncate),     cmocka_unit_test(test_unused_kinds),
        cmocka_unit_test(test_D10_every_cut),
        cmocka_unit_test(test_D10_every_tail),
        cmocka_unit_test(test_D10_every_wrong_byte),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_most_columns),
    };
    return run_unit_tests("pgoutput", tests);
}
