#include "samples.h"

void put_uint(struct buffer *bytes, uint64_t value, size_t width)
{
    for (size_t i = width; i-- > 0;)
        buffer_putc(bytes, (char)(value >> 8 * i));
}

void put_string(struct buffer *bytes, const char *text)
{
    buffer_append(bytes, text, strlen(text) + 1);
}

void put_text_value(struct buffer *bytes, const char *text)
{
    buffer_putc(bytes, 't');
    put_uint(bytes, strlen(text), 4);
    buffer_puts(bytes, text);
}

void put_copy_field(struct buffer *bytes, const char *value, size_t length)
{
    put_uint(bytes, value == NULL ? UINT32_MAX : length, 4);
    if (value != NULL)
        buffer_append(bytes, value, length);
}

char *exact_copy(const char *bytes, size_t length)
{
    char *copy = check_malloc(length);
    if (length > 0)
        memcpy(copy, bytes, length);
    return copy;
}

/* ---- pgoutput ---- */

static void build_begin(struct buffer *bytes)
{
    buffer_putc(bytes, 'B');
    put_uint(bytes, UINT64_C(0x16B374D848), 8);
    put_uint(bytes, UINT64_C(762436800000000), 8);
    put_uint(bytes, 4294967290, 4);
}

static void build_commit(struct buffer *bytes)
{
    buffer_putc(bytes, 'C');
    put_uint(bytes, 0, 1);
    put_uint(bytes, UINT64_C(0x16B374D848), 8);
    put_uint(bytes, UINT64_C(0x16B374D878), 8);
    put_uint(bytes, UINT64_C(762436800000000), 8);
}

static void build_origin(struct buffer *bytes)
{
    buffer_putc(bytes, 'O');
    put_uint(bytes, UINT64_C(0x1600000000), 8);
    put_string(bytes, "pg_16390");
}

static void put_column(struct buffer *bytes, int flags, const char *name, uint32_t type_oid,
                       int32_t typmod)
{
    put_uint(bytes, (uint64_t)flags, 1);
    put_string(bytes, name);
    put_uint(bytes, type_oid, 4);
    put_uint(bytes, (uint32_t)typmod, 4);
}

static void build_relation(struct buffer *bytes)
{
    buffer_putc(bytes, 'R');
    put_uint(bytes, 16385, 4);
    put_string(bytes, "shop");
    put_string(bytes, "sel\"ect'é");
    buffer_putc(bytes, 'f');
    put_uint(bytes, 3, 2);
    put_column(bytes, 1, "id", 20, -1);
    put_column(bytes, 0, "größe", 1700, 655366);
    put_column(bytes, 1, "", 25, -1);
}

static void build_relation_without_columns(struct buffer *bytes)
{
    buffer_putc(bytes, 'R');
    put_uint(bytes, 16386, 4);
    put_string(bytes, "");
    put_string(bytes, "pg_class");
    buffer_putc(bytes, 'n');
    put_uint(bytes, 0, 2);
}

static void build_type(struct buffer *bytes)
{
    buffer_putc(bytes, 'Y');
    put_uint(bytes, 16400, 4);
    put_string(bytes, "shop");
    put_string(bytes, "mood");
}

static void put_row_head(struct buffer *bytes, char kind)
{
    buffer_putc(bytes, kind);
    put_uint(bytes, 16385, 4);
}

/* Every kind of value. */
static void put_new_row(struct buffer *bytes)
{
    buffer_putc(bytes, 'N');
    put_uint(bytes, 5, 2);
    put_text_value(bytes, "42");
    buffer_putc(bytes, 'n');
    buffer_putc(bytes, 'u');
    buffer_putc(bytes, 'b');
    put_uint(bytes, 4, 4);
    buffer_append(bytes, "\0\xFF\0\x2A", 4);
    put_text_value(bytes, "");
}

static void build_insert(struct buffer *bytes)
{
    put_row_head(bytes, 'I');
    put_new_row(bytes);
}

static void build_insert_multibyte(struct buffer *bytes)
{
    put_row_head(bytes, 'I');
    buffer_putc(bytes, 'N');
    put_uint(bytes, 2, 2);
    put_text_value(bytes, "größe €𝄞");
    put_text_value(bytes, "日本");
}

static void build_insert_without_columns(struct buffer *bytes)
{
    put_row_head(bytes, 'I');
    buffer_putc(bytes, 'N');
    put_uint(bytes, 0, 2);
}

static void build_update(struct buffer *bytes)
{
    put_row_head(bytes, 'U');
    put_new_row(bytes);
}

static void build_update_key(struct buffer *bytes)
{
    put_row_head(bytes, 'U');
    buffer_putc(bytes, 'K');
    put_uint(bytes, 2, 2);
    put_text_value(bytes, "41");
    buffer_putc(bytes, 'n');
    put_new_row(bytes);
}

static void build_update_full(struct buffer *bytes)
{
    put_row_head(bytes, 'U');
    buffer_putc(bytes, 'O');
    put_uint(bytes, 2, 2);
    put_text_value(bytes, "41");
    put_text_value(bytes, "old");
    put_new_row(bytes);
}

static void build_delete_key(struct buffer *bytes)
{
    put_row_head(bytes, 'D');
    buffer_putc(bytes, 'K');
    put_uint(bytes, 2, 2);
    put_text_value(bytes, "-7");
    buffer_putc(bytes, 'n');
}

static void build_delete_full(struct buffer *bytes)
{
    put_row_head(bytes, 'D');
    buffer_putc(bytes, 'O');
    put_uint(bytes, 1, 2);
    put_text_value(bytes, "gone");
}

static void build_truncate(struct buffer *bytes)
{
    buffer_putc(bytes, 'T');
    put_uint(bytes, 2, 4);
    put_uint(bytes, 3, 1);
    put_uint(bytes, 16385, 4);
    put_uint(bytes, 4294967295, 4);
}

static void build_message(struct buffer *bytes)
{
    buffer_putc(bytes, 'M');
    put_uint(bytes, 1, 1);
    put_uint(bytes, UINT64_C(0x16B374D848), 8);
    put_string(bytes, "audit");
    put_uint(bytes, 5, 4);
    buffer_puts(bytes, "hello");
}

const struct sample samples_pgoutput[SAMPLES_PGOUTPUT] = {
    {"begin", build_begin},
    {"commit", build_commit},
    {"origin", build_origin},
    {"relation", build_relation},
    {"relation without columns", build_relation_without_columns},
    {"type", build_type},
    {"insert", build_insert},
    {"insert, multibyte", build_insert_multibyte},
    {"insert without columns", build_insert_without_columns},
    {"update", build_update},
    {"update with old key", build_update_key},
    {"update with old row", build_update_full},
    {"delete by key", build_delete_key},
    {"delete by row", build_delete_full},
    {"truncate", build_truncate},
    {"message", build_message},
};

/* ---- COPY ---- */

static void build_binary_plain(struct buffer *bytes)
{
    put_uint(bytes, SAMPLE_COLUMNS, 2);
    put_copy_field(bytes, "\0\0\0\x2A", 4);
    put_copy_field(bytes, "hello", 5);
    put_copy_field(bytes, "\x01", 1);
}

static void build_binary_nulls(struct buffer *bytes)
{
    put_uint(bytes, SAMPLE_COLUMNS, 2);
    put_copy_field(bytes, NULL, 0);
    put_copy_field(bytes, NULL, 0);
    put_copy_field(bytes, NULL, 0);
}

static void build_binary_empty(struct buffer *bytes)
{
    put_uint(bytes, SAMPLE_COLUMNS, 2);
    put_copy_field(bytes, "", 0);
    put_copy_field(bytes, "x", 1);
    put_copy_field(bytes, "", 0);
}

static void build_binary_multibyte(struct buffer *bytes)
{
    put_uint(bytes, SAMPLE_COLUMNS, 2);
    put_copy_field(bytes, "größe", strlen("größe"));
    put_copy_field(bytes, "€𝄞", strlen("€𝄞"));
    put_copy_field(bytes, NULL, 0);
}

/* A value that looks like a trailer, a header and the end of text data. */
static void build_binary_misleading(struct buffer *bytes)
{
    put_uint(bytes, SAMPLE_COLUMNS, 2);
    put_copy_field(bytes, "\xFF\xFF", 2);
    put_copy_field(bytes, "PGCOPY\n\377\r\n\0", 11);
    put_copy_field(bytes, "\\.\n", 3);
}

const struct sample samples_copy_binary[SAMPLES_COPY_BINARY] = {
    {"plain", build_binary_plain},         {"nulls", build_binary_nulls},
    {"empty", build_binary_empty},         {"multibyte", build_binary_multibyte},
    {"misleading", build_binary_misleading},
};

static void build_text_plain(struct buffer *bytes)
{
    buffer_puts(bytes, "42\thello\tt\n");
}

static void build_text_nulls(struct buffer *bytes)
{
    buffer_puts(bytes, "\\N\t\\N\t\\N\n");
}

static void build_text_empty(struct buffer *bytes)
{
    buffer_puts(bytes, "\t\t\n");
}

static void build_text_multibyte(struct buffer *bytes)
{
    buffer_puts(bytes, "größe\t€𝄞\t日本\n");
}

static void build_text_escapes(struct buffer *bytes)
{
    buffer_puts(bytes, "\\\\.\t\\\\N\\r\\n\\t\t\\b\\f\\v\\\\\n");
}

const struct sample samples_copy_text[SAMPLES_COPY_TEXT] = {
    {"plain", build_text_plain},         {"nulls", build_text_nulls},
    {"empty", build_text_empty},         {"multibyte", build_text_multibyte},
    {"escapes", build_text_escapes},
};
