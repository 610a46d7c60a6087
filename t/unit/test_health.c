/* SPDX-License-Identifier: Apache-2.0 */
/* Health of a target as a story of what happens to it, second by second: circuit breaker, probes,
 * pauses, drain; and its usage and latency. Times are made up; nothing sleeps. */
#include "aip/balance.h"

#include <check.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (int)(sizeof(a) / sizeof((a)[0]))
#define SEC apr_time_from_sec(1)
#define T0 apr_time_from_sec(1795000000)
#define LEASE (5 * SEC)

Suite *health_suite(void);

static const aip_health_rules_t rules = {
    .max_fails = 3, .fail_timeout = 10 * SEC, .cooldown_max = 60 * SEC};

START_TEST(names)
{
    static const char *const words[] = {"available", "ejected", "cooling", "drained",
                                        "barred"};
    for (int i = AIP_AVAILABLE; i <= AIP_BARRED; i++) {
        ck_assert_str_eq(aip_availability_name((aip_availability_e)i), words[i]);
    }
}
END_TEST

START_TEST(all_zero)
{
    aip_target_state_t s = {0};
    ck_assert_int_eq(aip_health_look(&s, &rules, T0), AIP_AVAILABLE);
    ck_assert_int_eq(aip_health_admit(&s, &rules, LEASE, T0), AIP_ADMIT_NORMAL);
    ck_assert(aip_health_back_at(&s, &rules, T0) == 0);
    ck_assert(!aip_health_success(&s, &rules, false, T0));
    aip_health_forget_probe(&s, T0);
    ck_assert_int_eq(aip_health_admit(&s, &rules, LEASE, T0), AIP_ADMIT_NORMAL);
}
END_TEST

/* What happens, and what comes of it:
 *   F f  a failure, of a probe or last resort; S s  a success likewise; + behind it: returned true
 *   A N P  asks for admission: normal, no, probe;  x  forgets a probe;  D d  drained, not drained
 *   C<n>:<m>  asked for a pause of n seconds, m hold;  @<n>  n seconds after T0
 *   =a =e =c =d  availability;  ^<n>  back at n seconds, ^-  not by itself */
static const struct {
    const char *name;
    int max_fails;
    const char *story;
} stories[] = {
    {"opens at the third failure", 3, "F =a F =a A F+ =e ^10"},
    {"at the first", 1, "F+ =e ^10"},
    {"no breaker", 0, "F F F F f =a A ^- S s =a"},
    {"in total, not in a row", 3, "F S F S A F+ =e"},
    {"a success in time forgets nothing", 3, "F F @9 S F+ =e ^19"},
    {"a late success forgets", 3, "F F @10 S @11 F F =a F+ =e ^21"},
    {"late after the last failure, not the first", 3, "F @9 F @18 S F+ =e ^28"},
    {"no success, no forgetting", 3, "F F @1000 F+ =e ^1010"},
    {"open until its time", 3, "F F F+ @9 =e N @10 =a ^- P"},
    {"asking while open", 3, "F F F+ @5 N N =e ^10"},
    {"what began before does not prolong", 3, "F F F+ @5 F F ^10 =e"},
    {"nor close", 3, "F F F+ @5 S =e ^10 @10 S P S =e"},
    {"one probe", 3, "F F F+ @10 =a P =e N N"},
    {"a probe that succeeds", 3, "F F F+ @10 P s+ =a A A F F =a F+ =e ^20"},
    {"a probe that fails", 3, "F F F+ @10 P @12 f+ =e ^22 N @22 =a P N"},
    {"again and again", 1, "F+ @10 P f+ ^20 @20 P f+ ^30 @30 P f+ ^40 @40 P s+ =a ^- A"},
    {"a probe that is never concluded", 3, "F F F+ @10 P @14 N =e @15 =a P N @20 P s+ =a"},
    {"concluded after its lease", 3, "F F F+ @10 P @30 s+ =a A"},
    {"failed after its lease", 3, "F F F+ @10 P @30 f+ =e ^40"},
    {"forgotten", 3, "F F F+ @10 P N x =a P N @11 s+ =a"},
    {"a last resort that succeeds", 3, "F F F+ @3 s+ =a ^- A"},
    {"a last resort that fails", 3, "F F F+ @3 f+ =e ^13"},
    {"nothing to close", 3, "s =a F s =a"},
    {"closed once", 3, "F F F+ @10 P s+ s =a"},
    {"a pause", 3, "C5:5 =c ^5 @4 =c @5 =a ^-"},
    {"capped", 3, "C3600:60 =c ^60"},
    {"never shortened", 3, "C30:30 @10 C5:20 ^30 C1:20 @30 =a C1:1 ^31"},
    {"prolonged", 3, "C5:5 @1 C10:10 =c ^11"},
    {"the same again", 3, "C5:5 C5:5 ^5"},
    {"no pause is asked", 3, "C0:0 =a @1 C5:5 @2 C0:4 =c ^6"},
    {"a negative one", 3, "C-5:0 =a ^-"},
    {"after a pause", 3, "C5:5 @5 =a A"},
    {"cooling before ejected", 3, "F F F+ C5:5 =c ^5 @5 =e ^10 @10 =a P"},
    {"a pause longer than the breaker", 3, "F F F+ C20:20 @15 =c ^20 @20 =a P s+ A"},
    {"a success leaves the pause", 3, "C5:5 S s =c ^5"},
    {"without a breaker", 0, "F C5:5 =c @5 =a"},
    {"drained", 3, "D =d ^- @1000 =d d =a"},
    {"drained before all else", 3, "F F F+ C5:5 D =d ^- d =c @5 =e @10 D =d d =a P"},
};

typedef struct story_t {
    aip_target_state_t state;
    aip_health_rules_t rules;
    apr_time_t now;
} story_t;

static bool verdict(story_t *s, const char *word)
{
    bool probe = *word == 'f' || *word == 's', said = word[1] == '+';
    return said == (*word == 'F' || *word == 'f'
                        ? aip_health_failure(&s->state, &s->rules, probe, s->now)
                        : aip_health_success(&s->state, &s->rules, probe, s->now));
}

static bool asks_for_pause(story_t *s, const char *word)
{
    char *end;
    apr_interval_time_t wait = strtol(word + 1, &end, 10) * SEC;
    return aip_health_cool(&s->state, &s->rules, wait, 429, s->now) ==
           strtol(end + 1, NULL, 10) * SEC;
}

static bool happens(story_t *s, const char *word)
{
    static const char looks[] = "aecd", admissions[] = "APN";
    const char *known;
    switch (*word) {
    case 'F':
    case 'f':
    case 'S':
    case 's':
        return verdict(s, word);
    case 'A':
    case 'P':
    case 'N':
        known = strchr(admissions, *word);
        return aip_health_admit(&s->state, &s->rules, LEASE, s->now) ==
               (aip_admission_e)(known - admissions);
    case 'x':
        aip_health_forget_probe(&s->state, s->now);
        return true;
    case 'D':
    case 'd':
        atomic_store(&s->state.drained, *word == 'D');
        return true;
    case 'C':
        return asks_for_pause(s, word);
    case '@':
        s->now = T0 + strtol(word + 1, NULL, 10) * SEC;
        return true;
    case '=':
        known = strchr(looks, word[1]);
        return aip_health_look(&s->state, &s->rules, s->now) == (aip_availability_e)(known - looks);
    case '^':
        return aip_health_back_at(&s->state, &s->rules, s->now) ==
               (word[1] == '-' ? 0 : T0 + strtol(word + 1, NULL, 10) * SEC);
    default:
        return false;
    }
}

START_TEST(story)
{
    story_t s = {.rules = rules, .now = T0};
    s.rules.max_fails = (apr_uint32_t)stories[_i].max_fails;
    for (const char *word = stories[_i].story; *word;) {
        size_t len = strcspn(word, " ");
        ck_assert_msg(happens(&s, word), "%s: at '%s'", stories[_i].name, word);
        word += len + (word[len] == ' ');
    }
}
END_TEST

/* Rules change at a graceful restart, the state stays. */
START_TEST(other_rules)
{
    aip_target_state_t s = {0};
    aip_health_rules_t off = {.max_fails = 0, .fail_timeout = 10 * SEC, .cooldown_max = 0};
    for (int i = 0; i < 3; i++) {
        aip_health_failure(&s, &rules, false, T0);
    }
    ck_assert(aip_health_cool(&s, &rules, 5 * SEC, 429, T0) == 5 * SEC);
    ck_assert_uint_eq(atomic_load(&s.cooling_status), 429);
    ck_assert_int_eq(aip_health_look(&s, &off, T0), AIP_AVAILABLE);
    ck_assert_int_eq(aip_health_admit(&s, &off, LEASE, T0), AIP_ADMIT_NORMAL);
    ck_assert(aip_health_back_at(&s, &off, T0) == 0);
    ck_assert(aip_health_cool(&s, &off, 9 * SEC, 503, T0) == 0);
    ck_assert(aip_health_back_at(&s, &rules, T0) == T0 + 5 * SEC);
    ck_assert_uint_eq(atomic_load(&s.cooling_status), 429);
}
END_TEST

/* A success of the closed time may drop the count just after the breaker has opened; the probe
 * closes it all the same. */
START_TEST(open_without_a_count)
{
    aip_target_state_t s = {0};
    for (int i = 0; i < 3; i++) {
        aip_health_failure(&s, &rules, false, T0);
    }
    atomic_store(&s.fails, 0);
    ck_assert_int_eq(aip_health_admit(&s, &rules, LEASE, T0 + 10 * SEC), AIP_ADMIT_PROBE);
    ck_assert(aip_health_success(&s, &rules, true, T0 + 11 * SEC));
    ck_assert_int_eq(aip_health_look(&s, &rules, T0 + 11 * SEC), AIP_AVAILABLE);
    ck_assert_int_eq(aip_health_admit(&s, &rules, LEASE, T0 + 11 * SEC), AIP_ADMIT_NORMAL);
}
END_TEST

/* ---- figures ---- */

static const struct {
    const char *name;
    apr_int64_t prompt, completion, total;
    double cost;
    double expected[AIP_USAGE_KINDS]; /* total, prompt, completion, cost; -1: nothing put in */
} usages[] = {
    {"all", 10, 20, 30, 0.5, {30, 10, 20, 0.5}},
    {"no prices", 10, 20, 30, 0, {30, 10, 20, 0}},
    {"no completion", 10, -1, 10, 0, {10, 10, 0, 0}},
    {"a total alone", -1, -1, 30, 0, {30, 0, 0, 0}},
    {"zero tokens", 0, 0, 0, 0, {0, 0, 0, 0}},
    {"large", 200000, 16000, 216000, 3.25, {216000, 200000, 16000, 3.25}},
};

START_TEST(usage)
{
    aip_target_state_t s = {0};
    aip_usage_t u = {.prompt_tokens = usages[_i].prompt,
                     .completion_tokens = usages[_i].completion,
                     .total_tokens = usages[_i].total,
                     .cached_tokens = -1,
                     .reasoning_tokens = -1};
    for (int times = 1; times <= 2; times++) {
        aip_state_add_usage(&s, &u, usages[_i].cost, 60 * SEC, T0);
        for (int i = 0; i < AIP_USAGE_KINDS; i++) {
            double got = aip_decay_read(&s.usage[i], T0, 60 * SEC);
            ck_assert_msg(fabs(got - usages[_i].expected[i] * times) < 1e-6, "%s: kind %d is %g",
                          usages[_i].name, i, got);
            ck_assert_double_eq(aip_decay_last(&s.other_usage[i]), -1); /* other machines' */
        }
        ck_assert_double_eq(aip_decay_last(&s.answered), times);
    }
    for (int i = 0; i < AIP_USAGE_KINDS; i++) { /* fades in the window that is asked for */
        ck_assert_double_eq_tol(aip_decay_read(&s.usage[i], T0 + 60 * SEC, 60 * SEC),
                                2 * usages[_i].expected[i] / M_E, 0.1);
    }
}
END_TEST

START_TEST(latency)
{
    aip_target_state_t s = {0};
    aip_state_add_latency(&s, SEC, 0, T0);
    aip_state_add_latency(&s, SEC, -1, T0);
    ck_assert_double_eq(aip_decay_last(&s.latency[AIP_LATENCY_TPOT]), -1);
    ck_assert_double_eq(aip_decay_last(&s.latency[AIP_LATENCY_E2E]), 1e6);
    aip_state_add_latency(&s, SEC, 50, T0);
    ck_assert_double_eq(aip_decay_last(&s.latency[AIP_LATENCY_TPOT]), 20000);
    aip_state_add_latency(&s, 3 * SEC, 1000, T0);
    ck_assert_double_eq(aip_decay_last(&s.latency[AIP_LATENCY_TPOT]), 20000);
    ck_assert_double_eq(aip_decay_last(&s.latency[AIP_LATENCY_E2E]), 3e6);
    aip_state_add_latency(&s, SEC, 100, T0 + AIP_LATENCY_WINDOW);
    ck_assert_double_eq_tol(aip_decay_last(&s.latency[AIP_LATENCY_E2E]),
                            3e6 / M_E + 1e6 * (1 - 1 / M_E), 1);
    ck_assert_double_eq(aip_decay_last(&s.other_latency[AIP_LATENCY_E2E]), -1);
}
END_TEST

/* Which of two targets the algorithm prefers: one that answers in `other`, or one that failed. */
static int preferred(const aip_target_state_t *failed, double other)
{
    double scores[2];
    aip_load_t loads[2] = {
        {.weight = 1, .latency = aip_decay_last(&failed->latency[AIP_LATENCY_E2E])},
        {.weight = 1, .latency = other}};
    aip_score_latency(loads, 2, 0, scores);
    return scores[0] < scores[1] ? 0 : 1;
}

/* clang-format off */
static const struct {
    const char *name;
    int before_ms, took_ms; /* average before the failure, 0: none; time until it failed */
    double other_ms;
} penalties[] = {
    {"never measured, refused", 0, 1, 900},        {"fast once, refused", 100, 1, 900},
    {"slow to fail", 100, 30000, 20000},           {"as slow as the other", 900, 1, 900},
    {"slower than the other", 5000, 1, 4000},      {"never measured, others slow", 0, 1, 8000},
    {"fast once, others slow", 700, 1, 8000},      {"fast once, others very slow", 700, 1, 50000},
};
/* clang-format on */

START_TEST(penalty)
{
    aip_target_state_t s = {0};
    if (penalties[_i].before_ms) {
        aip_state_add_latency(&s, apr_time_from_msec(penalties[_i].before_ms), 10, T0);
    }
    double before = aip_decay_last(&s.latency[AIP_LATENCY_TPOT]);
    aip_state_penalize(&s, apr_time_from_msec(penalties[_i].took_ms), T0);
    ck_assert_msg(preferred(&s, penalties[_i].other_ms * 1000) == 1, "%s: %g ms",
                  penalties[_i].name, aip_decay_last(&s.latency[AIP_LATENCY_E2E]) / 1000);
    ck_assert_double_gt(aip_decay_last(&s.latency[AIP_LATENCY_TPOT]), before);
}
END_TEST

/* A failure never makes a target look better, and a good probe takes the penalty back. */
START_TEST(penalty_and_probe)
{
    aip_target_state_t s = {0};
    aip_state_add_latency(&s, 300 * SEC, 10, T0);
    for (int i = 0; i < 20; i++) {
        double before = aip_decay_last(&s.latency[AIP_LATENCY_E2E]);
        aip_state_penalize(&s, SEC, T0 + i * SEC);
        ck_assert_double_ge(aip_decay_last(&s.latency[AIP_LATENCY_E2E]), before);
        ck_assert(isfinite(aip_decay_last(&s.latency[AIP_LATENCY_TPOT])));
    }
    ck_assert_double_eq(aip_decay_last(&s.took), 300e6); /* failures leave it alone */
    aip_state_add_latency(&s, SEC, 10, T0 + 600 * SEC);
    ck_assert_double_eq_tol(aip_decay_last(&s.latency[AIP_LATENCY_E2E]), 1e6, 1e4);
    ck_assert_double_eq_tol(aip_decay_last(&s.latency[AIP_LATENCY_TPOT]), 1e5, 1e4);
}
END_TEST

Suite *health_suite(void)
{
    Suite *suite = suite_create("health");
    TCase *tc = tcase_create("health");
    tcase_add_test(tc, names);
    tcase_add_test(tc, all_zero);
    tcase_add_loop_test(tc, story, 0, COUNT(stories));
    tcase_add_test(tc, other_rules);
    tcase_add_test(tc, open_without_a_count);
    suite_add_tcase(suite, tc);
    tc = tcase_create("figures");
    tcase_add_loop_test(tc, usage, 0, COUNT(usages));
    tcase_add_test(tc, latency);
    tcase_add_loop_test(tc, penalty, 0, COUNT(penalties));
    tcase_add_test(tc, penalty_and_probe);
    suite_add_tcase(suite, tc);
    return suite;
}
