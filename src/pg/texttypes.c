#include "pg/texttypes.h"

#include <ctype.h>

struct scan {
    const char *at;
    const char *end;
};

static bool scan_done(const struct scan *scan)
{
    return scan->at == scan->end;
}

static bool scan_char(struct scan *scan, char c)
{
    if (scan_done(scan) || *scan->at != c)
        return false;
    scan->at++;
    return true;
}

static bool scan_word(struct scan *scan, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(scan->end - scan->at) < length || memcmp(scan->at, word, length) != 0)
        return false;
    scan->at += length;
    return true;
}

/* Between `least` and `most` decimal digits; returns how many, 0 when it does not fit. */
static int scan_digits(struct scan *scan, int least, int most, int64_t *value)
{
    int digits = 0;
    *value = 0;
    while (digits < most && !scan_done(scan) && isdigit((unsigned char)*scan->at)) {
        *value = *value * 10 + (*scan->at++ - '0');
        digits++;
    }
    return digits >= least ? digits : 0;
}

bool text_to_bool(const char *text, size_t length, bool *value)
{
    *value = length == 1 && text[0] == 't';
    return length == 1 && (text[0] == 't' || text[0] == 'f');
}

bool text_to_int(const char *text, size_t length, int64_t least, int64_t most, int64_t *value)
{
    struct scan scan = {text, text + length};
    bool negative = scan_char(&scan, '-');
    int64_t sum = 0; /* counted downwards: the least int64 has no positive */
    if (scan_done(&scan))
        return false;
    while (!scan_done(&scan)) {
        int digit = *scan.at++ - '0';
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(sum, 10, &sum) ||
            __builtin_sub_overflow(sum, digit, &sum))
            return false;
    }
    if (!negative && __builtin_sub_overflow((int64_t)0, sum, &sum))
        return false;
    *value = sum;
    return sum >= least && sum <= most;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool scan_hex_byte(struct scan *scan, unsigned char *byte)
{
    if (scan->end - scan->at < 2)
        return false;
    int high = hex_digit(scan->at[0]), low = hex_digit(scan->at[1]);
    scan->at += 2;
    if (high < 0 || low < 0)
        return false;
    *byte = (unsigned char)(high << 4 | low);
    return true;
}

bool text_to_uuid(const char *text, size_t length, unsigned char value[16])
{
    struct scan scan = {text, text + length};
    for (int i = 0; i < 16; i++) {
        bool dash = i == 4 || i == 6 || i == 8 || i == 10;
        if ((dash && !scan_char(&scan, '-')) || !scan_hex_byte(&scan, &value[i]))
            return false;
    }
    return scan_done(&scan);
}

/* Days from 2000-01-01 of the proleptic Gregorian calendar; year 0 is 1 BC. Counted in years that
 * begin in March, so that a leap day is the last of its year. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 730425;
}

struct civil {
    int64_t year, month, day;
};

static bool scan_civil(struct scan *scan, struct civil *civil)
{
    return scan_digits(scan, 4, 7, &civil->year) > 0 && scan_char(scan, '-') &&
           scan_digits(scan, 2, 2, &civil->month) > 0 && scan_char(scan, '-') &&
           scan_digits(scan, 2, 2, &civil->day) > 0 && civil->month >= 1 && civil->month <= 12 &&
           civil->day >= 1 && civil->day <= 31;
}

static bool scan_era(struct scan *scan, struct civil *civil)
{
    if (scan_word(scan, " BC"))
        civil->year = 1 - civil->year;
    return scan_done(scan);
}

bool text_to_date(const char *text, size_t length, int32_t *days)
{
    struct scan scan = {text, text + length};
    struct civil civil;
    bool negative = scan_char(&scan, '-');
    if (scan_word(&scan, "infinity")) {
        *days = negative ? INT32_MIN : INT32_MAX;
        return scan_done(&scan);
    }
    if (negative || !scan_civil(&scan, &civil) || !scan_era(&scan, &civil))
        return false;
    return !__builtin_add_overflow(days_of(civil.year, civil.month, civil.day), 0, days);
}

static bool scan_time(struct scan *scan, int64_t *us)
{
    int64_t hours, minutes, seconds, fraction = 0;
    if (!scan_char(scan, ' ') || !scan_digits(scan, 2, 2, &hours) || !scan_char(scan, ':') ||
        !scan_digits(scan, 2, 2, &minutes) || !scan_char(scan, ':') ||
        !scan_digits(scan, 2, 2, &seconds))
        return false;
    if (scan_char(scan, '.')) {
        int digits = scan_digits(scan, 1, 6, &fraction);
        if (digits == 0)
            return false;
        for (; digits < 6; digits++)
            fraction *= 10;
    }
    *us = ((hours * 60 + minutes) * 60 + seconds) * 1000000 + fraction;
    return true;
}

/* +HH[:MM[:SS]], or nothing. */
static bool scan_zone(struct scan *scan, int64_t *us)
{
    int64_t part, seconds = 0;
    bool west = scan_char(scan, '-');
    *us = 0;
    if (!west && !scan_char(scan, '+'))
        return true;
    for (int64_t unit = 3600; unit >= 1; unit /= 60) {
        if (!scan_digits(scan, 2, 2, &part))
            return false;
        seconds += part * unit;
        if (!scan_char(scan, ':'))
            break;
    }
    *us = (west ? -seconds : seconds) * 1000000;
    return true;
}

bool text_to_timestamp(const char *text, size_t length, int64_t *us)
{
    struct scan scan = {text, text + length};
    struct civil civil;
    int64_t time, zone;
    bool negative = scan_char(&scan, '-');
    if (scan_word(&scan, "infinity")) {
        *us = negative ? INT64_MIN : INT64_MAX;
        return scan_done(&scan);
    }
    if (negative || !scan_civil(&scan, &civil) || !scan_time(&scan, &time) ||
        !scan_zone(&scan, &zone) || !scan_era(&scan, &civil))
        return false;
    return !__builtin_mul_overflow(days_of(civil.year, civil.month, civil.day),
                                   INT64_C(86400000000), us) &&
           !__builtin_add_overflow(*us, time - zone, us);
}

bool text_to_bytea(const char *text, size_t length, struct buffer *value)
{
    struct scan scan = {text, text + length};
    unsigned char byte;
    if (!scan_word(&scan, "\\x"))
        return false;
    while (!scan_done(&scan)) {
        if (!scan_hex_byte(&scan, &byte))
            return false;
        buffer_putc(value, (char)byte);
    }
    return true;
}

/* ---- numeric ---- */

static void numeric_strip(struct numeric *numeric)
{
    unsigned leading = 0;
    while (numeric->count > 0 && numeric->digits[numeric->count - 1] == 0)
        numeric->count--;
    while (leading < numeric->count && numeric->digits[leading] == 0)
        leading++;
    memmove(numeric->digits, numeric->digits + leading,
            (numeric->count - leading) * sizeof *numeric->digits);
    numeric->count -= leading;
    numeric->weight -= (int)leading;
}

static bool numeric_special(const char *text, size_t length)
{
    static const char *const names[] = {"NaN", "Infinity", "-Infinity"};
    for (int i = 0; i < 3; i++) {
        if (length == strlen(names[i]) && memcmp(text, names[i], length) == 0)
            return true;
    }
    return false;
}

/* Adds a decimal digit that stands `exponent` places left of the point (-1 is the first right of it). */
static void numeric_add(struct numeric *numeric, long exponent, int digit)
{
    static const int16_t powers[] = {1, 10, 100, 1000};
    long group = exponent >= 0 ? exponent / 4 : -((3 - exponent) / 4);
    long index = numeric->weight - group;
    numeric->digits[index] = (int16_t)(numeric->digits[index] + digit * powers[exponent - group * 4]);
}

bool text_to_numeric(const char *text, size_t length, struct numeric *numeric)
{
    *numeric = (struct numeric){.special = numeric_special(text, length)};
    if (numeric->special)
        return true;
    size_t at = length > 0 && text[0] == '-';
    const char *point = memchr(text, '.', length);
    long whole = (point != NULL ? point - text : (long)length) - (long)at;
    long fraction = point != NULL ? (long)length - (point - text) - 1 : 0;
    if (whole + fraction < 1)
        return false;
    numeric->weight = (int)((whole + 3) / 4) - 1;
    numeric->count = (unsigned)((whole + 3) / 4 + (fraction + 3) / 4);
    numeric->digits = check_calloc(numeric->count, sizeof *numeric->digits);
    for (long exponent = whole - 1; at < length; at++) {
        if (text + at == point)
            continue;
        if (!isdigit((unsigned char)text[at]))
            return false;
        numeric_add(numeric, exponent--, text[at] - '0');
    }
    numeric_strip(numeric);
    return true;
}

static int read_int16(const char *bytes)
{
    const unsigned char *b = (const unsigned char *)bytes;
    return (int16_t)(b[0] << 8 | b[1]);
}

bool binary_to_numeric(const char *bytes, size_t length, struct numeric *numeric)
{
    enum { HEADER = 8, SPECIAL_SIGN = 0xC000 };
    *numeric = (struct numeric){0};
    if (length < HEADER)
        return false;
    int count = read_int16(bytes);
    if (count < 0 || length != HEADER + 2 * (size_t)count)
        return false;
    numeric->special = (read_int16(bytes + 4) & SPECIAL_SIGN) == SPECIAL_SIGN;
    numeric->weight = read_int16(bytes + 2);
    numeric->count = (unsigned)count;
    numeric->digits = check_calloc(numeric->count + 1, sizeof *numeric->digits);
    for (unsigned i = 0; i < numeric->count; i++)
        numeric->digits[i] = (int16_t)read_int16(bytes + HEADER + 2 * i);
    numeric_strip(numeric);
    return true;
}

void numeric_release(struct numeric *numeric)
{
    free(numeric->digits);
    numeric->digits = NULL;
}
