#include "mapping/select.h"

#include <ctype.h>
#include <jansson.h>
#include <pg_query.h>

#include "pg/oid.h"
#include "pg/quote.h"

enum { SELECT_MAX = 1 << 20, CALLS_MAX = 256 };

static const char list_head[] = "SELECT ", list_tail[] = "\nFROM portage_source";
static const char where_head[] = "SELECT 1 FROM portage_source WHERE ", where_tail[] = "\n";

/* One text under analysis: `sql` is it, between a head and a tail, comments blanked. */
struct analysis {
    const struct config *config;
    const struct config_text *text;
    const struct relation *source;
    struct arena *arena;
    struct error *err;
    const char *sql;
    size_t head;         /* bytes before the user's text */
    struct select_calls *calls;
};

/* ---- places ---- */

static void place_of(const struct analysis *analysis, int location, int *line, int *column)
{
    size_t offset = (size_t)location > analysis->head ? (size_t)location - analysis->head : 0;
    size_t length = strlen(analysis->text->text);
    config_place(analysis->text, offset < length ? offset : length, line, column);
}

static bool refuse(const struct analysis *analysis, int location, const char *message,
                   const char *hint)
{
    int line, column;
    place_of(analysis, location, &line, &column);
    error_set(analysis->err, ERROR_CONFIG, "%s:%d:%d: %s", analysis->config->path, line, column,
              message);
    return error_hint(analysis->err, "%s", hint);
}

/* ---- comments ---- */

/* The end of a quoted piece that starts at `at`; `at` itself when none does. */
static size_t skip_quoted(const char *sql, size_t at)
{
    char quote = sql[at];
    if (quote == '\'' || quote == '"') {
        bool escapes = quote == '\'' && at > 0 && (sql[at - 1] == 'E' || sql[at - 1] == 'e');
        for (at++; sql[at] != '\0' && (sql[at] != quote || sql[at + 1] == quote); at++) {
            if (sql[at] == quote || (escapes && sql[at] == '\\' && sql[at + 1] != '\0'))
                at++; /* of a pair */
        }
        return sql[at] == '\0' ? at : at + 1;
    }
    if (quote == '$') {
        size_t tag = 1;
        while (isalnum((unsigned char)sql[at + tag]) || sql[at + tag] == '_')
            tag++;
        if (sql[at + tag] != '$')
            return at;
        const char *end = memmem(sql + at + tag + 1, strlen(sql + at + tag + 1), sql + at, tag + 1);
        return end == NULL ? strlen(sql) : (size_t)(end - sql) + tag + 1;
    }
    return at;
}

static size_t comment_length(const char *sql)
{
    if (sql[0] == '-' && sql[1] == '-')
        return strcspn(sql, "\n");
    if (sql[0] != '/' || sql[1] != '*')
        return 0;
    size_t at = 2;
    for (int depth = 1; depth > 0 && sql[at] != '\0'; at++) { /* they nest */
        if (sql[at] == '*' && sql[at + 1] == '/')
            depth--, at++;
        else if (sql[at] == '/' && sql[at + 1] == '*')
            depth++, at++;
    }
    return at;
}

/* Comments become spaces, so that all offsets stay. */
static void blank_comments(char *sql)
{
    for (size_t at = 0; sql[at] != '\0';) {
        size_t end = skip_quoted(sql, at);
        size_t comment = comment_length(sql + at);
        for (size_t i = 0; i < comment; i++)
            sql[at + i] = sql[at + i] == '\n' ? '\n' : ' ';
        at = end > at ? end : at + (comment > 0 ? comment : 1);
    }
}

/* ---- the syntax tree, as JSON: {"Kind": {fields…}} ---- */

static const char *node_kind(json_t *node)
{
    void *at = json_object_iter(node);
    return at != NULL ? json_object_iter_key(at) : "";
}

static json_t *node_fields(json_t *node)
{
    void *at = json_object_iter(node);
    return at != NULL ? json_object_iter_value(at) : NULL;
}

static bool node_is(json_t *node, const char *kind)
{
    return strcmp(node_kind(node), kind) == 0;
}

static int node_location(json_t *fields)
{
    return (int)json_integer_value(json_object_get(fields, "location"));
}

static const char *string_of(json_t *node)
{
    const char *text = json_string_value(json_object_get(json_object_get(node, "String"), "sval"));
    return text != NULL ? text : "";
}

static const char *last_name(json_t *names)
{
    size_t count = json_array_size(names);
    return count == 0 ? "" : string_of(json_array_get(names, count - 1));
}

/* What an expression holds. */
struct contents {
    struct column_set uses;
    int columns; /* references to columns */
    int column;  /* the last of them */
    int calls;
};

static bool take_column(const struct analysis *analysis, json_t *fields, struct contents *contents)
{
    json_t *names = json_object_get(fields, "fields");
    int location = node_location(fields);
    char message[256];
    size_t count = json_array_size(names);
    if (json_object_get(json_array_get(names, count - 1), "A_Star") != NULL)
        return refuse(analysis, location, "* says nothing about the target's columns",
                      "Name the columns; \"pgportage init\" writes the list.");
    if (count > 2 || (count == 2 && strcmp(string_of(json_array_get(names, 0)),
                                           analysis->source->name) != 0))
        return refuse(analysis, location, "only columns of the source table can be used",
                      "Name the column alone; put ( ) around it to take a field of it.");
    int column = relation_column(analysis->source, last_name(names));
    if (column < 0) {
        snprintf(message, sizeof message, "%s.%s has no column \"%s\"", analysis->source->schema,
                 analysis->source->name, last_name(names));
        return refuse(analysis, location, message,
                      "Names with capitals or other letters need double quotes.");
    }
    column_set_add(&contents->uses, (unsigned)column);
    contents->columns++;
    contents->column = column;
    return true;
}

static bool take_call(const struct analysis *analysis, json_t *fields, struct contents *contents)
{
    static const char *const aggregate[] = {"agg_star", "over", "agg_filter", "agg_order",
                                            "agg_distinct", "agg_within_group"};
    struct select_calls *calls = analysis->calls;
    int location = node_location(fields);
    for (size_t a = 0; a < sizeof aggregate / sizeof aggregate[0]; a++) {
        if (json_object_get(fields, aggregate[a]) != NULL)
            return refuse(analysis, location, "aggregates and window functions look at other rows",
                          "Each target row is made from one source row.");
    }
    if (calls->count == CALLS_MAX)
        return refuse(analysis, location, "too many function calls", "At most 256 are possible.");
    if (calls->items == NULL)
        calls->items = arena_zalloc(analysis->arena, CALLS_MAX * sizeof *calls->items);
    struct select_call *call = &calls->items[calls->count++];
    call->name = arena_strdup(analysis->arena, last_name(json_object_get(fields, "funcname")));
    place_of(analysis, location, &call->line, &call->place);
    contents->calls++;
    return true;
}

/* Why a kind of node has no place in a select list; NULL if it has. */
static const char *refused_kind(const char *kind)
{
    static const char *const refused[][2] = {
        {"SubLink", "a subquery looks at other rows"},
        {"ParamRef", "there are no parameters here"},
        {"SQLValueFunction", "the value depends on when and where it is asked for"},
        {"GroupingFunc", "there are no groups here"},
        {"SetToDefault", "DEFAULT is not an expression"},
        {"CurrentOfExpr", "there is no cursor here"},
    };
    for (size_t r = 0; r < sizeof refused / sizeof refused[0]; r++) {
        if (strcmp(kind, refused[r][0]) == 0)
            return refused[r][1];
    }
    return NULL;
}

static bool walk(const struct analysis *analysis, json_t *node, struct contents *contents)
{
    const char *kind;
    size_t index;
    json_t *child;
    if (json_is_array(node)) {
        json_array_foreach (node, index, child) {
            if (!walk(analysis, child, contents))
                return false;
        }
    }
    json_object_foreach (node, kind, child) {
        const char *reason = refused_kind(kind);
        if (reason != NULL)
            return refuse(analysis, node_location(child), reason,
                          "Use the columns of the row, constants, operators and immutable"
                          " functions.");
        if (strcmp(kind, "ColumnRef") == 0) {
            if (!take_column(analysis, child, contents))
                return false;
            continue;
        }
        if (strcmp(kind, "FuncCall") == 0 && !take_call(analysis, child, contents))
            return false;
        if (!walk(analysis, child, contents))
            return false;
    }
    return true;
}

/* ---- inverses ---- */

/* libpg_query's JSON leaves out integers that are not positive: then the user's own text says. */
static const char *integer_text(const struct analysis *analysis, json_t *constant)
{
    json_t *value = json_object_get(json_object_get(constant, "ival"), "ival");
    const char *at = analysis->sql + node_location(constant);
    if (value != NULL)
        return arena_printf(analysis->arena, "%lld", (long long)json_integer_value(value));
    if (*at != '-')
        return "0";
    at += strspn(at, "-( \t\r\n\f\v");
    return arena_printf(analysis->arena, "-%.*s", (int)strspn(at, "0123456789abcdefABCDEFoxOX_"),
                        at);
}

/* A numeric constant's text, or NULL. */
static const char *number_text(const struct analysis *analysis, json_t *node)
{
    json_t *constant = json_object_get(node, "A_Const");
    const char *text = json_string_value(json_object_get(json_object_get(constant, "fval"), "fval"));
    if (text != NULL)
        return arena_strdup(analysis->arena, text);
    return json_object_get(constant, "ival") != NULL ? integer_text(analysis, constant) : NULL;
}

static bool is_zero(const char *number)
{
    return strspn(number, "-0.") == strlen(number);
}

static const char *operator_of(json_t *fields)
{
    const char *kind = json_string_value(json_object_get(fields, "kind"));
    return kind != NULL && strcmp(kind, "AEXPR_OP") == 0 ? last_name(json_object_get(fields, "name"))
                                                         : "";
}

static const char *cast_name(json_t *cast)
{
    return last_name(json_object_get(json_object_get(cast, "typeName"), "names"));
}

static json_t *cast_modifiers(json_t *cast)
{
    return json_object_get(json_object_get(cast, "typeName"), "typmods");
}

static bool is_one_of(const char *name, const char *const *names)
{
    while (*names != NULL && strcmp(*names, name) != 0)
        names++;
    return *names != NULL;
}

static const char *const fraction_types[] = {"numeric", "float4", "float8", NULL};
static const char *const text_types[] = {"text", "varchar", NULL};

/* Whether an operand may be an integer: a division of two of these drops the remainder. */
static bool may_be_integer(const struct analysis *analysis, json_t *node)
{
    json_t *fields = node_fields(node);
    if (node_is(node, "TypeCast"))
        return !is_one_of(cast_name(fields), fraction_types);
    if (node_is(node, "A_Expr"))
        return may_be_integer(analysis, json_object_get(fields, "lexpr")) &&
               may_be_integer(analysis, json_object_get(fields, "rexpr"));
    const char *number = number_text(analysis, node);
    if (number != NULL)
        return strpbrk(number, ".eE") == NULL;
    if (!node_is(node, "ColumnRef"))
        return true;
    int column = relation_column(analysis->source, last_name(json_object_get(fields, "fields")));
    return column < 0 || !OID_IN(analysis->source->columns[column].base_oid, OID_NUMERIC,
                                 OID_FLOAT4, OID_FLOAT8);
}

/* Unwinds a chain of casts and + - * / with numbers down to the column: gives what the column is, in
 * terms of `value`. NULL if it is not such a chain. */
static const char *unwind(const struct analysis *analysis, json_t *node, const char *value)
{
    struct arena *arena = analysis->arena;
    json_t *fields = node_fields(node);
    if (node_is(node, "ColumnRef"))
        return value;
    if (node_is(node, "TypeCast"))
        return unwind(analysis, json_object_get(fields, "arg"), value);
    if (!node_is(node, "A_Expr"))
        return NULL;
    const char *operator = operator_of(fields);
    char op = operator[0] != '\0' && operator[1] == '\0' ? operator[0] : '\0'; /* -> is no minus */
    json_t *left = json_object_get(fields, "lexpr"), *right = json_object_get(fields, "rexpr");
    const char *number = number_text(analysis, right);
    json_t *inner = left;
    bool swapped = number == NULL;
    if (swapped) {
        number = number_text(analysis, left);
        inner = right;
    }
    if (number == NULL || inner == NULL)
        return NULL;
    if (op == '+')
        return unwind(analysis, inner, arena_printf(arena, "(%s - (%s))", value, number));
    if (op == '-')
        return unwind(analysis, inner,
                      swapped ? arena_printf(arena, "((%s) - %s)", number, value)
                              : arena_printf(arena, "(%s + (%s))", value, number));
    if (op == '*' && !is_zero(number))
        return unwind(analysis, inner, arena_printf(arena, "(%s::numeric / (%s))", value, number));
    if (op == '/' && !swapped && !is_zero(number) &&
        !(may_be_integer(analysis, left) && may_be_integer(analysis, right)))
        return unwind(analysis, inner, arena_printf(arena, "(%s * (%s))", value, number));
    return NULL;
}

/* ---- digits behind the point ---- */

/* -1 when it is not written as digits and a point. */
static int constant_digits(const char *number)
{
    const char *point = strchr(number, '.');
    if (strspn(number, "-0123456789.") != strlen(number))
        return -1;
    return point != NULL ? (int)strlen(point + 1) : 0;
}

/* 2 for 100; 0 for what is no power of ten. */
static int power_of_ten(const char *number)
{
    size_t zeros = number[0] == '1' ? strspn(number + 1, "0") : 0;
    return number[0] == '1' && number[1 + zeros] == '\0' ? (int)zeros : 0;
}

/* 2, 4 or 8; 0 for what is no integer type. */
static int integer_bytes(const char *type)
{
    return strncmp(type, "int", 3) == 0 && strspn(type + 3, "248") == 1 && type[4] == '\0'
               ? type[3] - '0'
               : 0;
}

static int cast_digits(const struct analysis *analysis, const struct column *column, json_t *cast,
                       int digits)
{
    const char *name = cast_name(cast);
    json_t *modifiers = cast_modifiers(cast);
    if (integer_bytes(name) > 0)
        return digits == 0 && integer_bytes(name) >= column_integer_bytes(column) ? 0 : -1;
    if (json_array_size(modifiers) == 0)
        return is_one_of(name, text_types) || strcmp(name, "numeric") == 0 ? digits : -1;
    const char *scale = number_text(analysis, json_array_get(modifiers, 1));
    bool keeps = strcmp(name, "numeric") == 0 && scale != NULL && constant_digits(scale) == 0 &&
                 strtol(scale, NULL, 10) >= digits;
    return keeps ? digits : -1;
}

/* Of a chain that unwind() has taken: how many digits its value has at most. -1 when that is not
 * known, or when some were dropped on the way. */
static int chain_digits(const struct analysis *analysis, const struct column *column, json_t *node)
{
    json_t *fields = node_fields(node);
    if (node_is(node, "ColumnRef"))
        return column_digits(column);
    if (node_is(node, "TypeCast")) {
        int digits = chain_digits(analysis, column, json_object_get(fields, "arg"));
        return digits < 0 ? -1 : cast_digits(analysis, column, fields, digits);
    }
    json_t *left = json_object_get(fields, "lexpr"), *right = json_object_get(fields, "rexpr");
    const char *number = number_text(analysis, right);
    int inner = chain_digits(analysis, column, number != NULL ? left : right);
    if (number == NULL)
        number = number_text(analysis, left);
    int own = constant_digits(number), shift = power_of_ten(number);
    char op = operator_of(fields)[0];
    if (inner < 0 || own < 0 || op == '/')
        return -1;
    if (op != '*')
        return inner > own ? inner : own;
    return inner + own > shift ? inner + own - shift : 0;
}

static void item_classify(const struct analysis *analysis, json_t *value,
                          const struct contents *contents, struct select_item *item)
{
    struct arena *arena = analysis->arena;
    const char *name = quote_ident_dup(arena, item->name);
    item->column = contents->columns == 1 ? contents->column : -1;
    item->uses = contents->uses;
    item->digits = -1;
    item->kind = contents->columns == 0 && contents->calls == 0 ? SELECT_CONSTANT : SELECT_OTHER;
    const char *inverse = contents->columns == 1 ? unwind(analysis, value, name) : NULL;
    if (inverse == NULL)
        return;
    item->kind = SELECT_ARITHMETIC;
    if (node_is(value, "ColumnRef")) {
        item->kind = SELECT_COLUMN;
    } else if (node_is(value, "TypeCast") &&
               node_is(json_object_get(node_fields(value), "arg"), "ColumnRef")) {
        item->kind = SELECT_CAST;
        item->cast_type = arena_strdup(arena, cast_name(node_fields(value)));
        item->cast_cuts = json_array_size(cast_modifiers(node_fields(value))) > 0;
    }
    const struct column *column = &analysis->source->columns[item->column];
    item->digits = chain_digits(analysis, column, value);
    /* Without a length: the assignment to the column errors where the cast would cut in silence. */
    item->inverse = item->kind == SELECT_COLUMN
                        ? inverse
                        : arena_printf(arena, "%s::%s", inverse, column->base_type);
}

/* ---- the list ---- */

static size_t trim(const char *sql, size_t start, size_t end)
{
    while (end > start && isspace((unsigned char)sql[end - 1]))
        end--;
    return end;
}

/* The expression's end: before its name and the AS, if there is one. */
static size_t expr_end(const char *sql, size_t start, size_t end, bool named)
{
    end = trim(sql, start, end);
    if (end > start && sql[end - 1] == ',')
        end = trim(sql, start, end - 1);
    if (!named)
        return end;
    if (sql[end - 1] == '"') {
        for (end--; end > start && (sql[end - 1] != '"' || sql[end - 2] == '"'); end--)
            if (sql[end - 1] == '"')
                end--;
        end--;
    } else {
        while (end > start && (isalnum((unsigned char)sql[end - 1]) || sql[end - 1] == '_' ||
                               sql[end - 1] == '$' || (unsigned char)sql[end - 1] >= 0x80))
            end--;
    }
    end = trim(sql, start, end);
    bool has_as = end >= start + 3 && strncasecmp(sql + end - 2, "as", 2) == 0 &&
                  !isalnum((unsigned char)sql[end - 3]) && sql[end - 3] != '_';
    return has_as ? trim(sql, start, end - 2) : end;
}

/* The name that an item without AS has: that of its column. */
static const char *implied_name(json_t *value)
{
    while (node_is(value, "TypeCast"))
        value = json_object_get(node_fields(value), "arg");
    return node_is(value, "ColumnRef") ? last_name(json_object_get(node_fields(value), "fields"))
                                       : NULL;
}

static bool take_item(const struct analysis *analysis, json_t *target, size_t end,
                      struct select_item *item)
{
    json_t *fields = json_object_get(target, "ResTarget");
    json_t *value = json_object_get(fields, "val");
    const char *name = json_string_value(json_object_get(fields, "name"));
    int location = node_location(fields);
    struct contents contents = {.column = -1};
    size_t start = (size_t)location;
    size_t stop = expr_end(analysis->sql, start, end, name != NULL);
    if (name == NULL)
        name = implied_name(value);
    if (name == NULL)
        return refuse(analysis, location, "this expression has no name",
                      "Write AS and the target column behind it.");
    *item = (struct select_item){
        .name = arena_strdup(analysis->arena, name),
        .expr = arena_strndup(analysis->arena, analysis->sql + start, stop - start),
    };
    place_of(analysis, location, &item->line, &item->place);
    if (!walk(analysis, value, &contents))
        return false;
    item_classify(analysis, value, &contents, item);
    return true;
}

/* ---- parsing ---- */

static bool syntax_error(const struct analysis *analysis, const PgQueryError *error)
{
    return refuse(analysis, error->cursorpos - 1, error->message,
                  "Write what stands between SELECT and FROM, or behind WHERE.");
}

static bool only_known_clauses(const struct analysis *analysis, json_t *select)
{
    static const char *const known[] = {"targetList", "fromClause", "whereClause", "limitOption",
                                        "op"};
    const char *key;
    json_t *value;
    json_object_foreach (select, key, value) {
        bool found = false;
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
            found |= strcmp(key, known[k]) == 0;
        if (!found)
            return refuse(analysis, (int)analysis->head, "there is more here than expressions",
                          "No DISTINCT, FROM, GROUP BY, ORDER BY or LIMIT: each target row is made"
                          " from one source row.");
    }
    return true;
}

/* The SelectStmt of head, text and tail, in *document, to be released. NULL on error. */
static json_t *parse(struct analysis *analysis, const char *head, const char *tail,
                     json_t **document)
{
    char *sql = arena_printf(analysis->arena, "%s%s%s", head, analysis->text->text, tail);
    blank_comments(sql);
    analysis->sql = sql;
    analysis->head = strlen(head);
    *document = NULL;
    PgQueryParseResult result = pg_query_parse(sql);
    if (result.error != NULL) {
        syntax_error(analysis, result.error);
        pg_query_free_parse_result(result);
        return NULL;
    }
    *document = json_loads(result.parse_tree, 0, NULL);
    pg_query_free_parse_result(result);
    json_t *statements = json_object_get(*document, "stmts");
    json_t *select = json_object_get(
        json_object_get(json_array_get(statements, 0), "stmt"), "SelectStmt");
    if (json_array_size(statements) != 1 || json_array_size(json_object_get(select, "fromClause")) != 1) {
        refuse(analysis, (int)analysis->head, "this is more than one statement",
               "Write expressions only.");
        return NULL;
    }
    return only_known_clauses(analysis, select) ? select : NULL;
}

static bool take_list(const struct analysis *analysis, json_t *select, struct select_list *list)
{
    json_t *targets = json_object_get(select, "targetList");
    size_t count = json_array_size(targets);
    size_t end_of_list = strlen(analysis->sql) - strlen(list_tail);
    if (json_object_get(select, "whereClause") != NULL)
        return refuse(analysis, (int)analysis->head, "a condition has its own key",
                      "Write it under where:");
    if (count == 0)
        return refuse(analysis, (int)analysis->head, "the select list is empty",
                      "Write what the target's columns are made of, or identical.");
    list->items = arena_zalloc(analysis->arena, (count + 1) * sizeof *list->items);
    for (size_t i = 0; i < count; i++) {
        json_t *next = json_object_get(json_array_get(targets, i + 1), "ResTarget");
        size_t end = next != NULL ? (size_t)node_location(next) : end_of_list;
        if (!take_item(analysis, json_array_get(targets, i), end, &list->items[list->count++]))
            return false;
    }
    return true;
}

bool select_parse(const struct config *config, const struct config_text *text,
                  const struct relation *source, struct arena *arena, struct select_list *list,
                  struct error *err)
{
    json_t *document;
    *list = (struct select_list){0};
    struct analysis analysis = {.config = config, .text = text, .source = source, .arena = arena,
                                .err = err, .calls = &list->calls};
    json_t *select = parse(&analysis, list_head, list_tail, &document);
    bool ok = select != NULL && take_list(&analysis, select, list);
    json_decref(document);
    return ok;
}

bool select_parse_condition(const struct config *config, const struct config_text *text,
                            const struct relation *source, struct arena *arena,
                            struct column_set *uses, struct select_calls *calls, struct error *err)
{
    json_t *document;
    struct contents contents = {.column = -1};
    *calls = (struct select_calls){0};
    struct analysis analysis = {.config = config, .text = text, .source = source, .arena = arena,
                                .err = err, .calls = calls};
    json_t *select = parse(&analysis, where_head, where_tail, &document);
    bool ok = select != NULL &&
              walk(&analysis, json_object_get(select, "whereClause"), &contents);
    json_decref(document);
    *uses = contents.uses;
    return ok;
}

bool column_set_intersects(const struct column_set *a, const struct column_set *b)
{
    for (size_t w = 0; w < sizeof a->words / sizeof a->words[0]; w++) {
        if ((a->words[w] & b->words[w]) != 0)
            return true;
    }
    return false;
}

bool column_set_within(const struct column_set *inner, const struct column_set *outer)
{
    for (size_t w = 0; w < sizeof inner->words / sizeof inner->words[0]; w++) {
        if ((inner->words[w] & ~outer->words[w]) != 0)
            return false;
    }
    return true;
}

void column_set_join(struct column_set *into, const struct column_set *from)
{
    for (size_t w = 0; w < sizeof into->words / sizeof into->words[0]; w++)
        into->words[w] |= from->words[w];
}
