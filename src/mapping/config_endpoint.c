#include "mapping/config_reader.h"

#include "mapping/pairs.h"

static const char shape_endpoint[] =
    "endpoint: none, or {pgbouncer: […]}, {dns: {…}}, {command: \"…\"}";
static const char shape_pooler[] =
    "pgbouncer: [{admin: \"host=… port=6432 user=… dbname=pgbouncer\", file: databases.ini,"
    " databases: {shop_0: {source: \"host=… dbname=…\", target: \"host=… dbname=…\"}}}]";
static const char shape_sides[] = "{source: …, target: …}";
static const char shape_dns[] =
    "dns: {server: 192.0.2.53, key_file: tsig.key, names: {db.shop.example: {source: 192.0.2.1,"
    " target: 192.0.2.2}}}";

const char *hook_phase_name(enum hook_phase phase)
{
    static const char *const names[] = {"before_pause", "paused",  "fenced", "drained",
                                        "switched",     "resumed", "aborted"};
    return names[phase];
}

/* ---- the sides of one thing ---- */

static bool find_side(const char *name, enum which_side *side)
{
    for (*side = 0; *side < SIDES; (*side)++) {
        if (strcmp(name, side_name(*side)) == 0)
            return true;
    }
    return false;
}

/* {source: …, target: …}: the nodes, both there. */
static bool read_sides(const struct reader *reader, struct fy_node *node, const char *name,
                       struct fy_node *sides[SIDES])
{
    void *at = NULL;
    struct fy_node_pair *pair;
    enum which_side side;
    sides[SIDE_SOURCE] = sides[SIDE_TARGET] = NULL;
    if (!fy_node_is_mapping(node))
        return reader_refuse(reader, node, shape_sides, "\"%s\" must be a mapping", name);
    while ((pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        struct fy_node *key = fy_node_pair_key(pair);
        if (!find_side(reader_key_name(key), &side))
            return reader_refuse_key(reader, key, "in an endpoint", shape_sides);
        sides[side] = fy_node_pair_value(pair);
    }
    return (sides[SIDE_SOURCE] != NULL && sides[SIDE_TARGET] != NULL) ||
           reader_refuse(reader, node, shape_sides, "\"%s\" needs a source and a target", name);
}

/* ---- poolers ---- */

static bool same_value(const struct pairs *one, const struct pairs *other, const char *key)
{
    const char *values[] = {pairs_get(one, key), pairs_get(other, key)};
    return values[0] == NULL || values[1] == NULL ? values[0] == values[1]
                                                  : strcmp(values[0], values[1]) == 0;
}

static bool read_side_pairs(const struct reader *reader, struct fy_node *node, const char *name,
                            struct config_text *text, struct pairs *pairs)
{
    size_t bad;
    if (!reader_text(reader, node, name, text))
        return false;
    if (strpbrk(text->text, "\r\n") != NULL)
        return reader_refuse(reader, node, NULL, "\"%s\" must be one line", name);
    if (!pairs_parse(text->text, strlen(text->text), reader->arena, pairs, &bad))
        return reader_refuse(reader, node, "Write it as in pgbouncer.ini: host=… port=… dbname=…",
                             "\"%s\" is no list of key=value, from its character %zu on", name,
                             bad + 1);
    return true;
}

static bool read_database(const struct reader *reader, struct fy_node *key, struct fy_node *value,
                          struct config_database *database)
{
    struct fy_node *sides[SIDES];
    struct pairs pairs[SIDES];
    if (!reader_text(reader, key, "databases", &database->name) ||
        !read_sides(reader, value, database->name.text, sides))
        return false;
    for (unsigned side = 0; side < SIDES; side++) {
        if (!read_side_pairs(reader, sides[side], side_name(side), &database->sides[side],
                             &pairs[side]))
            return false;
    }
    if (strpbrk(database->name.text, "'\"\n") != NULL || strlen(database->name.text) > 63)
        return reader_refuse(reader, key, NULL, "\"%s\" cannot be the name of an entry",
                             database->name.text);
    return !same_value(&pairs[0], &pairs[1], "host") || !same_value(&pairs[0], &pairs[1], "port") ||
           !same_value(&pairs[0], &pairs[1], "dbname") ||
           reader_refuse(reader, sides[SIDE_TARGET], NULL,
                         "source and target of \"%s\" are the same database", database->name.text);
}

static bool read_databases(const struct reader *reader, struct fy_node *node,
                           struct config_pooler *pooler)
{
    void *at = NULL;
    struct fy_node_pair *pair;
    if (!fy_node_is_mapping(node))
        return reader_refuse(reader, node, shape_pooler, "\"databases\" must be a mapping");
    pooler->databases = arena_zalloc(reader->arena, ((size_t)fy_node_mapping_item_count(node) + 1) *
                                                        sizeof *pooler->databases);
    while ((pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        if (!read_database(reader, fy_node_pair_key(pair), fy_node_pair_value(pair),
                           &pooler->databases[pooler->databases_count++]))
            return false;
    }
    return (pooler->databases_count > 0 && pooler->databases_count <= 64) ||
           reader_refuse(reader, node, shape_pooler, "\"databases\" must name 1 to 64");
}

static bool read_path(const struct reader *reader, struct fy_node *node, const char *name,
                      struct config_text *text)
{
    if (!reader_text(reader, node, name, text))
        return false;
    text->text = reader_path(reader, text->text);
    return true;
}

static bool read_pooler(const struct reader *reader, struct fy_node *node,
                        struct config_pooler *pooler)
{
    void *at = NULL;
    struct fy_node_pair *pair;
    if (!fy_node_is_mapping(node))
        return reader_refuse(reader, node, shape_pooler, "a pooler must be a mapping");
    while ((pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        struct fy_node *key = fy_node_pair_key(pair), *value = fy_node_pair_value(pair);
        const char *name = reader_key_name(key);
        bool ok;
        if (strcmp(name, "admin") == 0)
            ok = reader_text(reader, value, name, &pooler->admin);
        else if (strcmp(name, "login") == 0)
            ok = reader_text(reader, value, name, &pooler->login);
        else if (strcmp(name, "file") == 0)
            ok = read_path(reader, value, name, &pooler->file);
        else if (strcmp(name, "databases") == 0)
            ok = read_databases(reader, value, pooler);
        else
            ok = reader_refuse_key(reader, key, "in a pooler", shape_pooler);
        if (!ok)
            return false;
    }
    return (pooler->admin.text != NULL && pooler->file.text != NULL && pooler->databases != NULL) ||
           reader_refuse(reader, node, shape_pooler, "a pooler needs admin, file and databases");
}

/* One pooler, or a list of them. */
static bool read_pgbouncer(const struct reader *reader, struct fy_node *node)
{
    struct config_endpoint *endpoint = &reader->config->endpoint;
    void *at = NULL;
    struct fy_node *item;
    bool list = fy_node_is_sequence(node);
    size_t room = list ? (size_t)fy_node_sequence_item_count(node) : 1;
    endpoint->poolers = arena_zalloc(reader->arena, (room + 1) * sizeof *endpoint->poolers);
    if (!list)
        return read_pooler(reader, node, &endpoint->poolers[endpoint->poolers_count++]);
    while ((item = fy_node_sequence_iterate(node, &at)) != NULL) {
        if (!read_pooler(reader, item, &endpoint->poolers[endpoint->poolers_count++]))
            return false;
    }
    return (room > 0 && room <= 64) ||
           reader_refuse(reader, node, shape_pooler, "\"pgbouncer\" must name 1 to 64 poolers");
}

/* ---- names ---- */

/* What is written into nsupdate's commands: no spaces, no line ends, nothing else of its syntax. */
static bool is_dns_word(const char *text)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-";
    return text[0] != '\0' && text[0] != '-' && strspn(text, allowed) == strlen(text);
}

static bool read_dns_word(const struct reader *reader, struct fy_node *node, const char *name,
                          struct config_text *text)
{
    return reader_text(reader, node, name, text) &&
           (is_dns_word(text->text) ||
            reader_refuse(reader, node, NULL, "\"%s\" is no name and no address", text->text));
}

static bool read_addresses(const struct reader *reader, struct fy_node *node, const char *name,
                           struct config_text **texts, unsigned *count)
{
    if (!reader_texts(reader, node, name, texts, count))
        return false;
    for (unsigned t = 0; t < *count; t++) {
        if (!is_dns_word((*texts)[t].text))
            return reader_refuse(reader, node, NULL, "\"%s\" is no name and no address",
                                 (*texts)[t].text);
    }
    return true;
}

static bool read_name(const struct reader *reader, struct fy_node *key, struct fy_node *value,
                      struct config_name *name)
{
    struct fy_node *sides[SIDES];
    if (!read_dns_word(reader, key, "names", &name->name) ||
        !read_sides(reader, value, name->name.text, sides))
        return false;
    for (unsigned side = 0; side < SIDES; side++) {
        if (!read_addresses(reader, sides[side], side_name(side), &name->sides[side],
                            &name->counts[side]))
            return false;
    }
    return true;
}

static bool read_names(const struct reader *reader, struct fy_node *node)
{
    struct config_dns *dns = &reader->config->endpoint.dns;
    void *at = NULL;
    struct fy_node_pair *pair;
    if (!fy_node_is_mapping(node) || fy_node_mapping_item_count(node) <= 0)
        return reader_refuse(reader, node, shape_dns, "\"names\" must be a mapping");
    dns->names =
        arena_zalloc(reader->arena, (size_t)fy_node_mapping_item_count(node) * sizeof *dns->names);
    while ((pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        if (!read_name(reader, fy_node_pair_key(pair), fy_node_pair_value(pair),
                       &dns->names[dns->names_count++]))
            return false;
    }
    return true;
}

static bool read_dns_key(const struct reader *reader, struct fy_node *key, struct fy_node *value)
{
    struct config_dns *dns = &reader->config->endpoint.dns;
    const char *name = reader_key_name(key);
    bool found;
    if (strcmp(name, "server") == 0)
        return read_dns_word(reader, value, name, &dns->server);
    if (strcmp(name, "zone") == 0)
        return read_dns_word(reader, value, name, &dns->zone);
    if (strcmp(name, "key_file") == 0)
        return read_path(reader, value, name, &dns->key_file);
    if (strcmp(name, "names") == 0)
        return read_names(reader, value);
    return reader_setting(reader, "endpoint.dns", name, value, &found) &&
           (found || reader_refuse_key(reader, key, "in dns", shape_dns));
}

static bool read_dns(const struct reader *reader, struct fy_node *node)
{
    void *at = NULL;
    struct fy_node_pair *pair;
    const struct config_dns *dns = &reader->config->endpoint.dns;
    if (!fy_node_is_mapping(node))
        return reader_refuse(reader, node, shape_dns, "\"dns\" must be a mapping");
    while ((pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        if (!read_dns_key(reader, fy_node_pair_key(pair), fy_node_pair_value(pair)))
            return false;
    }
    return (dns->server.text != NULL && dns->names != NULL) ||
           reader_refuse(reader, node, shape_dns, "\"dns\" needs a server and names");
}

/* ---- endpoint and hooks ---- */

static bool read_kind(const struct reader *reader, struct fy_node *key, struct fy_node *value,
                      enum endpoint_kind kind)
{
    struct config_endpoint *endpoint = &reader->config->endpoint;
    if (endpoint->kind != ENDPOINT_NONE)
        return reader_refuse(reader, key, shape_endpoint, "\"endpoint\" can be of one kind only");
    endpoint->kind = kind;
    if (kind == ENDPOINT_PGBOUNCER)
        return read_pgbouncer(reader, value);
    if (kind == ENDPOINT_DNS)
        return read_dns(reader, value);
    return reader_text(reader, value, "command", &endpoint->command);
}

static bool read_endpoint_key(const struct reader *reader, struct fy_node *key,
                              struct fy_node *value)
{
    const char *name = reader_key_name(key);
    bool found;
    if (strcmp(name, "pgbouncer") == 0)
        return read_kind(reader, key, value, ENDPOINT_PGBOUNCER);
    if (strcmp(name, "dns") == 0)
        return read_kind(reader, key, value, ENDPOINT_DNS);
    if (strcmp(name, "command") == 0)
        return read_kind(reader, key, value, ENDPOINT_COMMAND);
    return reader_setting(reader, "endpoint", name, value, &found) &&
           (found || reader_refuse_key(reader, key, "in endpoint",
                                       "Known are: pgbouncer, dns, command, pause_ms,"
                                       " pause_attempts, time_limit."));
}

bool read_endpoint(const struct reader *reader, struct fy_node *key, struct fy_node *node)
{
    struct config_endpoint *endpoint = &reader->config->endpoint;
    void *at = NULL;
    struct fy_node_pair *pair;
    if (!reader_text(reader, key, "endpoint", &endpoint->at))
        return false;
    if (fy_node_is_scalar(node) && strcmp(reader_key_name(node), "none") == 0)
        return true;
    if (!fy_node_is_mapping(node))
        return reader_refuse(reader, node, shape_endpoint, "\"endpoint\" must be a mapping");
    while ((pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        if (!read_endpoint_key(reader, fy_node_pair_key(pair), fy_node_pair_value(pair)))
            return false;
    }
    return endpoint->kind != ENDPOINT_NONE ||
           reader_refuse(reader, node, shape_endpoint, "\"endpoint\" names no kind");
}

static bool read_hook(const struct reader *reader, struct fy_node *key, struct fy_node *value)
{
    const char *name = reader_key_name(key);
    bool found;
    for (enum hook_phase phase = 0; phase < HOOK_PHASES; phase++) {
        if (strcmp(name, hook_phase_name(phase)) == 0)
            return reader_text(reader, value, name, &reader->config->endpoint.hooks[phase]);
    }
    return reader_setting(reader, "hooks", name, value, &found) &&
           (found || reader_refuse_key(reader, key, "in hooks",
                                       "Known are: before_pause, paused, fenced, drained, switched,"
                                       " resumed, aborted, time_limit."));
}

bool read_hooks(const struct reader *reader, struct fy_node *node)
{
    void *at = NULL;
    struct fy_node_pair *pair;
    if (!fy_node_is_mapping(node))
        return reader_refuse(reader, node, "hooks: {paused: \"command\"}",
                             "\"hooks\" must be a mapping");
    while ((pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        if (!read_hook(reader, fy_node_pair_key(pair), fy_node_pair_value(pair)))
            return false;
    }
    return true;
}
