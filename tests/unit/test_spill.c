#include "unit.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "stream/spill.h"

enum { MIB = 1024 * 1024, HEAD = 16 };

static char folder[] = "/tmp/pgportage-spill.XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder); /* fails when anything is left */
}

static unsigned files_in_folder(void)
{
    unsigned count = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count - 2;
}

/* A record tells its number by each of its bytes. */
static void fill(char *bytes, size_t length, unsigned number)
{
    memset(bytes, (int)(number % 251), length);
}

static enum spill_result append(struct spill *spill, unsigned number, size_t length)
{
    struct error err = ERROR_INIT;
    char *bytes = check_malloc(length + 1);
    fill(bytes, length, number);
    enum spill_result result = spill_append(spill, bytes, length, &err);
    assert_int_equal(result == SPILL_FAILED, err.class == ERROR_RETRY);
    free(bytes);
    return result;
}

static void take(struct spill *spill, unsigned number, size_t length)
{
    struct error err = ERROR_INIT;
    struct arena arena;
    const char *bytes;
    size_t got;
    arena_init(&arena, 1024);
    assert_true(spill_take(spill, &arena, &bytes, &got, &err));
    assert_int_equal(got, length);
    char *expected = check_malloc(length + 1);
    fill(expected, length, number);
    assert_memory_equal(bytes, expected, length);
    free(expected);
    arena_release(&arena);
}

/* Through many files, with records of all sizes, some taken meanwhile. */
static void test_first_in_first_out(void **state)
{
    (void)state;
    struct spill_space space = {.folder = folder, .bytes_max = 64 * MIB};
    struct spill *spill = spill_new(&space);
    unsigned in = 0, out = 0;
    for (; in < 40; in++) {
        assert_int_equal(append(spill, in, in % 7 * 100000), SPILL_OK);
        if (in % 3 == 2) {
            take(spill, out, out % 7 * 100000);
            out++;
        }
        assert_int_equal(files_in_folder(), 0);
    }
    assert_true(spill_bytes(spill) > 4 * MIB);
    assert_true(space.bytes >= spill_bytes(spill));
    for (; out < in; out++)
        take(spill, out, out % 7 * 100000);
    assert_int_equal(spill_bytes(spill), 0);
    assert_int_equal(space.bytes, 0);
    assert_int_equal(append(spill, 1, 1), SPILL_OK); /* as new */
    take(spill, 1, 1);
    spill_free(spill);
}

/* What is read is given back file by file; spills share the space. */
static void test_bound(void **state)
{
    (void)state;
    struct spill_space space = {.folder = folder, .bytes_max = 3 * MIB};
    struct spill *one = spill_new(&space), *two = spill_new(&space);
    assert_int_equal(append(one, 1, MIB), SPILL_OK);
    assert_int_equal(append(one, 2, MIB), SPILL_OK);
    assert_int_equal(append(two, 3, MIB), SPILL_FULL);
    assert_int_equal(append(two, 4, MIB - 3 * HEAD), SPILL_OK);
    assert_int_equal(space.bytes, 3 * MIB);
    assert_int_equal(append(one, 5, 0), SPILL_FULL);
    take(one, 1, MIB);
    assert_int_equal(append(two, 5, MIB), SPILL_OK);
    spill_free(one);
    take(two, 4, MIB - 3 * HEAD);
    take(two, 5, MIB);
    assert_int_equal(space.bytes, 0);
    assert_int_equal(append(two, 6, 4 * MIB), SPILL_FULL);
    spill_free(two);
}

static void test_no_folder(void **state)
{
    struct error err = ERROR_INIT;
    (void)state;
    struct spill_space space = {.folder = "/nowhere", .bytes_max = MIB};
    assert_false(spill_space_check(&space, &err));
    assert_int_equal(err.class, ERROR_CONFIG);
    assert_non_null(strstr(err.message, "/nowhere"));
    assert_non_null(strstr(err.hint, "spill_dir"));
    struct spill *spill = spill_new(&space);
    assert_int_equal(append(spill, 1, 1), SPILL_FAILED);
    assert_int_equal(space.bytes, 0);
    spill_free(spill);
    space.folder = folder;
    error_clear(&err);
    assert_true(spill_space_check(&space, &err));
}

/* A disk that is full in the middle of a record: what was there before is there still, and goes on. */
static void test_full_disk(void **state)
{
    (void)state;
    struct spill_space space = {.folder = folder, .bytes_max = 64 * MIB};
    struct spill *spill = spill_new(&space);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    small = (struct rlimit){.rlim_cur = 1000, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(append(spill, 1, 5000), SPILL_FAILED); /* the first of all */
    assert_int_equal(append(spill, 2, 700), SPILL_OK);
    assert_int_equal(append(spill, 3, 700), SPILL_FAILED);
    assert_int_equal(append(spill, 4, 100), SPILL_OK);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(append(spill, 5, 5000), SPILL_OK);
    assert_int_equal(space.bytes, 5800 + 3 * HEAD);
    take(spill, 2, 700);
    take(spill, 4, 100);
    take(spill, 5, 5000);
    spill_free(spill);
    assert_int_equal(space.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_in_first_out),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_no_folder),
        cmocka_unit_test(test_full_disk),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("spill", tests, make_folder, remove_folder);
}
