/* Which changes may share a statement, and which must wait for what came before. */
#include "unit.h"

#include "stream/groups.h"

enum { COLUMN_ID, COLUMN_NOTE, COLUMN_BIG, COLUMNS };

struct scene {
    struct relation target;
    struct key_column key;
    struct mapping mapping;
    struct groups groups;
    struct arena arena;
};

static void scene_init(struct scene *scene)
{
    *scene = (struct scene){.key = {.source = COLUMN_ID}};
    scene->mapping = (struct mapping){.name = "public.orders",
                                      .target = &scene->target,
                                      .has_key = true,
                                      .key_count = 1,
                                      .key = &scene->key};
    groups_init(&scene->groups);
    arena_init(&scene->arena, 4096);
}

static void scene_release(struct scene *scene)
{
    groups_release(&scene->groups);
    arena_release(&scene->arena);
}

/* NULL is an unchanged TOAST value. */
static struct value value_of(const char *text)
{
    if (text == NULL)
        return (struct value){.kind = VALUE_UNCHANGED};
    return (struct value){.kind = VALUE_TEXT, .length = (uint32_t)strlen(text), .bytes = text};
}

static struct change *change(struct scene *scene, enum change_op op, const char *id,
                             const char *note, const char *big)
{
    struct change *made = arena_zalloc(&scene->arena, sizeof *made);
    struct tuple row = {.count = COLUMNS};
    row.values = arena_zalloc(&scene->arena, COLUMNS * sizeof *row.values);
    row.values[COLUMN_ID] = value_of(id);
    row.values[COLUMN_NOTE] = value_of(note);
    row.values[COLUMN_BIG] = value_of(big);
    made->mapping = &scene->mapping;
    made->op = op;
    made->key_hash = strtoul(id, NULL, 10); /* "7" and "07": other keys, one hash */
    *(op == CHANGE_DELETE ? &made->old_row : &made->new_row) = row;
    return made;
}

static unsigned groups_count(const struct scene *scene)
{
    unsigned count = 0;
    for (const struct group *group = scene->groups.first; group != NULL; group = group->next)
        count += group->count > 0;
    return count;
}

static void add(struct scene *scene, struct change *change)
{
    assert_true(groups_admit(&scene->groups, change));
    assert_null(groups_add(&scene->groups, change));
}

static void test_kinds_are_apart(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene);
    add(&scene, change(&scene, CHANGE_INSERT, "1", "a", "x"));
    add(&scene, change(&scene, CHANGE_UPDATE, "2", "b", "x"));
    add(&scene, change(&scene, CHANGE_UPDATE, "3", "b", NULL));
    add(&scene, change(&scene, CHANGE_DELETE, "4", NULL, NULL));
    add(&scene, change(&scene, CHANGE_INSERT, "5", "a", "x"));
    assert_int_equal(groups_count(&scene), 4);
    assert_int_equal(scene.groups.first->count, 2);
    groups_clear(&scene.groups);
    assert_int_equal(groups_count(&scene), 0);
    add(&scene, change(&scene, CHANGE_DELETE, "1", NULL, NULL));
    scene_release(&scene);
}

static void test_update_becomes_part_of_what_waits(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene);
    struct change *row = change(&scene, CHANGE_INSERT, "1", "a", "x");
    add(&scene, row);
    add(&scene, change(&scene, CHANGE_UPDATE, "1", "b", NULL));
    assert_int_equal(scene.groups.first->count, 1);
    assert_string_equal(row->new_row.values[COLUMN_NOTE].bytes, "b");
    assert_string_equal(row->new_row.values[COLUMN_BIG].bytes, "x");
    scene_release(&scene);
}

/* An update that brings a column which the waiting one lacks is another statement. */
static void test_update_of_more_columns_waits(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene);
    add(&scene, change(&scene, CHANGE_UPDATE, "1", "a", NULL));
    assert_true(groups_admit(&scene.groups, change(&scene, CHANGE_UPDATE, "1", "b", NULL)));
    assert_false(groups_admit(&scene.groups, change(&scene, CHANGE_UPDATE, "1", "b", "y")));
    scene_release(&scene);
}

static void test_key_keeps_its_order(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene);
    add(&scene, change(&scene, CHANGE_DELETE, "1", NULL, NULL));
    assert_false(groups_admit(&scene.groups, change(&scene, CHANGE_INSERT, "1", "a", "x")));
    assert_false(groups_admit(&scene.groups, change(&scene, CHANGE_UPDATE, "1", "a", "x")));
    add(&scene, change(&scene, CHANGE_INSERT, "2", "a", "x"));
    assert_false(groups_admit(&scene.groups, change(&scene, CHANGE_DELETE, "2", NULL, NULL)));
    scene_release(&scene);
}

/* Two keys of one hash are not merged; the second waits. */
static void test_equal_hash_is_not_equal_key(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene);
    add(&scene, change(&scene, CHANGE_UPDATE, "7", "a", "x"));
    assert_false(groups_admit(&scene.groups, change(&scene, CHANGE_UPDATE, "07", "b", "y")));
    scene_release(&scene);
}

/* A row that moves from one part of a merge to the other leaves before it comes. */
static void test_parts_of_a_merge_meet(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene);
    struct mapping other = scene.mapping;
    struct change *insert = change(&scene, CHANGE_INSERT, "1", "a", "x");
    insert->mapping = &other;
    add(&scene, change(&scene, CHANGE_DELETE, "1", NULL, NULL));
    assert_false(groups_admit(&scene.groups, insert));
    scene_release(&scene);
}

/* Rows tied together by a unique constraint: a value given up must be gone before it is taken. */
static void test_ordered_table(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene);
    scene.mapping.serial_lane = true;
    add(&scene, change(&scene, CHANGE_UPDATE, "1", "a", "x"));
    add(&scene, change(&scene, CHANGE_UPDATE, "2", "b", "x"));
    assert_false(groups_admit(&scene.groups, change(&scene, CHANGE_UPDATE, "1", "c", "x")));
    assert_false(groups_admit(&scene.groups, change(&scene, CHANGE_INSERT, "3", "a", "x")));
    assert_false(groups_admit(&scene.groups, change(&scene, CHANGE_UPDATE, "3", "a", NULL)));
    scene_release(&scene);
}

/* Without a key equal rows are equal changes: nothing is found by key, inserts share a statement. */
static void test_without_key(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene);
    scene.mapping.has_key = false;
    add(&scene, change(&scene, CHANGE_INSERT, "1", "a", "x"));
    add(&scene, change(&scene, CHANGE_INSERT, "1", "a", "x"));
    assert_int_equal(scene.groups.first->count, 2);
    assert_false(groups_admit(&scene.groups, change(&scene, CHANGE_DELETE, "1", "a", "x")));
    scene_release(&scene);
}

static void test_full_group_is_sent_and_forgotten(void **state)
{
    struct scene scene;
    char ids[GROUP_ROWS_MAX][12];
    (void)state;
    scene_init(&scene);
    for (int i = 0; i < GROUP_ROWS_MAX; i++)
        snprintf(ids[i], sizeof ids[i], "%d", i);
    for (int i = 0; i < GROUP_ROWS_MAX - 1; i++)
        add(&scene, change(&scene, CHANGE_INSERT, ids[i], "a", "x"));
    struct group *full = groups_add(
        &scene.groups, change(&scene, CHANGE_INSERT, ids[GROUP_ROWS_MAX - 1], "a", "x"));
    assert_ptr_equal(full, scene.groups.first);
    assert_false(groups_admit(&scene.groups, change(&scene, CHANGE_DELETE, "0", NULL, NULL)));
    group_sent(&scene.groups, full);
    add(&scene, change(&scene, CHANGE_DELETE, "0", NULL, NULL));
    assert_int_equal(groups_count(&scene), 1);
    scene_release(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds_are_apart),
        cmocka_unit_test(test_update_becomes_part_of_what_waits),
        cmocka_unit_test(test_update_of_more_columns_waits),
        cmocka_unit_test(test_key_keeps_its_order),
        cmocka_unit_test(test_equal_hash_is_not_equal_key),
        cmocka_unit_test(test_parts_of_a_merge_meet),
        cmocka_unit_test(test_ordered_table),
        cmocka_unit_test(test_without_key),
        cmocka_unit_test(test_full_group_is_sent_and_forgotten),
    };
    return run_unit_tests("groups", tests);
}
