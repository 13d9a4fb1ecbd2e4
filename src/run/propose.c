#include "run/propose.h"

#include "pg/catalog.h"
#include "pg/conn.h"
#include "pg/quote.h"

/* A YAML string in double quotes. */
static void put_quoted(struct buffer *yaml, const char *text)
{
    buffer_putc(yaml, '"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            buffer_putc(yaml, '\\');
        buffer_putc(yaml, *text);
    }
    buffer_putc(yaml, '"');
}

/* schema.table, with the quotes that portage.yaml and SQL want where a name is not plain. */
static void put_table(struct buffer *yaml, const struct relation *relation)
{
    struct buffer name;
    const char *const parts[] = {relation->schema, relation->name};
    buffer_init(&name, 4096);
    for (int p = 0; p < 2; p++) {
        bool plain = strspn(parts[p], "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(parts[p]);
        buffer_puts(&name, p > 0 ? "." : "");
        if (plain)
            buffer_puts(&name, parts[p]);
        else
            quote_ident(&name, parts[p]);
    }
    put_quoted(yaml, buffer_text(&name));
    buffer_release(&name);
}

/* The source table of the same schema and name, or else the only one of the same name. */
static const struct relation *find_source(const struct catalog *source,
                                          const struct relation *target, bool *same_schema)
{
    const struct relation *found = catalog_find(source, target->schema, target->name);
    *same_schema = found != NULL;
    unsigned count = 0;
    for (unsigned r = 0; !*same_schema && r < source->relations_count; r++) {
        if (strcmp(source->relations[r].name, target->name) == 0) {
            found = &source->relations[r];
            count++;
        }
    }
    return *same_schema || count == 1 ? found : NULL;
}

static bool column_matches(const struct relation *source, const struct column *target)
{
    int c = relation_column(source, target->name);
    return c >= 0 && strcmp(source->columns[c].full_type, target->full_type) == 0;
}

static bool is_identical(const struct relation *source, const struct relation *target)
{
    for (unsigned t = 0; t < target->columns_count; t++) {
        if (!target->columns[t].generated && !column_matches(source, &target->columns[t]))
            return false;
    }
    for (unsigned s = 0; s < source->columns_count; s++) {
        if (!source->columns[s].generated && relation_column(target, source->columns[s].name) < 0)
            return false;
    }
    return true;
}

static void put_item(struct buffer *yaml, const struct relation *source,
                     const struct column *target, bool last)
{
    int c = relation_column(source, target->name);
    const char *comma = last ? "" : ",";
    buffer_puts(yaml, "      ");
    if (c < 0) {
        buffer_printf(yaml, "NULL::%s AS ", target->full_type);
        quote_ident(yaml, target->name);
        buffer_printf(yaml, "%s -- DECIDE: the source has no column of this name\n", comma);
        return;
    }
    quote_ident(yaml, source->columns[c].name);
    if (!column_matches(source, target)) {
        buffer_printf(yaml, "::%s AS ", target->full_type);
        quote_ident(yaml, target->name);
        buffer_printf(yaml, "%s -- DECIDE: it is %s at the source\n", comma,
                      source->columns[c].full_type);
        return;
    }
    buffer_printf(yaml, "%s\n", comma);
}

static void put_select(struct buffer *yaml, const struct relation *source,
                       const struct relation *target)
{
    unsigned last = 0;
    for (unsigned t = 0; t < target->columns_count; t++) {
        if (!target->columns[t].generated)
            last = t;
    }
    buffer_puts(yaml, "    select: |\n");
    for (unsigned t = 0; t < target->columns_count; t++) {
        if (!target->columns[t].generated)
            put_item(yaml, source, &target->columns[t], t == last);
    }
    for (unsigned s = 0; s < source->columns_count; s++) {
        if (!source->columns[s].generated && relation_column(target, source->columns[s].name) < 0)
            buffer_printf(yaml, "    # DECIDE: column %s of the source stays behind\n",
                          source->columns[s].name);
    }
}

static void put_mapping(struct buffer *yaml, const struct catalog *catalog,
                        const struct relation *target, unsigned shards, bool *read)
{
    bool same_schema;
    const struct relation *source = find_source(catalog, target, &same_schema);
    buffer_puts(yaml, source == NULL ? "  # DECIDE: no table of the source has this name: " : "  ");
    put_table(yaml, target);
    if (source == NULL) {
        buffer_puts(yaml, "\n");
        return;
    }
    read[source - catalog->relations] = true;
    bool identical = is_identical(source, target);
    if (identical && same_schema && shards == 1) {
        buffer_puts(yaml, ": identical\n");
        return;
    }
    buffer_puts(yaml, ":\n");
    if (!same_schema) {
        buffer_puts(yaml, "    from: ");
        put_table(yaml, source);
        buffer_puts(yaml, "\n");
    }
    if (!identical)
        put_select(yaml, source, target);
    if (shards > 1)
        buffer_puts(yaml, "    shard_by: everywhere # DECIDE: or a column\n");
    else if (identical)
        buffer_puts(yaml, "    on_error: stop\n"); /* a mapping needs a key */
}

static void put_file(struct buffer *yaml, const char *source_info, const char *const *shards,
                     unsigned shards_count, const struct catalog *source,
                     const struct catalog *target, bool *read)
{
    buffer_puts(yaml, "# Proposed by pgportage init. Look at every line that says DECIDE, then run"
                      " \"pgportage plan\".\nsource: ");
    put_quoted(yaml, source_info);
    buffer_puts(yaml, "\ntarget:\n  shards:\n");
    for (unsigned s = 0; s < shards_count; s++) {
        buffer_puts(yaml, "    - ");
        put_quoted(yaml, shards[s]);
        buffer_puts(yaml, "\n");
    }
    buffer_puts(yaml, "\ntables:\n");
    for (unsigned t = 0; t < target->relations_count; t++)
        put_mapping(yaml, source, &target->relations[t], shards_count, read);
    for (unsigned s = 0; s < source->relations_count; s++) {
        if (!read[s])
            buffer_printf(yaml, "  # DECIDE: nothing reads %s.%s of the source\n",
                          source->relations[s].schema, source->relations[s].name);
    }
}

static bool read_catalog(const char *conninfo, struct arena *arena, struct catalog *catalog,
                         struct error *err)
{
    PGconn *conn = conn_open(conninfo, CONN_SESSION, "init", err);
    bool ok = conn != NULL && catalog_read(conn, arena, catalog, err);
    conn_close(conn);
    return ok;
}

bool propose(const char *source, const char *const *shards, unsigned shards_count,
             struct buffer *yaml, struct error *err)
{
    struct arena arena;
    struct catalog from, to;
    arena_init(&arena, 256 * 1024);
    bool ok = read_catalog(source, &arena, &from, err) && read_catalog(shards[0], &arena, &to, err);
    if (ok)
        put_file(yaml, source, shards, shards_count, &from, &to,
                 arena_zalloc(&arena, (from.relations_count + 1) * sizeof(bool)));
    arena_release(&arena);
    return ok;
}
