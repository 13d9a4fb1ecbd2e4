/*
 * Relation messages of the stream, bound to the mappings they feed. Dropped on reconnect (T10): the
 * server sends each again before its first change.
 *
 * A relation that has not got the columns which the mappings use, with the types they were bound to,
 * has been changed by DDL: an error that says so (S10), never a guess. One thread.
 */
#ifndef STREAM_RELATIONS_H
#define STREAM_RELATIONS_H

#include "mapping/mapping.h"
#include "pg/pgoutput.h"

enum { RELATION_MAPPINGS_MAX = 16 };

struct stream_relation {
    uint32_t oid;
    bool is_marker; /* portage.marker */
    const struct mapping *mappings[RELATION_MAPPINGS_MAX];
    unsigned mappings_count;
    unsigned columns_count;
    int *columns; /* message column -> index into source->columns; -1: no mapping knows it */
};

struct relations;

struct relations *relations_new(const struct mapping_set *set);
void relations_free(struct relations *relations);

bool relations_learn(struct relations *relations, const struct pgoutput_message *message,
                     struct error *err) MUST_CHECK;
/* The error of a column that a mapping uses and DDL has changed; `what` ends the sentence. False. */
bool relations_changed(const struct relation *source, const char *column, const char *what,
                       struct error *err);

/* NULL when the stream has not described it. */
const struct stream_relation *relations_find(struct relations *relations, uint32_t oid);

#endif
