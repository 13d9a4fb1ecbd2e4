/*
 * Binds the configuration to the two catalogs, giving the mapping model, or the list of everything
 * that is wrong with it. Findings are collected, not thrown one by one: `plan` shows all of them.
 *
 * bind_check_types() then asks both servers to prepare the statements, so that they type them.
 */
#ifndef MAPPING_BIND_H
#define MAPPING_BIND_H

#include "mapping/mapping.h"

enum severity { SEVERITY_NOTE, SEVERITY_WARNING, SEVERITY_REFUSE };

struct finding {
    enum severity severity;
    const char *code;   /* stable, for scripts: "unknown-column", "volatile-expression", … */
    const char *object; /* table, column, role, server, … */
    const char *reason;
    const char *fix;    /* SQL, or what to write instead; NULL if none */
    int line, column;   /* in portage.yaml; 0 if it does not stand there */
};

struct findings {
    struct arena *arena;
    unsigned count;
    unsigned capacity;
    unsigned refused; /* how many have SEVERITY_REFUSE */
    struct finding *items;
};

void findings_init(struct findings *findings, struct arena *arena);
void findings_add(struct findings *findings, const struct finding *finding); /* texts are copied */

/* Fails only when it could not look; what is wrong with the mapping goes to `findings`. When
 * findings->refused > 0 the set must not be used. `targets` are the catalogs of all shards. */
bool bind_mappings(const struct config *config, const struct catalog *source,
                   const struct catalog *targets, unsigned shards_count, struct arena *arena,
                   struct mapping_set *set, struct findings *findings, struct error *err)
    MUST_CHECK;

/* Volatility of functions, types of expressions (does each give the target column's type by an
 * assignment cast?), and both servers' answers over sample rows (D18): source and target must give
 * the same text for each expression over nulls, extremes and a sample of real rows. */
bool bind_check_servers(const struct mapping_set *set, PGconn *source, PGconn *const *targets,
                        struct arena *arena, struct findings *findings, struct error *err)
    MUST_CHECK;

#endif
