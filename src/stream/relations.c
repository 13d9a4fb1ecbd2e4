#include "stream/relations.h"

#include <uthash.h>

struct entry {
    struct stream_relation relation;
    UT_hash_handle hh;
};

struct relations {
    const struct mapping_set *set;
    bool grows;
    struct entry *entries;
};

struct relations *relations_new(const struct mapping_set *set, bool grows)
{
    struct relations *relations = check_calloc(1, sizeof *relations);
    relations->set = set;
    relations->grows = grows;
    return relations;
}

static void relations_forget(struct relations *relations, struct entry *entry)
{
    HASH_DEL(relations->entries, entry);
    free(entry->relation.columns);
    free(entry);
}

void relations_free(struct relations *relations)
{
    struct entry *entry, *next;
    if (relations == NULL)
        return;
    HASH_ITER (hh, relations->entries, entry, next)
        relations_forget(relations, entry);
    free(relations);
}

const char *relations_publisher(const struct mapping_set *set)
{
    return set->publisher != NULL ? set->publisher : "the source";
}

bool relations_way_out(const struct mapping_set *set, const char *first, struct error *err)
{
    if (set->publisher == NULL)
        return error_begin_again(err, first);
    return error_hint(err, "The application is not concerned, but there is no way back any more: what it"
                           " writes does not come to the source. \"pgportage finish\" ends the migration"
                           " where it is.");
}

bool relations_changed(const struct mapping_set *set, const struct relation *source,
                       const char *column, const char *what, struct error *err)
{
    error_set(err, ERROR_CONFIG, "column \"%s\" of the table %s.%s of %s %s", column,
              source->schema, source->name, relations_publisher(set), what);
    return relations_way_out(set, "A mapping uses it, and cannot change once begun:", err);
}

/* Each column that a mapping uses must come, with its type. Others may come and go. */
static bool bind_columns(const struct mapping_set *set, struct stream_relation *relation,
                         const struct relation *source, const struct pgoutput_message *message,
                         struct error *err)
{
    struct column_set came = {0};
    for (unsigned i = 0; i < message->relation.count; i++) {
        const struct pgoutput_column *sent = &message->relation.columns[i];
        int column = relation->columns[i] = relation_column(source, sent->name);
        if (column < 0)
            continue;
        column_set_add(&came, (unsigned)column);
        if (source->columns[column].type_oid != sent->type_oid &&
            mapping_set_uses(set, source, (unsigned)column))
            return relations_changed(set, source, sent->name, "has another type", err);
    }
    for (unsigned c = 0; c < source->columns_count; c++) {
        if (!column_set_has(&came, c) && mapping_set_uses(set, source, c))
            return relations_changed(set, source, source->columns[c].name, "was dropped or renamed",
                                     err);
    }
    return true;
}

static enum relation_role role_of(const struct pgoutput_message *message)
{
    if (strcmp(message->relation.schema, "portage") != 0)
        return RELATION_MAPPED;
    return strcmp(message->relation.name, "marker") == 0 ? RELATION_MARKER : RELATION_OURS;
}

static int column_sent(const struct pgoutput_message *message, const char *name)
{
    for (unsigned i = 0; i < message->relation.count; i++) {
        if (strcmp(message->relation.columns[i].name, name) == 0)
            return (int)i;
    }
    return -1;
}

bool relations_learn(struct relations *relations, const struct pgoutput_message *message,
                     struct error *err)
{
    struct entry *entry;
    HASH_FIND(hh, relations->entries, &message->relation.oid, sizeof message->relation.oid, entry);
    if (entry != NULL)
        relations_forget(relations, entry);
    entry = check_calloc(1, sizeof *entry);
    struct stream_relation *relation = &entry->relation;
    relation->oid = message->relation.oid;
    relation->columns_count = message->relation.count;
    relation->columns = check_calloc(message->relation.count, sizeof *relation->columns);
    relation->role = role_of(message);
    relation->marker_id = column_sent(message, "id");
    relation->marker_purpose = column_sent(message, "purpose");
    HASH_ADD(hh, relations->entries, relation.oid, sizeof relation->oid, entry);
    if (relation->role != RELATION_MAPPED)
        return true;
    relation->mappings_count = mapping_set_find(relations->set, relation->oid, relation->mappings,
                                                RELATION_MAPPINGS_MAX);
    if (relation->mappings_count == 0)
        return error_set(err, relations->grows ? ERROR_RETRY : ERROR_CONFIG,
                         "the publication holds the table %s.%s, which has no mapping",
                         message->relation.schema, message->relation.name);
    return bind_columns(relations->set, relation, relation->mappings[0]->source, message, err);
}

const struct stream_relation *relations_find(struct relations *relations, uint32_t oid)
{
    struct entry *entry;
    HASH_FIND(hh, relations->entries, &oid, sizeof oid, entry);
    return entry != NULL ? &entry->relation : NULL;
}
