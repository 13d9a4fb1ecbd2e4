#include "stream/relations.h"

#include <uthash.h>

struct entry {
    struct stream_relation relation;
    UT_hash_handle hh;
};

struct relations {
    const struct mapping_set *set;
    struct entry *entries;
};

struct relations *relations_new(const struct mapping_set *set)
{
    struct relations *relations = check_calloc(1, sizeof *relations);
    relations->set = set;
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

static bool table_changed(const struct relation *source, const char *what, const char *column,
                          struct error *err)
{
    error_set(err, ERROR_CONFIG, "the table %s.%s of the source was changed while it is carried",
              source->schema, source->name);
    error_detail(err, "Column \"%s\" %s.", column, what);
    return error_hint(err, "Changes of the table's form are not carried yet: run \"pgportage abort\""
                           " and begin again with a mapping for the new one.");
}

/* Every column the mapping was bound to must come, with its type; others must not have appeared. */
static bool bind_columns(struct stream_relation *relation, const struct relation *source,
                         const struct pgoutput_message *message, struct error *err)
{
    unsigned found = 0, expected = 0;
    for (unsigned c = 0; c < source->columns_count; c++)
        expected += !source->columns[c].generated;
    for (unsigned i = 0; i < message->relation.count; i++) {
        const struct pgoutput_column *sent = &message->relation.columns[i];
        int column = relation_column(source, sent->name);
        if (column < 0)
            return table_changed(source, "is new", sent->name, err);
        if (source->columns[column].type_oid != sent->type_oid)
            return table_changed(source, "has another type", sent->name, err);
        relation->columns[i] = column;
        found += !source->columns[column].generated;
    }
    if (found == expected)
        return true;
    return table_changed(source, "is missing, or one beside it", source->columns[0].name, err);
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
    relation->is_marker = strcmp(message->relation.schema, "portage") == 0;
    HASH_ADD(hh, relations->entries, relation.oid, sizeof relation->oid, entry);
    if (relation->is_marker)
        return true;
    relation->mappings_count = mapping_set_find(relations->set, relation->oid, relation->mappings,
                                                RELATION_MAPPINGS_MAX);
    if (relation->mappings_count == 0)
        return error_set(err, ERROR_CONFIG,
                         "the publication holds the table %s.%s, which has no mapping",
                         message->relation.schema, message->relation.name);
    return bind_columns(relation, relation->mappings[0]->source, message, err);
}

const struct stream_relation *relations_find(struct relations *relations, uint32_t oid)
{
    struct entry *entry;
    HASH_FIND(hh, relations->entries, &oid, sizeof oid, entry);
    return entry != NULL ? &entry->relation : NULL;
}
