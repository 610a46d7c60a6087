/* SPDX-License-Identifier: Apache-2.0 */
/* Fading values and the health of targets: what they do with time, and that nothing is lost when
 * processes and threads change them together. Times are made up; nothing here sleeps. */
#include "aip/balance.h"

#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEC apr_time_from_sec(1)
#define T0 apr_time_from_sec(1795000000)

static const aip_health_rules_t rules = {
    .max_fails = 3, .fail_timeout = 10 * SEC, .cooldown_max = 60 * SEC};

static aip_target_state_t *shared_state(void)
{
    return mmap(NULL, sizeof(aip_target_state_t), PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

START_TEST(sums_fade)
{
    aip_decay_t d = 0;
    ck_assert_double_eq(aip_decay_read(&d, T0, SEC), 0);
    ck_assert_double_eq(aip_decay_last(&d), -1);
    ck_assert(aip_decay_age(&d, T0) == APR_INT64_MAX);
    aip_decay_add(&d, 100, T0, 10 * SEC);
    ck_assert_double_eq(aip_decay_read(&d, T0, 10 * SEC), 100);
    ck_assert_double_eq_tol(aip_decay_read(&d, T0 + 10 * SEC, 10 * SEC), 100 / M_E, 0.01);
    aip_decay_add(&d, 50, T0 + 10 * SEC, 10 * SEC);
    ck_assert_double_eq_tol(aip_decay_last(&d), 100 / M_E + 50, 0.01);
    ck_assert(aip_decay_age(&d, T0 + 12 * SEC) == 2 * SEC);
}
END_TEST

START_TEST(clock_goes_back)
{
    aip_decay_t d = 0;
    aip_decay_add(&d, 100, T0, SEC);
    ck_assert_double_eq(aip_decay_read(&d, T0 - 100 * SEC, SEC), 100);
    aip_decay_add(&d, 1, T0 - 100 * SEC, SEC);
    ck_assert_double_eq(aip_decay_last(&d), 101);
    ck_assert(aip_decay_age(&d, T0 + SEC) == SEC);
}
END_TEST

START_TEST(averages_follow_peaks)
{
    aip_decay_t d = 0;
    aip_decay_sample(&d, 10, T0, 10 * SEC);
    aip_decay_sample(&d, 500, T0, 10 * SEC);
    ck_assert_double_eq(aip_decay_last(&d), 500);
    aip_decay_sample(&d, 100, T0 + 10 * SEC, 10 * SEC);
    ck_assert_double_eq_tol(aip_decay_last(&d), 500 / M_E + 100 * (1 - 1 / M_E), 0.1);
    aip_decay_sample(&d, 100, T0 + 1000 * SEC, 10 * SEC);
    ck_assert_double_eq_tol(aip_decay_last(&d), 100, 0.1);
}
END_TEST

START_TEST(sums_of_processes)
{
    aip_target_state_t *state = shared_state();
    for (int child = 0; child < 4; child++) {
        if (fork() == 0) {
            for (int i = 0; i < 20000; i++) {
                aip_decay_add(&state->usage[0], 1, T0, 60 * SEC);
            }
            _exit(0);
        }
    }
    while (wait(NULL) > 0) {
        continue;
    }
    ck_assert_double_eq(aip_decay_last(&state->usage[0]), 80000);
    munmap(state, sizeof *state);
}
END_TEST

static void fail_times(aip_target_state_t *state, int n, apr_time_t at)
{
    for (int i = 0; i < n; i++) {
        aip_health_failure(state, &rules, false, at);
    }
}

START_TEST(breaker)
{
    aip_target_state_t s = {0};
    ck_assert(!aip_health_failure(&s, &rules, false, T0));
    aip_health_success(&s, &rules, false, T0 + SEC); /* too early to forget */
    ck_assert(!aip_health_failure(&s, &rules, false, T0 + 2 * SEC));
    ck_assert(aip_health_look(&s, &rules, T0 + 2 * SEC) == AIP_AVAILABLE);
    ck_assert(aip_health_failure(&s, &rules, false, T0 + 3 * SEC));
    ck_assert(aip_health_look(&s, &rules, T0 + 3 * SEC) == AIP_EJECTED);
    ck_assert(aip_health_back_at(&s, &rules, T0 + 3 * SEC) == T0 + 13 * SEC);
    /* what began before neither closes it nor prolongs it */
    ck_assert(!aip_health_success(&s, &rules, false, T0 + 4 * SEC));
    ck_assert(!aip_health_failure(&s, &rules, false, T0 + 5 * SEC));
    ck_assert(aip_health_back_at(&s, &rules, T0 + 5 * SEC) == T0 + 13 * SEC);
    /* half-open */
    apr_time_t later = T0 + 14 * SEC;
    ck_assert(aip_health_look(&s, &rules, later) == AIP_AVAILABLE);
    ck_assert(aip_health_admit(&s, &rules, SEC, later) == AIP_ADMIT_PROBE);
    ck_assert(aip_health_admit(&s, &rules, SEC, later) == AIP_ADMIT_NO);
    ck_assert(aip_health_look(&s, &rules, later) == AIP_EJECTED);
    ck_assert(aip_health_failure(&s, &rules, true, later));
    ck_assert(aip_health_back_at(&s, &rules, later) == later + 10 * SEC);
    /* a probe that is forgotten, one that is never concluded, one that succeeds */
    later += 11 * SEC;
    ck_assert(aip_health_admit(&s, &rules, SEC, later) == AIP_ADMIT_PROBE);
    aip_health_forget_probe(&s, later);
    ck_assert(aip_health_admit(&s, &rules, SEC, later) == AIP_ADMIT_PROBE);
    ck_assert(aip_health_admit(&s, &rules, SEC, later + 2 * SEC) == AIP_ADMIT_PROBE);
    ck_assert(aip_health_success(&s, &rules, true, later + 3 * SEC));
    ck_assert(aip_health_look(&s, &rules, later + 3 * SEC) == AIP_AVAILABLE);
    ck_assert(aip_health_admit(&s, &rules, SEC, later + 3 * SEC) == AIP_ADMIT_NORMAL);
    ck_assert_uint_eq(atomic_load(&s.fails), 0);
}
END_TEST

START_TEST(forgets)
{
    aip_target_state_t s = {0};
    fail_times(&s, 2, T0);
    aip_health_success(&s, &rules, false, T0 + 10 * SEC);
    fail_times(&s, 2, T0 + 11 * SEC);
    ck_assert(aip_health_look(&s, &rules, T0 + 11 * SEC) == AIP_AVAILABLE);
    fail_times(&s, 1, T0 + 12 * SEC);
    ck_assert(aip_health_look(&s, &rules, T0 + 12 * SEC) == AIP_EJECTED);
    aip_health_rules_t off = rules;
    off.max_fails = 0;
    ck_assert(aip_health_look(&s, &off, T0 + 12 * SEC) == AIP_AVAILABLE);
    ck_assert(aip_health_admit(&s, &off, SEC, T0 + 12 * SEC) == AIP_ADMIT_NORMAL);
}
END_TEST

START_TEST(pauses)
{
    aip_target_state_t s = {0};
    ck_assert(aip_health_cool(&s, &rules, 5 * SEC, 429, T0) == 5 * SEC);
    ck_assert(aip_health_look(&s, &rules, T0 + 4 * SEC) == AIP_COOLING);
    ck_assert(aip_health_cool(&s, &rules, SEC, 429, T0) == 5 * SEC); /* never shortened */
    ck_assert(aip_health_look(&s, &rules, T0 + 5 * SEC) == AIP_AVAILABLE);
    ck_assert(aip_health_cool(&s, &rules, 3600 * SEC, 503, T0) == 60 * SEC);
    ck_assert(aip_health_back_at(&s, &rules, T0) == T0 + 60 * SEC);
    atomic_store(&s.drained, 1);
    ck_assert(aip_health_look(&s, &rules, T0) == AIP_DRAINED);
    ck_assert(aip_health_back_at(&s, &rules, T0) == 0);
    aip_health_rules_t off = rules;
    off.cooldown_max = 0;
    atomic_store(&s.drained, 0);
    ck_assert(aip_health_cool(&s, &off, 5 * SEC, 429, T0 + 100 * SEC) == 0);
    ck_assert(aip_health_look(&s, &off, T0) == AIP_AVAILABLE);
}
END_TEST

typedef struct race_t {
    aip_target_state_t *state;
    _Atomic int probes;
} race_t;

static void *ask(void *data)
{
    race_t *race = data;
    if (aip_health_admit(race->state, &rules, 100 * SEC, T0 + 60 * SEC) == AIP_ADMIT_PROBE) {
        atomic_fetch_add(&race->probes, 1);
    }
    return NULL;
}

START_TEST(one_probe)
{
    for (int round = 0; round < 50; round++) {
        pthread_t threads[16];
        aip_target_state_t state = {0};
        race_t race = {&state, 0};
        fail_times(&state, 3, T0);
        for (int i = 0; i < 16; i++) {
            ck_assert_int_eq(pthread_create(&threads[i], NULL, ask, &race), 0);
        }
        for (int i = 0; i < 16; i++) {
            pthread_join(threads[i], NULL);
        }
        ck_assert_int_eq(atomic_load(&race.probes), 1);
    }
}
END_TEST

START_TEST(usage_and_latency)
{
    aip_target_state_t s = {0};
    aip_usage_t usage = {.prompt_tokens = 10, .completion_tokens = 20, .total_tokens = 30};
    aip_state_add_usage(&s, &usage, 0.5, 60 * SEC, T0);
    usage.completion_tokens = -1;
    aip_state_add_usage(&s, &usage, 0, 60 * SEC, T0);
    ck_assert_double_eq(aip_decay_last(&s.usage[AIP_USAGE_PROMPT]), 20);
    ck_assert_double_eq(aip_decay_last(&s.usage[AIP_USAGE_COMPLETION]), 20);
    ck_assert_double_eq(aip_decay_last(&s.usage[AIP_USAGE_COST]), 0.5);
    ck_assert_double_eq(aip_decay_last(&s.answered), 2);
    aip_state_add_latency(&s, SEC, 0, T0);
    ck_assert_double_eq(aip_decay_last(&s.latency[AIP_LATENCY_TPOT]), -1);
    aip_state_add_latency(&s, SEC, 50, T0);
    ck_assert_double_eq(aip_decay_last(&s.latency[AIP_LATENCY_TPOT]), 20000);
    aip_state_penalize(&s, 1000, T0);
    ck_assert_double_ge(aip_decay_last(&s.latency[AIP_LATENCY_TPOT]), 1e6);
}
END_TEST

/* ---- what algorithms make of it ---- */

static int best(const double *scores, int n)
{
    int b = 0;
    for (int i = 1; i < n; i++) {
        b = scores[i] < scores[b] ? i : b;
    }
    return b;
}

START_TEST(scores)
{
    double s[3];
    aip_load_t loads[3] = {
        {.weight = 1, .in_flight = 1, .latency = 50, .latency_age = 5, .usage = 9},
        {.weight = 4, .in_flight = 5, .latency = 90, .latency_age = 9, .usage = 30},
        {.weight = 1, .in_flight = 3, .latency = -1, .latency_age = APR_INT64_MAX, .usage = 5}};
    aip_score_connections(loads, 3, s);
    ck_assert_int_eq(best(s, 3), 1); /* 2, 1.5, 4 */
    aip_score_usage(loads, 3, 0, s);
    ck_assert_int_eq(best(s, 3), 2); /* 9, 7.5, 5 */
    aip_score_usage(loads, 3, 2, s);
    ck_assert_int_eq(best(s, 3), 1); /* 11, 10, 11 */
    aip_score_latency(loads, 3, 0, s);
    ck_assert_int_eq(best(s, 3), 1); /* 50, 22.5, the average 70 */
    loads[2].in_flight = 0;
    aip_score_latency(loads, 3, 0, s);
    ck_assert_int_eq(best(s, 3), 2); /* never measured */
    loads[2].latency = 20;
    loads[2].latency_age = 1;
    aip_score_latency(loads, 3, AIP_REPROBE_TURNS - 2, s);
    ck_assert_int_eq(best(s, 3), 2);
    aip_score_latency(loads, 3, AIP_REPROBE_TURNS - 1, s);
    ck_assert_int_eq(best(s, 3), 1); /* measured longest ago */
}
END_TEST

#define SLOTS 10000

START_TEST(rendezvous)
{
    const char *names[] = {"a", "b", "c"}, *turned[] = {"c", "a", "b"};
    int weights[] = {1, 1, 2}, turned_weights[] = {2, 1, 1}, n[3] = {0};
    double s[3], t[3];
    for (apr_uint32_t slot = 0; slot < SLOTS; slot++) {
        aip_score_hash(slot, names, weights, 3, s);
        aip_score_hash(slot, turned, turned_weights, 3, t);
        int first = best(s, 3);
        n[first]++;
        ck_assert_str_eq(turned[best(t, 3)], names[first]); /* whatever the order */
        aip_score_hash(slot, names, weights, 2, t);
        ck_assert(first == 2 || best(t, 2) == first); /* "c" leaves: nobody else moves */
    }
    /* four standard deviations of the binomial distribution */
    ck_assert_int_lt(abs(n[0] - 2500), 174);
    ck_assert_int_lt(abs(n[1] - 2500), 174);
    ck_assert_int_lt(abs(n[2] - 5000), 200);
}
END_TEST

START_TEST(slots)
{
    int n[10] = {0};
    for (int i = 0; i < 10000; i++) {
        char key[16];
        int len = snprintf(key, sizeof key, "user-%d", i);
        n[aip_hash_slot((aip_span_t){key, (size_t)len}, 10)]++;
    }
    for (int i = 0; i < 10; i++) {
        ck_assert_int_lt(abs(n[i] - 1000), 120);
    }
}
END_TEST

START_TEST(filtered)
{
    int list[] = {4, 0, 3, 1, 2};
    double s[] = {2, 1, 2, 1, 0};
    aip_availability_e look[] = {AIP_EJECTED, AIP_AVAILABLE, AIP_COOLING, AIP_EJECTED,
                                 AIP_AVAILABLE};
    aip_candidates_t c = {.n = 5, .targets = list};
    aip_candidates_sort(&c, s);
    int sorted[] = {4, 3, 1, 0, 2};
    ck_assert_mem_eq(list, sorted, sizeof sorted); /* equal ones keep their order */
    aip_candidates_filter(&c, look);
    int kept[] = {4, 1, 3, 0};
    ck_assert_int_eq(c.n, 4);
    ck_assert_int_eq(c.healthy, 2);
    ck_assert_mem_eq(list, kept, sizeof kept);
    aip_candidates_defer(&c, 0);
    int deferred[] = {1, 3, 0, 4};
    ck_assert_mem_eq(list, deferred, sizeof deferred);
    ck_assert_int_eq(c.healthy, 1);
}
END_TEST

Suite *health_suite(void)
{
    Suite *suite = suite_create("health");
    TCase *tc = tcase_create("health");
    tcase_add_test(tc, sums_fade);
    tcase_add_test(tc, clock_goes_back);
    tcase_add_test(tc, averages_follow_peaks);
    tcase_add_test(tc, sums_of_processes);
    tcase_add_test(tc, breaker);
    tcase_add_test(tc, forgets);
    tcase_add_test(tc, pauses);
    tcase_add_test(tc, one_probe);
    tcase_add_test(tc, usage_and_latency);
    tcase_add_test(tc, scores);
    tcase_add_test(tc, rendezvous);
    tcase_add_test(tc, slots);
    tcase_add_test(tc, filtered);
    suite_add_tcase(suite, tc);
    return suite;
}
