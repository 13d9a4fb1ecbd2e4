#include "run/plan.h"

#include "mapping/invert.h"
#include "mapping/lossless.h"
#include "run/deferred.h"
#include "run/target.h"
#include "switchover/sequences.h"

static const char *placement(const struct mapping *mapping, unsigned shards)
{
    if (mapping->everywhere)
        return "every shard";
    return shards == 1 ? "one target" : "by hash";
}

static const char *inverse_of(const struct mapping *mapping, const struct mapping_item *item,
                              const char **how)
{
    const struct select_item *select = item->select;
    *how = select->kind == SELECT_CONSTANT ? "none needed" : "missing";
    if (select->column < 0)
        return NULL;
    const char *source = mapping->source->columns[select->column].name;
    for (unsigned i = 0; i < mapping->config->inverse_count; i++) {
        if (strcmp(mapping->config->inverse[i].column.text, source) == 0) {
            *how = "given";
            return mapping->config->inverse[i].expr.text;
        }
    }
    if (select->inverse != NULL)
        *how = "derived";
    return select->inverse;
}

static json_t *column_json(const struct mapping *mapping, const struct mapping_item *item)
{
    const char *how;
    const struct select_item *select = item->select;
    const char *inverse = inverse_of(mapping, item, &how);
    const struct column *source =
        select->column >= 0 ? &mapping->source->columns[select->column] : NULL;
    return json_pack("{s:s?, s:s?, s:s, s:s, s:s, s:s?, s:s, s:b}", "source",
                     source != NULL ? source->name : NULL, "source_type",
                     source != NULL ? source->full_type : NULL, "expression", select->expr,
                     "target", item->target->name, "target_type", item->target->full_type,
                     "inverse", inverse, "inverse_is", how, "lossless",
                     (int)item_is_lossless(select, source, item->target));
}

/* How each column of the source comes back by this mapping. */
static json_t *back_json(struct migration *migration, const struct mapping *mapping)
{
    static const char *const how[] = {"missing", "derived", "given", "constant"};
    struct inverses inverses;
    json_t *back = json_array();
    inverses_of(migration->config, mapping, &migration->arena, &inverses);
    for (unsigned i = 0; i < inverses.count; i++) {
        const struct inverse *inverse = &inverses.items[i];
        json_array_append_new(back,
                              json_pack("{s:s, s:s?, s:s}", "source",
                                        mapping->source->columns[inverse->column].name, "inverse",
                                        inverse->expr, "inverse_is", how[inverse->how]));
    }
    return back;
}

static json_t *key_json(const struct mapping *mapping)
{
    json_t *key = json_array();
    for (unsigned k = 0; k < mapping->key_count; k++)
        json_array_append_new(
            key, json_string(mapping->source->columns[mapping->key[k].source].name));
    return key;
}

/* Those of the table, out of all. */
static json_t *deferred_json(const struct relation *target, json_t *all)
{
    size_t index;
    json_t *item, *found = json_array();
    json_array_foreach (all, index, item) {
        if (strcmp(json_string_value(json_object_get(item, "schema")), target->schema) == 0 &&
            strcmp(json_string_value(json_object_get(item, "table")), target->name) == 0)
            json_array_append_new(
                found, json_pack("{s:O, s:O, s:O}", "kind", json_object_get(item, "kind"), "name",
                                 json_object_get(item, "name"), "definition",
                                 json_object_get(item, "definition")));
    }
    return found;
}

static json_t *table_json(struct migration *migration, const struct mapping *mapping,
                          json_t *deferred)
{
    json_t *columns = json_array();
    for (unsigned i = 0; i < mapping->items_count; i++)
        json_array_append_new(columns, column_json(mapping, &mapping->items[i]));
    json_t *table = json_pack(
        "{s:s, s:o, s:o, s:o, s:s, s:s, s:s, s:I, s:I, s:b, s:o}", "name", mapping->name, "columns",
        columns, "back", back_json(migration, mapping), "key", key_json(mapping), "placement",
        placement(mapping, migration->shards_count), "copy",
        mapping->copy_mode == COPY_RANGES ? "by key" : "whole", "format",
        mapping->copy_format == COPY_BINARY ? "binary" : "text", "rows",
        (json_int_t)mapping->source->rows_estimate, "bytes", (json_int_t)mapping->source->bytes,
        "one_lane", (int)(mapping->serial_lane || !mapping->has_key), "deferred",
        deferred_json(mapping->target, deferred));
    char *from = NULL;
    if (asprintf(&from, "%s.%s", mapping->source->schema, mapping->source->name) >= 0)
        json_object_set_new(table, "from", json_string(from));
    free(from);
    if (mapping->shard_item >= 0)
        json_object_set_new(table, "shard_by",
                            json_string(mapping->items[mapping->shard_item].target->name));
    if (mapping->where != NULL)
        json_object_set_new(table, "where", json_string(mapping->where));
    return table;
}

static json_t *finding_json(const struct finding *finding)
{
    json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:s?}", "severity",
                               severity_name(finding->severity), "code", finding->code, "object",
                               finding->object, "reason", finding->reason, "fix", finding->fix);
    if (finding->line > 0) {
        json_object_set_new(object, "line", json_integer(finding->line));
        json_object_set_new(object, "column", json_integer(finding->column));
    }
    return object;
}

/* What a switch would be refused for is worth a warning now. */
static bool look_at_sequences(struct migration *migration, struct error *err)
{
    struct sequences_sides sides = {.config = migration->config,
                                    .set = &migration->set,
                                    .source = migration->source,
                                    .shards = migration->shards,
                                    .shards_count = migration->shards_count};
    if (migration->findings.refused > 0)
        return true;
    if (!sequences_assess(&sides, SEVERITY_WARNING, &migration->findings, err))
        return false;
    sides.back = true;
    return sequences_assess(&sides, SEVERITY_WARNING, &migration->findings, err);
}

/* Binds and asks, with the target's DDL in a transaction; `deferred` is what the first shard holds. */
static bool look(struct migration *migration, json_t *deferred, struct error *err)
{
    struct error rollback = ERROR_INIT;
    bool taken;
    bool ok = target_try(migration, err) &&
              target_is_applied(migration->shards[0], &taken, err) &&
              (!taken || migration_restore_lanes(migration, err)) &&
              look_at_sequences(migration, err) &&
              deferred_list(migration->shards[0], taken, deferred, err);
    if (!target_rollback(migration, &rollback) && ok)
        *err = rollback, ok = false;
    return ok;
}

json_t *plan_make(struct migration *migration, struct error *err)
{
    json_t *deferred = json_array();
    if (!look(migration, deferred, err)) {
        json_decref(deferred);
        return NULL;
    }
    json_t *tables = json_array(), *findings = json_array();
    for (unsigned m = 0; m < migration->set.count; m++)
        json_array_append_new(tables, table_json(migration, &migration->set.mappings[m], deferred));
    json_decref(deferred);
    for (unsigned f = 0; f < migration->findings.count; f++)
        json_array_append_new(findings, finding_json(&migration->findings.items[f]));
    return json_pack("{s:i, s:i, s:i, s:o, s:o, s:b}", "source_version",
                     PQserverVersion(migration->source) / 10000, "target_version",
                     PQserverVersion(migration->shards[0]) / 10000, "shards",
                     (int)migration->shards_count, "tables", tables, "findings", findings, "refused",
                     (int)(migration->findings.refused > 0));
}
