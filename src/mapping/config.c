#include "mapping/config_reader.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>

#include "mapping/connections.h"
#include "mapping/names.h"
#include "util/buffer.h"

enum { FILE_MAX = 1 << 20 };

/* ---- settings that are single values ---- */

enum setting_kind { SETTING_INT, SETTING_COUNT, SETTING_BYTES, SETTING_SECONDS, SETTING_NAME };

struct setting {
    const char *name;
    enum setting_kind kind;
    size_t offset; /* in struct config */
    int64_t least, most;
    int64_t preset;
    const char *preset_name;
};

#define KIB(n) ((int64_t)(n) << 10)
#define MIB(n) ((int64_t)(n) << 20)
#define GIB(n) ((int64_t)(n) << 30)
#define AT(field) offsetof(struct config, field)

/* The one table of names, ranges and presets. docs/reference.md says what each of them does. */
static const struct setting settings[] = {
    {"copy_workers", SETTING_INT, AT(copy_workers), 1, 64, 2, NULL},
    {"index_workers", SETTING_INT, AT(index_workers), 1, 16, 2, NULL},
    {"lanes", SETTING_INT, AT(lanes), 1, 64, 2, NULL},
    {"source_connections_max", SETTING_INT, AT(source_connections_max), CONNECTIONS_LEAST, 1000,
     8, NULL},
    {"source_rate_max", SETTING_BYTES, AT(source_rate_max), 0, INT64_MAX, 0, NULL},
    {"throttle.source_replica_lag_max", SETTING_SECONDS, AT(replica_lag_max_s), 0, 86400, 0, NULL},
    {"throttle.source_active_max", SETTING_INT, AT(source_active_max), 0, 100000, 0, NULL},
    {"row_bytes_max", SETTING_BYTES, AT(row_bytes_max), KIB(8), GIB(1) - 1, MIB(32), NULL},
    {"queue_bytes_max", SETTING_BYTES, AT(queue_bytes_max), MIB(1), GIB(64), MIB(64), NULL},
    {"spill_bytes_max", SETTING_BYTES, AT(spill_bytes_max), 0, GIB(16384), GIB(4), NULL},
    {"chunk_ms", SETTING_INT, AT(chunk_ms), 10, 60000, 1000, NULL},
    {"wal_budget", SETTING_BYTES, AT(wal_budget), 0, INT64_MAX, 0, NULL},
    {"verify.every", SETTING_SECONDS, AT(verify_every_s), 0, 365 * 86400, 0, NULL},
    {"verify.rate_max", SETTING_BYTES, AT(verify_rate_max), 0, INT64_MAX, MIB(16), NULL},
    {"sequence_margin", SETTING_COUNT, AT(sequence_margin), 0, GIB(1), 1000, NULL},
    {"sequence_range", SETTING_COUNT, AT(sequence_range), 1000, INT64_MAX / 1024, 100000000, NULL},
    {"endpoint.pause_ms", SETTING_INT, AT(pause_ms), 10, 60000, 300, NULL},
    {"endpoint.pause_attempts", SETTING_INT, AT(pause_attempts), 1, 1000, 10, NULL},
    {"endpoint.time_limit", SETTING_SECONDS, AT(endpoint_limit_s), 1, 3600, 10, NULL},
    {"endpoint.dns.ttl", SETTING_SECONDS, AT(dns_ttl_s), 0, 3600, 5, NULL},
    {"endpoint.dns.port", SETTING_INT, AT(dns_port), 1, 65535, 53, NULL},
    {"hooks.time_limit", SETTING_SECONDS, AT(hooks_limit_s), 1, 3600, 10, NULL},
    {"slot", SETTING_NAME, AT(slot), 0, 0, 0, "pgportage"},
    {"publication", SETTING_NAME, AT(publication), 0, 0, 0, "pgportage"},
};

enum { SETTINGS = sizeof settings / sizeof settings[0] };

/* ---- numbers and sizes ---- */

/* What may stand behind a number; nothing behind a plain one. */
static bool parse_unit(const char *text, enum setting_kind kind, int64_t *factor)
{
    static const struct {
        enum setting_kind kind;
        const char *name;
        int64_t factor;
    } units[] = {
        {SETTING_BYTES, "B", 1},          {SETTING_BYTES, "kB", 1000},
        {SETTING_BYTES, "KiB", KIB(1)},   {SETTING_BYTES, "MB", 1000000},
        {SETTING_BYTES, "MiB", MIB(1)},   {SETTING_BYTES, "GB", 1000000000},
        {SETTING_BYTES, "GiB", GIB(1)},   {SETTING_SECONDS, "s", 1},
        {SETTING_SECONDS, "min", 60},     {SETTING_SECONDS, "h", 3600},
        {SETTING_SECONDS, "d", 86400},
    };
    *factor = 1;
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        if (units[u].kind == kind && strcmp(text, units[u].name) == 0) {
            *factor = units[u].factor;
            return true;
        }
    }
    return text[0] == '\0';
}

static bool parse_number(const char *text, enum setting_kind kind, int64_t *value)
{
    char *end;
    int64_t factor;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno != 0 || end == text)
        return false;
    while (*end == ' ' || *end == '\n')
        end++;
    return parse_unit(end, kind, &factor) &&
           !__builtin_mul_overflow((int64_t)number, factor, value);
}

/* What a slot may be called is what the server allows. */
static bool is_slot_name(const char *text)
{
    size_t length = strlen(text);
    return length > 0 && length < 64 &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_") == length;
}

static const char *number_hint(enum setting_kind kind)
{
    if (kind == SETTING_BYTES)
        return "Write a number, with kB, MB, GB, KiB, MiB or GiB behind it if you like.";
    if (kind == SETTING_SECONDS)
        return "Write a number of seconds, or with s, min, h or d behind it.";
    return NULL;
}

static bool read_setting(const struct reader *reader, struct fy_node *node,
                         const struct setting *setting)
{
    struct config_text text;
    int64_t value;
    void *field = (char *)reader->config + setting->offset;
    if (!reader_text(reader, node, setting->name, &text))
        return false;
    if (setting->kind == SETTING_NAME) {
        *(const char **)field = text.text;
        return is_slot_name(text.text) ||
               reader_refuse(reader, node,
                             "Use lower-case letters, digits and _, at most 63 of them.",
                             "\"%s\" cannot be %s", setting->name, text.text);
    }
    if (!parse_number(text.text, setting->kind, &value))
        return reader_refuse(reader, node, number_hint(setting->kind),
                             "\"%s\" must be a number, not \"%s\"", setting->name, text.text);
    if (value < setting->least || value > setting->most)
        return reader_refuse(reader, node, NULL, "\"%s\" must be between %lld and %lld, not %lld",
                             setting->name, (long long)setting->least, (long long)setting->most,
                             (long long)value);
    if (setting->kind == SETTING_INT)
        *(int *)field = (int)value;
    else
        *(int64_t *)field = value;
    return true;
}

static void preset_settings(struct config *config)
{
    for (size_t s = 0; s < SETTINGS; s++) {
        void *field = (char *)config + settings[s].offset;
        if (settings[s].kind == SETTING_NAME)
            *(const char **)field = settings[s].preset_name;
        else if (settings[s].kind == SETTING_INT)
            *(int *)field = (int)settings[s].preset;
        else
            *(int64_t *)field = settings[s].preset;
    }
}

static const struct setting *find_setting(const char *name)
{
    for (size_t s = 0; s < SETTINGS; s++) {
        if (strcmp(settings[s].name, name) == 0)
            return &settings[s];
    }
    return NULL;
}

bool reader_setting(const struct reader *reader, const char *section, const char *key,
                    struct fy_node *value, bool *found)
{
    const struct setting *setting =
        find_setting(arena_printf(reader->arena, "%s.%s", section, key));
    *found = setting != NULL;
    return setting == NULL || read_setting(reader, value, setting);
}

/* ---- one mapping ---- */

static bool read_inverse(const struct reader *reader, struct fy_node *node,
                         struct config_mapping *mapping)
{
    void *at = NULL;
    struct fy_node_pair *pair;
    if (!fy_node_is_mapping(node))
        return reader_refuse(reader, node,
                             "inverse: {source_column: \"expression over the target\"}",
                             "\"inverse\" must be a mapping");
    mapping->inverse = arena_zalloc(
        reader->arena, (size_t)fy_node_mapping_item_count(node) * sizeof *mapping->inverse);
    while ((pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        struct config_inverse *inverse = &mapping->inverse[mapping->inverse_count++];
        if (!reader_text(reader, fy_node_pair_key(pair), "inverse", &inverse->column) ||
            !reader_text(reader, fy_node_pair_value(pair), inverse->column.text, &inverse->expr))
            return false;
    }
    return true;
}

static bool read_partition_by(const struct reader *reader, struct fy_node *node,
                              struct config_mapping *mapping)
{
    static const char shape[] = "partition_by: {column: created_at, every: 1 month}";
    void *at = NULL;
    struct fy_node_pair *pair;
    if (!fy_node_is_mapping(node))
        return reader_refuse(reader, node, shape, "\"partition_by\" must be a mapping");
    while ((pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        const char *key = reader_key_name(fy_node_pair_key(pair));
        struct config_text *text = NULL;
        if (strcmp(key, "column") == 0)
            text = &mapping->partition_column;
        else if (strcmp(key, "every") == 0)
            text = &mapping->partition_every;
        else
            return reader_refuse_key(reader, fy_node_pair_key(pair), "in partition_by", shape);
        if (!reader_text(reader, fy_node_pair_value(pair), key, text))
            return false;
    }
    if (mapping->partition_column.text == NULL || mapping->partition_every.text == NULL)
        return reader_refuse(reader, node, shape, "\"partition_by\" needs a column and its step");
    return true;
}

static bool read_mapping_key(const struct reader *reader, struct fy_node *key,
                             struct fy_node *value, struct config_mapping *mapping)
{
    const char *name = reader_key_name(key);
    if (strcmp(name, "from") == 0)
        return reader_text(reader, value, name, &mapping->from);
    if (strcmp(name, "select") == 0)
        return reader_text(reader, value, name, &mapping->select);
    if (strcmp(name, "where") == 0)
        return reader_text(reader, value, name, &mapping->where);
    if (strcmp(name, "shard_by") == 0)
        return reader_text(reader, value, name, &mapping->shard_by);
    if (strcmp(name, "shard_key") == 0)
        return reader_word(reader, value, name, "immutable", NULL, &mapping->shard_key_immutable);
    if (strcmp(name, "partition_by") == 0)
        return read_partition_by(reader, value, mapping);
    if (strcmp(name, "inverse") == 0)
        return read_inverse(reader, value, mapping);
    if (strcmp(name, "lag_by") == 0)
        return reader_text(reader, value, name, &mapping->lag_by);
    if (strcmp(name, "on_error") == 0)
        return reader_word(reader, value, name, "park", "stop", &mapping->park_errors);
    return reader_refuse_key(
        reader, key, "in a table's mapping",
        "Known are: from, select, where, shard_by, shard_key, partition_by, inverse,"
        " lag_by, on_error.");
}

static bool read_mapping(const struct reader *reader, struct fy_node *node,
                         struct config_mapping *mapping)
{
    void *at = NULL;
    struct fy_node_pair *pair;
    if (fy_node_is_scalar(node) && !reader_is_null(node) &&
        strcmp(fy_node_get_scalar0(node), "identical") == 0) {
        mapping->identical = true;
        return true;
    }
    if (!fy_node_is_mapping(node))
        return reader_refuse(reader, node, "Write: identical, or a mapping with from, select, …",
                             "table \"%s\" is neither \"identical\" nor a mapping",
                             mapping->target.text);
    while ((pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        if (!read_mapping_key(reader, fy_node_pair_key(pair), fy_node_pair_value(pair), mapping))
            return false;
    }
    mapping->identical = mapping->select.text == NULL;
    if (mapping->is_pattern && (mapping->select.text != NULL || mapping->from.text != NULL))
        return reader_refuse(reader, node, "Name the table.",
                             "the pattern \"%s\" cannot have a select or a from",
                             mapping->target.text);
    return true;
}

/* A table's entry: one mapping, or a list of them that feed the same target. */
static bool read_table(const struct reader *reader, struct fy_node *key, struct fy_node *value)
{
    struct config *config = reader->config;
    struct config_mapping start = {0};
    void *at = NULL;
    struct fy_node *item;
    if (!reader_text(reader, key, "tables", &start.target))
        return false;
    start.is_pattern = name_is_pattern(start.target.text);
    if (!fy_node_is_sequence(value)) {
        config->mappings[config->mappings_count] = start;
        return read_mapping(reader, value, &config->mappings[config->mappings_count++]);
    }
    while ((item = fy_node_sequence_iterate(value, &at)) != NULL) {
        struct config_mapping *mapping = &config->mappings[config->mappings_count++];
        *mapping = start;
        if (!read_mapping(reader, item, mapping))
            return false;
        if (mapping->from.text == NULL)
            return reader_refuse(reader, item, NULL, "each part of the merge \"%s\" needs a from",
                                 start.target.text);
    }
    return true;
}

static bool read_tables(const struct reader *reader, struct fy_node *node)
{
    void *at = NULL;
    struct fy_node_pair *pair;
    size_t room = 0;
    if (!fy_node_is_mapping(node))
        return reader_refuse(reader, node, "tables: {\"public.*\": identical}",
                             "\"tables\" must be a mapping from target tables");
    while ((pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        struct fy_node *value = fy_node_pair_value(pair);
        room += fy_node_is_sequence(value) ? (size_t)fy_node_sequence_item_count(value) : 1;
    }
    reader->config->mappings = arena_zalloc(reader->arena, (room + 1) * sizeof(struct config_mapping));
    at = NULL;
    while ((pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        if (!read_table(reader, fy_node_pair_key(pair), fy_node_pair_value(pair)))
            return false;
    }
    return reader->config->mappings_count > 0 ||
           reader_refuse(reader, node, NULL, "\"tables\" is empty");
}

/* ---- the file ---- */

static bool read_target(const struct reader *reader, struct fy_node *node)
{
    static const char shape[] = "target: {shards: [\"connection string\", …], schema: target.sql}";
    struct config *config = reader->config;
    struct config_text schema;
    void *at = NULL;
    struct fy_node_pair *pair;
    if (!fy_node_is_mapping(node))
        return reader_refuse(reader, node, shape, "\"target\" must be a mapping");
    while ((pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        struct fy_node *key = fy_node_pair_key(pair), *value = fy_node_pair_value(pair);
        const char *name = reader_key_name(key);
        if (strcmp(name, "shards") == 0) {
            if (!reader_texts(reader, value, name, &config->shards, &config->shards_count))
                return false;
        } else if (strcmp(name, "schema") == 0) {
            if (!reader_text(reader, value, name, &schema))
                return false;
            config->schema_file = reader_path(reader, schema.text);
        } else {
            return reader_refuse_key(reader, key, "in target", shape);
        }
    }
    if (config->shards_count == 0)
        return reader_refuse(reader, node, shape, "\"target\" has no shards");
    return config->shards_count <= CONFIG_SHARDS_MAX ||
           reader_refuse(reader, node, NULL, "\"target\" has %u shards; %d are possible",
                         config->shards_count, CONFIG_SHARDS_MAX);
}

/* verify, throttle: their keys are settings under their names. */
static bool read_section(const struct reader *reader, struct fy_node *node, const char *section,
                         const char *shape)
{
    void *at = NULL;
    struct fy_node_pair *pair;
    if (!fy_node_is_mapping(node))
        return reader_refuse(reader, node, shape, "\"%s\" must be a mapping", section);
    while ((pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        struct fy_node *key = fy_node_pair_key(pair);
        bool found;
        if (!reader_setting(reader, section, reader_key_name(key), fy_node_pair_value(pair),
                            &found))
            return false;
        if (!found)
            return reader_refuse_key(reader, key, arena_printf(reader->arena, "in %s", section), shape);
    }
    return true;
}

/* sequences: {target sequence: source sequence}, where the names differ and no column tells. */
static bool read_sequences(const struct reader *reader, struct fy_node *node)
{
    struct config *config = reader->config;
    void *at = NULL;
    struct fy_node_pair *pair;
    if (!fy_node_is_mapping(node))
        return reader_refuse(reader, node, "sequences: {public.invoice_no: public.bill_no}",
                      "\"sequences\" must be a mapping from sequences of the target");
    config->sequences =
        arena_zalloc(reader->arena, ((size_t)fy_node_mapping_item_count(node) + 1) *
                                        sizeof *config->sequences);
    while ((pair = fy_node_mapping_iterate(node, &at)) != NULL) {
        struct config_sequence *sequence = &config->sequences[config->sequences_count++];
        if (!reader_text(reader, fy_node_pair_key(pair), "sequences", &sequence->target) ||
            !reader_text(reader, fy_node_pair_value(pair), sequence->target.text,
                       &sequence->source))
            return false;
    }
    return true;
}

static bool read_sequence_shards(const struct reader *reader, struct fy_node *node)
{
    bool ranges;
    bool ok = reader_word(reader, node, "sequence_shards", "ranges", "interleave", &ranges);
    reader->config->sequence_shards = ok && ranges ? SEQUENCE_RANGES : SEQUENCE_INTERLEAVE;
    return ok;
}

static bool read_spill_folder(const struct reader *reader, struct fy_node *node)
{
    struct config_text folder;
    if (!reader_text(reader, node, "spill_dir", &folder))
        return false;
    reader->config->spill_folder = reader_path(reader, folder.text);
    return true;
}

static bool read_key(const struct reader *reader, struct fy_node *key, struct fy_node *value)
{
    struct config *config = reader->config;
    const char *name = reader_key_name(key);
    const struct setting *setting = find_setting(name);
    if (strcmp(name, "source") == 0)
        return reader_text(reader, value, name, &config->source);
    if (strcmp(name, "target") == 0)
        return read_target(reader, value);
    if (strcmp(name, "shard_by") == 0)
        return reader_texts(reader, value, name, &config->shard_by, &config->shard_by_count);
    if (strcmp(name, "tables") == 0)
        return read_tables(reader, value);
    if (strcmp(name, "accept_losses") == 0)
        return reader_texts(reader, value, name, &config->accept_losses,
                            &config->accept_losses_count);
    if (strcmp(name, "verify") == 0)
        return read_section(reader, value, name, "verify: {every: 1h, rate_max: 16MiB}");
    if (strcmp(name, "throttle") == 0)
        return read_section(reader, value, name,
                            "throttle: {source_replica_lag_max: 10s, source_active_max: 50}");
    if (strcmp(name, "sequences") == 0)
        return read_sequences(reader, value);
    if (strcmp(name, "sequence_shards") == 0)
        return read_sequence_shards(reader, value);
    if (strcmp(name, "spill_dir") == 0)
        return read_spill_folder(reader, value);
    if (strcmp(name, "endpoint") == 0)
        return read_endpoint(reader, key, value);
    if (strcmp(name, "hooks") == 0)
        return read_hooks(reader, value);
    if (setting != NULL && strchr(name, '.') == NULL)
        return read_setting(reader, value, setting);
    return reader_refuse_key(
        reader, key, "at the top level",
        "Known are: source, target, shard_by, tables, accept_losses, copy_workers, index_workers,"
        " lanes, source_connections_max, source_rate_max, throttle, row_bytes_max, queue_bytes_max,"
        " spill_bytes_max, spill_dir, chunk_ms, wal_budget,"
        " verify, sequences, sequence_shards, sequence_margin, sequence_range, endpoint, hooks,"
        " slot, publication.");
}

static bool check_connections(const struct reader *reader, struct fy_node *root)
{
    const struct config *config = reader->config;
    struct fy_node *node = fy_node_mapping_lookup_by_string(root, "source_connections_max", FY_NT);
    if (config->verify_every_s == 0 || config->source_connections_max >= CONNECTIONS_LEAST_VERIFYING)
        return true;
    return reader_refuse(reader, node, NULL,
                         "\"source_connections_max\" must be at least %d with \"verify.every\"",
                         CONNECTIONS_LEAST_VERIFYING);
}

static bool read_root(const struct reader *reader, struct fy_node *root)
{
    static const struct {
        const char *name, *hint;
    } needed[] = {
        {"source", "source: \"host=… dbname=… user=…\""},
        {"target", "target: {shards: [\"host=… dbname=… user=…\"], schema: target.sql}"},
        {"tables", "tables: {\"public.*\": identical}"},
    };
    void *at = NULL;
    struct fy_node_pair *pair;
    if (root == NULL || !fy_node_is_mapping(root))
        return error_set(reader->err, ERROR_CONFIG, "%s:1:1: the file holds no mapping",
                         reader->path);
    while ((pair = fy_node_mapping_iterate(root, &at)) != NULL) {
        if (!read_key(reader, fy_node_pair_key(pair), fy_node_pair_value(pair)))
            return false;
    }
    for (size_t n = 0; n < sizeof needed / sizeof needed[0]; n++) {
        if (fy_node_mapping_lookup_by_string(root, needed[n].name, FY_NT) == NULL)
            return reader_refuse(reader, root, needed[n].hint, "\"%s\" is missing", needed[n].name);
    }
    return check_connections(reader, root);
}

static bool syntax_error(const struct reader *reader, struct fy_diag *diag)
{
    void *at = NULL;
    const struct fy_diag_error *first = fy_diag_errors_iterate(diag, &at);
    if (first == NULL)
        return error_set(reader->err, ERROR_CONFIG, "%s: cannot be read as YAML", reader->path);
    return error_set(reader->err, ERROR_CONFIG, "%s:%d:%d: %s", reader->path, first->line,
                     first->column, first->msg);
}

/* libfyaml's own messages are collected, not printed. */
static struct fy_diag *quiet_diag(void)
{
    struct fy_diag_cfg cfg;
    fy_diag_cfg_default(&cfg);
    cfg.fp = NULL;
    struct fy_diag *diag = fy_diag_create(&cfg);
    CHECK(diag != NULL);
    fy_diag_set_collect_errors(diag, true);
    return diag;
}

/* The whole file, NUL-terminated. */
static bool read_file(const char *path, struct buffer *bytes, struct error *err)
{
    char block[4096];
    size_t got;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        error_set(err, ERROR_CONFIG, "cannot open \"%s\": %s", path, strerror(errno));
        return error_hint(err, "Name the file with --config, or let \"pgportage init\" write one.");
    }
    while ((got = fread(block, 1, sizeof block, file)) > 0)
        buffer_append(bytes, block, got);
    bool bad = ferror(file) != 0;
    fclose(file);
    if (bad)
        return error_set(err, ERROR_CONFIG, "cannot read \"%s\": %s", path, strerror(errno));
    return !buffer_failed(bytes) ||
           error_set(err, ERROR_CONFIG, "\"%s\" is larger than %d bytes", path, FILE_MAX);
}

/* libfyaml (0.7) never ends over some lines that begin as a directive does. We know none. */
static bool has_no_directive(const char *path, const struct buffer *bytes, struct error *err)
{
    const char *text = buffer_text(bytes);
    int line = 1;
    for (size_t at = 0; at < bytes->length; at++) {
        bool begins = at == 0 || text[at - 1] == '\n' || text[at - 1] == '\r';
        if (begins && text[at] == '%')
            return error_set(err, ERROR_CONFIG, "%s:%d:1: a line begins with %%", path, line) ||
                   error_hint(err, "YAML directives are not read: take the line out, or indent it.");
        line += text[at] == '\n';
    }
    return true;
}

static bool read_yaml(struct reader *reader, const struct buffer *bytes)
{
    struct fy_diag *diag = quiet_diag();
    struct fy_parse_cfg cfg = {
        .flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_RESOLVE_DOCUMENT, .diag = diag};
    reader->bytes = buffer_text(bytes);
    struct fy_document *document =
        fy_document_build_from_string(&cfg, reader->bytes, bytes->length);
    bool ok = document != NULL ? read_root(reader, fy_document_root(document))
                               : syntax_error(reader, diag);
    fy_document_destroy(document);
    fy_diag_destroy(diag);
    return ok;
}

static const char *preset_spill_folder(struct arena *arena)
{
    const char *folder = getenv("TMPDIR");
    return folder != NULL && folder[0] != '\0' ? arena_strdup(arena, folder) : "/tmp";
}

bool config_read(const char *path, struct arena *arena, struct config *config, struct error *err)
{
    struct reader reader = {.path = path, .arena = arena, .config = config, .err = err};
    struct buffer bytes;
    *config = (struct config){.path = arena_strdup(arena, path),
                              .spill_folder = preset_spill_folder(arena)};
    preset_settings(config);
    buffer_init(&bytes, FILE_MAX);
    bool ok = read_file(path, &bytes, err) && has_no_directive(path, &bytes, err) &&
              read_yaml(&reader, &bytes);
    buffer_release(&bytes);
    return ok;
}

void config_place(const struct config_text *text, size_t offset, int *line, int *column)
{
    int lines = 0;
    size_t start = 0;
    for (size_t at = 0; at < offset && text->text[at] != '\0'; at++) {
        if (text->text[at] == '\n') {
            lines++;
            start = at + 1;
        }
    }
    *line = text->line + lines;
    *column = (int)(offset - start) + (lines == 0 || text->block ? text->column : 1);
}
