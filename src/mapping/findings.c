#include "mapping/findings.h"

#include <stdarg.h>

void findings_init(struct findings *findings, struct arena *arena)
{
    *findings = (struct findings){.arena = arena};
}

static struct finding *findings_grow(struct findings *findings)
{
    if (findings->count == findings->capacity) {
        unsigned capacity = findings->capacity > 0 ? 2 * findings->capacity : 32;
        struct finding *items = arena_zalloc(findings->arena, capacity * sizeof *items);
        if (findings->count > 0)
            memcpy(items, findings->items, findings->count * sizeof *items);
        findings->items = items;
        findings->capacity = capacity;
    }
    return &findings->items[findings->count++];
}

bool findings_add(struct findings *findings, enum severity severity, const char *code,
                  const struct config_text *at, const char *object, const char *fix,
                  const char *reason, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, reason);
    vsnprintf(text, sizeof text, reason, arguments);
    va_end(arguments);
    *findings_grow(findings) = (struct finding){
        .severity = severity,
        .code = code,
        .object = arena_strdup(findings->arena, object),
        .reason = arena_strdup(findings->arena, text),
        .fix = fix != NULL ? arena_strdup(findings->arena, fix) : NULL,
        .line = at != NULL ? at->line : 0,
        .column = at != NULL ? at->column : 0,
    };
    findings->refused += severity == SEVERITY_REFUSE;
    return false;
}

bool findings_have(const struct findings *findings, const char *code)
{
    for (unsigned f = 0; f < findings->count; f++) {
        if (strcmp(findings->items[f].code, code) == 0)
            return true;
    }
    return false;
}

const char *severity_name(enum severity severity)
{
    static const char *const names[] = {"note", "warning", "refuse"};
    return names[severity];
}
