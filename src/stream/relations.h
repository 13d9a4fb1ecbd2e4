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

/* What the rows of a relation are to us. */
enum relation_role {
    RELATION_MAPPED, /* the application's */
    RELATION_MARKER, /* portage.marker: what we write to see it come out of the stream */
    RELATION_OURS,   /* another table of the schema portage: first in each transaction of ours */
};

struct stream_relation {
    uint32_t oid;
    enum relation_role role;
    int marker_id, marker_purpose; /* columns of portage.marker; -1: not there */
    const struct mapping *mappings[RELATION_MAPPINGS_MAX];
    unsigned mappings_count;
    unsigned columns_count;
    int *columns; /* message column -> index into source->columns; -1: no mapping knows it */
};

struct relations;

/* `grows`: a table without a mapping is of class RETRY: a partition that is newer than the set. */
struct relations *relations_new(const struct mapping_set *set, bool grows);
void relations_free(struct relations *relations);

bool relations_learn(struct relations *relations, const struct pgoutput_message *message,
                     struct error *err) MUST_CHECK;
/* The error of a column that a mapping uses and DDL has changed; `what` ends the sentence. False. */
bool relations_changed(const struct mapping_set *set, const struct relation *source,
                       const char *column, const char *what, struct error *err);
/* Whose rows they are, for messages: "the source", "shard 3". */
const char *relations_publisher(const struct mapping_set *set);
/* The way out when the stream cannot go on, as the hint of `err`, behind `first`. False. */
bool relations_way_out(const struct mapping_set *set, const char *first, struct error *err);

/* NULL when the stream has not described it. */
const struct stream_relation *relations_find(struct relations *relations, uint32_t oid);

#endif
