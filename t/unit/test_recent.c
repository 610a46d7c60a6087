/* SPDX-License-Identifier: Apache-2.0 */
/* Recent decisions: what was put in comes out whole, for its time, and never under another key. */
#include "aip/recent.h"
#include "fixture.h"
#include "suites.h"

#include <pthread.h>

#define SOON 1000
#define THREADS 4
#define ROUNDS 1000000
#define KEYS 6 /* on two slots */

static aip_recent_t *recent;

/* Keys of the same first eight bytes share a slot. */
static void key_of(unsigned number, unsigned char *key)
{
    memset(key, 0, AIP_RECENT_KEY);
    key[0] = (unsigned char)(number % 2);
    key[AIP_RECENT_KEY - 1] = (unsigned char)number;
}

static void put(unsigned number, apr_time_t until, int n)
{
    unsigned char key[AIP_RECENT_KEY];
    float distances[AIP_RECENT_ROUTES + 1];

    for (int i = 0; i < n; i++)
        distances[i] = (float)(number * 100 + (unsigned)i);
    key_of(number, key);
    aip_recent_put(recent, key, until, distances, n);
}

/* -1: unknown, 0: wrong, 1: as it was put in. */
static int get(unsigned number, apr_time_t now, int n)
{
    unsigned char key[AIP_RECENT_KEY];
    float distances[AIP_RECENT_ROUTES + 1];

    key_of(number, key);
    if (!aip_recent_get(recent, key, now, distances, n))
        return -1;
    for (int i = 0; i < n; i++) {
        if (distances[i] != (float)(number * 100 + (unsigned)i))
            return 0;
    }
    return 1;
}

static void setup(void)
{
    pool_setup();
    recent = aip_recent_create(pool);
}

START_TEST(test_comes_back)
{
    ck_assert_int_eq(get(0, 0, 3), -1);
    put(0, SOON, 3);
    put(1, SOON, AIP_RECENT_ROUTES);
    ck_assert_int_eq(get(0, 0, 3), 1);
    ck_assert_int_eq(get(1, SOON - 1, AIP_RECENT_ROUTES), 1);
}
END_TEST

START_TEST(test_forgets)
{
    put(0, SOON, 3);
    ck_assert_int_eq(get(0, SOON, 3), -1); /* too old */
    ck_assert_int_eq(get(0, 0, 2), -1);    /* another number of routes */
    ck_assert_int_eq(get(2, 0, 3), -1);    /* another key of the same slot */
    put(2, SOON, 3);
    ck_assert_int_eq(get(2, 0, 3), 1);
    ck_assert_int_eq(get(0, 0, 3), -1); /* its place was taken */
    put(2, SOON, AIP_RECENT_ROUTES + 1);
    ck_assert_int_eq(get(2, 0, AIP_RECENT_ROUTES + 1), -1); /* too many */
    ck_assert_int_eq(get(2, 0, 3), 1);
}
END_TEST

static void *hammer(void *seed_)
{
    unsigned seed = *(unsigned *)seed_;
    size_t wrong = 0, right = 0;

    for (int i = 0; i < ROUNDS; i++) {
        seed = seed * 1103515245u + 12345u;
        unsigned number = (seed >> 16) % KEYS;
        if (seed >> 30 == 0) {
            put(number, SOON, (int)(number % 5) + 20);
        } else {
            int found = get(number, 0, (int)(number % 5) + 20);
            wrong += found == 0;
            right += found == 1;
        }
    }
    return (void *)(wrong ? 0 : right);
}

START_TEST(test_many_threads)
{
    pthread_t threads[THREADS];
    unsigned seeds[THREADS];

    for (unsigned i = 0; i < THREADS; i++) {
        seeds[i] = i + 1;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &seeds[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *right;
        ck_assert_int_eq(pthread_join(threads[i], &right), 0);
        ck_assert_ptr_nonnull(right); /* some were found, none was of two writers */
    }
}
END_TEST

Suite *recent_suite(void)
{
    Suite *suite = suite_create("recent");
    TCase *tc = tcase_create("recent");

    tcase_add_checked_fixture(tc, setup, pool_teardown);
    tcase_add_test(tc, test_comes_back);
    tcase_add_test(tc, test_forgets);
    tcase_add_test(tc, test_many_threads);
    suite_add_tcase(suite, tc);
    return suite;
}
