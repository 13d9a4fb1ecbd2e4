#include "util/error.h"

#include <stdarg.h>

void error_clear(struct error *err)
{
    memset(err, 0, sizeof *err);
}

bool error_set(struct error *err, enum error_class class, const char *format, ...)
{
    va_list args;
    error_clear(err);
    err->class = class;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    return false;
}

bool error_detail(struct error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(err->detail, sizeof err->detail, format, args);
    va_end(args);
    return false;
}

bool error_hint(struct error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(err->hint, sizeof err->hint, format, args);
    va_end(args);
    err->begin_again = false;
    return false;
}

bool error_context(struct error *err, const char *format, ...)
{
    va_list args;
    size_t used = strlen(err->context);
    if (used > 0 && used + 3 < sizeof err->context) {
        memcpy(err->context + used, ", ", 3);
        used += 2;
    }
    va_start(args, format);
    vsnprintf(err->context + used, sizeof err->context - used, format, args);
    va_end(args);
    return false;
}

bool error_begin_again(struct error *err, const char *first)
{
    error_hint(err, "%s run \"pgportage abort\" and begin again.", first);
    err->begin_again = true;
    return false;
}
