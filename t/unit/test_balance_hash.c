/* SPDX-License-Identifier: Apache-2.0 */
/* Consistent hashing: which shares of the ring targets get, and what moves when one leaves or
 * grows. Statistical bounds are four standard deviations or wider, on fixed input: a test passes
 * always or never. */
#include "aip/balance.h"

#include <math.h>
#include <string.h>

#include "fixture.h"

#define MANY 8
#define SLOTS 10000

Suite *balance_hash_suite(void);

static int best(const double *scores, int n)
{
    int b = 0;
    for (int i = 1; i < n; i++) {
        b = scores[i] < scores[b] ? i : b;
    }
    return b;
}

static const char *const shapes[] = {"user-%d",     "%d",          "%08d",
                                     "tenant/%d/a", "sk-%d-%d-%d", "%d%200d"};

/* Keys that look alike spread over rings of any size. */
START_TEST(slots_of_keys)
{
    static const apr_uint32_t sizes[] = {2, 10, 16, 100, 1024, SLOTS};
    enum { KEYS = 50000 };
    static int counts[ROWS(sizes)][SLOTS];
    memset(counts, 0, sizeof counts);
    for (int i = 0; i < KEYS; i++) {
        char key[256];
        int len = apr_snprintf(key, sizeof key, shapes[_i], i, i, i);
        for (int k = 0; k < ROWS(sizes); k++) {
            counts[k][aip_hash_slot((aip_span_t){key, (size_t)len}, sizes[k])]++;
        }
    }
    for (int k = 0; k < ROWS(sizes); k++) {
        double chi = 0, mean = (double)KEYS / sizes[k], freedom = sizes[k] - 1.0;
        int all = 0;
        for (apr_uint32_t i = 0; i < sizes[k]; i++) {
            all += counts[k][i];
            chi += (counts[k][i] - mean) * (counts[k][i] - mean) / mean;
        }
        ck_assert_int_eq(all, KEYS); /* none beyond the ring */
        /* chi square: five standard deviations, and more where few degrees make it skew */
        ck_assert_msg(chi < freedom + 5 * sqrt(2 * freedom) + 10, "%s, %u slots: %g", shapes[_i],
                      sizes[k], chi);
    }
}
END_TEST

START_TEST(slot_of_a_key)
{
    const char key[] = "a\0b";
    ck_assert_uint_eq(aip_hash_slot(AIP_SPAN("alice"), 10000),
                      aip_hash_slot((aip_span_t){"alice and bob", 5}, 10000));
    ck_assert_uint_ne(aip_hash_slot(AIP_SPAN("alice"), 4000000000u),
                      aip_hash_slot(AIP_SPAN("Alice"), 4000000000u));
    ck_assert_uint_ne(aip_hash_slot((aip_span_t){key, 3}, 4000000000u),
                      aip_hash_slot((aip_span_t){key, 1}, 4000000000u));
    ck_assert_uint_eq(aip_hash_slot(AIP_SPAN("whatever"), 1), 0);
    ck_assert_uint_lt(aip_hash_slot((aip_span_t){"", 0}, 7), 7);
}
END_TEST

/* clang-format off */
static const struct {
    const char *name;
    int n;
    const char *targets[MANY];
    int weights[MANY];
} rings[] = {
    {"one", 1, {"only"}, {100}},
    {"two equal", 2, {"a", "b"}, {100, 100}},
    {"names that look alike", 5, {"gpt-1", "gpt-2", "gpt-3", "gpt-4", "gpt-5"}, {1, 1, 1, 1, 1}},
    {"names that begin alike", 3, {"a", "aa", "aaa"}, {7, 7, 7}},
    {"unequal", 3, {"a", "b", "c"}, {1, 2, 7}},
    {"far apart", 3, {"east", "west", "spare"}, {1000, 500, 10}},
    {"limits", 2, {"heavy", "light"}, {65535, 655}},
    {"eight", 8, {"a", "b", "c", "d", "e", "f", "g", "h"}, {1, 2, 3, 4, 5, 6, 7, 8}},
};
/* clang-format on */

START_TEST(shares_of_the_ring)
{
    int n = rings[_i].n, counts[MANY] = {0}, sum = 0;
    double scores[MANY];
    for (apr_uint32_t slot = 0; slot < SLOTS; slot++) {
        aip_score_hash(slot, rings[_i].targets, rings[_i].weights, n, scores);
        counts[best(scores, n)]++;
    }
    for (int i = 0; i < n; i++) {
        sum += rings[_i].weights[i];
    }
    for (int i = 0; i < n; i++) {
        double p = (double)rings[_i].weights[i] / sum;
        double deviation = sqrt(SLOTS * p * (1 - p));
        ck_assert_msg(fabs(counts[i] - SLOTS * p) <= 4 * deviation, "%s: %s has %d slots, not %g",
                      rings[_i].name, rings[_i].targets[i], counts[i], SLOTS * p);
    }
}
END_TEST

/* The ring without target `gone`. @return who has the slot, by its index in the whole ring */
static int owner_without(int ring, int gone, apr_uint32_t slot)
{
    const char *names[MANY];
    int weights[MANY], index[MANY], n = 0;
    double scores[MANY];
    for (int i = 0; i < rings[ring].n; i++) {
        if (i != gone) {
            names[n] = rings[ring].targets[i];
            weights[n] = rings[ring].weights[i];
            index[n++] = i;
        }
    }
    aip_score_hash(slot, names, weights, n, scores);
    return index[best(scores, n)];
}

/* Exactly the slots of who leaves move, to the others by weight; when it comes back, they return.
 * In a list of candidates they go to the second. */
START_TEST(a_target_leaves)
{
    int n = rings[_i].n;
    for (int gone = 0; gone < n && n > 1; gone++) {
        int moved = 0, wrong = 0, got[MANY] = {0}, sum = 0;
        for (apr_uint32_t slot = 0; slot < SLOTS; slot++) {
            double scores[MANY];
            aip_score_hash(slot, rings[_i].targets, rings[_i].weights, n, scores);
            int first = best(scores, n), then = owner_without(_i, gone, slot);
            if (first != gone) {
                wrong += then != first;
                continue;
            }
            moved++;
            got[then]++;
            scores[first] = INFINITY;
            wrong += then != best(scores, n);
        }
        ck_assert_int_eq(wrong, 0);
        for (int i = 0; i < n; i++) {
            sum += i == gone ? 0 : rings[_i].weights[i];
        }
        for (int i = 0; i < n; i++) {
            double p = i == gone ? 0 : (double)rings[_i].weights[i] / sum;
            ck_assert_msg(fabs(got[i] - moved * p) <= 4.5 * sqrt(moved * p * (1 - p)) + 1e-9,
                          "%s: %s got %d of %d", rings[_i].name, rings[_i].targets[i], got[i],
                          moved);
        }
    }
}
END_TEST

/* A score belongs to a name: where it stands in the configuration has no say. */
START_TEST(order_of_the_configuration)
{
    int n = rings[_i].n, weights[MANY], differ = 0;
    const char *names[MANY];
    for (int i = 0; i < n; i++) { /* turned by two, backwards */
        names[i] = rings[_i].targets[(n + 1 - i) % n];
        weights[i] = rings[_i].weights[(n + 1 - i) % n];
    }
    for (apr_uint32_t slot = 0; slot < SLOTS; slot++) {
        double scores[MANY], turned[MANY];
        aip_score_hash(slot, rings[_i].targets, rings[_i].weights, n, scores);
        aip_score_hash(slot, names, weights, n, turned);
        for (int i = 0; i < n; i++) {
            differ += memcmp(&turned[i], &scores[(n + 1 - i) % n], sizeof(double)) != 0;
        }
    }
    ck_assert_int_eq(differ, 0);
}
END_TEST

/* More weight for one: slots move to it and to nobody else. */
START_TEST(a_weight_grows)
{
    const char *const names[] = {"a", "b", "c", "d"};
    const int before[] = {100, 100, 100, 100}, after[] = {100, 150, 100, 100};
    int moved = 0, wrong = 0;
    for (apr_uint32_t slot = 0; slot < SLOTS; slot++) {
        double scores[4], then[4];
        aip_score_hash(slot, names, before, 4, scores);
        aip_score_hash(slot, names, after, 4, then);
        if (best(scores, 4) != best(then, 4)) {
            wrong += best(then, 4) != 1;
            moved++;
        }
    }
    ck_assert_int_eq(wrong, 0);
    /* from a quarter to a third */
    ck_assert_double_lt(fabs(moved - SLOTS / 12.0), 4 * sqrt(SLOTS / 12.0));
}
END_TEST

Suite *balance_hash_suite(void)
{
    Suite *suite = suite_create("balance_hash");
    TCase *tc = tcase_create("balance_hash");
    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, slots_of_keys, 0, ROWS(shapes));
    tcase_add_test(tc, slot_of_a_key);
    tcase_add_loop_test(tc, shares_of_the_ring, 0, ROWS(rings));
    tcase_add_loop_test(tc, a_target_leaves, 0, ROWS(rings));
    tcase_add_loop_test(tc, order_of_the_configuration, 0, ROWS(rings));
    tcase_add_test(tc, a_weight_grows);
    suite_add_tcase(suite, tc);
    return suite;
}
