#include "mapping/lossless.h"

#include "pg/oid.h"

static bool same_type(const struct column *source, const struct column *target)
{
    return strcmp(source->full_type, target->full_type) == 0 &&
           strcmp(source->base_type, target->base_type) == 0;
}

/* Text without a length; of a domain over it the length is not known. */
static bool takes_any_text(const struct column *target)
{
    return target->base_oid == OID_TEXT ||
           (target->type_oid == OID_VARCHAR && column_modifiers(target).count == 0);
}

/* Digits before the point that a column of integers or numerics may need. */
static int digits_before(const struct column *column)
{
    struct modifiers modifiers = column_modifiers(column);
    switch (column_integer_bytes(column)) {
    case 2:
        return 5;
    case 4:
        return 10;
    case 8:
        return 19;
    }
    return modifiers.values[0] - modifiers.values[1];
}

/* A number that is known to have so many digits behind the point. What arithmetic makes too large is
 * refused, not lost; of a mere change of the type it can be told before. */
static bool number_fits(const struct select_item *item, const struct column *source,
                        const struct column *target)
{
    struct modifiers modifiers = column_modifiers(target);
    bool plain = item->kind != SELECT_ARITHMETIC;
    if (takes_any_text(target))
        return true;
    if (column_integer_bytes(target) > 0)
        return item->digits == 0 && column_integer_bytes(target) >= column_integer_bytes(source) &&
               (!plain || column_integer_bytes(source) > 0);
    if (target->type_oid != OID_NUMERIC)
        return false;
    return modifiers.count == 0 ||
           (item->digits <= modifiers.values[1] &&
            (!plain || digits_before(source) <= digits_before(target)));
}

/* A type of which each value has one text, from which it is read again; character loses blanks. */
static bool text_brings_back(const struct column *source)
{
    if (source->is_container || OID_IN(source->base_oid, OID_BPCHAR, OID_MONEY))
        return false;
    return source->type_kind == 'e' || source->builtin;
}

static bool text_fits(const struct column *source, const struct column *target)
{
    struct modifiers from = column_modifiers(source), to = column_modifiers(target);
    if (takes_any_text(target))
        return text_brings_back(source);
    return source->type_oid == OID_VARCHAR && target->type_oid == OID_VARCHAR && from.count > 0 &&
           from.values[0] <= to.values[0];
}

static bool widens_float(const struct column *source, const struct column *target)
{
    return source->base_oid == OID_FLOAT4 && target->base_oid == OID_FLOAT8;
}

/* The item is the column as it is, or through one cast to `type` that cuts nothing. */
static bool ends_as(const struct select_item *item, const char *type)
{
    return item->kind == SELECT_COLUMN || (!item->cast_cuts && strcmp(item->cast_type, type) == 0);
}

bool item_is_lossless(const struct select_item *item, const struct column *source,
                      const struct column *target)
{
    if (item->kind == SELECT_CONSTANT) /* there is nothing to lose */
        return true;
    if (source == NULL || item->inverse == NULL)
        return false;
    if (item->kind == SELECT_COLUMN && same_type(source, target))
        return true;
    if (item->digits >= 0)
        return number_fits(item, source, target);
    if (item->kind == SELECT_ARITHMETIC)
        return false;
    return ((ends_as(item, "text") || ends_as(item, "varchar")) && text_fits(source, target)) ||
           (ends_as(item, "float8") && widens_float(source, target));
}
