#include "pg/pgoutput.h"

enum { COLUMNS_MAX = 1664, TRUNCATE_MAX = 1 << 20 };

/* Reads big-endian values; a read beyond the end fails it for good and gives zeros. */
struct cursor {
    const char *bytes;
    size_t length;
    size_t at;
    bool failed;
};

static const char *take(struct cursor *cursor, size_t length)
{
    static const char zeros[8];
    if (cursor->failed || length > cursor->length - cursor->at) {
        cursor->failed = true;
        return length <= sizeof zeros ? zeros : NULL;
    }
    const char *bytes = cursor->bytes + cursor->at;
    cursor->at += length;
    return bytes;
}

static uint64_t take_uint(struct cursor *cursor, size_t width)
{
    const unsigned char *bytes = (const unsigned char *)take(cursor, width);
    uint64_t value = 0;
    for (size_t i = 0; i < width; i++)
        value = value << 8 | bytes[i];
    return value;
}

static char take_char(struct cursor *cursor)
{
    return *take(cursor, 1);
}

static const char *take_string(struct cursor *cursor)
{
    const char *start = cursor->bytes + cursor->at;
    if (cursor->failed || memchr(start, 0, cursor->length - cursor->at) == NULL) {
        cursor->failed = true;
        return "";
    }
    cursor->at += strlen(start) + 1;
    return start;
}

static void take_value(struct cursor *cursor, struct value *value)
{
    char kind = take_char(cursor);
    *value = (struct value){.kind = (enum value_kind)kind};
    if (kind == VALUE_TEXT || kind == VALUE_BINARY) {
        value->length = (uint32_t)take_uint(cursor, 4);
        value->bytes = take(cursor, value->length);
    } else if (kind != VALUE_NULL && kind != VALUE_UNCHANGED) {
        cursor->failed = true;
    }
}

static void take_tuple(struct cursor *cursor, struct arena *arena, struct tuple *tuple)
{
    unsigned count = (unsigned)take_uint(cursor, 2);
    if (count > COLUMNS_MAX || count > cursor->length - cursor->at) {
        cursor->failed = true;
        return;
    }
    tuple->count = count;
    tuple->values = arena_zalloc(arena, count * sizeof *tuple->values);
    for (unsigned i = 0; i < count && !cursor->failed; i++)
        take_value(cursor, &tuple->values[i]);
}

static void take_begin(struct cursor *cursor, struct pgoutput_message *message)
{
    message->begin.final_lsn = take_uint(cursor, 8);
    message->begin.commit_time = (int64_t)take_uint(cursor, 8);
    message->begin.xid = (uint32_t)take_uint(cursor, 4);
}

static void take_commit(struct cursor *cursor, struct pgoutput_message *message)
{
    take_char(cursor); /* flags: none are defined */
    message->commit.commit_lsn = take_uint(cursor, 8);
    message->commit.end_lsn = take_uint(cursor, 8);
    message->commit.commit_time = (int64_t)take_uint(cursor, 8);
}

static void take_relation(struct cursor *cursor, struct arena *arena,
                          struct pgoutput_message *message)
{
    message->relation.oid = (uint32_t)take_uint(cursor, 4);
    message->relation.schema = take_string(cursor);
    message->relation.name = take_string(cursor);
    message->relation.replica_identity = take_char(cursor);
    unsigned count = (unsigned)take_uint(cursor, 2);
    if (count > COLUMNS_MAX || count > cursor->length - cursor->at) {
        cursor->failed = true;
        return;
    }
    message->relation.count = count;
    message->relation.columns = arena_zalloc(arena, count * sizeof *message->relation.columns);
    for (unsigned i = 0; i < count; i++) {
        struct pgoutput_column *column = &message->relation.columns[i];
        column->in_identity = (take_char(cursor) & 1) != 0;
        column->name = take_string(cursor);
        column->type_oid = (uint32_t)take_uint(cursor, 4);
        column->typmod = (int32_t)take_uint(cursor, 4);
    }
}

/* 'N' and the new row. */
static void take_new(struct cursor *cursor, struct arena *arena, char marker,
                     struct pgoutput_message *message)
{
    if (marker == 'N')
        take_tuple(cursor, arena, &message->row.new_tuple);
    else
        cursor->failed = true;
}

static void take_old(struct cursor *cursor, struct arena *arena, char marker,
                     struct pgoutput_message *message)
{
    message->row.old_kind = (enum old_kind)marker;
    take_tuple(cursor, arena, &message->row.old_tuple);
}

static void take_row(struct cursor *cursor, struct arena *arena, struct pgoutput_message *message)
{
    message->row.relation_oid = (uint32_t)take_uint(cursor, 4);
    char marker = take_char(cursor);
    bool has_old = marker == OLD_KEY || marker == OLD_FULL;
    switch (message->kind) {
    case PGOUTPUT_INSERT:
        take_new(cursor, arena, marker, message);
        break;
    case PGOUTPUT_UPDATE:
        if (has_old)
            take_old(cursor, arena, marker, message);
        take_new(cursor, arena, has_old ? take_char(cursor) : marker, message);
        break;
    default:
        if (has_old)
            take_old(cursor, arena, marker, message);
        else
            cursor->failed = true;
    }
}

static void take_truncate(struct cursor *cursor, struct arena *arena,
                          struct pgoutput_message *message)
{
    uint32_t count = (uint32_t)take_uint(cursor, 4);
    char options = take_char(cursor);
    if (count > TRUNCATE_MAX || count > (cursor->length - cursor->at) / 4) {
        cursor->failed = true;
        return;
    }
    message->truncate.count = count;
    message->truncate.cascade = (options & 1) != 0;
    message->truncate.restart_identity = (options & 2) != 0;
    message->truncate.relation_oids = arena_alloc(arena, count * sizeof(uint32_t));
    for (uint32_t i = 0; i < count; i++)
        message->truncate.relation_oids[i] = (uint32_t)take_uint(cursor, 4);
}

/* Nothing is used of origins, types and logical messages, but one that is cut is refused too. */
static void take_unused(struct cursor *cursor, enum pgoutput_kind kind)
{
    switch (kind) {
    case PGOUTPUT_ORIGIN:
        take(cursor, 8); /* commit LSN at the origin */
        take_string(cursor);
        break;
    case PGOUTPUT_TYPE:
        take(cursor, 4); /* OID */
        take_string(cursor);
        take_string(cursor);
        break;
    default:
        take(cursor, 1 + 8); /* flags, LSN */
        take_string(cursor);
        take(cursor, take_uint(cursor, 4));
    }
}

/* False when the kind is unknown. */
static bool take_body(struct cursor *cursor, struct arena *arena, struct pgoutput_message *message)
{
    switch (message->kind) {
    case PGOUTPUT_BEGIN:
        take_begin(cursor, message);
        return true;
    case PGOUTPUT_COMMIT:
        take_commit(cursor, message);
        return true;
    case PGOUTPUT_RELATION:
        take_relation(cursor, arena, message);
        return true;
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        take_row(cursor, arena, message);
        return true;
    case PGOUTPUT_TRUNCATE:
        take_truncate(cursor, arena, message);
        return true;
    case PGOUTPUT_ORIGIN:
    case PGOUTPUT_TYPE:
    case PGOUTPUT_MESSAGE:
        take_unused(cursor, message->kind);
        return true;
    }
    return false;
}

bool pgoutput_decode(const char *bytes, size_t length, struct arena *arena,
                     struct pgoutput_message *message, struct error *err)
{
    struct cursor cursor = {.bytes = bytes, .length = length};
    *message = (struct pgoutput_message){0};
    if (length == 0)
        return error_set(err, ERROR_FATAL, "the stream sent an empty message");
    message->kind = (enum pgoutput_kind)take_char(&cursor);
    if (!take_body(&cursor, arena, message))
        return error_set(err, ERROR_FATAL, "the stream sent a message of unknown type 0x%02x",
                         (unsigned char)bytes[0]);
    if (cursor.failed || cursor.at != length)
        return error_set(err, ERROR_FATAL,
                         "the stream sent a message of type '%c' that %s at offset %zu of %zu",
                         bytes[0], cursor.failed ? "is cut or malformed" : "goes on", cursor.at,
                         length);
    return true;
}
