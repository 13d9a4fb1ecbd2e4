#include "unit.h"

#include "util/buffer.h"

static void test_grows(void **state)
{
    struct buffer buffer;
    (void)state;
    buffer_init(&buffer, 100000);
    for (int i = 0; i < 10000; i++)
        buffer_putc(&buffer, (char)('a' + i % 26));
    assert_false(buffer_failed(&buffer));
    assert_int_equal(buffer.length, 10000);
    assert_int_equal(strlen(buffer_text(&buffer)), 10000);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(buffer_text(&buffer)[i], 'a' + i % 26);
    buffer_release(&buffer);
    assert_string_equal(buffer_text(&buffer), "");
}

static void test_appends(void **state)
{
    struct buffer buffer;
    (void)state;
    buffer_init(&buffer, 64);
    assert_string_equal(buffer_text(&buffer), "");
    buffer_puts(&buffer, "one");
    buffer_putc(&buffer, ' ');
    buffer_printf(&buffer, "%d-%s", 2, "two");
    buffer_append(&buffer, "\0x", 2);
    assert_int_equal(buffer.length, 11);
    assert_memory_equal(buffer_text(&buffer), "one 2-two\0x", 12);
    buffer_clear(&buffer);
    assert_string_equal(buffer_text(&buffer), "");
    buffer_puts(&buffer, "again");
    assert_string_equal(buffer_text(&buffer), "again");
    buffer_release(&buffer);
}

static void test_max_is_exact(void **state)
{
    struct buffer buffer;
    (void)state;
    buffer_init(&buffer, 4);
    buffer_puts(&buffer, "abcd");
    assert_false(buffer_failed(&buffer));
    buffer_append(&buffer, "", 0);
    assert_false(buffer_failed(&buffer));
    buffer_putc(&buffer, 'e');
    assert_true(buffer_failed(&buffer));
    assert_string_equal(buffer_text(&buffer), "abcd");
    buffer_release(&buffer);
}

/* What does not fit is dropped whole, and nothing behind it comes in: no statement with a hole. */
static void test_overflow_is_sticky(void **state)
{
    struct buffer buffer;
    (void)state;
    buffer_init(&buffer, 4);
    buffer_puts(&buffer, "abc");
    buffer_printf(&buffer, "%s", "de");
    buffer_putc(&buffer, 'f');
    assert_true(buffer_failed(&buffer));
    assert_string_equal(buffer_text(&buffer), "abc");
    buffer_clear(&buffer);
    assert_false(buffer_failed(&buffer));
    buffer_printf(&buffer, "%04d", 42);
    assert_false(buffer_failed(&buffer));
    assert_string_equal(buffer_text(&buffer), "0042");
    buffer_release(&buffer);
}

static void test_detach(void **state)
{
    struct buffer buffer;
    (void)state;
    buffer_init(&buffer, 16);
    char *text = buffer_detach(&buffer);
    assert_string_equal(text, "");
    free(text);
    buffer_puts(&buffer, "mine");
    text = buffer_detach(&buffer);
    assert_string_equal(text, "mine");
    assert_int_equal(buffer.length, 0);
    assert_string_equal(buffer_text(&buffer), "");
    buffer_puts(&buffer, "yours");
    assert_string_equal(text, "mine");
    free(text);
    buffer_release(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows),
        cmocka_unit_test(test_appends),
        cmocka_unit_test(test_max_is_exact),
        cmocka_unit_test(test_overflow_is_sticky),
        cmocka_unit_test(test_detach),
    };
    return run_unit_tests("buffer", tests);
}
