/* SPDX-License-Identifier: Apache-2.0 */
/* Algorithms that compare loads: connections, usage, latency. Who is best, in which order the
 * others follow, and how requests spread when each goes to the best. */
#include "aip/balance.h"

#include <math.h>
#include <string.h>

#include "fixture.h"

#define MANY 4 /* targets */
#define NEVER APR_INT64_MAX

Suite *balance_scores_suite(void);

/* The order that the scores give, from the order of the configuration. */
static const char *order(const double *scores, int n)
{
    int targets[MANY];
    const char *out = "";
    aip_candidates_t c = {.n = n, .targets = targets};
    for (int i = 0; i < n; i++) {
        targets[i] = i;
    }
    aip_candidates_sort(&c, scores);
    for (int i = 0; i < c.n; i++) {
        out = apr_psprintf(pool, "%s%s%d", out, i ? " " : "", targets[i]);
    }
    return out;
}

static int best(const double *scores, int n)
{
    int b = 0;
    for (int i = 1; i < n; i++) {
        b = scores[i] < scores[b] ? i : b;
    }
    return b;
}

/* clang-format off */
static const struct {
    const char *name;
    int n, weights[4];
    apr_uint32_t in_flight[4];
    const char *expected;
} connections[] = {
    {"alone", 1, {100}, {7}, "0"},
    {"idle", 3, {1, 1, 1}, {0, 0, 0}, "0 1 2"},
    {"the least", 3, {1, 1, 1}, {2, 0, 1}, "1 2 0"},
    {"idle, by weight", 3, {1, 3, 2}, {0, 0, 0}, "1 2 0"},
    {"a heavy one takes more", 2, {1, 3}, {0, 1}, "1 0"},
    {"as many as its weight says", 2, {1, 3}, {0, 2}, "0 1"},
    {"and no more", 2, {1, 3}, {0, 3}, "0 1"},
    {"the heaviest", 2, {65535, 1}, {65533, 0}, "0 1"},
    {"more requests than fit", 2, {1, 1}, {4294967295u, 4294967294u}, "1 0"},
};
/* clang-format on */

START_TEST(least_connections)
{
    aip_load_t loads[4] = {{0}};
    double scores[4];
    for (int i = 0; i < connections[_i].n; i++) {
        loads[i].weight = connections[_i].weights[i];
        loads[i].in_flight = connections[_i].in_flight[i];
    }
    aip_score_connections(loads, connections[_i].n, scores);
    const char *got = order(scores, connections[_i].n);
    ck_assert_msg(strcmp(got, connections[_i].expected) == 0, "%s: %s", connections[_i].name, got);
}
END_TEST

/* Requests that stay: each goes to the best, and what is in flight follows the weights. */
START_TEST(connections_follow_weights)
{
    aip_load_t loads[3] = {{.weight = 1}, {.weight = 2}, {.weight = 5}};
    double scores[3];
    for (int request = 1; request <= 800; request++) {
        aip_score_connections(loads, 3, scores);
        loads[best(scores, 3)].in_flight++;
        for (int i = 0; i < 3; i++) {
            double share = request * loads[i].weight / 8.0;
            ck_assert_double_lt(fabs(loads[i].in_flight - share), 1.5);
        }
    }
    ck_assert_uint_eq(loads[0].in_flight, 100);
    ck_assert_uint_eq(loads[1].in_flight, 200);
    ck_assert_uint_eq(loads[2].in_flight, 500);
}
END_TEST

/* clang-format off */
static const struct {
    const char *name;
    int weights[3];
    double usage[3], typical;
    apr_uint32_t in_flight[3];
    const char *expected;
} usages[] = {
    {"nothing yet", {1, 1, 1}, {0, 0, 0}, 1, {0, 0, 0}, "0 1 2"},
    {"the least", {1, 1, 1}, {30, 10, 20}, 0, {0, 0, 0}, "1 2 0"},
    {"by weight", {1, 4, 2}, {10, 30, 18}, 0, {0, 0, 0}, "1 2 0"},
    {"in flight counts", {1, 1, 1}, {10, 20, 30}, 15, {2, 0, 1}, "1 0 2"},
    {"as much as an answer", {1, 1, 1}, {10, 20, 30}, 5, {2, 0, 1}, "0 1 2"},
    {"in flight by weight, too", {1, 4, 2}, {0, 0, 0}, 100, {1, 3, 1}, "2 1 0"},
    {"fractions of a price", {1, 1, 1}, {1e-7, 2e-7, 0.5e-7}, 1e-8, {0, 0, 0}, "2 0 1"},
    {"large sums", {1, 1, 1}, {3e12, 1e12, 2e12}, 1e6, {0, 0, 0}, "1 2 0"},
};
/* clang-format on */

START_TEST(lowest_usage)
{
    aip_load_t loads[3] = {{0}};
    double scores[3];
    for (int i = 0; i < 3; i++) {
        loads[i].weight = usages[_i].weights[i];
        loads[i].usage = usages[_i].usage[i];
        loads[i].in_flight = usages[_i].in_flight[i];
    }
    aip_score_usage(loads, 3, usages[_i].typical, scores);
    const char *got = order(scores, 3);
    ck_assert_msg(strcmp(got, usages[_i].expected) == 0, "%s: %s", usages[_i].name, got);
}
END_TEST

/* Failures count as so many answers, so that who only fails is tried now and then. */
START_TEST(usage_of_failures)
{
    aip_load_t loads[2] = {{.weight = 1}, {.weight = 1}};
    double scores[2];
    int failed = 0;
    for (int request = 0; request < 1000; request++) {
        aip_score_usage(loads, 2, 20, scores);
        if (best(scores, 2) == 0) {
            loads[0].failures++;
            failed++;
        } else {
            loads[1].usage += 20;
        }
    }
    ck_assert_int_ge(failed, 1);
    ck_assert_int_le(failed, 1000 / AIP_REPROBE_TURNS + 1);
}
END_TEST

/* A probe is not spent on a target that is out of service. */
START_TEST(probe_of_available)
{
    aip_load_t loads[3] = {{.weight = 1, .latency = 10, .latency_age = 1},
                           {.weight = 1, .latency = 90, .latency_age = 5},
                           {.weight = 1, .latency = 50, .latency_age = 9, .unavailable = true}};
    double scores[3];
    aip_score_latency(loads, 3, AIP_REPROBE_TURNS - 1, scores);
    ck_assert_int_eq(best(scores, 3), 1);
    loads[2].unavailable = false;
    aip_score_latency(loads, 3, AIP_REPROBE_TURNS - 1, scores);
    ck_assert_int_eq(best(scores, 3), 2);
}
END_TEST

/* A burst of requests, none of them answered yet, is spread by weight. */
START_TEST(usage_of_a_burst)
{
    aip_load_t loads[3] = {{.weight = 1}, {.weight = 1}, {.weight = 2}};
    double scores[3];
    for (int request = 0; request < 400; request++) {
        aip_score_usage(loads, 3, 250, scores);
        loads[best(scores, 3)].in_flight++;
    }
    ck_assert_uint_eq(loads[0].in_flight, 100);
    ck_assert_uint_eq(loads[1].in_flight, 100);
    ck_assert_uint_eq(loads[2].in_flight, 200);
}
END_TEST

#define TURN (AIP_REPROBE_TURNS - 1)

/* clang-format off */
static const struct {
    const char *name;
    apr_uint32_t tick;
    int weights[3];
    double latency[3];
    apr_interval_time_t age[3];
    apr_uint32_t in_flight[3];
    const char *expected;
} latencies[] = {
    {"the fastest", 0, {1, 1, 1}, {300, 100, 200}, {1, 1, 1}, {0, 0, 0}, "1 2 0"},
    {"zero is fast", 0, {1, 1, 1}, {300, 0, 200}, {1, 1, 1}, {0, 0, 0}, "1 2 0"},
    {"by weight", 0, {1, 1, 4}, {300, 100, 320}, {1, 1, 1}, {0, 0, 0}, "2 1 0"},
    {"whatever is in flight", 0, {1, 1, 1}, {300, 100, 200}, {1, 1, 1}, {0, 9, 0}, "1 2 0"},
    {"never measured: first", 0, {1, 1, 1}, {10, 100, -1}, {1, 1, NEVER}, {0, 0, 0}, "2 0 1"},
    {"two of them", 0, {1, 1, 1}, {10, -1, -1}, {1, NEVER, NEVER}, {0, 0, 0}, "1 2 0"},
    {"all of them", 0, {1, 2, 3}, {-1, -1, -1}, {NEVER, NEVER, NEVER}, {0, 0, 0}, "0 1 2"},
    {"never measured, in flight: the average", 0, {1, 1, 1}, {-1, 300, 100}, {NEVER, 1, 1},
     {1, 0, 0}, "2 0 1"},
    {"the average by weight", 0, {4, 1, 1}, {-1, 300, 100}, {NEVER, 1, 1}, {1, 0, 0}, "0 2 1"},
    {"one in flight, one not", 0, {1, 1, 1}, {-1, 200, -1}, {NEVER, 1, NEVER}, {3, 0, 0}, "2 0 1"},
    {"none measured, one in flight", 0, {1, 1, 1}, {-1, -1, -1}, {NEVER, NEVER, NEVER}, {1, 0, 0},
     "1 2 0"},
    {"before the turn", TURN - 1, {1, 1, 1}, {300, 100, 200}, {9, 1, 5}, {0, 0, 0}, "1 2 0"},
    {"the turn of the longest ago", TURN, {1, 1, 1}, {300, 100, 200}, {9, 1, 5}, {0, 0, 0},
     "0 1 2"},
    {"after the turn", TURN + 1, {1, 1, 1}, {300, 100, 200}, {9, 1, 5}, {0, 0, 0}, "1 2 0"},
    {"its next turn", TURN + AIP_REPROBE_TURNS, {1, 1, 1}, {300, 100, 200}, {5, 1, 9}, {0, 0, 0},
     "2 1 0"},
    {"whatever its weight", TURN, {1, 65535, 1}, {300, 1, 200}, {9, 1, 5}, {0, 0, 0}, "0 1 2"},
    {"even the fastest", TURN, {1, 1, 1}, {300, 100, 200}, {1, 9, 5}, {0, 0, 0}, "1 2 0"},
    {"measured, not expected to be", TURN, {1, 1, 1}, {-1, 100, 200}, {NEVER, 1, 5}, {1, 0, 0},
     "2 1 0"},
};
/* clang-format on */

START_TEST(lowest_latency)
{
    aip_load_t loads[3] = {{0}};
    double scores[3];
    for (int i = 0; i < 3; i++) {
        loads[i].weight = latencies[_i].weights[i];
        loads[i].latency = latencies[_i].latency[i];
        loads[i].latency_age = latencies[_i].age[i];
        loads[i].in_flight = latencies[_i].in_flight[i];
    }
    aip_score_latency(loads, 3, latencies[_i].tick, scores);
    const char *got = order(scores, 3);
    ck_assert_msg(strcmp(got, latencies[_i].expected) == 0, "%s: %s", latencies[_i].name, got);
}
END_TEST

/* One that was slow once and has recovered is found out: each turn measures somebody, so that after
 * as many turns as there are slower targets the fastest takes the requests. */
START_TEST(reprobed)
{
    aip_load_t loads[4];
    double scores[4], truth[4] = {200, 90, 300, 400};
    int counts[4] = {0};
    for (int i = 0; i < 4; i++) {
        loads[i] = (aip_load_t){.weight = 1, .latency = i ? 5000 : 200, .latency_age = 1};
    }
    for (apr_uint32_t tick = 0; tick < 3 * AIP_REPROBE_TURNS + 100; tick++) {
        aip_score_latency(loads, 4, tick, scores);
        int b = best(scores, 4);
        for (int i = 0; i < 4; i++) {
            loads[i].latency_age++;
        }
        loads[b].latency = truth[b];
        loads[b].latency_age = 0;
        counts[b] += tick >= 3 * AIP_REPROBE_TURNS;
    }
    ck_assert_int_eq(counts[1], 98);
}
END_TEST

Suite *balance_scores_suite(void)
{
    Suite *suite = suite_create("balance_scores");
    TCase *tc = tcase_create("balance_scores");
    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_add_loop_test(tc, least_connections, 0, ROWS(connections));
    tcase_add_test(tc, connections_follow_weights);
    tcase_add_loop_test(tc, lowest_usage, 0, ROWS(usages));
    tcase_add_test(tc, usage_of_a_burst);
    tcase_add_test(tc, usage_of_failures);
    tcase_add_test(tc, probe_of_available);
    tcase_add_loop_test(tc, lowest_latency, 0, ROWS(latencies));
    tcase_add_test(tc, reprobed);
    suite_add_tcase(suite, tc);
    return suite;
}
