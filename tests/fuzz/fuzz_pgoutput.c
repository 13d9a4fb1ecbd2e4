/* Any message is decoded or refused, and what is decoded lies within it. */
#include "fuzz.h"
#include "pg/pgoutput.h"
#include "samples.h"

bool fuzz_seed(unsigned number, struct buffer *bytes)
{
    if (number >= SAMPLES_PGOUTPUT)
        return false;
    samples_pgoutput[number].build(bytes);
    return true;
}

struct input {
    const char *bytes;
    size_t length;
};

static void check_within(struct input input, const char *bytes, size_t length)
{
    CHECK(bytes >= input.bytes && bytes + length <= input.bytes + input.length);
    fuzz_touch(bytes, length);
}

static void check_string(struct input input, const char *text)
{
    check_within(input, text, strlen(text) + 1);
}

static void check_tuple(struct input input, const struct tuple *tuple)
{
    for (unsigned v = 0; v < tuple->count; v++) {
        const struct value *value = &tuple->values[v];
        bool sent = value->kind == VALUE_TEXT || value->kind == VALUE_BINARY;
        CHECK(sent || value->kind == VALUE_NULL || value->kind == VALUE_UNCHANGED);
        CHECK(sent || value->length == 0);
        if (sent)
            check_within(input, value->bytes, value->length);
    }
}

static void check_relation(struct input input, const struct pgoutput_message *message)
{
    check_string(input, message->relation.schema);
    check_string(input, message->relation.name);
    for (unsigned c = 0; c < message->relation.count; c++)
        check_string(input, message->relation.columns[c].name);
}

static void check_row(struct input input, const struct pgoutput_message *message)
{
    bool has_old = message->row.old_kind == OLD_KEY || message->row.old_kind == OLD_FULL;
    CHECK(has_old || message->row.old_kind == OLD_NONE);
    CHECK(has_old || message->row.old_tuple.count == 0);
    CHECK(has_old || message->kind != PGOUTPUT_DELETE);
    CHECK(!has_old || message->kind != PGOUTPUT_INSERT);
    CHECK(message->kind != PGOUTPUT_DELETE || message->row.new_tuple.count == 0);
    check_tuple(input, &message->row.old_tuple);
    check_tuple(input, &message->row.new_tuple);
}

static void check_message(struct input input, const struct pgoutput_message *message)
{
    CHECK((char)message->kind == input.bytes[0]);
    switch (message->kind) {
    case PGOUTPUT_RELATION:
        check_relation(input, message);
        break;
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        check_row(input, message);
        break;
    case PGOUTPUT_TRUNCATE:
        fuzz_touch(message->truncate.relation_oids,
                   message->truncate.count * sizeof *message->truncate.relation_oids);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct input input = {(const char *)bytes, length};
    struct pgoutput_message message;
    struct error err = ERROR_INIT;
    struct arena arena;
    arena_init(&arena, 1024);
    bool ok = pgoutput_decode(input.bytes, length, &arena, &message, &err);
    CHECK(err.class == (ok ? ERROR_NONE : ERROR_FATAL));
    CHECK(arena_bytes(&arena) <= 4096 + 64 * length); /* no count makes more of it than there is */
    if (ok)
        check_message(input, &message);
    arena_release(&arena);
    return 0;
}
