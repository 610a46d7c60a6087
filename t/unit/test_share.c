/* SPDX-License-Identifier: Apache-2.0 */
/* Machines that exchange figures through a real Redis: sums of the others, nothing counted twice,
 * machines that disappear, and text that is not as it should be. */
#include "aip/share.h"
#include "redis_fixture.h"

#include <apr_strings.h>
#include <stdatomic.h>

#define SEC apr_time_from_sec(1)
#define T0 apr_time_from_sec(1795000000)
#define WINDOW (60 * SEC)
#define KEY "ai_proxy_adv:balance:"

static aip_share_t *machine(const char *name, aip_target_state_t *states, int n)
{
    aip_shared_target_t *targets = apr_pcalloc(redis_test_pool, (apr_size_t)n * sizeof *targets);
    for (int i = 0; i < n; i++) {
        targets[i] = (aip_shared_target_t){.id = apr_psprintf(redis_test_pool, "%064x", i + 1),
                                           .state = &states[i],
                                           .window = WINDOW};
    }
    return aip_share_create(&redis_conf, name, targets, n, redis_test_pool);
}

static void use(aip_target_state_t *state, int tokens, apr_time_t now)
{
    aip_usage_t usage = {tokens, tokens, 2 * tokens, -1, -1};
    aip_state_add_usage(state, &usage, 0.25, WINDOW, now);
}

static void exchange(aip_share_t *share, apr_time_t now)
{
    ASSERT_OK(aip_share_exchange(share, now, redis_test_pool, &redis_err));
}

START_TEST(sums)
{
    aip_target_state_t a[2] = {0}, b[2] = {0}, c[2] = {0};
    aip_share_t *first = machine("a", a, 2), *second = machine("b", b, 2),
                *third = machine("c", c, 2);
    use(&a[0], 100, T0);
    use(&b[0], 10, T0);
    use(&b[1], 7, T0);
    exchange(first, T0);
    exchange(second, T0);
    exchange(third, T0);
    exchange(first, T0);
    ck_assert_double_eq_tol(aip_decay_read(&a[0].other_usage[AIP_USAGE_TOTAL], T0, WINDOW), 20,
                            0.01);
    ck_assert_double_eq_tol(aip_decay_read(&a[1].other_usage[AIP_USAGE_PROMPT], T0, WINDOW), 7,
                            0.01);
    ck_assert_double_eq_tol(aip_decay_read(&b[0].other_usage[AIP_USAGE_TOTAL], T0, WINDOW), 200,
                            0.01);
    ck_assert_double_eq_tol(aip_decay_read(&c[0].other_usage[AIP_USAGE_TOTAL], T0, WINDOW), 220,
                            0.01);
    ck_assert_double_eq_tol(aip_decay_read(&c[0].other_usage[AIP_USAGE_COST], T0, WINDOW), 0.5,
                            0.001);
    exchange(third, T0); /* once more changes nothing */
    ck_assert_double_eq_tol(aip_decay_read(&c[0].other_usage[AIP_USAGE_TOTAL], T0, WINDOW), 220,
                            0.01);
    exchange(third, T0 + WINDOW); /* those who say nothing fade */
    ck_assert_double_eq_tol(aip_decay_read(&c[0].other_usage[AIP_USAGE_TOTAL], T0 + WINDOW, WINDOW),
                            220 / 2.718282, 0.1);
}
END_TEST

START_TEST(latencies)
{
    aip_target_state_t a[1] = {0}, b[1] = {0}, c[1] = {0};
    aip_share_t *first = machine("a", a, 1), *second = machine("b", b, 1),
                *third = machine("c", c, 1);
    aip_state_add_latency(&a[0], 2 * SEC, 100, T0);
    aip_state_add_latency(&b[0], 4 * SEC, 100, T0);
    exchange(first, T0);
    exchange(second, T0);
    exchange(third, T0 + 3 * SEC);
    ck_assert_double_eq_tol(aip_decay_last(&c[0].other_latency[AIP_LATENCY_E2E]), 3e6, 1e3);
    ck_assert_double_eq_tol(aip_decay_last(&c[0].other_latency[AIP_LATENCY_TPOT]), 3e4, 10);
    ck_assert(aip_decay_age(&c[0].other_latency[AIP_LATENCY_E2E], T0 + 3 * SEC) == 3 * SEC);
    ck_assert_double_eq(aip_decay_last(&a[0].other_usage[AIP_USAGE_TOTAL]), 0);
}
END_TEST

START_TEST(disappears)
{
    aip_target_state_t a[1] = {0}, b[1] = {0};
    aip_share_t *first = machine("gone", a, 1), *second = machine("b", b, 1);
    use(&a[0], 100, T0);
    exchange(first, T0);
    exchange(second, T0);
    ck_assert_int_eq(redis_admin_do(apr_psprintf(redis_test_pool, "HEXISTS " KEY "%064x gone", 1)),
                     1);
    exchange(second, T0 + 1000 * SEC);
    ck_assert_int_eq(redis_admin_do(apr_psprintf(redis_test_pool, "HEXISTS " KEY "%064x gone", 1)),
                     0);
    ck_assert_double_lt(aip_decay_read(&b[0].other_usage[0], T0 + 1000 * SEC, WINDOW), 0.01);
}
END_TEST

START_TEST(garbage)
{
    aip_target_state_t b[1] = {0};
    aip_share_t *share = machine("b", b, 1);
    const char *values[] = {"x", "1", "1_nan_1_1_1_1_1_1_1_1_1",
                            "999999999999999999999999999999999999"};
    for (size_t i = 0; i < 4; i++) {
        redis_admin_do(
            apr_psprintf(redis_test_pool, "HSET " KEY "%064x m%d %s", 1, (int)i, values[i]));
    }
    exchange(share, T0);
    ck_assert_double_eq(aip_decay_last(&b[0].other_usage[0]), 0);
    exchange(share, T0);
    ck_assert_int_eq(redis_admin_do(apr_psprintf(redis_test_pool, "HLEN " KEY "%064x", 1)), 0);
    redis_admin_do(apr_psprintf(redis_test_pool, "SET " KEY "%064x text", 1));
    ck_assert(aip_share_exchange(share, T0, redis_test_pool, &redis_err) != APR_SUCCESS);
    redis_admin_do(apr_psprintf(redis_test_pool, "DEL " KEY "%064x", 1));
    exchange(share, T0);
}
END_TEST

START_TEST(many)
{
    enum { N = 300 };
    static aip_target_state_t a[N], b[N];
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    for (int i = 0; i < N; i++) {
        use(&a[i], i + 1, T0);
    }
    exchange(machine("a", a, N), T0);
    exchange(machine("b", b, N), T0);
    for (int i = 0; i < N; i++) {
        ck_assert_double_eq_tol(aip_decay_last(&b[i].other_usage[AIP_USAGE_PROMPT]), i + 1, 0.01);
    }
}
END_TEST

START_TEST(away)
{
    aip_target_state_t a[1] = {0};
    aip_share_t *share = machine("a", a, 1);
    use(&a[0], 1, T0);
    exchange(share, T0);
    redis_conf.port = 1;
    aip_share_t *lost = machine("b", a, 1);
    ASSERT_CODE(aip_share_exchange(lost, T0, redis_test_pool, &redis_err), "vectordb_unreachable");
    exchange(share, T0);
}
END_TEST

#define GOOD "1 1795000000000 200 100 100 0.5 3 20000 10 1000000 10"

START_TEST(texts)
{
    static const struct {
        const char *text;
        bool good;
    } rows[] = {
        {GOOD, true},
        {"1 1795000000000 200 100 100 0.5 3 -1 0 -1 0", true},
        {"2 1795000000000 200 100 100 0.5 3 20000 10 1000000 10", false},
        {GOOD " ", false},
        {GOOD " 1", false},
        {"1 1795000000000 200 100 100 0.5 3 20000 10 1000000", false},
        {"1 1795000000000 -200 100 100 0.5 3 20000 10 1000000 10", false},
        {"1 1795000000000 nan 100 100 0.5 3 20000 10 1000000 10", false},
        {"1 1795000000000 inf 100 100 0.5 3 20000 10 1000000 10", false},
        {"1 1795000000000 1e300 100 100 0.5 3 20000 10 1000000 10", false},
        {"1 1795000061000 200 100 100 0.5 3 20000 10 1000000 10", false},
        {"1 1795000000000 200 100 100 0.5 3 20000 -10 1000000 10", false},
        {"1  1795000000000 200 100 100 0.5 3 20000 10 1000000 10", false},
        {"", false},
    };
    aip_figures_t f;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        aip_span_t span = {rows[i].text, strlen(rows[i].text)};
        ck_assert_msg(aip_figures_read(span, T0, &f) == rows[i].good, "%s", rows[i].text);
    }
    ck_assert(aip_figures_read(AIP_SPAN(GOOD), T0, &f));
    ck_assert_str_eq(aip_figures_text(&f, redis_test_pool), GOOD);
}
END_TEST

Suite *share_suite(void)
{
    Suite *suite = suite_create("share");
    TCase *tc = redis_tcase_add(suite, "share");
    tcase_add_test(tc, sums);
    tcase_add_test(tc, latencies);
    tcase_add_test(tc, disappears);
    tcase_add_test(tc, garbage);
    tcase_add_test(tc, many);
    tcase_add_test(tc, away);
    tcase_add_test(tc, texts);
    return suite;
}
