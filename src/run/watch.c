#include "run/watch.h"

#include "pg/conn.h"
#include "util/clock.h"

enum { LOOK_EVERY_US = 3 * 1000 * 1000, ARRAY_MAX = 4 << 20 };

/* $1 roots, $2 leaves as they were bound, $3 publication. */
static const char changes_sql[] =
    "SELECT 'partition', p.relid::pg_catalog.regclass::text, 'appeared'"
    "  FROM pg_catalog.unnest($1::oid[]) AS r, pg_catalog.pg_partition_tree(r) AS p"
    " WHERE p.isleaf AND p.relid <> ALL ($2::oid[])"
    " UNION ALL SELECT 'table', COALESCE(c.oid::pg_catalog.regclass::text, l::text), 'is gone from the publication'"
    "  FROM pg_catalog.unnest($2::oid[]) AS l LEFT JOIN pg_catalog.pg_class c ON c.oid = l"
    " WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r"
    "                     JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid"
    "                    WHERE p.pubname = $3 AND r.prrelid = l)"
    " UNION ALL SELECT 'table', c.oid::pg_catalog.regclass::text, 'has lost its replica identity'"
    "  FROM pg_catalog.pg_class c WHERE c.oid = ANY ($2::oid[]) AND c.relreplident <> 'f'"
    "   AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indimmediate"
    "                     AND CASE c.relreplident WHEN 'd' THEN i.indisprimary"
    "                              WHEN 'i' THEN i.indisreplident ELSE false END)"
    " LIMIT 1";

static void put_oid(struct buffer *array, uint32_t oid)
{
    buffer_printf(array, "%s%u", array->length > 1 ? "," : "", oid);
}

void watch_init(struct watch *watch, struct migration *migration)
{
    struct buffer leaves, roots;
    buffer_init(&leaves, ARRAY_MAX);
    buffer_init(&roots, ARRAY_MAX);
    buffer_putc(&leaves, '{');
    buffer_putc(&roots, '{');
    for (unsigned m = 0; m < migration->set.count; m++) {
        const struct relation *source = migration->set.mappings[m].source;
        if (source->kind == 'p')
            put_oid(&roots, source->oid);
        for (unsigned l = 0; l < source->leaves_count; l++)
            put_oid(&leaves, source->leaves[l]);
    }
    buffer_putc(&leaves, '}');
    buffer_putc(&roots, '}');
    *watch = (struct watch){.migration = migration,
                            .leaves = buffer_detach(&leaves),
                            .roots = buffer_detach(&roots),
                            .looked_us = clock_monotonic_us()};
}

void watch_release(struct watch *watch)
{
    free(watch->leaves);
    free(watch->roots);
}

static bool changed(const PGresult *result, struct error *err)
{
    error_set(err, ERROR_CONFIG, "%s %s of the source %s while it is carried",
              result_text(result, 0, 0), result_text(result, 0, 1), result_text(result, 0, 2));
    return error_hint(err, "What was written there since is not in the stream: run \"pgportage"
                           " abort\" and begin again.");
}

bool watch_source(struct watch *watch, struct error *err)
{
    int64_t now_us = clock_monotonic_us();
    if (now_us - watch->looked_us < LOOK_EVERY_US)
        return true;
    watch->looked_us = now_us;
    const char *const values[] = {watch->roots, watch->leaves,
                                  watch->migration->config->publication};
    PGresult *result = conn_query(watch->migration->source, changes_sql, 3, values, err);
    if (result == NULL)
        return error_context(err, "watching the source");
    bool same = PQntuples(result) == 0 || changed(result, err);
    PQclear(result);
    return same;
}
