#include "stream/bind.h"

#include "pg/arraycodec.h"
#include "stream/groups.h"

enum {
    ARRAYS_BYTES_MAX = 4 * BIND_ROWS_BYTES_MAX, /* each byte escaped, each value in quotes;
                                                 * in binary less: 12 bytes for a digit */
    FORMAT_TEXT = 0, FORMAT_BINARY = 1,
};

void binding_init(struct binding *binding)
{
    binding->values = check_calloc(RELATION_COLUMNS_MAX, sizeof *binding->values);
    binding->lengths = check_calloc(RELATION_COLUMNS_MAX, sizeof *binding->lengths);
    binding->formats = check_calloc(RELATION_COLUMNS_MAX, sizeof *binding->formats);
    buffer_init(&binding->arrays, ARRAYS_BYTES_MAX);
}

void binding_release(struct binding *binding)
{
    free(binding->values);
    free(binding->lengths);
    free(binding->formats);
    buffer_release(&binding->arrays);
}

static const struct value *param_value(const struct statement_param *param,
                                       const struct change *change)
{
    const struct tuple *row = param->from == PARAM_OLD ? &change->old_row : &change->new_row;
    return &row->values[param->column];
}

void bind_row(struct binding *binding, const struct statement *statement,
              const struct change *change)
{
    for (unsigned p = 0; p < statement->params_count; p++) {
        const struct value *value = param_value(&statement->params[p], change);
        binding->values[p] = value->kind == VALUE_TEXT ? value->bytes : NULL;
        binding->lengths[p] = (int)value->length;
        binding->formats[p] = FORMAT_TEXT;
    }
}

/* Gives its format. */
static int put_array(struct buffer *out, const struct statement_param *param,
                     struct change *const *changes, unsigned rows)
{
    struct array_element elements[GROUP_ROWS_MAX];
    CHECK(rows <= GROUP_ROWS_MAX);
    for (unsigned r = 0; r < rows; r++) {
        const struct value *value = param_value(param, changes[r]);
        elements[r] = (struct array_element){
            .text = value->kind == VALUE_TEXT ? value->bytes : NULL, .length = value->length};
    }
    if (array_put_binary(out, param->array_type, elements, rows))
        return FORMAT_BINARY;
    array_put_text(out, elements, rows);
    return FORMAT_TEXT;
}

bool bind_rows(struct binding *binding, const struct statement *statement,
               struct change *const *changes, unsigned rows, struct error *err)
{
    struct buffer *arrays = &binding->arrays;
    buffer_clear(arrays);
    for (unsigned p = 0; p < statement->params_count; p++) {
        size_t start = arrays->length;
        binding->formats[p] = put_array(arrays, &statement->params[p], changes, rows);
        binding->lengths[p] = (int)(arrays->length - start);
    }
    if (buffer_failed(arrays))
        return error_set(err, ERROR_LIMIT, "%u changes of %s are too large for a statement", rows,
                         changes[0]->mapping->name);
    const char *at = arrays->bytes; /* only now: it has moved as it grew */
    for (unsigned p = 0; p < statement->params_count; p++) {
        binding->values[p] = at;
        at += binding->lengths[p];
    }
    return true;
}
