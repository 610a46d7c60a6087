/* SPDX-License-Identifier: Apache-2.0 */
/* Large blocks: they keep what they hold when they grow, and leave nothing with the pool. */
#include "aip/large.h"
#include "fixture.h"
#include "suites.h"

#include <malloc.h>

#define BIG (4u << 20)

/* There where a sanitizer has taken the place of malloc(). */
extern __attribute__((weak)) size_t __sanitizer_get_current_allocated_bytes(void);

/* Bytes that malloc() has given out. */
static size_t in_use(void)
{
    struct mallinfo2 info = mallinfo2();

    return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes()
                                                   : info.uordblks + info.hblkhd;
}

START_TEST(test_grows)
{
    static const apr_size_t rooms[] = {16, 4096, AIP_LARGE - 1, AIP_LARGE, 3 * AIP_LARGE, BIG};
    char *block = aip_large_grow(pool, NULL, 0, 0, rooms[0]);
    apr_size_t used = 0, i;

    for (i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
        if (i)
            block = aip_large_grow(pool, block, used, rooms[i - 1], rooms[i]);
        for (; used < rooms[i]; used++)
            block[used] = (char)(used % 251);
    }
    for (i = 0; i < used && block[i] == (char)(i % 251); i++)
        ;
    ck_assert_uint_eq(i, BIG);
}
END_TEST

START_TEST(test_goes_back)
{
    const size_t before = in_use();
    char *block = aip_large_alloc(pool, BIG);

    block = aip_large_grow(pool, block, 1, BIG, 2 * BIG);
    block[2 * BIG - 1] = 'x';
    ck_assert_uint_ge(in_use(), before + 2 * BIG);
    ck_assert_uint_lt(in_use(), before + 3 * BIG); /* the old one is gone */
    apr_pool_clear(pool);
    ck_assert_uint_lt(in_use(), before + BIG / 2);
}
END_TEST

Suite *large_suite(void)
{
    Suite *suite = suite_create("large");
    TCase *tc = tcase_create("large");

    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_add_test(tc, test_grows);
    suite_add_tcase(suite, tc);
    tc = tcase_create("counted");
    tcase_set_tags(tc, "counts-malloc"); /* valgrind's does not count */
    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_add_test(tc, test_goes_back);
    suite_add_tcase(suite, tc);
    return suite;
}
