/* What is wrong, or worth knowing, collected: `plan` shows all of it, not the first. One thread. */
#ifndef MAPPING_FINDINGS_H
#define MAPPING_FINDINGS_H

#include "mapping/config.h"

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

/* All texts but `code` are copied. `at` may be NULL. The reason is a format. Returns false, so that
 * a check can end in it. */
bool findings_add(struct findings *findings, enum severity severity, const char *code,
                  const struct config_text *at, const char *object, const char *fix,
                  const char *reason, ...) PRINTF_LIKE(7, 8);

bool findings_have(const struct findings *findings, const char *code);

const char *severity_name(enum severity severity);

#endif
