#include "unit.h"

#include "pg/lsn.h"

static void test_lsn_text(void **state)
{
    char text[LSN_TEXT_SIZE];
    lsn_t lsn;
    (void)state;
    assert_true(lsn_parse("16/B374D848", &lsn));
    assert_true(lsn == UINT64_C(0x16B374D848));
    assert_string_equal(lsn_text(lsn, text), "16/B374D848");
    assert_string_equal(lsn_text(UINT64_MAX, text), "FFFFFFFF/FFFFFFFF");
}

static void test_lsn_refuses(void **state)
{
    static const char *const wrong[] = {"", "/", "1/", "/1", "1", "g/1", "1/g", "1/123456789",
                                        "123456789/1", "1/1 ", " 1/1", "-1/1"};
    (void)state;
    for (size_t w = 0; w < sizeof wrong / sizeof wrong[0]; w++) {
        lsn_t lsn;
        assert_false(lsn_parse(wrong[w], &lsn));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lsn_text),
        cmocka_unit_test(test_lsn_refuses),
    };
    return run_unit_tests("lsn", tests);
}
