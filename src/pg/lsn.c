#include "pg/lsn.h"

#include <ctype.h>

/* One half: 1 to 8 hexadecimal digits. */
static const char *half_parse(const char *text, uint32_t *half)
{
    int digits = 0;
    *half = 0;
    for (; isxdigit((unsigned char)*text); text++) {
        int digit = *text <= '9' ? *text - '0' : (*text | 0x20) - 'a' + 10;
        *half = *half << 4 | (uint32_t)digit;
        if (++digits > 8)
            return NULL;
    }
    return digits > 0 ? text : NULL;
}

bool lsn_parse(const char *text, lsn_t *lsn)
{
    uint32_t high, low;
    const char *at = half_parse(text, &high);
    if (at == NULL || *at != '/')
        return false;
    at = half_parse(at + 1, &low);
    if (at == NULL || *at != '\0')
        return false;
    *lsn = (lsn_t)high << 32 | low;
    return true;
}

const char *lsn_text(lsn_t lsn, char text[LSN_TEXT_SIZE])
{
    snprintf(text, LSN_TEXT_SIZE, LSN_FORMAT, LSN_ARGS(lsn));
    return text;
}
