#include "switchover/gate_sql.h"

static const struct gate_blank *blank_at(const char *text, const struct gate_blank *blanks)
{
    for (; blanks->name != NULL; blanks++) {
        if (strncmp(text, blanks->name, strlen(blanks->name)) == 0)
            return blanks;
    }
    return NULL;
}

void gate_fill(struct buffer *sql, const char *text, const struct gate_blank *blanks)
{
    while (*text != '\0') {
        const struct gate_blank *blank = *text == '{' ? blank_at(text, blanks) : NULL;
        if (blank == NULL) {
            buffer_putc(sql, *text++);
        } else {
            buffer_puts(sql, blank->value);
            text += strlen(blank->name);
        }
    }
}
